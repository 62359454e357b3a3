package feed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/internal/latchfs"
)

// The store's format, version 1:
//
//	"b"                          the bounds; events that continue them were appended later
//	"e" generation (4) seq (8)   type (2) time (8, unix µs) encoded envelope
//
// Numbers are big endian. Events live in the generation the bounds name; any other holds what an interrupted Restore left.
const formatVersion = 1

var boundsKey = []byte("b")

// eventKey of a seq past the last one, or of the next generation, is an exclusive upper bound.
func eventKey(gen uint32, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32([]byte{'e'}, gen), seq)
}

// storeOptions: no write-ahead log (see Outbox), small buffers, because events are written once, read once and deleted.
func storeOptions(guard *latchfs.Guard, log *slog.Logger) *pebble.Options {
	logger := storeLogger{guard, log}
	return &pebble.Options{
		FS:                 guard,
		DisableWAL:         true,
		FormatMajorVersion: pebble.FormatValueSeparation, // named, so that a newer library does not change what is on disk
		MemTableSize:       4 << 20,
		CacheSize:          4 << 20,

		MemTableStopWritesThreshold: 4, // a removal takes two
		MaxOpenFiles:                100,
		Logger:                      logger,
		EventListener:               &pebble.EventListener{BackgroundError: logger.fail},
	}
}

// newGuard is the latch of the store: its first failure, and its first wait for a disk that does not answer, end the process.
func newGuard(dir string, o OutboxOptions) *latchfs.Guard {
	fs, fatal := o.FS, o.Fatal
	if fs == nil {
		fs = vfs.Default
	}
	if fatal == nil {
		fatal = func(err error) { panic(err) }
	}
	return latchfs.NewGuard(fs, latchfs.Config{Name: "outbox", Dir: dir, Deadline: latchfs.Deadline, Fatal: fatal, Write: fault.OutboxWrite, Sync: fault.OutboxSync})
}

// storeLogger hands the store's messages to slog, and its inability to go on to the latch.
type storeLogger struct {
	guard *latchfs.Guard
	log   *slog.Logger
}

// Infof drops the store's chatter.
func (l storeLogger) Infof(string, ...any) {}

// Errorf logs.
func (l storeLogger) Errorf(format string, args ...any) {
	if l.guard.Err() == nil { // behind the first failure it only says the same again and again
		l.log.Error("outbox store", "error", fmt.Sprintf(format, args...))
	}
}

// Fatalf reports that the store cannot go on.
func (l storeLogger) Fatalf(format string, args ...any) { l.fail(fmt.Errorf(format, args...)) }

func (l storeLogger) fail(err error) { _ = l.guard.Fail(err) } // tells

// bounds describe the one run of events in the store. They are written in the batch that removes events or replaces all; what is appended
// behind them is found again when the store is opened.
type bounds struct {
	gen         uint32      // where the events are
	first, last uint64      // last = first-1: empty
	bytes       uint64      // of the encoded events
	applied     uint64      // raft index of the newest entry whose events are here
	base        event.Chain // chain at first-1
	baseKnown   bool        // false only while the outbox is empty and its past was not restored
	tail        event.Chain // chain at last; base when empty
}

const boundsSize = 1 + 4 + 4*8 + 32 + 1 + 32

func (b bounds) encode() []byte {
	out := binary.BigEndian.AppendUint32([]byte{formatVersion}, b.gen)
	for _, n := range []uint64{b.first, b.last, b.bytes, b.applied} {
		out = binary.BigEndian.AppendUint64(out, n)
	}
	out = append(out, b.base[:]...)
	if b.baseKnown {
		out = append(out, 1)
	} else {
		out = append(out, 0)
	}
	return append(out, b.tail[:]...)
}

func decodeBounds(v []byte) (b bounds, err error) {
	if len(v) != boundsSize || v[0] != formatVersion {
		return b, fmt.Errorf("bounds of %d bytes: not written by this version", len(v))
	}
	b.gen, v = binary.BigEndian.Uint32(v[1:]), v[5:]
	for _, n := range []*uint64{&b.first, &b.last, &b.bytes, &b.applied} {
		*n, v = binary.BigEndian.Uint64(v), v[8:]
	}
	v = v[copy(b.base[:], v):]
	b.baseKnown, v = v[0] == 1, v[1:]
	copy(b.tail[:], v)
	if b.first == 0 || b.last+1 < b.first {
		return b, fmt.Errorf("bounds %d to %d: not a run of events", b.first, b.last)
	}
	return b, nil
}

func (b bounds) empty() bool { return b.last < b.first }

// readBounds gives a store without bounds those of an empty history, seq starts at 1, the chain at zero; and adds what was appended behind
// them.
func readBounds(db pebble.Reader) (bounds, error) {
	b := bounds{first: 1, baseKnown: true}
	v, closer, err := db.Get(boundsKey)
	if err == nil {
		b, err = decodeBounds(v)
		err = errors.Join(err, closer.Close())
	}
	if err != nil && !errors.Is(err, pebble.ErrNotFound) {
		return bounds{}, err
	}
	err = b.catchUp(db)
	return b, err
}

