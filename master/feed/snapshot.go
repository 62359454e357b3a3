package feed

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
)

// The stream's format, version 1: "SGOB", version (1), then chunks, each length (4), body, CRC-32C of the body (4). The
// first chunk is the bounds of what follows, the others are runs of length (4) and encoded envelope, the last is empty.
const (
	streamMagic  = "SGOB\x01"
	chunkTarget  = 256 << 10 // a chunk is closed when it reaches this
	chunkMax     = chunkTarget + recordMax
	recordMax    = 128 << 10 // an envelope: a body of at most 64 KiB and its frame
	restoreBatch = 4 << 20   // bytes written to the store at a time
)

// Snapshot is the outbox at one moment. Stream may run while the outbox goes on.
type Snapshot struct {
	outbox *Outbox
	snap   *pebble.Snapshot
}

// Snapshot fixes the outbox as it is now; it is quick. The caller must Close it.
func (o *Outbox) Snapshot() *Snapshot {
	return &Snapshot{outbox: o, snap: o.db.NewSnapshot()}
}

// Close releases what the snapshot holds.
func (s *Snapshot) Close() error { return s.snap.Close() }

// Stream writes the events above a seq (the cursor below which every sink has all), and returns only after everything
// in the snapshot is durable in the outbox's own store: then, and only then, may raft truncate its log.
func (s *Snapshot) Stream(w io.Writer, above uint64) error {
	if fault.Broken(fault.OutboxNotFlushed) {
		// its memtables are all that holds these events
	} else if err := s.outbox.Flush(); err != nil {
		return err
	}
	held, err := readBounds(s.snap)
	if err != nil {
		return fmt.Errorf("stream outbox: %w", err)
	}
	if err := s.stream(w, held, above); err != nil {
		return fmt.Errorf("stream outbox %d to %d: %w", held.first, held.last, err)
	}
	return nil
}

func (s *Snapshot) stream(w io.Writer, held bounds, above uint64) error {
	b, err := held.above(s.snap, above)
	if err != nil {
		return err
	}
	bw := bufio.NewWriter(w)
	if _, err := bw.WriteString(streamMagic); err != nil {
		return err
	}
	header := b
	header.gen = 0 // where the sender keeps its events is nobody else's business
	if err := writeChunk(bw, header.encode()); err != nil {
		return err
	}
	if !b.empty() {
		if err := writeEvents(bw, s.snap, b); err != nil {
			return err
		}
	}
	if err := writeChunk(bw, nil); err != nil {
		return err
	}
	return bw.Flush()
}

// above is the bounds of the part of the run that is above seq.
func (b bounds) above(r pebble.Reader, seq uint64) (bounds, error) {
	first := max(min(seq, b.last)+1, b.first)
	b.bytes = 0
	if first == b.first {
		return b, nil
	}
	chain, err := b.chainAt(r, first-1)
	b.first, b.base, b.baseKnown = first, chain, true
	return b, err
}

func writeEvents(w io.Writer, r pebble.Reader, b bounds) error {
	chunk := make([]byte, 0, chunkTarget+4096)
	var failed error
	err := b.scan(r, b.first, b.last, func(e entry) bool {
		chunk = binary.BigEndian.AppendUint32(chunk, uint32(len(e.Bytes)))
		chunk = append(chunk, e.Bytes...)
		if len(chunk) >= chunkTarget {
			failed = writeChunk(w, chunk)
			chunk = chunk[:0]
		}
		return failed == nil
	})
	if err == nil {
		err = failed
	}
	if err != nil || len(chunk) == 0 {
		return err
	}
	return writeChunk(w, chunk)
}

func writeChunk(w io.Writer, body []byte) error {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	if _, err := w.Write(head); err != nil {
		return err
	}
	if _, err := w.Write(body); err != nil {
		return err
	}
	_, err := w.Write(binary.BigEndian.AppendUint32(nil, checksum(body)))
	return err
}

func checksum(body []byte) uint32 { return crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)) }

// Restore makes the outbox what a Stream holds, and durable. Older events that the outbox has already and that lead to the
// same chain stay; everything else goes, in one atomic step at the end: a Restore that fails, or is interrupted by a
// crash, leaves the outbox as it was. It reads exactly the stream and no byte behind it.
func (o *Outbox) Restore(r io.Reader) error {
	if err := o.restore(r); err != nil {
		return fmt.Errorf("restore outbox: %w", errors.Join(err, o.clearOthers(o.bounds().gen)))
	}
	return o.Flush()
}

