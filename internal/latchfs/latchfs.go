// Package latchfs watches over the files of a Pebble store.
//
//	store -- Guard: latch, deadline, fault points --> vfs.FS
//
// A store of this kind takes a failed flush for something that may go better next time and tries it for ever, and one that waits
// for a disk that does not answer it does not notice at all; with no write-ahead log nobody else would either. So the first
// operation that fails, or takes longer than the deadline, ends the store: Fatal is told which file and why, once, and every later
// operation fails with the same error. The deadline is for one operation on one file, so a disk that is slow is not taken for
// one that hangs.
//
// Invariants: after the first failure nothing is written any more; who is told need not wait for an operation that hangs. That
// something is absent is an answer, not a failure. The package imports the store's vfs, and of ours the fault points and what tells that a process stood still.
package latchfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/internal/overdue"
)

// Deadline is what one operation may take: a disk that is merely slow, with half a second for a sync, is far below it, and a
// leader whose disk hangs is gone, and replaced, within 5 s.
const Deadline = 2 * time.Second

// Config says whose files are watched, and how.
type Config struct {
	Name     string        // of the store, in messages: "outbox"
	Dir      string        // its directory, in messages
	Deadline time.Duration // of one operation
	Fatal    func(error)   // told once, from any goroutine; it must not wait for the store

	Write, Sync fault.Label // fault points before each; zero: none
}

// Guard watches over what a store does with fs. Its methods may be called from any goroutine.
type Guard struct {
	vfs.FS
	cfg Config

	mu    sync.Mutex
	cause error // guarded by mu; the first failure
}

// NewGuard makes a guard over fs.
func NewGuard(fs vfs.FS, c Config) *Guard { return &Guard{FS: fs, cfg: c} }

// Err is the first failure, or nil.
func (g *Guard) Err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cause
}

// Fail latches a failure of the store that is not one of its files', and returns the first one.
func (g *Guard) Fail(err error) error {
	if fault.Broken(fault.StoreLatchOff) {
		return err
	}
	g.mu.Lock()
	if g.cause != nil {
		defer g.mu.Unlock()
		return g.cause
	}
	g.cause = fmt.Errorf("%s in %s: %w", g.cfg.Name, g.cfg.Dir, err)
	err = g.cause
	g.mu.Unlock()
	g.cfg.Fatal(err)
	return err
}

// deadline is that of one operation.
func (g *Guard) deadline() time.Duration {
	if fault.Broken(fault.WriteDeadlineOff) {
		return math.MaxInt64
	}
	return g.cfg.Deadline
}

// do runs one operation on a file.
func (g *Guard) do(what, path string, run func() error) error {
	if err := g.Err(); err != nil {
		return err
	}
	done := overdue.After(g.deadline(), func() {
		_ = g.Fail(fmt.Errorf("%s %s: the disk gives no answer within %v", what, path, g.cfg.Deadline)) // tells
	})
	err := run()
	done()
	if err == nil || isAnswer(err) {
		return err
	}
	var named *fs.PathError
	if !errors.As(err, &named) { // it says neither what nor where
		err = fmt.Errorf("%s %s: %w", what, path, err)
	}
	return g.Fail(err)
}

// isAnswer tells whether an error says how things are, and not that the disk fails.
func isAnswer(err error) bool {
	for _, answer := range []error{fs.ErrNotExist, fs.ErrExist, io.EOF, errors.ErrUnsupported} {
		if errors.Is(err, answer) {
			return true
		}
	}
	return false
}

// open runs one operation that gives a file.
func (g *Guard) open(what, path string, run func() (vfs.File, error)) (vfs.File, error) {
	var f vfs.File
	err := g.do(what, path, func() (err error) { f, err = run(); return err })
	if err != nil {
		return nil, err
	}
	return &file{File: f, guard: g, path: path}, nil
}

// Create implements vfs.FS.
func (g *Guard) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.open("create", name, func() (vfs.File, error) { return g.FS.Create(name, c) })
}

// Open implements vfs.FS.
func (g *Guard) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	return g.open("open", name, func() (vfs.File, error) { return g.FS.Open(name, opts...) })
}

