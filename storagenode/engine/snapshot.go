package engine

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/internal/pack"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
)

// A snapshot that is sent is a stream of chunks. A chunk is its length (4, big-endian), its body and a CRC-32C (4) over the shard's id and
// the body (safety S26). The first body is the header record; the following ones are rows (length and key, length and
// value, lengths as varints), in key order; an empty body ends them, and the last body is the trailer record. Equal
// states give equal streams.
//
// The trailer's count and digest find what a chunk's own sum cannot: a chunk that is missing or in another place.
//
// One that only stays here is a record of one such chunk, keptRecord: the store itself has the state, durably.
const (
	snapshotMagic = "sutra shard"
	keptMagic     = "sutra shard, kept in its store"
	chunkBytes    = 256 << 10 // a chunk ends with the row that passes this
	// maxChunk is the largest body that is read: the largest row is an entry's worth of intents.
	maxChunk = 64 << 20
)

type snapshotHeader struct {
	Magic   string        `wire:"magic"`
	Format  uint32        `wire:"format"`
	ShardID event.ShardID `wire:"shard_id"`
	Applied uint64        `wire:"applied"`
}

type snapshotTrailer struct {
	Rows   uint64   `wire:"rows"`
	Digest [32]byte `wire:"digest"`
}

// keptRecord says what a state was that stayed in the store: for whoever looks for what was lost.
type keptRecord struct {
	Magic    string        `wire:"magic"`
	Format   uint32        `wire:"format"`
	ShardID  event.ShardID `wire:"shard_id"`
	Applied  uint64        `wire:"applied"`
	Concepts uint64        `wire:"concepts"`
	Edges    uint64        `wire:"edges"`
	Vectors  uint64        `wire:"vectors"`
}

// digest is a hash over rows.
type digest struct {
	h    hash.Hash
	rows uint64
	buf  []byte
}

func newDigest() *digest { return &digest{h: sha256.New()} }

// add takes one row. hash.Hash never fails.
func (d *digest) add(key, value []byte) {
	d.rows++
	d.buf = appendRow(d.buf[:0], key, value)
	d.h.Write(d.buf)
}

func (d *digest) sum() (sum [32]byte) {
	d.h.Sum(sum[:0])
	return sum
}

func appendRow(b, key, value []byte) []byte {
	b = append(binary.AppendUvarint(b, uint64(len(key))), key...)
	return append(binary.AppendUvarint(b, uint64(len(value))), value...)
}

// snapshot is the state at one index.
type snapshot struct {
	e       *Engine
	store   *store
	db      *pebble.Snapshot
	applied uint64
	format  uint32
	stats   Stats
}

var _ raftgroup.KeptSnapshot = (*snapshot)(nil)

// Snapshot fixes the state at Applied. It is called between Applies and costs nothing; Release it.
func (e *Engine) Snapshot() (raftgroup.Snapshot, error) {
	if err := e.failed(); err != nil {
		return nil, fmt.Errorf("snapshot of shard %s: %w", e.o.ShardID, err)
	}
	s, err := e.use()
	if err != nil {
		return nil, err
	}
	return &snapshot{e: e, store: s, db: s.db.NewSnapshot(), applied: e.Applied(), format: e.shared.Load().Format, stats: e.Stats()}, nil
}

// Release lets the store forget the snapshot.
func (s *snapshot) Release() {
	if err := s.db.Close(); err != nil {
		s.e.fail(fmt.Errorf("release snapshot: %w", err))
	}
	s.store.release()
}

// Keep makes the state durable in the store, and writes the record. Raft may truncate the log through the snapshot's index
// when it returns, so the store must not need it (safety S11).
func (s *snapshot) Keep(w io.Writer) error {
	if fault.Broken(fault.ShardNotFlushed) {
		// its memtables are all that holds these entries
	} else if err := s.store.db.Flush(); err != nil {
		return fmt.Errorf("flush shard %s through entry %d: %w", s.e.o.ShardID, s.applied, err)
	}
	if err := s.e.o.step(fault.EngineFlushed); err != nil {
		return err
	}
	out := chunkWriter{w: bufio.NewWriterSize(w, 1<<10), group: string(s.e.o.ShardID)}
	err := out.record(keptRecord{keptMagic, s.format, s.e.o.ShardID, s.applied, s.stats.Concepts, s.stats.Edges, s.stats.Vectors})
	if err == nil {
		err = out.w.Flush()
	}
	if err != nil {
		return fmt.Errorf("write the record of shard %s at entry %d: %w", s.e.o.ShardID, s.applied, err)
	}
	return nil
}

