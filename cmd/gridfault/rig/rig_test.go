package rig

import (
	"errors"
	"strings"
	"testing"
)

func TestKinds(t *testing.T) {
	seen := map[Kind]bool{}
	for _, s := range Kinds() {
		family, _, dotted := strings.Cut(string(s.Kind), ".")
		if seen[s.Kind] || family == "" || !dotted && s.Kind != KindPoint || s.What == "" || s.Proof == "" {
			t.Errorf("%+v: want a name of its own, what it is and what proves it", s)
		}
		seen[s.Kind] = true
		if found, err := Lookup(s.Kind); err != nil || found.What != s.What {
			t.Errorf("%s: %+v, %v", s.Kind, found, err)
		}
	}
	for _, s := range Hooks() {
		if found, err := Lookup(s.Kind); err != nil || found.What != s.What || seen[s.Kind] {
			t.Errorf("%s: %+v, %v", s.Kind, found, err)
		}
	}
	if f := (Fault{Kind: KindHook, Label: "x"}); f.Name() != "hook:x" || (Fault{Kind: KillLeader}).Name() != "kill.leader" {
		t.Errorf("a fault is called %s", f.Name())
	}
	if _, err := Lookup("kill.everything"); err == nil || errors.Is(err, ErrUnsupported) {
		t.Errorf("a kind that is not there: %v", err)
	}
}
