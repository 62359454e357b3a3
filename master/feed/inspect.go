package feed

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// Reader reads the outbox of a master that is stopped, and does not change a byte of it.
type Reader struct {
	db *pebble.DB
	b  bounds
}

// OpenReader opens the outbox in dir for reading. The caller sees to it that its master does not run.
func OpenReader(dir string) (*Reader, error) {
	fs := newGuard(dir, OutboxOptions{FS: readOnlyFS{vfs.Default}, Fatal: func(error) {}}) // what fails is returned
	o := storeOptions(fs, slog.New(slog.DiscardHandler))
	o.ReadOnly, o.ErrorIfNotExists = true, true
	db, err := pebble.Open(dir, o)
	if err != nil {
		return nil, fmt.Errorf("read outbox %s: %w", dir, err)
	}
	b, err := readBounds(db)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read outbox %s: %w", dir, err), db.Close())
	}
	return &Reader{db: db, b: b}, nil
}

// Bounds are the first and the last event held; last is first-1 when there is none.
func (r *Reader) Bounds() (first, last uint64) { return r.b.first, r.b.last }

// Applied is the raft index of the newest entry whose events are known to be here; that entry was committed.
func (r *Reader) Applied() uint64 { return r.b.applied }

// Event is the encoded envelope of an event that is held.
func (r *Reader) Event(seq uint64) ([]byte, error) {
	e, err := r.b.load(r.db, seq)
	return e.Bytes, err
}

// Chain is the chain value at an event that is held, or right before the first.
func (r *Reader) Chain(seq uint64) (event.Chain, error) { return r.b.chainAt(r.db, seq) }

// Check walks all events and compares each with the chain. It returns how many there are.
func (r *Reader) Check() (events uint64, err error) {
	b := bounds{first: r.b.first, last: r.b.first - 1, base: r.b.base, baseKnown: r.b.baseKnown, tail: r.b.base}
	if r.b.empty() {
		return 0, nil
	}
	var bad error
	err = r.b.scan(r.db, r.b.first, r.b.last, func(e entry) bool {
		if _, bad = b.extend(e.Record); bad == nil {
			events++
		}
		return bad == nil
	})
	if err = errors.Join(err, bad); err == nil && b.tail != r.b.tail {
		err = fmt.Errorf("%w: the last event is not the one recorded", ErrBroken)
	}
	return events, err
}

// Close closes the store.
func (r *Reader) Close() error { return r.db.Close() }

// readOnlyFS is a file system on which nothing can be changed; the store's own lock, which truncates a file, is not taken.
type readOnlyFS struct{ vfs.FS }

func refused(name string) error { return &os.PathError{Op: "write", Path: name, Err: os.ErrPermission} }

// Create implements vfs.FS.
func (readOnlyFS) Create(name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	return nil, refused(name)
}

// Link implements vfs.FS.
func (readOnlyFS) Link(_, name string) error { return refused(name) }

// OpenReadWrite implements vfs.FS.
func (readOnlyFS) OpenReadWrite(name string, _ vfs.DiskWriteCategory, _ ...vfs.OpenOption) (vfs.File, error) {
	return nil, refused(name)
}

// Remove implements vfs.FS.
func (readOnlyFS) Remove(name string) error { return refused(name) }

// RemoveAll implements vfs.FS.
func (readOnlyFS) RemoveAll(name string) error { return refused(name) }

// Rename implements vfs.FS.
func (readOnlyFS) Rename(_, name string) error { return refused(name) }

// ReuseForWrite implements vfs.FS.
func (readOnlyFS) ReuseForWrite(_, name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	return nil, refused(name)
}

// MkdirAll implements vfs.FS.
func (readOnlyFS) MkdirAll(name string, _ os.FileMode) error { return refused(name) }

// Lock implements vfs.FS.
func (readOnlyFS) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

// StreamInfo is what an outbox stream of a snapshot holds.
type StreamInfo struct {
	First, Last uint64 // last is first-1 when it is empty
	Bytes       uint64 // of the encoded events
	Chain       event.Chain
}

// ReadStream reads what Stream wrote, checks every link of the chain, and gives visit each event; its bytes are valid only
// during the call. visit may be nil.
func ReadStream(r io.Reader, visit func(fsm.Record) error) (StreamInfo, error) {
	b, err := readStream(r, func(record fsm.Record, _ int64) error {
		if visit == nil {
			return nil
		}
		return visit(record)
	})
	if err != nil {
		return StreamInfo{}, fmt.Errorf("outbox of the snapshot: %w", err)
	}
	return StreamInfo{First: b.first, Last: b.last, Bytes: b.bytes, Chain: b.tail}, nil
}
