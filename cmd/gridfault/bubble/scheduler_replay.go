//go:build replay

package bubble

import _ "unsafe" // for go:linkname

// Repeats tells whether the same job under the same seed does the same each time, goroutine by goroutine. A program that is built with this
// tag does: it does not link without the overlay of cmd/gridfault/overlay.
const Repeats = true

// reseed is the overlay's: what selects, maps and timers draw in bubbles follows from the seed.
//
//go:linkname reseed runtime.bubbleSeed
func reseed(seed uint64)

// surroundings is what a child finds in its environment: one thread of Go, and no memory that is collected. Nothing of this process's: how
// much there is would move everything that a child has in memory.
func surroundings() []string { return []string{"GOMAXPROCS=1", "GOGC=off"} }

// called is the name by which a child is called, for the same reason one name wherever the program is.
func called(string) string { return "child" }
