package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sutra-grid/sutra-grid/internal/fault"
)

// WriteFileAtomic replaces path: a crash leaves the old content or the new one, and the new one is durable when it returns.
// Two writers of one path must not run at once.
func WriteFileAtomic(path string, data []byte, perm fs.FileMode) error {
	tmp := path + tmpSuffix
	err := writeSynced(tmp, data, perm)
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), removeIfThere(tmp))
	}
	return SyncDir(filepath.Dir(path))
}

func writeSynced(path string, data []byte, perm fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = SyncFile(f)
	}
	return errors.Join(err, f.Close())
}

// SyncFile makes what a file holds durable; its name is its directory's (SyncDir).
func SyncFile(f *os.File) error {
	if err := f.Sync(); err != nil {
		return err
	}
	fault.Synced(f.Name())
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	if fault.Broken(fault.SkipFsyncDir) {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, rootCause(err))
	}
	if err := errors.Join(SyncFile(f), f.Close()); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}

// Exists tells whether path is there; an error says that it cannot be known.
func Exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", path, rootCause(err))
	}
	return true, nil
}

// Empty tells whether dir is absent or holds nothing but its LOCK and what an interrupted WriteFileAtomic left.
func Empty(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look into %s: %w", dir, rootCause(err))
	}
	for _, e := range entries {
		if e.Name() != lockName && !strings.HasSuffix(e.Name(), tmpSuffix) {
			return false, nil
		}
	}
	return true, nil
}
