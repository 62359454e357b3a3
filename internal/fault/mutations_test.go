package fault_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/internal/fault"
)

// TestMutationsAreWhole: a line of the table says what breaks, where it shows and in which rigs, in words that exist.
func TestMutationsAreWhole(t *testing.T) {
	name, test, seen := regexp.MustCompile(`^[a-z]+(-[a-z]+)+$`), regexp.MustCompile(`^[a-z/]+ Test[A-Z]\w+$`), map[string]bool{}
	for i, m := range fault.Mutations() {
		if int(m.Mutation) != i+1 || !name.MatchString(m.Name) || seen[m.Name] || m.What == "" || !test.MatchString(m.Test) {
			t.Errorf("%+v: out of order, twice, or without what it breaks and what shows it", m)
		}
		seen[m.Name] = true
		if visible := m.Rigs != ""; visible != (len(m.Workloads) > 0) || visible != (len(m.Anomalies) > 0) || strings.Trim(m.Rigs, "SP") != "" {
			t.Errorf("%s: rigs %q, workloads %q, anomalies %q", m.Name, m.Rigs, m.Workloads, m.Anomalies)
		}
		simulated := len(m.Faults) == 0
		for _, f := range m.Faults {
			sim := true
			for _, kind := range kindsOf(f) {
				spec, err := rig.Lookup(kind)
				if err != nil {
					t.Errorf("%s: %v", m.Name, err)
				}
				sim = sim && spec.Sim
			}
			simulated = simulated || sim
		}
		if strings.Contains(m.Rigs, "S") && !simulated {
			t.Errorf("%s is for rig S, which has none of %q", m.Name, m.Faults)
		}
	}
}

// kindsOf is the kinds of a fault of the table: one, one under another, or that of labelled points.
func kindsOf(f string) (kinds []rig.Kind) {
	for part := range strings.SplitSeq(f, "/") {
		if label, _, ok := strings.Cut(part, ":"); ok && slices.ContainsFunc(fault.Labels(), func(s fault.Spec) bool { return s.Name == label }) {
			part = string(rig.KindPoint)
		}
		kinds = append(kinds, rig.Kind(part))
	}
	return kinds
}

// TestMutationsAreDocumented: the page for users has all of them, in both of its tables.
func TestMutationsAreDocumented(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "faults.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range fault.Mutations() {
		if n := strings.Count(string(page), "\n| `"+m.Name+"` |"); n != 2 {
			t.Errorf("docs/faults.md has %d rows for %s, want one in each table", n, m.Name)
		}
	}
}
