package processes

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

func pauseLeader(ctx context.Context, t *trial) error {
	v, err := t.leader(ctx)
	if err != nil {
		return err
	}
	return t.pause(ctx, v)
}

func pauseShard(ctx context.Context, t *trial) error {
	v, err := t.shardLeader(ctx)
	if err != nil {
		return err
	}
	return t.pause(ctx, v)
}

func pauseRandom(ctx context.Context, t *trial) error { return t.pause(ctx, t.anybody()) }

// pause stops a process until the fault ends. Its proof is the state that the kernel tells.
func (t *trial) pause(ctx context.Context, v victim) error {
	p, err := v.open()
	if err != nil {
		return err
	}
	t.meets(v)
	t.onHeal(func(context.Context) error {
		defer p.close()
		if err := p.signal(unix.SIGCONT); err != nil && !errors.Is(err, unix.ESRCH) { // somebody may have killed it
			return err
		}
		return nil
	})
	if err := p.signal(unix.SIGSTOP); err != nil {
		return err
	}
	err = until(ctx, fmt.Sprintf("%s does not stop", v), func(context.Context) error {
		if !stopped(p.pid) {
			return errors.New("it still runs")
		}
		return nil
	})
	if err == nil {
		t.count.Add(1)
	}
	return err
}

// kill kills processes; Heal starts them again, unless their agent does.
func (t *trial) kill(ctx context.Context, victims ...victim) error {
	t.meets(victims...)
	ctx, cancel := context.WithTimeout(ctx, killLimit)
	defer cancel()
	n, err := slay(ctx, unix.SIGKILL, victims...)
	t.count.Add(int64(n))
	return err
}

func killLeader(ctx context.Context, t *trial) error {
	v, err := t.leader(ctx)
	if err != nil {
		return err
	}
	return t.kill(ctx, v)
}

func killShard(ctx context.Context, t *trial) error {
	v, err := t.shardLeader(ctx)
	if err != nil {
		return err
	}
	return t.kill(ctx, v)
}

func killAgent(ctx context.Context, t *trial) error {
	return t.kill(ctx, victim{m: pick(t, t.g.of(roleAgent))})
}

func killRandom(ctx context.Context, t *trial) error { return t.kill(ctx, t.anybody()) }

func killMasters(ctx context.Context, t *trial) error {
	return t.kill(ctx, all(t.g.of(roleMaster)...)...)
}

func killAll(ctx context.Context, t *trial) error { return t.kill(ctx, all(t.g.machines...)...) }

// killRolling goes on until the fault ends: each machine's processes, when those of the one before run again.
func killRolling(ctx context.Context, t *trial) error {
	first := pick(t, t.g.machines)
	if err := t.kill(ctx, all(first)...); err != nil {
		return err
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- t.roam(work, first) }()
	t.onHeal(func(context.Context) error {
		stop()
		return <-done
	})
	return nil
}

// roam kills one machine's processes after the other's until ctx ends, each when the grid is whole again, so that no majority is ever gone.
func (t *trial) roam(ctx context.Context, m *machine) error {
	for {
		err := t.g.start(m)
		if err == nil {
			err = t.g.awaitUp(ctx, m)
		}
		if err == nil {
			err = until(ctx, "the grid is not whole", t.g.desk.recovered)
		}
		if err == nil {
			m = pick(t, t.g.machines)
			err = t.kill(ctx, all(m)...)
		}
		if ctx.Err() != nil {
			return nil // whatever is down, Heal starts
		}
		if err != nil {
			return err
		}
	}
}
