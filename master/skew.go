package master

import (
	"context"
	"slices"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

const (
	// skewLooks is how many looks at the masters lie between two at their clocks: clocks drift slowly.
	skewLooks = 10
	// skewTold is a deviation that is recorded, once; skewOver is when it counts as over. Between them nothing is said, so that
	// a clock at the edge does not fill the feed.
	skewTold = time.Second
	skewOver = skewTold / 2
	// skewLeaves is a deviation with which a master does not lead if another can (safety S17).
	skewLeaves = 10 * time.Second
)

// clocks judges the masters' wall clocks by the clock that the majority has (safety S17). Nothing that decides correctness hangs
// on it: log time is monotonic whatever the clocks say.
type clocks struct {
	self event.ReplicaID
	told map[event.ReplicaID]bool // to be off
}

// Look compares the answers of a majority of the voters, and what this leader's wall clock is ahead of log time. It returns an
// event for each master that is newly off, and a voter to lead instead of this one, if this one should not and another can.
func (k *clocks) Look(voters int, replies []voice, log time.Duration) (events []event.Body, instead event.ReplicaID) {
	if 2*len(replies) <= voters {
		return nil, ""
	}
	common := middle(replies)
	best, off := skewTold, false
	for _, v := range replies {
		skew := v.ahead - common
		size := max(skew.Abs()-v.trip/2, 0)
		if v.replica == k.self {
			off = size > skewLeaves
			if log.Abs() > size {
				skew, size = log, log.Abs()
			}
		} else if size < best {
			best, instead = size, v.replica
		}
		switch {
		case size > skewTold && !k.told[v.replica]:
			k.told[v.replica] = true
			events = append(events, event.ClockSkew{MasterID: event.MasterID(v.replica.Owner()), SkewMS: skew.Milliseconds()})
		case size < skewOver:
			delete(k.told, v.replica)
		}
	}
	if !off {
		instead = ""
	}
	return events, instead
}

// middle is the clock in the middle, which is between two right ones as long as a majority is right.
func middle(replies []voice) time.Duration {
	all := make([]time.Duration, len(replies))
	for i, v := range replies {
		all[i] = v.ahead
	}
	slices.Sort(all)
	return all[(len(all)-1)/2]
}

// watchClocks asks the masters for their clocks now and then.
func (o *office) watchClocks(ctx context.Context) error {
	tick := time.NewTicker(skewLooks * o.cfg.Limits.Check)
	defer tick.Stop()
	clocks := &clocks{self: o.founding.Replica, told: map[event.ReplicaID]bool{}}
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		s := o.replica.View()
		if s.Level() < fsm.CheckLevel {
			continue
		}
		voters, replies := o.inquiry.All(ctx, s.RaftIndex()) // no digests are behind it
		events, instead := clocks.Look(len(voters), replies, o.clock.Behind())
		for _, body := range events {
			o.note(ctx, body)
		}
		if instead == "" {
			continue
		}
		o.log.Warn("this master's clock is off by more than 10 s; another leads instead", "instead", string(instead))
		if err := o.handTo(ctx, instead); err != nil && ctx.Err() == nil {
			o.log.Warn("leadership not handed over", "to", string(instead), "err", err)
		}
	}
}
