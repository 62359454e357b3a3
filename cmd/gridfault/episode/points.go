package episode

import (
	"math/rand/v2"

	"github.com/sutra-grid/sutra-grid/internal/fault"
)

// drawPoint draws a labelled point of the masters or storage nodes and what happens there.
func drawPoint(dice *rand.Rand) (label, action string) {
	all := fault.Labels()
	spec := all[dice.IntN(len(all))]
	actions := []string{"crash@1", "hang@1", "delay=300ms"}
	if spec.Fails {
		actions = append(actions, "error=EIO@1")
	}
	return spec.Name, actions[dice.IntN(len(actions))]
}
