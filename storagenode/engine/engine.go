package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/internal/latchfs"
	"github.com/sutra-grid/sutra-grid/storagenode/lock"
)

// ErrClosed is what a closed engine answers.
var ErrClosed = errors.New("shard engine is closed")

// Level is the highest level of entries that this version understands (safety S13). Those it writes are of LogLevel.
//
//	1  concepts, associations, transactions
//	2  deletes; a concept of the events shard was created when its event happened
//	3  every operation of a transaction, in order, with results; attempts in parts; shared locks
const (
	Level        = 3
	deletesLevel = 2
	txnLevel     = 3
)

// Options say whose state the store holds.
type Options struct {
	ShardID    event.ShardID
	Dimension  uint32 // of vectors; Check refuses others
	CacheBytes int64  // Pebble's block cache; 0: 32 MiB
	TableBytes int64  // of a memtable, of which there are four at most; 0: 8 MiB
	Level      uint32 // the highest level of entries that it understands; 0: Level. A lower one is an older version, for simulations
	First      uint32 // the level of the log of a store that is made now; 0: what older versions understand, too
	Log        *slog.Logger

	// Fatal is told, once, why this replica cannot go on: an undecodable entry, a damaged, failing or hung store. The process
	// must leave; after it Apply changes nothing and Snapshot fails. It is called from any goroutine, also while a read or
	// Apply waits for it, so it must neither block nor call Close.
	Fatal func(error)

	// Flushed is told of every memtable that went to disk; nil: nobody is. It is called with the store's own lock held, so it must
	// neither block nor call the engine.
	Flushed func(Flush)

	fs     vfs.FS                  // tests put a filesystem here that can crash
	bounds bounds                  // tests make them small
	step   func(fault.Label) error // a labelled step of Restore or a snapshot; nil: fault.Err
}

// bounds limit what the replicated tables hold. They decide what Apply answers, so they are the same on every replica:
// constants of the level, not of the configuration.
type bounds struct {
	requests int   // outcomes in the request table (safety S5)
	window   int64 // µs of log time that an outcome is kept
	ahead    int64 // µs that issued may lie ahead of log time
	prepared int   // attempts in doubt; the masters bound theirs at 100,000
	attempts int   // ended attempts above the horizon

	results       int   // writes and attempts whose results are kept
	resultsBytes  int   // of all of them
	resultsWindow int64 // µs of log time that a write's results are kept

	removed int // associations that one command's deletes remove

	batchBytes int // a batch above this is committed before the next entry; of no effect on answers
}

func levelBounds() bounds {
	return bounds{
		requests: 1 << 18,
		window:   10 * time.Minute.Microseconds(),
		ahead:    time.Minute.Microseconds(),
		prepared: 1 << 16,
		attempts: 1 << 18,

		results:       1 << 18,
		resultsBytes:  64 << 20,
		resultsWindow: time.Minute.Microseconds(),

		removed: maxRemoved,
		// A batch larger than half a memtable becomes a memtable of its own; smaller ones are copied into it.
		batchBytes: 2 << 20,
	}
}

// Engine is one shard's state machine; it implements raftgroup.FSM. Apply, Snapshot and Restore are called by one
// goroutine, everything else by any.
type Engine struct {
	dir    string
	o      Options
	locks  *lock.Table
	shared atomic.Pointer[meta] // what the last committed batch says, for readers

	vectorsChanged atomic.Uint64 // see VectorsChanged

	state   *state  // of the applying goroutine
	scratch scratch // of the applying goroutine

	mu      sync.Mutex
	store   *store   // nil after Close
	retired []*store // replaced by Restore, and perhaps still read
	failure error    // the first; nothing is applied after it
}

// Open opens the store in dir, or makes it, whole, when dir does not exist or is empty. A directory that has lost its
// store, holds another shard's or vectors of another dimension is refused.
func Open(dir string, o Options) (*Engine, error) {
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("open engine %s: %w", dir, err)
	}
	e := &Engine{dir: dir, o: o, locks: lock.NewTable()}
	e.o.fs = watch(o.fs, dir, e.fail)
	if err := e.open(); err != nil {
		return nil, fmt.Errorf("open engine of %s in %s: %w", o.ShardID, dir, err)
	}
	return e, nil
}

// watch ends a store in dir at the first failure of its files. Pebble tries a failed flush for ever, and does not notice a disk that hangs; with
// its log off nobody else would.
func watch(fs vfs.FS, dir string, fatal func(error)) *latchfs.Guard {
	return latchfs.NewGuard(fs, latchfs.Config{Name: "store", Dir: dir, Deadline: latchfs.Deadline, Fatal: fatal})
}

// complete fills in defaults and reports what is missing.
func (o *Options) complete() error {
	if o.ShardID == "" || o.Dimension == 0 || o.Log == nil || o.Fatal == nil {
		return errors.New("options need ShardID, Dimension, Log and Fatal")
	}
	if o.Level == 0 {
		o.Level = Level
	}
	if o.TableBytes == 0 {
		o.TableBytes = 8 << 20
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 32 << 20
	}
	if o.fs == nil {
		o.fs = vfs.Default
	}
	if o.bounds == (bounds{}) {
		o.bounds = levelBounds()
	}
	if o.step == nil {
		o.step = fault.Err
	}
	return nil
}

