package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
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
	// in log time against the newest event: watchers and new sinks read from here. Not less than a day, because that is how
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

	mu      sync.Mutex
	b       bounds        // guarded by mu; what the store holds
	changed chan struct{} // guarded by mu; closed at the next change of b, nil while nobody waits
	closed  bool          // guarded by mu
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
	o.publish(b)
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

// Range returns the events from seq on, in order: at most limit, and at most maxBytes of encoded events but always one if
// there is one. Nothing there yet is an empty result; below First is ErrTrimmed.
func (o *Outbox) Range(from uint64, limit, maxBytes int) ([]fsm.Record, error) {
	b := o.bounds()
	switch {
	case from < b.first:
		return nil, fmt.Errorf("read events from %d: %w: the oldest is %d", from, ErrTrimmed, b.first)
	case from > b.last || limit <= 0:
		return nil, nil
	}
	var out []fsm.Record
	size := 0
	err := b.scan(o.db, from, b.last, func(e entry) bool {
		if len(out) > 0 && size+len(e.Bytes) > maxBytes {
			return false
		}
		size += len(e.Bytes)
		out = append(out, e.copied())
		return len(out) < limit
	})
	if now := o.bounds(); errors.Is(err, errMissing) && (now.gen != b.gen || now.first > from) {
		err = ErrTrimmed // meanwhile
	}
	if err != nil {
		return nil, fmt.Errorf("read events from %d: %w", from, err)
	}
	return out, nil
}

// Size is the encoded length of the events from one seq through another, in bytes; ErrTrimmed when the first is below First.
func (o *Outbox) Size(from, through uint64) (size uint64, err error) {
	b := o.bounds()
	if from < b.first {
		return 0, fmt.Errorf("measure events %d to %d: %w: the oldest is %d", from, through, ErrTrimmed, b.first)
	}
	err = b.scan(o.db, from, through, func(e entry) bool {
		size += uint64(len(e.Bytes))
		return true
	})
	if now := o.bounds(); errors.Is(err, errMissing) && (now.gen != b.gen || now.first > from) {
		err = ErrTrimmed // meanwhile
	}
	if err != nil {
		return 0, fmt.Errorf("measure events %d to %d: %w", from, through, err)
	}
	return size, nil
}

// Last is the seq of the newest event; First-1 when there is none.
func (o *Outbox) Last() uint64 { return o.bounds().last }

// First is the seq of the oldest event kept, or of the next one expected when there is none.
func (o *Outbox) First() uint64 { return o.bounds().first }

// Bytes is the size of the encoded events kept.
func (o *Outbox) Bytes() int64 { return int64(o.bounds().bytes) }

// Base is the chain value right before First; false only while the outbox is empty and its past unknown.
func (o *Outbox) Base() (event.Chain, bool) {
	b := o.bounds()
	return b.base, b.baseKnown
}

// chainAt is the chain value behind an event, or right before the first; ErrTrimmed below, errMissing above the last.
func (o *Outbox) chainAt(seq uint64) (event.Chain, error) {
	b := o.bounds()
	switch {
	case seq == 0:
		return event.Chain{}, nil
	case seq+1 < b.first || seq+1 == b.first && !b.baseKnown:
		return event.Chain{}, fmt.Errorf("read the chain at %d: %w: the oldest event is %d", seq, ErrTrimmed, b.first)
	case seq > b.last:
		return event.Chain{}, fmt.Errorf("read the chain at %d: %w: the newest event is %d", seq, errMissing, b.last)
	}
	chain, err := b.chainAt(o.db, seq)
	if now := o.bounds(); err != nil && (now.gen != b.gen || now.first > seq) {
		err = fmt.Errorf("read the chain at %d: %w: meanwhile", seq, ErrTrimmed)
	}
	return chain, err
}

// Time is when an event was recorded, unix µs; ErrTrimmed below First.
func (o *Outbox) Time(seq uint64) (int64, error) {
	b := o.bounds()
	if seq < b.first {
		return 0, fmt.Errorf("read event %d: %w: the oldest is %d", seq, ErrTrimmed, b.first)
	}
	e, err := b.load(o.db, seq)
	if now := o.bounds(); err != nil && (now.gen != b.gen || now.first > seq) {
		err = fmt.Errorf("read event %d: %w: meanwhile", seq, ErrTrimmed)
	}
	return e.time, err
}

// Applied is the raft index of the newest entry whose events are here.
func (o *Outbox) Applied() uint64 { return o.bounds().applied }

// Wait returns when Last is at least seq, with ctx's error when that ends first, and ErrClosed after Close.
func (o *Outbox) Wait(ctx context.Context, seq uint64) error {
	for {
		o.mu.Lock()
		if o.closed {
			o.mu.Unlock()
			return ErrClosed
		}
		if o.b.last >= seq {
			o.mu.Unlock()
			return nil
		}
		if o.changed == nil {
			o.changed = make(chan struct{})
		}
		changed := o.changed
		o.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
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
	o.publish(b)
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

func (o *Outbox) publish(b bounds) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.b = b
	o.wakeLocked()
}

func (o *Outbox) bounds() bounds {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b
}

func (o *Outbox) wakeLocked() {
	if o.changed != nil {
		close(o.changed)
		o.changed = nil
	}
}
