//go:build !replay

package bubble

import "os"

// Repeats tells whether the same job under the same seed does the same each time, goroutine by goroutine. Go's own scheduler does not.
const Repeats = false

func reseed(uint64) {}

// surroundings is what a child finds in its environment.
func surroundings() []string { return os.Environ() }

// called is the name by which a child is called.
func called(path string) string { return path }