func (e *Engine) open() error {
	fs := e.o.fs
	entries, err := fs.List(e.dir)
	if err != nil && !errorIsNotExist(err) {
		return err
	}
	if len(entries) == 0 {
		if err := createDir(e.dir, e.storeConfig(), meta{Format: formatOf(e.o.First), ShardID: e.o.ShardID}); err != nil {
			return fmt.Errorf("make it: %w", err)
		}
	}
	name, err := current(fs, e.dir)
	if err != nil {
		return fmt.Errorf("find its store: %w", err)
	}
	if err := removeOthers(fs, e.dir, name); err != nil {
		return fmt.Errorf("remove what a crash left: %w", err)
	}
	s, err := openStore(fs.PathJoin(e.dir, name), e.storeConfig())
	if err != nil {
		return err
	}
	loaded, err := loadState(s.db, &e.o)
	if err == nil {
		err = upgrade(s.db, &loaded.meta, e.o.Log)
	}
	if err == nil {
		err = openVectorRecord(s.db, loaded.meta.Applied)
	}
	if err != nil {
		s.release()
		return err
	}
	e.install(s, loaded)
	return nil
}

// install makes s with its loaded state the engine's.
func (e *Engine) install(s *store, loaded *state) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.store, e.state = s, loaded
	e.locks.Replace(loaded.held())
	shared := loaded.meta
	e.shared.Store(&shared)
	e.vectorsChanged.Store(shared.Applied) // nobody knows better
}

func (e *Engine) storeConfig() storeConfig {
	return storeConfig{fs: e.o.fs, cacheBytes: e.o.CacheBytes, tableBytes: e.o.TableBytes, log: e.o.Log, fatal: e.fail, flushed: e.o.Flushed}
}

// fail latches the first failure and tells the owner.
func (e *Engine) fail(err error) {
	e.mu.Lock()
	first := e.failure == nil
	if first {
		e.failure = err
	}
	e.mu.Unlock()
	if first {
		e.o.Fatal(fmt.Errorf("shard %s: %w", e.o.ShardID, err))
	}
}

func (e *Engine) failed() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.failure
}

// use returns the present store, to be released.
func (e *Engine) use() (*store, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.store == nil || !e.store.acquire() {
		return nil, ErrClosed
	}
	return e.store, nil
}

// Close flushes, waits for running reads and snapshots, and closes the store. The caller has stopped applying.
func (e *Engine) Close() error {
	var err error
	if e.failed() == nil { // a failing disk would hold the flush for ever
		if err = e.Flush(); errors.Is(err, ErrClosed) {
			err = nil
		}
	}
	return errors.Join(err, e.Abort())
}

// Abort is Close as a crash would have it: what is not flushed is lost, and is in the group's log.
func (e *Engine) Abort() error {
	e.mu.Lock()
	s, retired := e.store, e.retired
	e.store, e.retired = nil, nil
	e.mu.Unlock()
	if s == nil {
		return nil
	}
	s.release()
	var err error
	for _, s := range append(retired, s) {
		<-s.closed
		err = errors.Join(err, s.err)
	}
	return err
}

// Flush makes everything applied so far durable in the store, without the group's log.
func (e *Engine) Flush() error {
	s, err := e.use()
	if err != nil {
		return err
	}
	defer s.release()
	if err := s.db.Flush(); err != nil {
		return fmt.Errorf("flush shard %s: %w", e.o.ShardID, err)
	}
	return nil
}

// Applied is the index of the last entry whose effects can be read.
func (e *Engine) Applied() uint64 { return e.shared.Load().Applied }

// Horizon is the highest transaction horizon seen (safety S4).
func (e *Engine) Horizon() event.Position { return e.shared.Load().Horizon }

// LogTime is the time of the last applied entry, unix µs.
func (e *Engine) LogTime() int64 { return e.shared.Load().LogTime }

// Stats are counters over the whole shard, as of Applied.
type Stats struct {
	Concepts uint64
	Edges    uint64 // each association once, at its source
	Vectors  uint64
	Written  uint64 // concepts and associations learned, again included; an association counts at its source
}

// Stats reads the counters; they cost nothing.
func (e *Engine) Stats() Stats {
	m := e.shared.Load()
	return Stats{Concepts: m.Concepts, Edges: m.Edges, Vectors: m.Vectors, Written: m.Written}
}

// Lock is who holds an id.
type Lock = lock.Holder

// Holder tells who holds the exclusive lock on an id. A linearizable read asks after it has waited for its read index.
func (e *Engine) Holder(id string) (Lock, bool) { return e.locks.Holder(id) }

// Conflict tells who keeps a transaction, zero: a write, from a row; of several the oldest.
func (e *Engine) Conflict(row lock.Row, self event.TxnID) (Lock, bool) {
	return e.locks.Conflict(row, self)
}

// LockReleased is closed at the next release of any lock. Take it before asking Holder or Conflict.
func (e *Engine) LockReleased() <-chan struct{} { return e.locks.Released() }

// Compact rewrites the store's files so that nothing deleted or replaced takes room, as far as ctx lets it. It takes as much
// room again while it runs.
func (e *Engine) Compact(ctx context.Context) error {
	s, err := e.use()
	if err != nil {
		return err
	}
	defer s.release()
	if err := s.db.Flush(); err != nil {
		return fmt.Errorf("flush shard %s: %w", e.o.ShardID, err)
	}
	if err := s.db.Compact(ctx, []byte{0}, []byte{0xff}, true); err != nil {
		return fmt.Errorf("compact shard %s: %w", e.o.ShardID, damaged(err))
	}
	return nil
}
