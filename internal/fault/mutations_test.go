package fault_test

import (
	"os"
	"path/filepath"
	"regexp"
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
		for _, kind := range m.Faults {
			spec, err := rig.Lookup(rig.Kind(kind))
			if err != nil {
				t.Errorf("%s: %v", m.Name, err)
			}
			simulated = simulated || spec.Sim
		}
		if strings.Contains(m.Rigs, "S") && !simulated {
			t.Errorf("%s is for rig S, which has none of %q", m.Name, m.Faults)
		}
	}
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
