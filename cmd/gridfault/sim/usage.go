package sim

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
)

// Usage implements rig.Grid: all processes are one here.
func (g *Grid) Usage() ([]rig.Usage, error) {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, err
	}
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/total:bytes"}}
	metrics.Read(heap)
	u := rig.Usage{Process: "all", Goroutines: runtime.NumGoroutine(), Files: len(files), HeapBytes: int64(heap[0].Value.Uint64()), RSSBytes: int64(heap[1].Value.Uint64())}
	err = filepath.WalkDir(g.dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return ignoreGone(err)
		}
		info, err := d.Info()
		if err == nil {
			u.DiskBytes += info.Size()
		}
		return ignoreGone(err)
	})
	return []rig.Usage{u}, err
}

// ignoreGone: files come and go while they are counted.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
