package master

import (
	"context"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// watchAgents looks at the agents' heartbeats every period and records who has become silent.
func (o *office) watchAgents(ctx context.Context) error {
	tick := time.NewTicker(o.cfg.Limits.Check)
	defer tick.Stop()
	silence := newSilence(o.cfg.Limits)
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		o.lookAtAgents(ctx, silence)
	}
}

func (o *office) lookAtAgents(ctx context.Context, silence *silence) {
	s, now := o.replica.View(), time.Since(o.started)
	pulses := pulsesOf(s, o.proposer.admit.Heard())
	verdicts := silence.Look(now, pulses, o.proposer.beats.stale())
	if len(verdicts) > 0 && !o.confirmed(ctx) {
		silence.Excuse()
		return
	}
	for _, v := range verdicts {
		if o.note(ctx, v.event(s)) && v.offline {
			silence.Declared(now)
		}
	}
	if frozen := silence.Frozen(now, len(pulses)); o.frozen.Set(frozen) {
		o.log.Warn("placement", "frozen", frozen, "reason", "more than a third of the agents went offline within one period")
	}
}

// confirmed tells whether this replica leads beyond doubt right now: a leader that was cut off must not call the others
// silent.
func (o *office) confirmed(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, o.cfg.Limits.Check)
	defer cancel()
	if err := o.confirm(ctx); err != nil {
		o.log.Warn("nobody is declared silent: leadership is not confirmed", "err", err)
		return false
	}
	return true
}

func (v verdict) event(s *fsm.State) event.Body {
	if !v.offline {
		return event.AgentDegraded{AgentID: v.id, SecondsSinceHeartbeat: v.silent.Seconds()}
	}
	return event.AgentOffline{AgentID: v.id, LastSeen: lastSeen(s, v.id)}
}
