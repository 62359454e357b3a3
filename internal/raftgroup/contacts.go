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

	mu    sync.Mutex
	term  uint64                       // guarded by mu; of peers
	peers map[raft.ServerID]contactLog // guarded by mu
}

// contactLog is the best that one replica has answered in the term.
type contactLog struct {
	sent  uint64 // the clock when the latest answered request was sent
	match uint64 // the last entry it is known to hold
	at    time.Time
}

func newContacts() *contacts {
	return &contacts{fresh: make(chan struct{}, 1), peers: map[raft.ServerID]contactLog{}}
}

// begin is the moment a read begins: what is stamped with it or more is sent after it.
func (c *contacts) begin() uint64 { return c.clock.Add(1) }

// stamp is taken before a request is sent.
func (c *contacts) stamp() uint64 { return c.clock.Load() }

// answered records that id answered successfully, in term, a request stamped sent, and holds the log up to match (0: the
// request said nothing about the log).
func (c *contacts) answered(id raft.ServerID, term, sent, match uint64) {
	c.mu.Lock()
	if term < c.term {
		c.mu.Unlock()
		return
	}
	if term > c.term {
		c.term = term
		clear(c.peers)
	}
	p := c.peers[id]
	c.peers[id] = contactLog{sent: max(p.sent, sent), match: max(p.match, match), at: time.Now()}
	c.mu.Unlock()
	select {
	case c.fresh <- struct{}{}:
	default:
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
