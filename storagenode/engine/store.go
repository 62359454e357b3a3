package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"path"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sutra-grid/sutra-grid/internal/fault"
)

// The layout of an engine's directory. Which store is the state is said by one file that is replaced by a rename, so a
// restored state takes the old one's place in one step; what it does not name is left over from a crash.
//
//	CURRENT        the name of a store, and a newline
//	store-000001/  a Pebble store
const (
	currentName = "CURRENT"
	storePrefix = "store-"
)

// store is one Pebble store and its users. The engine is one of them until it closes or replaces the store; behind the last
// one it is closed, and deleted when it was replaced.
type store struct {
	db  *pebble.DB
	dir string
	fs  vfs.FS
	log *slog.Logger

	mu       sync.Mutex
	users    int
	replaced bool
	closed   chan struct{} // closed when db is; err is set before
	err      error
}

// acquire adds a user; false when there was none left.
func (s *store) acquire() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users == 0 {
		return false
	}
	s.users++
	return true
}

// release takes a user away.
func (s *store) release() {
	s.mu.Lock()
	s.users--
	last := s.users == 0
	s.mu.Unlock()
	if !last {
		return
	}
	s.err = s.db.Close()
	if s.replaced {
		if err := errors.Join(s.err, s.fs.RemoveAll(s.dir)); err != nil {
			s.log.Warn("a replaced store is left to the next start", "dir", s.dir, "err", err)
		}
		s.err = nil // nothing names it any more
	}
	close(s.closed)
}

func (s *store) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// retire ends the engine's own use of a store that another has replaced.
func (s *store) retire() {
	s.mu.Lock()
	s.replaced = true
	s.mu.Unlock()
	s.release()
}

// storeConfig is what opening a store takes.
type storeConfig struct {
	fs         vfs.FS
	cacheBytes int64
	tableBytes int64 // of a memtable; 0: Pebble's default, for a store that nothing is written to
	log        *slog.Logger
	fatal      func(error)
	flushed    func(Flush) // nil: nobody asks
}

// Flush is what one flush did.
type Flush struct {
	Rows uint64        // written since the flush before it, those that were overwritten or deleted meanwhile included
	Took time.Duration // from its begin until the rows were part of the store
}

// flushEnd turns Pebble's account of a flush into one of rows: each row written has the next sequence number. last is the greatest that
// a flush of this store has written. It is called with the store's lock held, so one call follows the other.
func (c *storeConfig) flushEnd(i pebble.FlushInfo, last *uint64) {
	if i.Err != nil || len(i.Output) == 0 {
		return
	}
	first, through := *last+1, *last
	if *last == 0 {
		first = uint64(i.Output[0].SmallestSeqNum)
	}
	for _, table := range i.Output {
		if *last == 0 {
			first = min(first, uint64(table.SmallestSeqNum))
		}
		through = max(through, uint64(table.LargestSeqNum))
	}
	*last = through
	c.flushed(Flush{Rows: through - first + 1, Took: i.TotalDuration})
}

// openStore opens the store in dir; one that is gone is not made again. The opener is its first user.
func openStore(dir string, c storeConfig) (*store, error) {
	return c.open(dir, &pebble.Options{ErrorIfNotExists: true})
}

// makeStore makes an empty store in dir.
func makeStore(dir string, c storeConfig) (*store, error) {
	return c.open(dir, &pebble.Options{ErrorIfExists: true})
}

func (c storeConfig) open(dir string, o *pebble.Options) (*store, error) {
	cache := pebble.NewCache(c.cacheBytes)
	defer cache.Unref()
	o.FS = c.fs
	o.Cache = cache
	o.DisableWAL = true // the group's log is the log
	// Pinned: a newer library must not write what an older one of ours cannot read.
	o.FormatMajorVersion = pebble.FormatTableFormatV6
	// Larger means that compactions write less anew, but a node has several stores, and all of it is written when a snapshot is.
	o.MemTableSize = uint64(c.tableBytes)
	o.MemTableStopWritesThreshold = 4
	o.L0CompactionThreshold = 2
	o.LBaseMaxBytes = 64 << 20
	o.Logger = storeLog{c.log, c.fatal}
	o.EventListener = &pebble.EventListener{
		BackgroundError: func(err error) { c.fatal(fmt.Errorf("store %s: %w", dir, err)) },
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			c.fatal(fmt.Errorf("store %s: damaged file %s: %w", dir, i.Path, i.Details))
		},
	}
	if c.flushed != nil {
		var last uint64
		o.EventListener.FlushEnd = func(i pebble.FlushInfo) { c.flushEnd(i, &last) }
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10) // most ids that Apply asks for are new
	}
	db, err := pebble.Open(dir, o)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	return &store{db: db, dir: dir, fs: c.fs, log: c.log, users: 1, closed: make(chan struct{})}, nil
}