// Write streams the state to another replica; nothing here depends on it.
func (s *snapshot) Write(w io.Writer) error {
	if err := s.stream(w); err != nil {
		return fmt.Errorf("write snapshot of shard %s at entry %d: %w", s.e.o.ShardID, s.applied, damaged(err))
	}
	return nil
}

func (s *snapshot) stream(w io.Writer) error {
	out := chunkWriter{w: bufio.NewWriterSize(w, 64<<10), group: string(s.e.o.ShardID)}
	err := out.record(snapshotHeader{snapshotMagic, s.format, s.e.o.ShardID, s.applied})
	if err != nil {
		return err
	}
	it, err := s.db.NewIter(nil)
	if err != nil {
		return err
	}
	sum := newDigest()
	var body []byte
	for ok := it.First(); ok; ok = it.Next() {
		if isLocal(it.Key()) {
			continue
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return errors.Join(err, it.Close())
		}
		sum.add(it.Key(), value)
		body = append(body, sum.buf...)
		if len(body) < chunkBytes {
			continue
		}
		if err := out.chunk(body); err != nil {
			return errors.Join(err, it.Close())
		}
		body = body[:0]
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return err
	}
	if len(body) > 0 {
		if err := out.chunk(body); err != nil {
			return err
		}
	}
	if err := out.chunk(nil); err != nil {
		return err
	}
	if err := out.record(snapshotTrailer{sum.rows, sum.sum()}); err != nil {
		return err
	}
	return out.w.Flush()
}

type chunkWriter struct {
	w     *bufio.Writer
	group string
}

func (c *chunkWriter) record(record any) error {
	body, err := pack.AppendArray(nil, record)
	if err != nil {
		return err
	}
	return c.chunk(body)
}

func (c *chunkWriter) chunk(body []byte) error {
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], uint32(len(body)))
	if _, err := c.w.Write(n[:]); err != nil {
		return err
	}
	if _, err := c.w.Write(body); err != nil {
		return err
	}
	binary.BigEndian.PutUint32(n[:], chunkSum(c.group, body))
	_, err := c.w.Write(n[:])
	return err
}

func chunkSum(group string, body []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(group), castagnoli), castagnoli, body)
}

// chunkReader reads what chunkWriter wrote. Memory grows with the bytes that arrive, not with a claimed length.
type chunkReader struct {
	r     *bufio.Reader
	group string
	body  bytes.Buffer
}

// next reads one chunk's body, valid until the following next.
func (c *chunkReader) next() ([]byte, error) {
	var n [4]byte
	if _, err := io.ReadFull(c.r, n[:]); err != nil {
		return nil, fmt.Errorf("read a chunk's length: %w", err)
	}
	length := binary.BigEndian.Uint32(n[:])
	if length > maxChunk {
		return nil, fmt.Errorf("chunk of %d bytes: at most %d are written", length, maxChunk)
	}
	c.body.Reset()
	if _, err := io.CopyN(&c.body, c.r, int64(length)); err != nil {
		return nil, fmt.Errorf("read a chunk of %d bytes: %w", length, err)
	}
	if _, err := io.ReadFull(c.r, n[:]); err != nil {
		return nil, fmt.Errorf("read a chunk's checksum: %w", err)
	}
	if binary.BigEndian.Uint32(n[:]) != chunkSum(c.group, c.body.Bytes()) {
		return nil, fmt.Errorf("a chunk of %d bytes does not match its checksum for shard %s", length, c.group)
	}
	return c.body.Bytes(), nil
}

func (c *chunkReader) record(record any) error {
	body, err := c.next()
	if err != nil {
		return err
	}
	return pack.UnmarshalLoose(body, record)
}
