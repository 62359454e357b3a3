package storagenode

import (
	"context"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
)

// Leaders are spread over the nodes by the map alone: each shard has a preferred leader, and whoever else leads hands over to
// it. That is a convenience, so it gives way to everything: it waits for a calm shard, a follower that has long caught up, and
// its turn on the node; it takes no part in a change of members; and a leadership that comes back is kept longer each time.

const (
	spreadLook    = 2 * time.Second  // between two looks at a shard that another replica should lead
	spreadTimeout = time.Second      // of one hand-over: writes wait for it
	spreadMost    = 10 * time.Minute // longest pause between hand-overs that do not last
	spreadLasting = 10               // a hand-over has lasted after so many times the pause before it
	// calmEntries is how many entries a second a calm shard takes. An import takes hundreds; no election happens during one
	// (DESIGN §5), not even a graceful one.
	calmEntries = 20
)

// preferred is the replica that shall lead a shard: the first voter in the map's order, which the masters rotate over the
// nodes when they create shards and which a replacement inherits. Empty while the members change, or are not what the map says.
func preferred(s *shardmap.Shard, have []raftgroup.PeerStatus) event.ReplicaID {
	if s.State != shardmap.Formed || len(have) == 0 || len(s.Replicas) != len(have) {
		return ""
	}
	for _, p := range have {
		r, ok := s.ByReplica(p.ID)
		if !ok || r.Role != shardmap.Voter || r.Leaving || p.Suffrage != raftgroup.Voter {
			return ""
		}
	}
	return s.Replicas[0].ReplicaID
}

// patience is how long a replica leads before it hands over. It is kept from one term to the next.
type patience struct {
	least, now time.Duration // now is at least least, at most spreadMost
	last       time.Time     // of the last hand-over, or try; zero: none yet
}

// tried notes a hand-over at t, and whether it failed.
func (p *patience) tried(t time.Time, failed bool) {
	p.last = t
	if failed {
		p.now = min(2*p.now, spreadMost)
	}
}

// elected begins a term at t: a leadership that comes back soon is kept for longer.
func (p *patience) elected(t time.Time) {
	switch {
	case p.last.IsZero() || t.Sub(p.last) >= spreadLasting*p.now:
		p.now = p.least
	default:
		p.now = min(2*p.now, spreadMost)
	}
}

// calm tells since when a shard has been calm: nothing prepared, few entries.
type calm struct {
	since, looked time.Time
	applied       uint64 // when looked
}

func (c *calm) look(now time.Time, applied uint64, prepared bool) {
	if prepared || float64(applied-c.applied) > calmEntries*now.Sub(c.looked).Seconds() {
		c.since = now
	}
	c.looked, c.applied = now, applied
}

// spread hands leadership to the preferred leader, for as long as this replica leads. A node that closes hands over all of its
// shards by itself, to whoever is furthest.
func (r *replica) spread(ctx context.Context) {
	now := time.Now()
	r.patience.elected(now)
	still := calm{since: now, looked: now, applied: r.group.Applied()}
	var look <-chan time.Time // nil while nobody else should lead: then only another map is of interest
	for {
		changed := r.maps.Changed()
		to := r.successor()
		if to != "" && look == nil {
			look = time.After(spreadLook)
		}
		select {
		case <-ctx.Done():
			return
		case <-r.closing:
			return
		case <-changed:
			continue
		case <-look:
			look = nil
		}
		if to == "" {
			continue
		}
		now := time.Now()
		still.look(now, r.group.Applied(), len(r.engine.Prepared()) > 0)
		if now.Sub(still.since) < r.patience.now || !r.ready(to, now) {
			continue
		}
		r.handTo(ctx, to)
		still.since = time.Now() // behind a success the term ends
	}
}

// successor is the preferred leader when that is another replica.
func (r *replica) successor() event.ReplicaID {
	s, ok := r.maps.current().ByID(r.shard)
	if !ok {
		return ""
	}
	_, peers := r.group.Configuration()
	if to := preferred(s, peers); to != r.id {
		return to
	}
	return ""
}

// ready tells whether a voter has been caught up for as long as the shard must be calm.
func (r *replica) ready(to event.ReplicaID, now time.Time) bool {
	_, peers := r.group.Configuration()
	for _, p := range peers {
		if p.ID == to {
			return !p.NearSince.IsZero() && now.Sub(p.NearSince) >= r.patience.now
		}
	}
	return false
}

// handTo hands over when it is this shard's turn on the node. A refusal, as for a voter that is not connected any more, is no
// failure: nothing was tried.
func (r *replica) handTo(ctx context.Context, to event.ReplicaID) {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return
	case <-r.closing:
		return
	}
	if r.successor() != to {
		return
	}
	limited, cancel := context.WithTimeout(ctx, spreadTimeout)
	defer cancel()
	err := r.group.TransferTo(limited, to)
	if isKind(err, event.KindRefused) || ctx.Err() != nil && err != nil {
		return
	}
	r.patience.tried(time.Now(), err != nil)
	if err != nil {
		r.log.Warn("leadership not handed to its preferred leader", "to", string(to), "again_after", r.patience.now, "error", err)
		return
	}
	r.log.Info("leadership handed to its preferred leader", "to", string(to))
}
