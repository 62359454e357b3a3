package feed

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/internal/latchfs"
)

var (
	// ErrTrimmed: the outbox no longer has the events asked for; they are in the sinks.
	ErrTrimmed = errors.New("events were trimmed from the outbox")
	// ErrGap: records would not continue the outbox; the replica's state and its outbox do not belong together.
	ErrGap = errors.New("events do not continue the outbox")
	// ErrBroken: the hash chain does not hold; a record was altered, or belongs to another history.
	ErrBroken = errors.New("hash chain of the outbox is broken")
	// ErrClosed: the outbox was closed.
	ErrClosed = errors.New("outbox is closed")

	errMissing = errors.New("hole in the outbox")
)

// OutboxOptions tune an outbox. Start from DefaultOutboxOptions.
type OutboxOptions struct {
	// An event that all sinks hold is kept as long as it is among the newest KeepBytes and not older than KeepAge, measured
	// in log time against the newest event, and up to a sixteenth longer (trimShare): watchers and new sinks read from here. Not less than a day, because that is how
	// long a sink may be repaired without a copy from elsewhere; not more than 1 GiB, because every master pays for it.
	KeepAge   time.Duration
	KeepBytes int64

	FS    vfs.FS          // nil: the disk
	Fatal func(err error) // told once when the store fails or its disk does not answer; the process must end. nil: panic
	Log   *slog.Logger    // nil: slog.Default()
}

// DefaultOutboxOptions keeps 24 hours or 1 GiB, whichever is less.
func DefaultOutboxOptions() OutboxOptions {
	return OutboxOptions{KeepAge: 24 * time.Hour, KeepBytes: 1 << 30}
}

// trimShare is the part of what is kept by which the outbox may be over before anything is removed. Little at a time would cost much: every
// removal cuts through one of the store's files, which is then written anew.
const trimShare = 16

// trimStep bounds how many events one Trim removes, because Trim runs inside Apply; the next Trim goes on.
const trimStep = 1 << 16

// Outbox keeps the newest events of one master, keyed by seq, behind what every sink has acknowledged.
//
// Durability: the store has no write-ahead log and nothing here syncs, except Flush. The raft log is the journal. After a
// crash the store holds a prefix of the batches written to it (memtables are flushed whole and in order), the state is
// restored from the newest snapshot, and replaying the log behind that snapshot appends what is missing. That works
// because Snapshot.Stream, which runs inside raft's Persist, flushes before it returns, and raft truncates its log only
// after Persist has returned. Events above the restored state are removed with DropAbove before anything is shipped.
//
// One goroutine, Apply's, calls Append, Trim, Restore and DropAbove; everything else may be called by any goroutine.
type Outbox struct {
	db   *pebble.DB
	disk *latchfs.Guard
	opts OutboxOptions

	unmarked int        // Apply's: about the bytes appended since the bounds were written
	marking  sync.Mutex // held while the bounds are written: who writes older ones behind newer would bring back what was removed

	mu       sync.Mutex
	b        bounds        // guarded by mu; what the store holds
	removals uint64        // guarded by mu; how often something was removed since the outbox was opened
	changed  chan struct{} // guarded by mu; closed at the next change of b, nil while nobody waits
	closed   bool          // guarded by mu
}

// OpenOutbox opens the outbox in dir and creates it when there is none.
func OpenOutbox(dir string, o OutboxOptions) (*Outbox, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.KeepAge < 0 || o.KeepBytes < 0 {
		return nil, fmt.Errorf("open outbox %s: keep %v, %d bytes: neither may be negative", dir, o.KeepAge, o.KeepBytes)
	}
	guard := newGuard(dir, o)
	db, err := pebble.Open(dir, storeOptions(guard, o.Log))
	if err != nil {
		return nil, fmt.Errorf("open outbox %s: %w", dir, err)
	}
	b, err := readBounds(db)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open outbox %s: %w", dir, err), db.Close())
	}
	out := &Outbox{db: db, disk: guard, opts: o, b: b}
	if err := out.clearOthers(b.gen); err != nil {
		return nil, errors.Join(fmt.Errorf("open outbox %s: %w", dir, err), db.Close())
	}
	return out, nil
}

