//go:build !faults

package fault

import "errors"

// Enabled tells whether this build can be made to fail.
const Enabled = false

// Point is where a process can crash, hang or be late.
func Point(Label) {}

// Err is a Point that can also fail as the operation behind it does.
func Err(Label) error { return nil }

// Broken tells whether a mutation is live: its place in the product then does the wrong thing.
func Broken(Mutation) bool { return false }

// Break makes mutations live in this process until mend is called. This build has none.
func Break(string) (mend func(), err error) {
	return nil, errors.New("this program was not built with -tags faults: nothing in it can be broken")
}

// Mount has a disk told of what this process syncs. This build tells nobody.
func Mount(string, Disk) (unmount func(), err error) {
	return nil, errors.New("this program was not built with -tags faults: no disk of it can lose anything")
}

// Synced says that a file, all of it, or a directory was synced.
func Synced(string) {}

// SyncedPart says that a file was synced, and that since the last time only bytes in [from, to) were written.
func SyncedPart(string, int64, int64) {}
