package processes

import (
	"context"
	"fmt"

	"github.com/sutra-grid/sutra-grid/internal/fault"
)

func (t *trial) events() victim { return victim{m: t.g.of(roleEvents)[0]} }

func sinkDown(ctx context.Context, t *trial) error { return t.kill(ctx, t.events()) }

// sinkSlow delays each write of event storage's log.
func sinkSlow(_ context.Context, t *trial) error {
	return t.slowDisk(t.events(), t.roll(200, 1500))
}

// sinkError has the disk of event storage answer EIO to what its log writes next; it ends, and stays down.
func sinkError(ctx context.Context, t *trial) error { return t.failDisk(ctx, t.events()) }

// slowDisk delays every write to the logs of a machine's processes. Each stays below the write deadline of raftgroup, 2 s.
func (t *trial) slowDisk(v victim, millis int) error {
	label := fault.Name(fault.RaftLogStore)
	return t.arm(v, fmt.Sprintf("%s:delay=%dms", label, millis), "fault: "+label+",")
}

// failDisk has the disk of a machine's processes answer EIO, and waits for the end of who notices. That is whoever writes next.
func (t *trial) failDisk(ctx context.Context, v victim) error {
	p, err := v.open()
	if err != nil {
		return err
	}
	defer p.close()
	plan := ""
	for _, l := range []fault.Label{fault.RaftLogStore, fault.OutboxWrite, fault.OutboxSync, fault.RaftSnapshotWrite} {
		plan += fault.Name(l) + ":error=EIO\n"
	}
	t.meets(v)
	t.onHeal(func(context.Context) error { return v.m.setPlan("") })
	if err := v.m.setPlan(plan); err != nil {
		return err
	}
	return t.awaitExit(ctx, p)
}

// awaitExit counts the end of a process that has lost its disk. One that has nothing to write does not notice: meanwhile the masters have
// something to record, and event storage to take. Without an end there is no proof.
func (t *trial) awaitExit(ctx context.Context, p *target) error {
	limited, cancel := context.WithTimeout(ctx, noticeLimit)
	defer cancel()
	stirred := make(chan struct{})
	go func() {
		defer close(stirred)
		t.g.desk.stir(limited)
	}()
	if p.exited(limited) == nil {
		t.count.Add(1)
	}
	cancel()
	<-stirred
	return ctx.Err()
}
