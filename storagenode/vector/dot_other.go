//go:build !amd64

package vector

// newDot chooses the kernel for this machine.
func newDot() func(a, b []int16) int32 { return dotGo }
