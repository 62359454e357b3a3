package agent

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sutra-grid/sutra-grid/agent/platform"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// keeper makes what runs match what is wanted. One goroutine owns everything in it: assignments, notices of instances and the
// clock come in by channels, each is recorded, and then plan says what to do.
type keeper struct {
	cfg     *Config
	dir     string // the agent's data directory
	journal *journal
	log     *slog.Logger

	nodes map[event.NodeID]*live

	assignments chan *transport.Assignments
	pins        chan pin
	notices     chan notice
	watching    sync.WaitGroup // the goroutines that bring notices

	status  atomic.Pointer[status] // a copy, for readers
	changed chan struct{}          // holds one element when status changed since it was last taken
}

// status is what others may see of the record.
type status struct {
	revision uint64
	nodes    []NodeRecord
}

// live is what the keeper knows of a node beyond its record.
type live struct {
	instance *platform.Instance // nil: no process under watch
	due      time.Time          // see Actual.Due
	kills    int                // of the present instance
	adopted  bool               // the present instance was started by an earlier run
	crashes  crashes
	leftDown bool
}

// notice is an instance's notice with the start it belongs to: one of an earlier start is out of date.
type notice struct {
	node  event.NodeID
	start uint64
	platform.Notice
}

func newKeeper(cfg *Config, dir string, j *journal) *keeper {
	k := &keeper{cfg: cfg, dir: dir, journal: j, log: cfg.Log, nodes: map[event.NodeID]*live{},
		assignments: make(chan *transport.Assignments), pins: make(chan pin), notices: make(chan notice), changed: make(chan struct{}, 1)}
	k.publish()
	return k
}

// run adopts what still runs and then keeps it running, until ctx ends or something can no longer be recorded. Instances go on
// when it returns; they are ended first if the configuration says so.
func (k *keeper) run(ctx context.Context) error {
	defer k.release()
	if err := k.adoptAll(); err != nil {
		return err
	}
	err := k.reconcile(ctx)
	if err == nil && k.cfg.StopNodesOnExit {
		return k.stopAll()
	}
	return err
}

// reconcile is the loop: do what the plan says, wait for something to happen.
func (k *keeper) reconcile(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		for _, a := range plan(k.actual(), k.journal.spool.Room(), time.Now()) {
			if err := k.do(a); err != nil {
				return fmt.Errorf("%s %s: %w", a.Verb, a.Node, err)
			}
		}
		k.publish()
		timer.Stop()
		if at, waits := wake(k.actual()); waits {
			timer.Reset(time.Until(at))
		}
		_, _, roomChanged := k.journal.spool.Batch(0, 0)
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-roomChanged:
		case a := <-k.assignments:
			if err := k.follow(a); err != nil {
				return err
			}
		case p := <-k.pins:
			err := k.pinGrid(p.grid)
			p.done <- err
			if err != nil {
				return err
			}
		case n := <-k.notices:
			if err := k.take(n); err != nil {
				return err
			}
		}
	}
}

// pin is the grid a registration was answered by.
type pin struct {
	grid string
	done chan error // has room for the one answer
}

// pinGrid records the grid this agent belongs to, for ever. Another grid's masters would assign other nodes under the same names.
func (k *keeper) pinGrid(grid string) error {
	pinned := &k.journal.record.GridID
	switch {
	case *pinned == grid:
		return nil
	case *pinned != "":
		return fmt.Errorf("the masters belong to grid %s, this agent's data directory to grid %s: give the right --masters, or a new data directory", grid, *pinned)
	}
	*pinned = grid
	k.log.Info("belongs to a grid from now on", "grid", grid)
	return k.journal.commit(nil)
}

// pin hands over the grid of a registration and waits until it is recorded; an ended context is the error of nobody.
func (k *keeper) pin(ctx context.Context, grid string) error {
	p := pin{grid: grid, done: make(chan error, 1)}
	select {
	case k.pins <- p:
		return <-p.done
	case <-ctx.Done():
		return ctx.Err()
	}
}

// assign hands over a set of assignments; false: the keeper has ended.
func (k *keeper) assign(ctx context.Context, a *transport.Assignments) bool {
	select {
	case k.assignments <- a:
		return true
	case <-ctx.Done():
		return false
	}
}

func (k *keeper) follow(a *transport.Assignments) error {
	if !k.journal.follow(a) {
		return nil
	}
	k.log.Info("following assignments", "revision", a.Revision, "nodes", len(a.Nodes))
	return k.journal.commit(nil)
}

// actual is the plan's view, in the record's order.
func (k *keeper) actual() []Actual {
	nodes := make([]Actual, 0, len(k.journal.record.Nodes))
	for i := range k.journal.record.Nodes {
		r := &k.journal.record.Nodes[i]
		l := k.live(r.NodeID)
		nodes = append(nodes, Actual{Node: r.NodeID, Wanted: r.Wanted, Phase: r.Phase, Due: l.due, LeftDown: l.leftDown})
	}
	return nodes
}

func (k *keeper) live(id event.NodeID) *live {
	l := k.nodes[id]
	if l == nil {
		l = &live{}
		k.nodes[id] = l
	}
	return l
}

// do takes one step of the plan. An error means that the step could not be recorded.
func (k *keeper) do(a Action) error {
	r, l := k.journal.node(a.Node), k.live(a.Node)
	switch a.Verb {
	case Start:
		return k.start(r, l)
	case Terminate:
		return k.terminate(r, l)
	case Kill:
		return k.kill(r, l)
	case Discharge:
		r.Phase = Stopped
		return k.journal.commit(event.StopSucceeded{NodeID: r.NodeID, AgentID: k.cfg.ID})
	}
	return fmt.Errorf("unknown verb %q", a.Verb)
}

// release lets go of the instances, which go on, and awaits the goroutines that watched them.
func (k *keeper) release() {
	for _, l := range k.nodes {
		if l.instance != nil {
			k.watching.Go(l.instance.Close)
		}
	}
	done := make(chan struct{})
	go func() { defer close(done); k.watching.Wait() }()
	for {
		select {
		case <-k.notices: // too late: the next run finds it out by itself
		case <-done:
			return
		}
	}
}

// publish makes the present nodes readable, and wakes the heartbeat when something about them changed.
func (k *keeper) publish() {
	now := &status{revision: k.journal.record.Revision, nodes: slices.Clone(k.journal.record.Nodes)}
	before := k.status.Swap(now)
	if before != nil && before.revision == now.revision && slices.Equal(before.nodes, now.nodes) {
		return
	}
	select {
	case k.changed <- struct{}{}:
	default:
	}
}
