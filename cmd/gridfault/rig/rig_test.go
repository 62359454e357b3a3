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
	if _, err := Lookup("kill.everything"); err == nil || errors.Is(err, ErrUnsupported) {
		t.Errorf("a kind that is not there: %v", err)
	}
}
