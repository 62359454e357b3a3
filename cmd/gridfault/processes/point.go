package processes

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/internal/fault"
)

// strikeWait is how long one process is armed before another one is: which of them comes to a point the load decides.
const strikeWait = time.Second

// strikeRounds is how often all are tried before the last one is left armed.
const strikeRounds = 3

// atPoint has a process fail at a labelled point: one after the other is armed until one has come there.
func atPoint(ctx context.Context, t *trial) error {
	machines, err := t.passers(t.fault.Label)
	if err != nil {
		return err
	}
	for i := range strikeRounds * len(machines) {
		m := machines[i%len(machines)]
		v := victim{m: m}
		from, open := t.g.logs.place(m), openAll(m)
		err := t.arm(v, t.fault.Label+":"+t.fault.Action, "fault: "+t.fault.Label+",")
		struck := false
		if err == nil {
			struck, err = t.struck(ctx, from)
		}
		if struck && err == nil && strings.HasPrefix(t.fault.Action, "crash") {
			err = oneEnds(ctx, open)
		}
		for _, p := range open {
			p.close()
		}
		if struck || err != nil {
			return err
		}
		if err := t.disarm(ctx); err != nil {
			return err
		}
		t.met = t.met[:len(t.met)-1]
	}
	return fmt.Errorf("no process came to %s in %s: %w", t.fault.Label, strikeRounds*time.Duration(len(machines))*strikeWait, rig.ErrNotMet)
}

// openAll are the processes of a machine that run. The caller closes them.
func openAll(m *machine) (open []*target) {
	for _, v := range all(m) {
		if p, err := v.open(); err == nil { // else it has ended, and comes nowhere
			open = append(open, p)
		}
	}
	return open
}

// oneEnds waits for the end of one of some processes: who has said that it crashes still lives and listens for a moment, and whoever
// healed the fault in that moment would start nothing.
func oneEnds(ctx context.Context, open []*target) error {
	ctx, cancel := context.WithTimeout(ctx, killLimit)
	defer cancel()
	return until(ctx, "nothing ends at the point of a crash", func(ctx context.Context) error {
		missing := errors.New("there was no process")
		for _, p := range open {
			if missing = p.hasEnded(); missing == nil {
				return p.exited(ctx)
			}
		}
		return missing
	})
}

// passers are the machines on which processes can come to a label, in an order of the fault's dice.
func (t *trial) passers(label string) ([]*machine, error) {
	for _, s := range fault.Labels() {
		if s.Name != label {
			continue
		}
		var list []*machine
		switch {
		case strings.HasPrefix(s.Where, "storagenode") || s.Where == "agent/spool":
			list = t.g.of(roleAgent)
		case strings.HasPrefix(s.Where, "master"):
			list = t.g.of(roleMaster)
		default: // what both have
			list = append(t.g.of(roleMaster), t.g.of(roleAgent)...)
		}
		t.rng.Shuffle(len(list), func(i, k int) { list[i], list[k] = list[k], list[i] })
		return list, nil
	}
	return nil, fmt.Errorf("there is no fault point %q; gridfault list shows them", label)
}

// arm makes the processes of a machine fail by a plan until the fault ends; the lines with the mark that they say meanwhile are the proof.
func (t *trial) arm(v victim, plan, mark string) error {
	t.meets(v)
	from := t.g.logs.place(v.m)
	t.onHeal(func(context.Context) error {
		err := v.m.setPlan("")
		said, unread := t.g.logs.since(from)
		t.count.Add(int64(strings.Count(said, mark)))
		return errors.Join(err, unread)
	})
	return v.m.setPlan(plan)
}

// disarm takes back what arm put down last.
func (t *trial) disarm(ctx context.Context) error {
	last := t.heals[len(t.heals)-1]
	t.heals = t.heals[:len(t.heals)-1]
	return last(ctx)
}

// struck waits a moment for a process to say, behind a place of its log, that it has come to an armed point.
func (t *trial) struck(ctx context.Context, from places) (bool, error) {
	limited, cancel := context.WithTimeout(ctx, strikeWait)
	defer cancel()
	var unread error
	err := until(limited, "struck", func(context.Context) error {
		var said string
		if said, unread = t.g.logs.since(from); unread != nil || strings.Contains(said, "fault: ") {
			return nil
		}
		return errors.New("not yet")
	})
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	return err == nil, unread
}
