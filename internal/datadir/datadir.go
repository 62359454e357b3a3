// Package datadir guards a process's data directory: whom it belongs to (IDENTITY), that one process at a time uses it
// (LOCK), and how small files in it are replaced so that a crash leaves the old or the new one.
//
//	DIR/ LOCK      flocked while its owner lives; its text is the owner's pid
//	     IDENTITY  grid id, incarnation, kind, id, store id, format; written once, durable before any store is made
//	     ...       the owner's files
//
// Invariants: IDENTITY never changes once it is written; a directory that names somebody else is refused, never adopted;
// nothing that is missing is made again behind the owner's back (safety S1). The package does not know what the directory
// holds, and imports only fsm/event and the fault points.
package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sutra-grid/sutra-grid/internal/fault"
)

const (
	lockName     = "LOCK"
	identityName = "IDENTITY"
	tmpSuffix    = ".tmp"
)

// Dir is a locked data directory. Its methods are not safe for concurrent use, except Path and Identity.
type Dir struct {
	path     string
	lock     *os.File
	identity Identity
	known    bool // identity was read or written
}

// Lock makes the directory if it is absent, checks that it can be written, takes its lock, and reads IDENTITY if there is
// one. The lock ends with Close or with the process.
func Lock(dir string) (*Dir, error) {
	if err := MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	return lockExisting(dir)
}

// Create is Lock and SetIdentity: it refuses a directory that has an identity already.
func Create(dir string, id Identity) (*Dir, error) {
	d, err := Lock(dir)
	if err != nil {
		return nil, err
	}
	if err := d.SetIdentity(id); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Open locks a directory that must exist and belong to exactly this owner. It makes nothing.
func Open(dir string, kind Kind, id string) (*Dir, error) {
	if ok, err := Exists(dir); err != nil {
		return nil, err
	} else if !ok {
		return nil, fmt.Errorf("data directory %s does not exist", dir)
	}
	d, err := lockExisting(dir)
	if err != nil {
		return nil, err
	}
	if err := d.mustBe(kind, id); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func lockExisting(dir string) (*Dir, error) {
	lock, err := takeLock(dir)
	if err != nil {
		return nil, err
	}
	d := &Dir{path: dir, lock: lock}
	if d.identity, d.known, err = readIdentity(dir); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Dir) mustBe(kind Kind, id string) error {
	switch {
	case !d.known:
		return fmt.Errorf("data directory %s has no %s: it was never set up as %s %s, or it was emptied; an emptied directory is never taken over under the old id",
			d.path, identityName, kind, id)
	case d.identity.Kind != kind || d.identity.ID != id:
		return fmt.Errorf("data directory %s belongs to %s %s of grid %s, not to %s %s; give each process its own directory",
			d.path, d.identity.Kind, d.identity.ID, orNone(d.identity.GridID), kind, id)
	}
	return nil
}

// Identity is the content of IDENTITY; false if there is none yet.
func (d *Dir) Identity() (Identity, bool) { return d.identity, d.known }

// SetIdentity writes IDENTITY, durably and once; Format is filled in.
func (d *Dir) SetIdentity(id Identity) error {
	if d.known {
		return fmt.Errorf("data directory %s already belongs to %s %s of grid %s", d.path, d.identity.Kind, d.identity.ID, orNone(d.identity.GridID))
	}
	id.Format = Format
	if err := fault.Err(fault.IdentityWrite); err != nil {
		return fmt.Errorf("write %s: %w", d.Path(identityName), err)
	}
	if err := writeIdentity(d.path, id); err != nil {
		return err
	}
	fault.Point(fault.IdentityWritten)
	d.identity, d.known = id, true
	return nil
}

// Path joins elements to the directory's path.
func (d *Dir) Path(elem ...string) string {
	return filepath.Join(append([]string{d.path}, elem...)...)
}

// Close releases the lock. It is safe to call twice.
func (d *Dir) Close() error {
	if d.lock == nil {
		return nil
	}
	err := d.lock.Close() // the lock goes with the file
	d.lock = nil
	if err != nil {
		return fmt.Errorf("release data directory %s: %w", d.path, err)
	}
	return nil
}

// MkdirAll makes dir and those of its parents that are not there, durably: each has its name in a directory that is synced.
func MkdirAll(dir string) error {
	var in []string // directories that get a name
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		if info, err := os.Stat(at); err == nil && info.IsDir() || at == filepath.Dir(at) {
			break
		}
		in = append(in, filepath.Dir(at))
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("%s: %w", dir, rootCause(err))
	}
	for _, parent := range in {
		if err := SyncDir(parent); err != nil {
			return err
		}
	}
	return nil
}

// rootCause drops the operation and path of an *fs.PathError, which the caller says in better words.
func rootCause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

func orNone(s string) string {
	if s == "" {
		return "(none yet)"
	}
	return s
}
