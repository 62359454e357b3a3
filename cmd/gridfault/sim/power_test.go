//go:build faults

package sim

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/internal/fault"
)

// TestPowerLossLosesNothing: power losses show that they happened, and when all is well again what was acknowledged is there.
func TestPowerLossLosesNothing(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Seed = 3
	inGrid(t, cfg, func(t *testing.T, g *Grid) {
		var users []*user
		for i := range g.Layout().Masters {
			users = append(users, newUser(t, g, fmt.Sprintf("user-%d", i), i, 100*time.Millisecond))
		}
		for i, kind := range []rig.Kind{rig.PowerOne, rig.PowerTorn, rig.PowerMinority, rig.PowerAll} {
			if err := live(t, g, users, rig.Fault{Kind: kind, Dice: uint64(i), Hold: 2 * time.Second}); err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
		}
		for _, u := range users {
			u.end(t)
		}
	})
}

// TestPowerLossIsOne: a grid that does not sync the names of its files does not come back as it was.
func TestPowerLossIsOne(t *testing.T) {
	mend, err := fault.Break("skip-fsync-dir")
	if err != nil {
		t.Fatal(err)
	}
	defer mend()
	cfg := DefaultConfig()
	cfg.Seed, cfg.Dir, cfg.Replicas, cfg.Agents = 4, t.TempDir(), 1, 2
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		g, err := Open(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := try(ctx, g, rig.Fault{Kind: rig.PowerAll, Hold: time.Second}); err != nil {
			t.Error(err)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		if len(g.Trouble()) == 0 {
			t.Error("nothing is said to be wrong")
		}
	})
}
