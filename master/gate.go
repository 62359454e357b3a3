package master

import "sync/atomic"

// gate is open or shut; the zero gate is open.
type gate struct{ shut atomic.Bool }

// Shut tells whether the gate is shut.
func (g *gate) Shut() bool { return g.shut.Load() }

// Set shuts or opens the gate and tells whether that changed it.
func (g *gate) Set(shut bool) bool { return g.shut.Swap(shut) != shut }