// catchUp makes part of the run what was appended since the bounds were written: without a hole, because of what is written without a log
// a crash leaves a prefix.
func (b *bounds) catchUp(db pebble.Reader) error {
	var broken error
	_, err := b.each(db, b.last+1, eventKey(b.gen+1, 0), func(e entry) bool {
		env, err := b.extend(e.Record)
		if err != nil {
			broken = fmt.Errorf("event %d: %w", e.Seq, err)
			return false
		}
		b.applied = max(b.applied, env.RaftIndex)
		return true
	})
	return errors.Join(err, broken)
}

// extend checks that a record continues the run, and makes it part of it.
func (b *bounds) extend(r fsm.Record) (*event.Envelope, error) {
	if r.Seq != b.last+1 {
		return nil, fmt.Errorf("%w: it ends at %d", ErrGap, b.last)
	}
	env, err := event.DecodeHead(r.Bytes)
	if err != nil {
		return nil, err
	}
	if env.Seq != r.Seq || env.Type != r.Type {
		return nil, fmt.Errorf("%w: the record says event %d of type %d", ErrBroken, env.Seq, env.Type)
	}
	if !b.empty() || b.baseKnown {
		if err := checkLink(b.tail, r.Bytes, env); err != nil {
			return nil, err
		}
	}
	b.last, b.tail = r.Seq, env.Chain
	b.bytes += uint64(len(r.Bytes))
	return env, nil
}

// drop removes the first event of the run; the caller sets base.
func (b *bounds) drop(e entry) {
	b.first = e.Seq + 1
	b.bytes -= uint64(len(e.Bytes))
}

// entry is one stored event; Bytes is valid only until the next step of the scan that gave it.
type entry struct {
	fsm.Record
	time int64
}

func encodeEntry(r fsm.Record, time int64) []byte {
	v := make([]byte, 0, 10+len(r.Bytes))
	v = binary.BigEndian.AppendUint16(v, uint16(r.Type))
	v = binary.BigEndian.AppendUint64(v, uint64(time))
	return append(v, r.Bytes...)
}

func decodeEntry(seq uint64, v []byte) (entry, error) {
	if len(v) < 10 {
		return entry{}, fmt.Errorf("event %d: %d bytes stored, want at least 10", seq, len(v))
	}
	e := entry{time: int64(binary.BigEndian.Uint64(v[2:]))}
	e.Seq, e.Type, e.Bytes = seq, event.Type(binary.BigEndian.Uint16(v)), v[10:]
	return e, nil
}

func (e entry) copied() fsm.Record {
	e.Bytes = append([]byte(nil), e.Bytes...)
	return e.Record
}

// load reads one event of the run; its Bytes are the caller's.
func (b bounds) load(r pebble.Reader, seq uint64) (entry, error) {
	v, closer, err := r.Get(eventKey(b.gen, seq))
	if errors.Is(err, pebble.ErrNotFound) {
		return entry{}, fmt.Errorf("%w: event %d is not stored", errMissing, seq)
	}
	if err != nil {
		return entry{}, fmt.Errorf("event %d: %w", seq, err)
	}
	defer closer.Close()
	return decodeEntry(seq, append([]byte(nil), v...))
}

// chainAt is the chain value at an event of the run, or right below it.
func (b bounds) chainAt(r pebble.Reader, seq uint64) (event.Chain, error) {
	switch {
	case seq == b.last:
		return b.tail, nil
	case seq+1 == b.first && b.baseKnown:
		return b.base, nil
	}
	e, err := b.load(r, seq)
	if err != nil {
		return event.Chain{}, err
	}
	return chainOf(e.Bytes)
}

// scan calls fn for the events of the run between from and to, inclusive, in order, until fn returns false. A hole is an
// error.
func (b bounds) scan(r pebble.Reader, from, to uint64, fn func(entry) bool) error {
	stopped := false
	next, err := b.each(r, from, eventKey(b.gen, to+1), func(e entry) bool {
		stopped = !fn(e)
		return !stopped
	})
	if err == nil && !stopped && next <= to {
		err = fmt.Errorf("%w: event %d is not stored", errMissing, next)
	}
	return err
}

// each calls fn for the events that are stored from a seq on, below a key, until fn returns false, and returns the seq behind the last one.
// A hole between them is an error.
func (b bounds) each(r pebble.Reader, next uint64, below []byte, fn func(entry) bool) (uint64, error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: eventKey(b.gen, next), UpperBound: below})
	if err != nil {
		return next, err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return next, err
		}
		if !bytes.Equal(it.Key(), eventKey(b.gen, next)) {
			return next, fmt.Errorf("%w: event %d is not stored", errMissing, next)
		}
		e, err := decodeEntry(next, v)
		if err != nil {
			return next, err
		}
		next++
		if !fn(e) {
			return next, nil
		}
	}
	return next, it.Error()
}
