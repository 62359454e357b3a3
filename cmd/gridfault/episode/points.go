package episode

import (
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/sutra-grid/sutra-grid/internal/fault"
)

// drawPoint draws a labelled point of the masters or, unless masters alone have work, storage nodes, and what happens there.
func drawPoint(masters bool, dice *rand.Rand) (label, action string) {
	all := slices.DeleteFunc(slices.Clone(fault.Labels()), func(s fault.Spec) bool {
		return masters && (strings.HasPrefix(s.Where, "storagenode") || strings.HasPrefix(s.Where, "master/txn") || strings.HasPrefix(s.Where, "agent"))
	})
	spec := all[dice.IntN(len(all))]
	actions := []string{"crash@1", "hang@1", "delay=300ms"}
	if spec.Fails {
		actions = append(actions, "error=EIO@1")
	}
	return spec.Name, actions[dice.IntN(len(actions))]
}