// clearOthers removes every generation but one: what an interrupted or refused Restore left. Where there is nothing it writes nothing, for a
// removal reaches over all that it could remove.
func (o *Outbox) clearOthers(gen uint32) error {
	for _, of := range [][2][]byte{{eventKey(0, 0), eventKey(gen, 0)}, {eventKey(gen+1, 0), {'e' + 1}}} {
		it, err := o.db.NewIter(&pebble.IterOptions{LowerBound: of[0], UpperBound: of[1]})
		if err != nil {
			return err
		}
		some := it.First()
		if err := it.Close(); err != nil {
			return err
		}
		if some {
			if err := o.db.DeleteRange(of[0], of[1], pebble.NoSync); err != nil {
				return err
			}
		}
	}
	return nil
}

// Append adds the records of the entry at appliedIndex, in order. Records that are already there (the log is being
// replayed) must be equal by chain and change nothing. ErrGap and ErrBroken mean that this replica must stop.
func (o *Outbox) Append(appliedIndex uint64, records []fsm.Record) error {
	if len(records) == 0 {
		return nil
	}
	if err := fault.Err(fault.OutboxAppend); err != nil {
		return fmt.Errorf("append events: %w", err)
	}
	held := o.bounds()
	b := held
	batch := o.db.NewBatch()
	defer batch.Close()
	for _, r := range records {
		if err := o.appendOne(batch, held, &b, r); err != nil {
			return fmt.Errorf("append event %d: %w", r.Seq, err)
		}
	}
	b.applied = max(b.applied, appliedIndex)
	err := o.extend(batch, b)
	fault.Point(fault.OutboxAppended)
	return err
}

// markBytes is how much is appended before the bounds are written again: so much is read when the outbox is opened after a crash.
const markBytes = 64 << 20

// extend writes a batch of events and publishes the bounds it leads to.
func (o *Outbox) extend(batch *pebble.Batch, b bounds) error {
	if err := o.disk.Err(); err != nil {
		return err
	}
	o.unmarked += batch.Len()
	if err := batch.Commit(pebble.NoSync); err != nil {
		return err
	}
	o.publish(b, 0)
	if o.unmarked < markBytes {
		return nil
	}
	o.unmarked = 0
	return o.mark()
}

// appendOne adds a record to the batch, unless it is there already.
func (o *Outbox) appendOne(batch *pebble.Batch, held bounds, b *bounds, r fsm.Record) error {
	if r.Seq <= held.last {
		return o.verifyHeld(held, r)
	}
	env, err := b.extend(r)
	if err != nil {
		return err
	}
	return batch.Set(eventKey(b.gen, r.Seq), encodeEntry(r, env.Time), nil)
}

// verifyHeld checks that a record at or below the last one is the one held. One that was trimmed cannot be compared.
func (o *Outbox) verifyHeld(held bounds, r fsm.Record) error {
	if r.Seq < held.first {
		return nil
	}
	e, err := held.load(o.db, r.Seq)
	if err != nil {
		return err
	}
	if !bytes.Equal(e.Bytes, r.Bytes) {
		return fmt.Errorf("%w: another event is stored under this seq", ErrBroken)
	}
	return nil
}

// Trim removes events that every sink has acknowledged: those at or below through, except the newest that the options
// keep. It removes a bounded number at a time.
func (o *Outbox) Trim(through uint64) error {
	b := o.bounds()
	through = min(through, b.last)
	if through < b.first {
		return nil
	}
	if err := o.trim(b, through); err != nil {
		return fmt.Errorf("trim outbox through %d: %w", through, err)
	}
	return nil
}

func (o *Outbox) trim(b bounds, through uint64) error {
	newest, err := b.load(o.db, b.last)
	if err != nil {
		return err
	}
	first, err := b.load(o.db, b.first)
	if err != nil {
		return err
	}
	keeps, oldest := !fault.Broken(fault.OutboxTrimmedBeforeAck), newest.time-o.opts.KeepAge.Microseconds()
	if keeps && first.time >= oldest-o.opts.KeepAge.Microseconds()/trimShare && int64(b.bytes) <= o.opts.KeepBytes+o.opts.KeepBytes/trimShare {
		return nil
	}
	held, steps := b, 0
	err = held.scan(o.db, held.first, through, func(e entry) bool {
		if steps == trimStep || keeps && e.time >= oldest && int64(b.bytes) <= o.opts.KeepBytes {
			return false
		}
		steps++
		b.drop(e)
		return true
	})
	if err != nil || steps == 0 {
		return err
	}
	if b.base, err = held.chainAt(o.db, b.first-1); err != nil {
		return err
	}
	b.baseKnown = true
	if err := fault.Err(fault.OutboxTrim); err != nil {
		return err
	}
	batch := o.db.NewBatch()
	defer batch.Close()
	if err := batch.DeleteRange(eventKey(b.gen, held.first), eventKey(b.gen, b.first), nil); err != nil {
		return err
	}
	return o.commit(batch, b)
}

