package processes

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
)

// TestAllKinds makes every kind of fault happen on machines of their own, one after the other, under load. GRID_FAULT_RIG=1 runs it, and
// GRID_FAULT_KINDS=disk.full,… some of them; it takes minutes, and root.
func TestAllKinds(t *testing.T) {
	if os.Getenv("GRID_FAULT_RIG") == "" {
		t.Skip("set GRID_FAULT_RIG=1; it takes minutes, and root")
	}
	g := open(t, func(*Config) {})
	for need, why := range g.Lacks() {
		t.Logf("lacks %s: %s", need, why)
	}
	load(t, g)
	only := strings.FieldsFunc(os.Getenv("GRID_FAULT_KINDS"), func(r rune) bool { return r == ',' })
	known := map[string]bool{}
	for i, s := range rig.Kinds() {
		if len(only) > 0 && !slices.Contains(only, string(s.Kind)) {
			continue
		}
		t.Run(string(s.Kind), func(t *testing.T) {
			f := rig.Fault{Kind: s.Kind, Dice: uint64(i), Hold: 3 * time.Second}
			if s.Kind == rig.KindPoint {
				f.Label, f.Action = "raft.log.store", "crash"
			}
			if err := g.permits(s); errors.Is(err, rig.ErrUnsupported) {
				t.Skip(err)
			}
			if handlers[s.Kind] == nil {
				t.Skip("no means for it")
			}
			serves(t, g, 20*time.Second)
			inject(t, g, f)
			serves(t, g, 20*time.Second)
			for _, line := range g.Trouble() {
				if !known[line] {
					t.Errorf("trouble: %s", line)
				}
				known[line] = true
			}
		})
	}
}
