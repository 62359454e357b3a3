package raftgroup

import (
	"sync"
	"time"
)

// freshness knows how old the state of a follower is, by this replica's own monotonic clock alone.
//
// A leader sends its next entries to a follower only after the answer to those before. So what it says to have committed in
// one request holds everything it had committed when the request before it arrived here: that arrival is the moment the
// state is known for, however long this request was on its way. It counts once the state machine has applied that commit
// index.
//
// Heartbeats say nothing of commits and do not count. The leader is the one this replica follows; one that has been cut off
// from the majority leads for at most its lease more, and what its successor acknowledged meanwhile is missed.
type freshness struct {
	mu       sync.Mutex
	term     uint64    // guarded by mu; of the leader heard
	previous time.Time // guarded by mu; arrival of that leader's latest request; zero: none yet
	at       time.Time // guarded by mu; what commit is known for; zero: nothing is awaited
	commit   uint64    // guarded by mu; to be applied
	held     time.Time // guarded by mu; the state holds everything committed then; zero: never known
}

// heard notes a request of a term's leader that arrived now and says what is committed.
func (f *freshness) heard(now time.Time, term, commit, applied uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if term < f.term {
		return
	}
	if term > f.term {
		f.term, f.previous, f.at = term, time.Time{}, time.Time{}
	}
	f.settleLocked(applied)
	if f.at.IsZero() && !f.previous.IsZero() { // one that is awaited stays: else a busy replica would await for ever
		f.at, f.commit = f.previous, commit
		f.settleLocked(applied)
	}
	f.previous = now
}

func (f *freshness) settleLocked(applied uint64) {
	if !f.at.IsZero() && applied >= f.commit {
		f.held, f.at = f.at, time.Time{}
	}
}

// since is when the state last held everything committed; false when that was never known.
func (f *freshness) since(applied uint64) (time.Time, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.settleLocked(applied)
	return f.held, !f.held.IsZero()
}

// Age is how old this replica's state is at most: everything its leader had committed that long ago is applied here. On the
// leader it is 0. It is false while this replica has heard of no commits since it started. No clock but this replica's
// monotonic one is read; see freshness for what that bound is worth.
func (g *Group) Age() (age time.Duration, known bool) {
	if g.IsLeader() {
		return 0, true
	}
	held, known := g.peers.fresh.since(g.machine.applied.get())
	if !known {
		return 0, false
	}
	return time.Since(held), true
}