func (o *Outbox) restore(r io.Reader) error {
	if err := fault.Err(fault.OutboxFill); err != nil {
		return err
	}
	held := o.bounds()
	f := filler{db: o.db, gen: held.gen + 1, batch: o.db.NewBatch()}
	defer func() { f.batch.Close() }()
	b, err := readStream(r, f.put)
	if err != nil {
		return err
	}
	if o.continues(held, b) {
		if err := o.clearOthers(held.gen); err != nil {
			return err
		}
		return o.DropAbove(b.last)
	}
	b.gen = f.gen
	if err := fault.Err(fault.OutboxSwitch); err != nil {
		return err
	}
	if err := f.batch.DeleteRange(eventKey(0, 0), eventKey(b.gen, 0), nil); err != nil {
		return err
	}
	err = o.commit(f.batch, b)
	fault.Point(fault.OutboxSwitched)
	return err
}

// continues tells whether what the outbox holds is the same history, reaches as far as the target and at least as far back.
// Equal chain values are the only proof (safety S2); both sides were checked link by link when they were written.
func (o *Outbox) continues(held, target bounds) bool {
	if held.last < target.last || held.first > target.first || target.last+1 < held.first {
		return false
	}
	if target.last+1 == held.first && !held.baseKnown {
		return false
	}
	chain, err := held.chainAt(o.db, target.last)
	return err == nil && chain == target.tail
}

// filler writes a restored run to the store, under a generation of its own, in bounded batches.
type filler struct {
	db    *pebble.DB
	gen   uint32
	batch *pebble.Batch
}

func (f *filler) put(r fsm.Record, time int64) error {
	if err := f.batch.Set(eventKey(f.gen, r.Seq), encodeEntry(r, time), nil); err != nil || f.batch.Len() < restoreBatch {
		return err
	}
	if err := f.batch.Commit(pebble.NoSync); err != nil {
		return err
	}
	err := f.batch.Close()
	f.batch = f.db.NewBatch()
	return err
}

// readStream reads a whole stream, gives put every event once it is known to continue the one before, and returns the
// bounds of the run. The records' bytes are valid only during the call of put.
func readStream(r io.Reader, put func(r fsm.Record, time int64) error) (bounds, error) {
	target, err := readHeader(r)
	if err != nil {
		return bounds{}, err
	}
	b := bounds{first: target.first, last: target.first - 1, applied: target.applied, base: target.base, baseKnown: target.baseKnown, tail: target.base}
	for {
		body, err := readChunk(r)
		if err != nil {
			return bounds{}, err
		}
		if len(body) == 0 {
			break
		}
		if err := readRun(&b, body, put); err != nil {
			return bounds{}, err
		}
	}
	if b.last != target.last || b.tail != target.tail {
		return bounds{}, fmt.Errorf("%w: the stream ends at event %d, its header says %d", ErrBroken, b.last, target.last)
	}
	return b, nil
}

// readRun reads the events of one chunk.
func readRun(b *bounds, body []byte, put func(r fsm.Record, time int64) error) error {
	for len(body) > 0 {
		if len(body) < 4 {
			return fmt.Errorf("%w: %d bytes behind the last event", ErrBroken, len(body))
		}
		n := binary.BigEndian.Uint32(body)
		if uint64(n) > uint64(len(body)-4) {
			return fmt.Errorf("%w: an event of %d bytes in %d", ErrBroken, n, len(body)-4)
		}
		record := fsm.Record{Seq: b.last + 1, Bytes: body[4 : 4+n]}
		env, err := event.DecodeEnvelope(record.Bytes)
		if err != nil {
			return fmt.Errorf("event %d: %w", record.Seq, err)
		}
		record.Type = env.Type
		if _, err = b.extend(record); err == nil {
			err = put(record, env.Time)
		}
		if err != nil {
			return fmt.Errorf("event %d: %w", record.Seq, err)
		}
		body = body[4+n:]
	}
	return nil
}

func readHeader(r io.Reader) (bounds, error) {
	magic := make([]byte, len(streamMagic))
	if _, err := io.ReadFull(r, magic); err != nil {
		return bounds{}, fmt.Errorf("read header: %w", err)
	}
	if string(magic) != streamMagic {
		return bounds{}, fmt.Errorf("header %q: not an outbox of this version", magic)
	}
	body, err := readChunk(r)
	if err != nil {
		return bounds{}, err
	}
	return decodeBounds(body)
}

// readChunk reads one chunk; the length is checked before anything is allocated.
func readChunk(r io.Reader) ([]byte, error) {
	var word [4]byte
	if _, err := io.ReadFull(r, word[:]); err != nil {
		return nil, fmt.Errorf("read chunk: %w", err)
	}
	n := binary.BigEndian.Uint32(word[:])
	if n > chunkMax {
		return nil, fmt.Errorf("read chunk: %d bytes claimed, at most %d are written", n, chunkMax)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("read chunk of %d bytes: %w", n, err)
	}
	if _, err := io.ReadFull(r, word[:]); err != nil {
		return nil, fmt.Errorf("read chunk of %d bytes: %w", n, err)
	}
	if got, want := checksum(body), binary.BigEndian.Uint32(word[:]); got != want {
		return nil, fmt.Errorf("chunk of %d bytes has checksum %08x, its sender wrote %08x", n, got, want)
	}
	return body, nil
}