// OpenReadWrite implements vfs.FS.
func (g *Guard) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return g.open("open", name, func() (vfs.File, error) { return g.FS.OpenReadWrite(name, c, opts...) })
}

// OpenDir implements vfs.FS.
func (g *Guard) OpenDir(name string) (vfs.File, error) {
	return g.open("open", name, func() (vfs.File, error) { return g.FS.OpenDir(name) })
}

// ReuseForWrite implements vfs.FS.
func (g *Guard) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.open("reuse", from, func() (vfs.File, error) { return g.FS.ReuseForWrite(from, to, c) })
}

// Link implements vfs.FS.
func (g *Guard) Link(from, to string) error {
	return g.do("link", from, func() error { return g.FS.Link(from, to) })
}

// Remove implements vfs.FS.
func (g *Guard) Remove(name string) error {
	return g.do("remove", name, func() error { return g.FS.Remove(name) })
}

// RemoveAll implements vfs.FS.
func (g *Guard) RemoveAll(name string) error {
	return g.do("remove", name, func() error { return g.FS.RemoveAll(name) })
}

// Rename implements vfs.FS.
func (g *Guard) Rename(from, to string) error {
	return g.do("rename", from, func() error { return g.FS.Rename(from, to) })
}

// MkdirAll implements vfs.FS.
func (g *Guard) MkdirAll(dir string, perm os.FileMode) error {
	return g.do("make directory", dir, func() error { return g.FS.MkdirAll(dir, perm) })
}

// Unwrap implements vfs.FS.
func (g *Guard) Unwrap() vfs.FS { return g.FS }

// file is an open file of the store.
type file struct {
	vfs.File
	guard *Guard
	path  string
}

// Read implements io.Reader.
func (f *file) Read(p []byte) (n int, err error) {
	err = f.guard.do("read", f.path, func() (err error) { n, err = f.File.Read(p); return err })
	return n, err
}

// ReadAt implements io.ReaderAt.
func (f *file) ReadAt(p []byte, at int64) (n int, err error) {
	err = f.guard.do("read", f.path, func() (err error) { n, err = f.File.ReadAt(p, at); return err })
	return n, err
}

// Write implements io.Writer.
func (f *file) Write(p []byte) (n int, err error) {
	err = f.write(func() (err error) { n, err = f.File.Write(p); return err })
	return n, err
}

// WriteAt implements io.WriterAt.
func (f *file) WriteAt(p []byte, at int64) (n int, err error) {
	err = f.write(func() (err error) { n, err = f.File.WriteAt(p, at); return err })
	return n, err
}

func (f *file) write(run func() error) error {
	return f.guard.do("write", f.path, func() error {
		if err := fault.Err(f.guard.cfg.Write); err != nil {
			return err
		}
		return run()
	})
}

// Preallocate implements vfs.File.
func (f *file) Preallocate(offset, length int64) error {
	return f.guard.do("allocate", f.path, func() error { return f.File.Preallocate(offset, length) })
}

// Sync implements vfs.File.
func (f *file) Sync() error { return f.sync(func() (bool, error) { return true, f.File.Sync() }) }

// SyncData implements vfs.File.
func (f *file) SyncData() error {
	return f.sync(func() (bool, error) { return true, f.File.SyncData() })
}

// SyncTo implements vfs.File.
func (f *file) SyncTo(length int64) (full bool, err error) {
	err = f.sync(func() (bool, error) { full, err = f.File.SyncTo(length); return full, err })
	return full, err
}

// sync runs what makes all of the file durable, or only begins to.
func (f *file) sync(run func() (full bool, err error)) error {
	return f.guard.do("sync", f.path, func() error {
		if err := fault.Err(f.guard.cfg.Sync); err != nil {
			return err
		}
		full, err := run()
		if full && err == nil {
			fault.Synced(f.path)
		}
		return err
	})
}

// Close implements io.Closer. It is let through after a failure, or the descriptor would stay.
func (f *file) Close() error {
	if f.guard.Err() != nil {
		return f.File.Close()
	}
	return f.guard.do("close", f.path, f.File.Close)
}
