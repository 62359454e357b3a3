package master

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

const (
	// candidateLife is how long an announcement counts; a candidate repeats it every second.
	candidateLife = 10 * time.Second
	// candidateWait is how long an operator's word waits for the master it is about: it may just have been started.
	candidateWait = 3 * time.Second
)

// candidates are the masters that have announced themselves to this leader and are no members. They are in memory only: a
// candidate goes on announcing itself, so the next leader knows it within a second.
type candidates struct {
	mu     sync.Mutex
	heard  map[event.MasterID]candidate // guarded by mu
	change signal
}

type candidate struct {
	replica event.ReplicaID
	level   uint32
	at      time.Time // when it was last heard
}

// Note takes an announcement of a replica that is no member.
func (c *candidates) Note(new candidate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, old := range c.heard {
		if new.at.Sub(old.at) > candidateLife {
			delete(c.heard, id)
		}
	}
	id := event.MasterID(new.replica.Owner())
	if _, known := c.heard[id]; !known && len(c.heard) >= maxTold {
		return // more than a grid can take; the oldest give way as they fall silent
	}
	c.heard[id] = new
	c.change.Broadcast()
}

// Joined forgets a candidate that is a member now.
func (c *candidates) Joined(replica event.ReplicaID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := event.MasterID(replica.Owner())
	if c.heard[id].replica == replica {
		delete(c.heard, id)
	}
}

// Has tells whether a master announces itself now.
func (c *candidates) Has(id event.MasterID) bool {
	_, has := c.find(id)
	return has
}

func (c *candidates) find(id event.MasterID) (candidate, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, has := c.heard[id]
	return found, has && time.Since(found.at) <= candidateLife
}

// Await is a master that announces itself, waited for a little.
func (c *candidates) Await(ctx context.Context, id event.MasterID) (candidate, error) {
	ctx, cancel := context.WithTimeout(ctx, candidateWait)
	defer cancel()
	for {
		changed := c.change.Changed()
		if found, has := c.find(id); has {
			return found, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return candidate{}, &event.Error{Kind: event.KindNotFound, Op: "add master",
				Message: fmt.Sprintf("%s has not announced itself; start gridmaster --id %s --join with an empty --data, itself and at least one member in --peers, and try again", id, id)}
		}
	}
}