// storeLog takes Pebble's own messages.
type storeLog struct {
	log   *slog.Logger
	fatal func(error)
}

// Infof is routine: flushes and compactions.
func (l storeLog) Infof(format string, args ...any) {
	l.log.Debug(fmt.Sprintf(format, args...))
}

// Errorf is worth a line.
func (l storeLog) Errorf(format string, args ...any) {
	l.log.Error(fmt.Sprintf(format, args...))
}

// Fatalf must not return. It ends the goroutine, not the process: how the process leaves is said by the one who set Fatal.
func (l storeLog) Fatalf(format string, args ...any) {
	l.fatal(fmt.Errorf("store: "+format, args...))
	runtime.Goexit()
}

// createDir makes an engine's directory with one empty store, whole or not at all: it is built beside its place and moved
// there. A directory left over from an earlier try is thrown away.
func createDir(dir string, c storeConfig, first meta) error {
	building := dir + ".new"
	c.flushed = nil // what makes a store is nobody's write
	if err := c.fs.RemoveAll(building); err != nil {
		return err
	}
	if err := c.fs.MkdirAll(building, 0o755); err != nil {
		return err
	}
	name := storePrefix + "000001"
	s, err := makeStore(c.fs.PathJoin(building, name), c)
	if err != nil {
		return err
	}
	value, err := encodeMeta(first)
	if err == nil {
		err = s.db.Set([]byte{tableMeta}, value, pebble.NoSync)
	}
	if err == nil {
		err = s.db.Flush()
	}
	s.release()
	if err = errors.Join(err, s.err); err != nil {
		return err
	}
	if err := setCurrent(c.fs, building, name); err != nil {
		return err
	}
	// An empty directory may stand where this one goes.
	if err := c.fs.RemoveAll(dir); err != nil {
		return err
	}
	if err := c.fs.Rename(building, dir); err != nil {
		return err
	}
	return syncDir(c.fs, c.fs.PathDir(dir))
}

// setCurrent makes name the store of dir, in one step and durably.
func setCurrent(fs vfs.FS, dir, name string) error {
	tmp := fs.PathJoin(dir, currentName+".tmp")
	f, err := fs.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(name + "\n"))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	// The store's own entry in dir must be there before a file that names it. (Pebble has seen to that too.)
	if err := syncDir(fs, dir); err != nil {
		return err
	}
	if err := fs.Rename(tmp, fs.PathJoin(dir, currentName)); err != nil {
		return err
	}
	return syncDir(fs, dir)
}

// current reads which store is dir's.
func current(fs vfs.FS, dir string) (string, error) {
	file := fs.PathJoin(dir, currentName)
	f, err := fs.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, 64)
	n, err := f.ReadAt(b, 0)
	name, whole := strings.CutSuffix(string(b[:n]), "\n")
	if !whole || !strings.HasPrefix(name, storePrefix) || path.Base(name) != name {
		return "", fmt.Errorf("%s is damaged: %q names no store (%v)", file, b[:n], err)
	}
	return name, nil
}

// removeOthers deletes what CURRENT does not name.
func removeOthers(fs vfs.FS, dir, name string) error {
	entries, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e == name || e == currentName {
			continue
		}
		if !strings.HasPrefix(e, storePrefix) && e != currentName+".tmp" {
			return fmt.Errorf("%s is none of the engine's", fs.PathJoin(dir, e))
		}
		if err := fs.RemoveAll(fs.PathJoin(dir, e)); err != nil {
			return err
		}
	}
	return nil
}

func syncDir(fs vfs.FS, dir string) error {
	if fault.Broken(fault.SkipFsyncDir) {
		return nil
	}
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
