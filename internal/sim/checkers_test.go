package sim

import (
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// TestLedgerSeesFaults: the checker is told of each way in which a promise can be broken.
func TestLedgerSeesFaults(t *testing.T) {
	for name, tc := range map[string]struct {
		feed []string // tokens by seq
		did  claim    // of command "a"
		want string   // empty: no fault
	}{
		"acknowledged and there":      {[]string{"a"}, claim{outcome: acked, seq: 1}, ""},
		"open and there":              {[]string{"", "a"}, claim{outcome: open}, ""},
		"open and absent":             {nil, claim{outcome: open}, ""},
		"not done and absent":         {[]string{""}, claim{outcome: failed}, ""},
		"acknowledged and lost":       {[]string{""}, claim{outcome: acked, seq: 1}, "lost"},
		"acknowledged at another seq": {[]string{"", "a"}, claim{outcome: acked, seq: 1}, "is event 2"},
		"acknowledged, applied twice": {[]string{"a", "a"}, claim{outcome: acked, seq: 1}, "applied 2 times"},
		"open, applied twice":         {[]string{"a", "a"}, claim{outcome: open}, "applied 2 times"},
		"not done and there":          {[]string{"a"}, claim{outcome: failed}, "surely not done"},
		"another answer":              {[]string{"a"}, claim{outcome: acked, value: 9}, "answered with 9"},
		"nobody's command":            {[]string{"b"}, claim{outcome: open}, "nobody sent"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger()
			l.begin("a")
			l.settle("a", tc.did)
			for i, token := range tc.feed {
				if err := l.add(uint64(i+1), place{token: token}); err != nil {
					t.Fatal(err)
				}
			}
			faults := l.check()
			if tc.want == "" && len(faults) > 0 || tc.want != "" && (len(faults) != 1 || !strings.Contains(faults[0].Error(), tc.want)) {
				t.Errorf("faults %v, want %q", faults, tc.want)
			}
		})
	}
}

// TestFeedsAreCompared: a gap, and an event that another replica has otherwise.
func TestFeedsAreCompared(t *testing.T) {
	l := newLedger()
	for seq, p := range []place{{token: "a"}, {token: "b", chain: event.Chain{2}}} {
		if err := l.add(uint64(seq+1), p); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.add(2, place{token: "b", chain: event.Chain{2}}); err != nil {
		t.Error(err)
	}
	if l.add(2, place{token: "b", chain: event.Chain{3}}) == nil || l.add(2, place{token: "c", chain: event.Chain{2}}) == nil || l.add(4, place{}) == nil {
		t.Error("another chain, another event and a gap: not all were seen")
	}
}

func TestStatesAreCompared(t *testing.T) {
	s := newStates()
	see := func(id event.MasterID, index, seq uint64) error { return s.compare(id, index, glimpse{seq: seq}) }
	for _, err := range []error{see("m1", 5, 2), see("m2", 5, 2), see("m1", 6, 3)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if s.compared() != 1 {
		t.Errorf("%d comparisons, want 1", s.compared())
	}
	if see("m2", 6, 4) == nil {
		t.Error("two states at one entry")
	}
	if see("m1", 5, 2) == nil {
		t.Error("a replica that went back")
	}
	s.forget("m1")
	if err := see("m1", 5, 2); err != nil {
		t.Errorf("behind a restart: %v", err)
	}
}

// TestPlanIsAFunctionOfTheSeed, and another seed is another plan.
func TestPlanIsAFunctionOfTheSeed(t *testing.T) {
	five, again, six := plan(5, 30), plan(5, 30), plan(6, 30)
	if listing(five) != listing(again) {
		t.Error("one seed, two plans")
	}
	if listing(five) == listing(six) {
		t.Error("two seeds, one plan")
	}
	losses, met := 0, map[string]bool{}
	for _, s := range plan(7, 300) {
		met[s.fault.name] = true
		if s.fault.leader {
			losses++
		}
	}
	if losses != 300 || len(met) != len(faults) {
		t.Errorf("%d losses and %d of %d faults in a long plan", losses, len(met), len(faults))
	}
}
