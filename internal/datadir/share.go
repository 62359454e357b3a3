package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Shared is a data directory held for reading: its owner cannot start meanwhile, other readers can. Not a byte of it is
// written. Its methods are not safe for concurrent use.
type Shared struct {
	path     string
	lock     *os.File // nil: the directory has no LOCK, as a copy may have none
	identity Identity
}

// BusyError is the refusal of a directory that a running process holds.
type BusyError struct {
	Dir    string
	Holder string // its pid, or "(unknown)"
}

// Error implements error.
func (e *BusyError) Error() string {
	return fmt.Sprintf("data directory %s is in use by process %s; stop it first, or read a copy of the directory", e.Dir, e.Holder)
}

// Share takes a directory for reading. It must have an IDENTITY; while a process uses it the error is a *BusyError.
func Share(dir string) (*Shared, error) {
	lock, err := shareLock(dir)
	if err != nil {
		return nil, err
	}
	s := &Shared{path: dir, lock: lock}
	id, known, err := readIdentity(dir)
	if err == nil && !known {
		err = fmt.Errorf("%s has no %s: it is not a data directory", dir, identityName)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.identity = id
	return s, nil
}

func shareLock(dir string) (*os.File, error) {
	f, err := os.Open(filepath.Join(dir, lockName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read data directory %s: %w", dir, rootCause(err))
	}
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return nil, errors.Join(&BusyError{Dir: dir, Holder: holder(f)}, f.Close())
	case err != nil:
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
	}
	return f, nil
}

// Identity is whose directory it is.
func (s *Shared) Identity() Identity { return s.identity }

// Path joins elements to the directory's path.
func (s *Shared) Path(elem ...string) string {
	return filepath.Join(append([]string{s.path}, elem...)...)
}

// Close lets the owner start again. It is safe to call twice.
func (s *Shared) Close() error {
	if s.lock == nil {
		return nil
	}
	err := s.lock.Close() // the lock goes with the file
	s.lock = nil
	return err
}
