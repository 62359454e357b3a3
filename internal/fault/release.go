//go:build !faults

package fault

// Enabled tells whether this build can be made to fail.
const Enabled = false

// Point is where a process can crash, hang or be late.
func Point(Label) {}

// Err is a Point that can also fail as the operation behind it does.
func Err(Label) error { return nil }
