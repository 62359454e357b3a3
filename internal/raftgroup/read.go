package raftgroup

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
	"github.com/sutra-grid/sutra-grid/internal/fault"
)

// reader waits for a round that begins after it came.
type reader struct {
	done  chan struct{} // closed when index, term and err are set
	index uint64
	term  uint64
	err   error
}

// readers gathers those who wait for the next round.
type readers struct {
	wake  chan struct{} // capacity 1
	lease atomic.Int64  // fault.WallClockLease: until when nobody is asked, unix µs by the wall clock
	mu    sync.Mutex
	next  []*reader // guarded by mu
}

func newReaders() *readers { return &readers{wake: make(chan struct{}, 1)} }

func (r *readers) add(w *reader) {
	r.mu.Lock()
	r.next = append(r.next, w)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *readers) take() []*reader {
	r.mu.Lock()
	defer r.mu.Unlock()
	batch := r.next
	r.next = nil
	return batch
}

// ReadIndex returns an index, and the term in which it was found, such that this replica's state, now, includes everything
// acknowledged before the call (safety S7). Concurrent readers share rounds; each round begins after all of its readers
// came. Only a leader can tell: elsewhere the error is of kind not_leader; unavailable when leadership could not be
// confirmed before ctx ended. Another replica's state can be read once it has reached the index (Wait).
func (g *Group) ReadIndex(ctx context.Context) (index, term uint64, err error) {
	const op = "read"
	if _, err := g.tenureFor(ctx, op); err != nil {
		return 0, 0, err
	}
	if fault.Broken(fault.WallClockLease) && g.cfg.Now().UnixMicro() < g.readers.lease.Load() {
		return g.Applied(), g.raft.CurrentTerm(), nil
	}
	w := &reader{done: make(chan struct{})}
	g.readers.add(w)
	g.refuseIfClosed()
	select {
	case <-w.done:
	case <-ctx.Done():
		return 0, 0, g.unavailable(op, context.Cause(ctx))
	}
	if w.err != nil {
		return 0, 0, w.err
	}
	if err := g.Wait(ctx, w.index); err != nil {
		return 0, 0, err
	}
	if t := g.tenure.Load(); t == nil || t.term != w.term || !g.holds(t) {
		return 0, 0, g.notLeader(op)
	}
	return w.index, w.term, nil
}

// runReader runs one round after the other, as long as the group is open.
func (g *Group) runReader() {
	defer g.refuseIfClosed()
	for {
		select {
		case <-g.readers.wake:
			g.round(g.readers.take())
		case <-g.open.Done():
			return
		}
	}
}

// refuseIfClosed answers readers that came too late for a round.
func (g *Group) refuseIfClosed() {
	if g.open.Err() == nil {
		return
	}
	for _, w := range g.readers.take() {
		w.err = g.unavailable("read", context.Cause(g.open))
		close(w.done)
	}
}

// round answers readers. The commit index is read after the round began and before leadership is confirmed: everything
// acknowledged before was committed by then, by this leader or before its barrier.
func (g *Group) round(batch []*reader) {
	if len(batch) == 0 {
		return
	}
	var index, term uint64
	var err error
	if t := g.tenure.Load(); !g.holds(t) {
		err = g.notLeader("read")
	} else {
		start := g.contacts.begin()
		index, term = g.raft.CommitIndex(), t.term
		err = g.confirm(t, start)
		if fault.Broken(fault.WallClockLease) && err == nil {
			g.readers.lease.Store(g.cfg.Now().Add(g.cfg.Timeouts.Lease).UnixMicro())
		}
	}
	for _, w := range batch {
		w.index, w.term, w.err = index, term, err
		close(w.done)
	}
}

// confirm returns when a quorum has answered, in this term, requests sent after start. raft's VerifyLeader makes the
// leader send them at once; what it answers is of no use, for it counts answers to earlier requests too. It needs no
// repeating: a request that fails is followed by the next heartbeat, and a leader that reaches no quorum steps down.
func (g *Group) confirm(t *tenure, start uint64) error {
	if g.quorum(t.term, start) || fault.Broken(fault.ReadOnState) {
		return nil // the only voter
	}
	g.raft.VerifyLeader()
	for {
		if g.quorum(t.term, start) {
			if !g.holds(t) {
				return g.notLeader("read")
			}
			return nil
		}
		select {
		case <-g.contacts.fresh:
		case <-t.ctx.Done():
			return g.notLeader("read")
		}
	}
}

// quorum tells whether the voters of the latest configuration that answered a request sent after start in term are a
// majority; this replica counts without asking.
func (g *Group) quorum(term, start uint64) bool {
	voters, answered := 0, 0
	for _, s := range g.raft.GetConfiguration().Configuration().Servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if s.ID == raft.ServerID(g.cfg.LocalID) || g.contacts.of(s.ID, term).sent >= start {
			answered++
		}
	}
	return voters > 0 && answered > voters/2
}

// LeaderIndex is an index, and the term, such that this replica, if it leads, has applied everything up to it. Unlike ReadIndex it
// asks nobody: a leader that was deposed and does not know it yet misses what its successor acknowledged. Elsewhere the error
// is of kind not_leader.
func (g *Group) LeaderIndex(ctx context.Context) (index, term uint64, err error) {
	const op = "read"
	t, err := g.tenureFor(ctx, op)
	if err != nil {
		return 0, 0, err
	}
	if !g.holds(t) {
		return 0, 0, g.notLeader(op)
	}
	return g.machine.applied.get(), t.term, nil
}