// DropAbove removes the events above seq, the seq of the restored state: the log will bring them again. A state that is
// ahead of the outbox is ErrGap, because nothing would ever bring the events between.
func (o *Outbox) DropAbove(seq uint64) error {
	b := o.bounds()
	if seq > b.last {
		return fmt.Errorf("drop events above %d: %w: the outbox ends at %d", seq, ErrGap, b.last)
	}
	if seq == b.last {
		return nil
	}
	if err := o.dropAbove(b, seq); err != nil {
		return fmt.Errorf("drop events above %d: %w", seq, err)
	}
	return nil
}

func (o *Outbox) dropAbove(b bounds, seq uint64) error {
	batch := o.db.NewBatch()
	defer batch.Close()
	if err := batch.DeleteRange(eventKey(b.gen, seq+1), eventKey(b.gen, b.last+1), nil); err != nil {
		return err
	}
	if seq < b.first { // nothing is left; the chain is known only right below the first event
		known := b.baseKnown && seq+1 == b.first
		b = bounds{gen: b.gen, first: seq + 1, last: seq, applied: b.applied, base: b.base, baseKnown: known, tail: b.base}
		return o.commit(batch, b)
	}
	chain, err := b.chainAt(o.db, seq)
	if err != nil {
		return err
	}
	err = b.scan(o.db, seq+1, b.last, func(e entry) bool {
		b.bytes -= uint64(len(e.Bytes))
		return true
	})
	if err != nil {
		return err
	}
	b.last, b.tail = seq, chain
	return o.commit(batch, b)
}

// Flush makes everything appended so far durable.
func (o *Outbox) Flush() error {
	err := fault.Err(fault.OutboxFlush)
	if err == nil {
		err = errors.Join(o.mark(), o.db.Flush())
	}
	if err != nil {
		return fmt.Errorf("flush outbox: %w", o.disk.Fail(err))
	}
	fault.Point(fault.OutboxFlushed)
	return nil
}

// Close flushes and closes the store and wakes everybody who waits.
func (o *Outbox) Close() error {
	return o.end(func() error { return errors.Join(o.mark(), o.db.Flush()) })
}

// Abandon closes the outbox as a crash does: what was not flushed is lost, and comes again from the log.
func (o *Outbox) Abandon() error { return o.end(func() error { return nil }) }

func (o *Outbox) end(flush func() error) error {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return nil
	}
	o.closed = true
	o.wakeLocked()
	o.mu.Unlock()
	err := errors.Join(flush(), o.db.Close())
	if err != nil {
		return fmt.Errorf("close outbox: %w", err)
	}
	return nil
}

// mark writes the bounds as they are.
func (o *Outbox) mark() error {
	o.marking.Lock()
	defer o.marking.Unlock()
	batch := o.db.NewBatch()
	defer batch.Close()
	return o.writeAlone(batch, o.bounds())
}

// commit writes a batch that removes events together with the bounds it leads to, and publishes them.
func (o *Outbox) commit(batch *pebble.Batch, b bounds) error {
	o.marking.Lock()
	defer o.marking.Unlock()
	if err := o.writeAlone(batch, b); err != nil {
		return err
	}
	o.publish(b, 1)
	return nil
}

// writeAlone writes a batch and the bounds into a file of the store of their own. A file with new events besides would reach from the
// store's first key to its last: each would lie over all others, and every compaction would write the whole outbox anew. When the disk has
// failed nothing is taken any more, although it would go to memory first.
func (o *Outbox) writeAlone(batch *pebble.Batch, b bounds) error {
	if err := o.disk.Err(); err != nil {
		return err
	}
	if err := batch.Set(boundsKey, b.encode(), nil); err != nil {
		return err
	}
	if _, err := o.db.AsyncFlush(); err != nil {
		return err
	}
	if err := batch.Commit(pebble.NoSync); err != nil {
		return err
	}
	_, err := o.db.AsyncFlush()
	return err
}

func (o *Outbox) publish(b bounds, removals uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.b = b
	o.removals += removals
	o.wakeLocked()
}

func (o *Outbox) wakeLocked() {
	if o.changed != nil {
		close(o.changed)
		o.changed = nil
	}
}
