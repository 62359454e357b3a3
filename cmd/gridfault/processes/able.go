package processes

import "github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"

// Able tells which kinds of faults a grid of this configuration can be hurt with on this machine, as far as that is known before it is
// started.
func Able(cfg Config) func(rig.Kind) bool {
	lacks := lacking(cfg)
	return func(k rig.Kind) bool {
		spec, err := rig.Lookup(k)
		if err != nil || handlers[k] == nil {
			return false
		}
		for _, n := range spec.Needs {
			if _, missing := lacks[n]; missing {
				return false
			}
		}
		return true
	}
}
