package master

import (
	"context"
	"fmt"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// watchStates compares the masters' states whenever the log has passed another multiple of 1,024, and records what the
// majority has (safety S9). Nothing is asked and nothing recorded while nothing is applied, and a record is one entry of
// the next 1,024: an idle grid stays idle.
func (o *office) watchStates(ctx context.Context) error {
	defer o.proposer.halted.Store(nil) // whoever leads next finds out by itself
	for {
		changed := o.replica.Changed()
		if !checkDue(o.replica) {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-changed:
				continue
			}
		}
		if err := o.compareStates(ctx); err != nil {
			return err
		}
	}
}

// checkDue tells whether there is something to compare that is not on record.
func checkDue(r *replica) bool {
	s, checks := r.View(), r.machine.Checks()
	return s.Level() >= fsm.CheckLevel && len(checks) > 0 && checks[len(checks)-1].Index > s.LastCheck().Index
}

// compareStates asks until a comparison is on record. A voter that does not say what it has is waited for as long as one
// that is out of touch is not called unreachable.
func (o *office) compareStates(ctx context.Context) error {
	begin := time.Now()
	for checkDue(o.replica) {
		voters, replies := o.inquiry.All(ctx, o.replica.View().LastCheck().Index)
		c := compare(voters, replies)
		o.halt(c.split)
		switch {
		case c.check.Index == 0 || c.split > 0:
		case c.silent == 0 || time.Since(begin) >= o.cfg.Limits.Unreachable:
			if o.note(ctx, c.event()) {
				return nil
			}
		}
		if err := pause(ctx, o.cfg.Limits.Check); err != nil {
			return err
		}
	}
	return nil
}

// halt stops this leader from proposing while no state has a majority, for whatever is answered then is answered by a state
// that may be the wrong one. It goes on when one has.
func (o *office) halt(split uint64) {
	if split == 0 {
		if o.proposer.halted.Swap(nil) != nil {
			o.log.Warn("a majority of the masters has the same state; commands are taken again")
		}
		return
	}
	reason := &event.Error{Kind: event.KindUnavailable, Op: "propose", Message: fmt.Sprintf("replicas disagree: at entry %d no state is that of a majority of the masters", split)}
	if o.proposer.halted.Swap(reason) == nil {
		o.log.Error("no commands are taken", "reason", reason.Message)
	}
}
