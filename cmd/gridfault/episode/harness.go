package episode

import (
	"context"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/workload"
)

// Harness is a way in which the suite itself is broken on purpose; "" is none.
type Harness string

// HarnessSpec is what the table says about one.
type HarnessSpec struct {
	Name      Harness
	What      string
	Anomalies []string      // any one of them shows it
	Workloads []string      // that can see it
	Faults    []string      // without which it may not show
	Hold      time.Duration // that a fault lasts at least; 0: as it is drawn
	broken    workload.Broken
}

// idleNemesis is the one that is not the workloads' part.
const idleNemesis Harness = "nemesis-does-nothing"

// Harnesses is the table of all.
func Harnesses() []HarnessSpec {
	return []HarnessSpec{
		{"unknown-as-fail", "what nobody knows is recorded as a failure", []string{"G1a", "bank-total", "bank-symmetry", "not-linearizable", "lost-write", "garbage-read"}, []string{"W3", "W4"}, []string{"kill.masters"}, 12 * time.Second, workload.UnknownAsFail},
		{"history-drops", "one line in a thousand is not recorded", []string{"incomplete"}, []string{"W3", "W4"}, nil, 0, workload.DropsHistory},
		{"empty-history", "nothing is recorded", []string{"empty", "incomplete", "undecided"}, []string{"W3", "W4"}, nil, 0, workload.EmptyHistory},
		{idleNemesis, "faults are said to happen and do not", []string{string(RuleProof)}, []string{"W3"}, nil, 0, ""},
	}
}

// workload is the part of it that workloads play.
func (h Harness) workload() workload.Broken {
	for _, s := range Harnesses() {
		if s.Name == h {
			return s.broken
		}
	}
	return ""
}

// idle is a fault that does not happen.
type idle struct{}

// Heal implements rig.Injected.
func (idle) Heal(context.Context) (rig.Proof, error) { return rig.Proof{}, nil }

// inject makes a fault happen, unless the suite is broken so that none does.
func (r *run) inject(ctx context.Context, f rig.Fault) (rig.Injected, error) {
	if r.plan.Harness == idleNemesis {
		return idle{}, nil
	}
	return r.grid.Inject(ctx, f)
}
