package vector

import (
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sutra-grid/sutra-grid/internal/fault"
)

// Save writes the index to a file, in place of what is there: whole or, when it fails or the machine does, not at all. It
// answers the applied index that the file is complete to. Apply waits while it writes, not while it syncs; searches do not
// wait. Two Saves to one path at the same time are the caller's mistake.
func (x *Index) Save(fs vfs.FS, path string) (applied uint64, err error) {
	tmp := path + ".tmp"
	f, err := fs.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return 0, fmt.Errorf("save vector index: %w", err)
	}
	if applied, err = x.fill(f); err == nil {
		fault.Synced(tmp)
		err = fs.Rename(tmp, path)
	}
	if err != nil {
		return 0, errors.Join(fmt.Errorf("save vector index %s: %w", path, err), fs.Remove(tmp))
	}
	if err := syncDir(fs, fs.PathDir(path)); err != nil {
		return 0, fmt.Errorf("save vector index %s: %w", path, err)
	}
	return applied, nil
}

// fill writes the index to f, makes it durable and closes it.
func (x *Index) fill(f vfs.File) (applied uint64, err error) {
	defer func() { err = errors.Join(err, f.Close()) }()
	x.write.Lock()
	applied = x.applied.Load()
	_, err = x.writeTo(f)
	x.write.Unlock()
	if err != nil {
		return 0, err
	}
	return applied, f.Sync()
}

func syncDir(fs vfs.FS, dir string) (err error) {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.Sync(); err != nil {
		return err
	}
	fault.Synced(dir)
	return nil
}

// Load reads the index that Save wrote. Errors are Read's, with the path in a *DamagedError, and the filesystem's: that there is no
// such file (oserror.IsNotExist of cockroachdb/errors knows it) means that none was saved. What is refused is left where it is; the next Save replaces it.
func Load(fs vfs.FS, path string, o Options) (x *Index, err error) {
	f, err := fs.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return nil, fmt.Errorf("load vector index: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	x, err = Read(io.Reader(f), o)
	var damaged *DamagedError
	if errors.As(err, &damaged) {
		damaged.Path = path
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("load vector index %s: %w", path, err)
	}
	return x, nil
}
