//go:build faults

package fault

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// disks is who is told of what is synced. Like what is armed, it is nobody's to hand around.
var disks struct {
	mu  sync.Mutex
	all atomic.Pointer[[]mounted] // changed with mu held
}

// mounted is one of them.
type mounted struct {
	below string // with a slash at its end
	disk  Disk
}

// Mount has d told of what this process syncs below dir, absolute and clean, until unmount is called.
func Mount(dir string, d Disk) (unmount func(), err error) {
	m := mounted{dir + "/", d}
	change := func(f func([]mounted) []mounted) {
		disks.mu.Lock()
		defer disks.mu.Unlock()
		var now []mounted
		if all := disks.all.Load(); all != nil {
			now = slices.Clone(*all)
		}
		now = f(now)
		disks.all.Store(&now)
	}
	change(func(all []mounted) []mounted { return append(all, m) })
	return sync.OnceFunc(func() {
		change(func(all []mounted) []mounted {
			return slices.DeleteFunc(all, func(o mounted) bool { return o == m })
		})
	}), nil
}

// diskOf is the one that a path is on, or nil.
func diskOf(path string) Disk {
	all := disks.all.Load()
	if all == nil {
		return nil
	}
	for _, m := range *all {
		if strings.HasPrefix(path, m.below) || path == m.below[:len(m.below)-1] {
			return m.disk
		}
	}
	return nil
}

// Synced says that a file, all of it, or a directory was synced.
func Synced(path string) { SyncedPart(path, 0, 0) }

// SyncedPart says that a file was synced, and that since the last time only bytes in [from, to) were written.
func SyncedPart(path string, from, to int64) {
	if d := diskOf(path); d != nil {
		d.Synced(path, from, to)
	}
}
