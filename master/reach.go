package master

import (
	"context"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// reach judges which masters the leader has contact with.
type reach struct {
	limits Limits
	last   time.Time // of the previous look
	grace  time.Time // contact counts from here at the earliest
}

// contact is what is known of one other master.
type contact struct {
	id          event.MasterID
	last        time.Time // of its last answer; zero: never in this term
	unreachable bool      // the state says so
}

// Look returns an event for each master whose state is not what its contact says. After the first look, and one that came
// late, every master gets a full period of grace.
func (r *reach) Look(now time.Time, contacts []contact) []event.Body {
	if r.last.IsZero() || now.Sub(r.last) > r.limits.Check+r.limits.Late {
		r.grace = now
	}
	r.last = now
	var events []event.Body
	for _, c := range contacts {
		since := c.last
		if since.Before(r.grace) {
			since = r.grace
		}
		switch {
		case !c.unreachable && now.Sub(since) >= r.limits.Unreachable:
			events = append(events, event.MasterUnreachable{MasterID: c.id, LastContact: micros(c.last)})
		case c.unreachable && !c.last.IsZero() && now.Sub(c.last) < r.limits.Unreachable:
			events = append(events, event.MasterRecovered{MasterID: c.id, LastContact: micros(c.last)})
		}
	}
	return events
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// watchMasters looks at the contact with the other masters every period, records what changed, and looks after the
// configuration: its records, its learners, and members that are gone for good.
func (o *office) watchMasters(ctx context.Context) error {
	tick := time.NewTicker(o.cfg.Limits.Check)
	defer tick.Stop()
	reach := &reach{limits: o.cfg.Limits}
	for {
		changed := o.council.changed.Changed()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		case <-tick.C:
		}
		for _, body := range reach.Look(time.Now(), o.contacts()) {
			if gone, is := body.(event.MasterUnreachable); is {
				o.members.Forget(gone.MasterID)
			}
			o.note(ctx, body)
		}
		if err := o.members.Introduce(ctx); err == nil {
			o.said.New("introduce", "")
		} else if ctx.Err() == nil && o.said.New("introduce", err.Error()) {
			o.log.Warn("masters not introduced", "err", err)
		}
		o.raiseLevel(ctx)
		o.council.Tend(ctx, reach.grace, &o.said, o.log)
	}
}
