package raftgroup

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// contacts is what a leader knows of the others by their answers in its term.
//
// Its clock is a counter, not time: an answer counts for a read only if its request was sent after the read began
// (safety S7), and two readings of a wall or monotonic clock can be equal.
type contacts struct {
	clock atomic.Uint64
	fresh chan struct{} // capacity 1: something was answered
	gap   time.Duration // longer without an answer is a break
	stall time.Duration // longer without an entry, though there are more, is a stall

	mu    sync.Mutex
	term  uint64                       // guarded by mu; of peers
	peers map[raft.ServerID]contactLog // guarded by mu
}

// contactLog is the best that one replica has answered in the term.
type contactLog struct {
	sent  uint64    // the clock when the latest answered request was sent
	match uint64    // the last entry it is known to hold
	at    time.Time // of the latest answer
	wants time.Time // since when it answers, and holds the same entry while this leader has more; zero: it has all
	stuck bool      // that has been so for too long, and no snapshot is on its way
	fed   int       // snapshots on their way to it
	near  time.Time // since when each answer has shown match within nearEntries of the leader's log; zero: the latest did not
}

func newContacts(gap, stall time.Duration) *contacts {
	return &contacts{fresh: make(chan struct{}, 1), gap: gap, stall: stall, peers: map[raft.ServerID]contactLog{}}
}

// begin is the moment a read begins: what is stamped with it or more is sent after it.
func (c *contacts) begin() uint64 { return c.clock.Add(1) }

// stamp is taken before a request is sent.
func (c *contacts) stamp() uint64 { return c.clock.Load() }

// answer is a success that a request got.
type answer struct {
	sent  uint64 // the clock when the request was sent
	match uint64 // the last entry the follower says it holds; 0: the request said nothing about the log
	last  uint64 // the last entry of this leader
}

// answered records that id answered successfully in term, and tells whether it thereby stands still, or moves again.
func (c *contacts) answered(id raft.ServerID, term uint64, a answer) (turned bool) {
	now := time.Now()
	c.mu.Lock()
	if !c.enterLocked(term) {
		c.mu.Unlock()
		return false
	}
	p := c.peers[id]
	next := contactLog{sent: max(p.sent, a.sent), match: max(p.match, a.match), at: now, fed: p.fed}
	away := now.Sub(p.at) > c.gap // it was silent: it could not take anything
	if next.match < a.last {
		next.wants = p.wants
		if p.wants.IsZero() || next.match > p.match || p.fed > 0 || away {
			next.wants = now
		}
		next.stuck = now.Sub(next.wants) > c.stall
	}
	if next.match > 0 && next.match+nearEntries >= a.last {
		next.near = p.near
		if p.near.IsZero() || away {
			next.near = now
		}
	}
	c.peers[id] = next
	c.mu.Unlock()
	select {
	case c.fresh <- struct{}{}:
	default:
	}
	return next.stuck != p.stuck
}

// enterLocked forgets what was known in an earlier term; false if term is over.
func (c *contacts) enterLocked(term uint64) bool {
	if term > c.term {
		c.term = term
		clear(c.peers)
	}
	return term == c.term
}

// forget drops what is known of a replica that is no member, so that it begins anew should it become one again: what it held
// and how long it was near the leader's log was said of a disk that it may have lost since.
func (c *contacts) forget(id raft.ServerID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.peers, id)
}

// feeding counts the snapshots on their way to id: while there are any, it does not stand still.
func (c *contacts) feeding(id raft.ServerID, term uint64, more int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.enterLocked(term) {
		p := c.peers[id]
		p.fed = max(p.fed+more, 0)
		c.peers[id] = p
	}
}

// of is what is known of id in term.
func (c *contacts) of(id raft.ServerID, term uint64) contactLog {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.term != term {
		return contactLog{}
	}
	return c.peers[id]
}
