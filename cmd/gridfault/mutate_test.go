package main

import (
	"slices"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/episode"
)

// TestControlBreaksNothing: the same plans, and nothing broken in them.
func TestControlBreaksNothing(t *testing.T) {
	b := episode.Bounds{Rig: episode.RigSim, Length: 20 * time.Second, Workloads: []string{"W3"}, Kinds: []string{"kill"}}
	for _, m := range []mutant{{name: "ack-before-commit"}, {name: "empty-history", harness: true}} {
		s := &suite{seed: 1}
		broken, err1 := s.broken(m, b)
		s.control = true
		control, err2 := s.broken(m, b)
		if err1 != nil || err2 != nil || len(broken) != mutationSeeds || len(control) != controlSeeds {
			t.Fatalf("%d and %d plans; %v, %v", len(broken), len(control), err1, err2)
		}
		if p := broken[0]; p.Mutation+string(p.Harness) != m.name || (p.Harness != "") != m.harness {
			t.Errorf("%s: %+v", m.name, p)
		}
		if p := control[0]; p.Mutation != "" || p.Harness != "" || len(p.Faults) != len(broken[0].Faults) {
			t.Errorf("control of %s: %+v", m.name, p)
		}
	}
	for word, s := range map[string]*suite{"caught": {}, "shown by the product as it is": {control: true}} {
		if got := s.said(caught{class: "bank-total"}); got != word {
			t.Errorf("seen: %s, want %s", got, word)
		}
	}
	for word, s := range map[string]*suite{"not caught": {}, "clean": {control: true}} {
		if got := s.said(caught{}); got != word {
			t.Errorf("not seen: %s, want %s", got, word)
		}
	}
}

// TestRotationLeavesOutTheSlow: all others of rig S come, and what is left out exists.
func TestRotationLeavesOutTheSlow(t *testing.T) {
	all, err := choose("next 1000", 7)
	if err != nil || len(all) < 20 {
		t.Fatalf("%d, %v", len(all), err)
	}
	for _, name := range slow {
		if _, err := choose(name, 0); err != nil {
			t.Error(err)
		}
		if slices.ContainsFunc(all, func(m mutant) bool { return m.name == name }) {
			t.Errorf("%s is in the rotation", name)
		}
	}
}
