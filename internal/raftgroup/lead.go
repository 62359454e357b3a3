package raftgroup

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// barrierPause is between two attempts at a barrier that raft did not take, as while it hands leadership over.
const barrierPause = 10 * time.Millisecond

// tenure is one term in which this replica leads. It exists from the moment its barrier has been applied.
type tenure struct {
	ctx  context.Context
	term uint64
}

// holds tells whether the replica still leads in this term.
func (g *Group) holds(t *tenure) bool {
	return t != nil && t.ctx.Err() == nil && g.raft.State() == raft.Leader && g.raft.CurrentTerm() == t.term
}

// tenureFor is the present tenure. It waits while this replica has been elected and its barrier is under way.
func (g *Group) tenureFor(ctx context.Context, op string) (*tenure, error) {
	for {
		if t := g.tenure.Load(); t != nil && t.ctx.Err() == nil && g.latch.err() == nil {
			return t, nil
		}
		changed := g.changed.next()
		if g.open.Err() != nil || g.latch.err() != nil {
			return nil, g.unavailable(op, context.Cause(g.open))
		}
		if t := g.tenure.Load(); t != nil && t.ctx.Err() == nil {
			return t, nil // it came before changed was made
		}
		if g.raft.State() != raft.Leader {
			return nil, g.notLeader(op)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, g.unavailable(op, context.Cause(ctx))
		case <-g.open.Done():
		}
	}
}

// office is the work of one election: the barrier, the tenure, Lead.
type office struct {
	leave context.CancelCauseFunc
	done  chan struct{} // closed when Lead has returned
}

// watchLeadership follows raft's notifications. It takes each at once, for raft waits until it does.
func (g *Group) watchLeadership() {
	var last *office
	for {
		select {
		case elected := <-g.notify:
			if last != nil {
				last.leave(ErrTermEnded)
			}
			if elected {
				last = g.enter(last)
			}
		case <-g.alive.Done():
			if last != nil {
				last.leave(ErrClosed)
			}
			return
		}
	}
}

// enter begins an office; its work starts when that of the one before has ended.
func (g *Group) enter(last *office) *office {
	ctx, leave := context.WithCancelCause(g.open)
	next := &office{leave: leave, done: make(chan struct{})}
	g.wg.Go(func() {
		defer close(next.done)
		defer leave(ErrTermEnded)
		if last != nil {
			<-last.done
		}
		g.hold(ctx)
	})
	return next
}

// hold runs one tenure. The term is read before the barrier and compared after it: a notification may be about an election
// that is over, and one missed between the two reads ends in another term.
func (g *Group) hold(ctx context.Context) {
	term := g.raft.CurrentTerm()
	if g.raft.State() != raft.Leader || !g.barrier(ctx) {
		return
	}
	t := &tenure{ctx: ctx, term: term}
	if !g.holds(t) {
		return
	}
	g.tenure.Store(t)
	g.changed.announce()
	stop := context.AfterFunc(ctx, func() {
		g.tenure.CompareAndSwap(t, nil)
		g.changed.announce()
	})
	defer stop()
	g.log.Info("leading", "group", g.cfg.GroupID, "replica", g.cfg.LocalID, "term", term)
	g.cfg.Lead(ctx, term)
	<-ctx.Done()
	g.tenure.CompareAndSwap(t, nil)
	g.log.Info("no longer leading", "group", g.cfg.GroupID, "replica", g.cfg.LocalID, "term", term, "reason", context.Cause(ctx))
}

// barrier applies an entry without commands, and so everything before it. An ordinary entry, unlike raft's own barrier,
// moves the applied index on every replica.
func (g *Group) barrier(ctx context.Context) bool {
	for ctx.Err() == nil {
		err := await(g.raft.ApplyLog(raft.Log{Data: g.stamped(nil)}, enqueueTimeout), ctx)
		switch {
		case err == nil:
			return ctx.Err() == nil
		case !errors.Is(err, raft.ErrEnqueueTimeout) && !errors.Is(err, raft.ErrLeadershipTransferInProgress):
			return false // no longer the leader
		}
		timer := time.NewTimer(barrierPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
	return false
}

// broadcast tells any number of waiters that something may have changed.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{} // guarded by mu; closed by the next announcement; nil: nobody waits
}

// next is closed by the next announcement.
func (b *broadcast) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) announce() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

// joined is a context that ends, with its cause, when either does.
func joined(ctx, other context.Context) (context.Context, func()) {
	both, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(other, func() { cancel(context.Cause(other)) })
	return both, func() {
		stop()
		cancel(nil)
	}
}
