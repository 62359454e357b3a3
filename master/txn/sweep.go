package txn

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

const (
	sweepAtOnce = 64   // transactions finished at the same time
	sweepMost   = 4000 // transactions taken up in one look; the rest waits for the next
)

// Sweep is the leader's duty (safety S18), run under its term: until ctx ends it drives every decision that is older than
// a second and not completed to all participants, reports those that are acknowledged everywhere, and raises the horizon.
// It returns nil when ctx ends.
func (c *Coordinator) Sweep(ctx context.Context) error {
	s := &sweeper{Coordinator: c, first: map[event.TxnID]sighting{}}
	tick := time.NewTicker(c.limits.Sweep)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			s.look(ctx, now)
		}
	}
}

// sweeper is what a leader remembers from one look to the next, by its own monotonic clock.
type sweeper struct {
	*Coordinator
	first   map[event.TxnID]sighting // when each open transaction was first seen with its present decision
	past    []moment                 // positions of the last minute, oldest first
	decided event.Position           // the newest decision seen: the horizon is raised until it has passed it
}

type sighting struct {
	seq uint64
	at  time.Time
}

type moment struct {
	at       time.Time
	position event.Position
}

// look does one round.
func (s *sweeper) look(ctx context.Context, now time.Time) {
	st := s.cfg.View()
	due := s.due(st, now)
	acknowledged := s.finishAll(ctx, due)
	horizon := s.horizon(st, now)
	for once := s.stale(st, horizon); once || len(acknowledged) > 0; once = false {
		n := min(len(acknowledged), maxCompleted)
		if err := s.complete(ctx, acknowledged[:n], horizon); err != nil {
			if ctx.Err() == nil {
				s.cfg.Log.Warn("transactions not completed, to be repeated", "count", n, "horizon", horizon.Seq, "error", err)
			}
			return
		}
		acknowledged = acknowledged[n:]
	}
}

// due lists the transactions whose present decision was seen a look ago, oldest first, and forgets those that are gone.
func (s *sweeper) due(st *fsm.State, now time.Time) []*fsm.Txn {
	seen := make(map[event.TxnID]sighting, len(s.first))
	var due []*fsm.Txn
	for t := range st.OpenTxns() {
		first, ok := s.first[t.ID]
		if !ok || first.seq != t.Seq {
			first = sighting{seq: t.Seq, at: now}
		}
		seen[t.ID] = first
		if now.Sub(first.at) >= s.limits.Sweep && len(due) < sweepMost {
			due = append(due, t)
		}
		s.decided = later(s.decided, event.Position{N: st.Incarnation().N, Seq: t.Seq})
	}
	s.first = seen
	return due
}

// round is one look's deliveries.
type round struct {
	*Coordinator
	mu   sync.Mutex
	down map[event.ShardID]bool // did not acknowledge in this round: not asked again, or one dead shard would stop the rest
	done []event.TxnID          // acknowledged by all
}

// finishAll drives the transactions to their participants and returns those that all of them have acknowledged.
func (s *sweeper) finishAll(ctx context.Context, due []*fsm.Txn) []event.TxnID {
	r := &round{Coordinator: s.Coordinator, down: map[event.ShardID]bool{}}
	var g errgroup.Group
	g.SetLimit(sweepAtOnce)
	for _, t := range due {
		g.Go(func() error { r.finish(ctx, t); return nil })
	}
	_ = g.Wait() // none fails: what is not acknowledged stays open
	return r.done
}

// finish brings everything that is decided of one transaction to its participants.
func (r *round) finish(ctx context.Context, t *fsm.Txn) {
	var decisions []transport.Finish
	if t.Committed || t.Final {
		decisions = append(decisions, transport.Finish{TxnID: t.ID, Attempt: t.Attempt, Begin: t.Begin, Commit: t.Committed})
	}
	for _, a := range t.Aborted {
		decisions = append(decisions, transport.Finish{TxnID: t.ID, Attempt: a.Attempt, Begin: a.Begin})
	}
	for _, f := range decisions {
		if ctx.Err() != nil || r.anyDown(t.Shards) {
			return
		}
		if left := r.deliver(ctx, f, t.Shards); len(left) > 0 {
			r.note(left)
			return
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = append(r.done, t.ID)
}

func (r *round) anyDown(shards []event.ShardID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(shards, func(id event.ShardID) bool { return r.down[id] })
}

func (r *round) note(left []event.ShardID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range left {
		r.down[id] = true
	}
}

// horizon is what no attempt that can still be committed began at: the position of a minute ago, and below the begin of
// every committed attempt that is not completed (safety S4).
func (s *sweeper) horizon(st *fsm.State, now time.Time) event.Position {
	s.past = append(s.past, moment{now, st.Position()})
	for len(s.past) > 1 && now.Sub(s.past[1].at) >= s.limits.Horizon {
		s.past = s.past[1:]
	}
	horizon := st.Horizon()
	if now.Sub(s.past[0].at) >= s.limits.Horizon {
		horizon = later(horizon, s.past[0].position)
	}
	for t := range st.OpenTxns() {
		if t.Committed && t.Begin.Compare(horizon) <= 0 && t.Begin.Seq > 0 {
			horizon = event.Position{N: t.Begin.N, Seq: t.Begin.Seq - 1}
		}
	}
	return later(horizon, st.Horizon())
}

// stale tells whether raising the horizon would let go of something: it has not passed the newest decision yet. In an idle
// grid it has, and stays where it is.
func (s *sweeper) stale(st *fsm.State, horizon event.Position) bool {
	return st.Horizon().Less(horizon) && st.Horizon().Less(s.decided)
}

func later(a, b event.Position) event.Position {
	if a.Less(b) {
		return b
	}
	return a
}
