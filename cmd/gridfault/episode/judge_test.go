package episode

import (
	"slices"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
)

// quiet is a grid that says nothing.
type quiet struct{ rig.Grid }

func (quiet) Trouble() []string { return nil }

// TestNotMet: a point that no process came to did not happen, and is no finding as long as another fault did; any other fault without a proof is one.
func TestNotMet(t *testing.T) {
	point, kill := rig.Fault{Kind: rig.KindPoint, Label: "ship.ack"}, rig.Fault{Kind: rig.KillLeader}
	for _, tt := range []struct {
		what   string
		faults []Shown
		proof  bool // something is found
		notMet int
	}{
		{"a kill", []Shown{{Fault: kill, Proof: rig.Proof{Count: 1}}}, false, 0},
		{"a kill that shows nothing", []Shown{{Fault: kill}}, true, 0},
		{"a point and a kill", []Shown{{Fault: point}, {Fault: kill, Proof: rig.Proof{Count: 1}}}, false, 1},
		{"a point alone", []Shown{{Fault: point}}, true, 1},
		{"a point that was met", []Shown{{Fault: point, Proof: rig.Proof{Count: 1}}}, false, 0},
	} {
		now := time.Now()
		r := &run{grid: quiet{}, plan: Plan{Replicas: 3}, v: &Verdict{}, begun: now}
		for _, f := range tt.faults {
			r.judgeFault(&f, now, now)
			r.v.Faults = append(r.v.Faults, f)
		}
		if err := r.judge(); err != nil {
			t.Fatal(err)
		}
		found := slices.ContainsFunc(r.v.Findings, func(f Finding) bool { return f.Rule == RuleProof })
		if found != tt.proof || len(r.v.NotMet) != tt.notMet {
			t.Errorf("%s: found %v, not met %q; %+v", tt.what, found, r.v.NotMet, r.v.Findings)
		}
	}
}
