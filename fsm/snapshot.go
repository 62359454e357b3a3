package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/internal/pack"
)

// A snapshot is magic, then chunks: u32 length, body, CRC-32C over (group, chunk number, body). The chunks' bodies, one
// behind the other, are rows: the section's number and the object as an array, sections in order, objects in key order.
// The last row is the trailer with the number of rows and both digests.
const (
	snapshotMagic = "SGSTATE1"
	snapshotGroup = "masters"
	chunkTarget   = 256 << 10 // a chunk is full when it has this much
	maxChunk      = 1 << 20   // chunkTarget and the largest row
)

// ErrSnapshot is the cause of every refusal of a snapshot's content.
var ErrSnapshot = errors.New("not a snapshot of this state machine, or a damaged one")

// trailer ends a snapshot.
type trailer struct {
	Rows   uint64   `wire:"rows"`
	Digest [32]byte `wire:"digest"`
	Local  [32]byte `wire:"local"`
}

// WriteTo writes the snapshot of a published state. Equal states give equal bytes. It implements io.WriterTo.
func (s *State) WriteTo(w io.Writer) (int64, error) {
	if fault.Broken(fault.RequestTableNotInSnapshot) {
		s = s.withoutRequests()
	}
	c := chunkWriter{w: w}
	c.write([]byte(snapshotMagic))
	writeRow(&c, secHead, &s.head)
	writeTable(&c, &s.agents)
	writeTable(&c, &s.nodes)
	writeTable(&c, &s.shards)
	writeTable(&c, &s.txns)
	writeTable(&c, &s.masters)
	writeTable(&c, &s.settings)
	writeTable(&c, &s.types)
	writeTable(&c, &s.sinks)
	writeRow(&c, secMark, &s.mark)
	writeTable(&c, &s.pulses)
	writeTable(&c, &s.requests)
	writeTable(&c, &s.emitters)
	writeTable(&c, &s.cursors)
	writeTable(&c, &s.backlog)
	if s.head.Level >= CheckLevel {
		writeRow(&c, secCheck, &s.check)
	}
	if s.head.Level >= MembersLevel {
		writeTable(&c, &s.members)
	}
	writeRow(&c, secEnd, &trailer{Rows: c.rows, Digest: s.Digest(), Local: s.LocalDigest()})
	c.flush()
	return c.n, c.err
}

// withoutRequests is the state without what it remembers of requests (fault.RequestTableNotInSnapshot).
func (s *State) withoutRequests() *State {
	bare := *s
	bare.requests = newState().requests
	return &bare
}

// chunkWriter collects rows into chunks and keeps the first error.
type chunkWriter struct {
	w      io.Writer
	body   []byte
	chunks uint64
	rows   uint64
	n      int64
	err    error
}

func (c *chunkWriter) write(b []byte) {
	if c.err != nil {
		return
	}
	n, err := c.w.Write(b)
	c.n += int64(n)
	if err != nil {
		c.err = fmt.Errorf("write snapshot: %w", err)
	}
}

func (c *chunkWriter) flush() {
	if len(c.body) == 0 {
		return
	}
	out := binary.BigEndian.AppendUint32(make([]byte, 0, len(c.body)+8), uint32(len(c.body)))
	out = append(out, c.body...)
	c.write(binary.BigEndian.AppendUint32(out, chunkSum(c.chunks, c.body)))
	c.chunks++
	c.body = c.body[:0]
}

// chunkSum binds a chunk to its group and place.
func chunkSum(n uint64, body []byte) uint32 {
	t := crc32.MakeTable(crc32.Castagnoli)
	head := binary.BigEndian.AppendUint64([]byte(snapshotGroup), n)
	return crc32.Update(crc32.Checksum(head, t), t, body)
}

func writeRow(c *chunkWriter, sec section, v any) {
	c.body = pack.AppendUint(c.body, uint64(sec))
	c.body = appendObject(c.body, v)
	c.rows++
	if len(c.body) >= chunkTarget {
		c.flush()
	}
}

func writeTable[K, V any](c *chunkWriter, t *table[K, V]) {
	for v := range t.all() {
		writeRow(c, t.section, v)
	}
}

// ReadState reads a snapshot and stops right behind it. What is damaged, of another version or does not have the digests it
// claims is an error that is ErrSnapshot; the state is then of no use. Memory grows with what was read, not with what is claimed.
func ReadState(r io.Reader) (*State, error) {
	magic := make([]byte, len(snapshotMagic))
	if _, err := io.ReadFull(r, magic); err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	if string(magic) != snapshotMagic {
		return nil, fmt.Errorf("read snapshot: it begins with %q: %w", magic, ErrSnapshot)
	}
	l := loader{s: newState()}
	for n := uint64(0); !l.done; n++ {
		body, err := readChunk(r, n)
		if err == nil {
			err = l.chunk(body)
		}
		if err != nil {
			return nil, fmt.Errorf("read snapshot: chunk %d: %w", n, err)
		}
	}
	return l.s, nil
}

func readChunk(r io.Reader, n uint64) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size == 0 || size > maxChunk {
		return nil, fmt.Errorf("%d bytes: %w", size, ErrSnapshot)
	}
	var body bytes.Buffer
	if _, err := io.CopyN(&body, r, int64(size)+4); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	b := body.Bytes()
	if chunkSum(n, b[:size]) != binary.BigEndian.Uint32(b[size:]) {
		return nil, fmt.Errorf("the checksum is wrong: %w", ErrSnapshot)
	}
	return b[:size], nil
}

// loader fills a state from rows.
type loader struct {
	s    *State
	rows uint64
	last section
	done bool
}

func (l *loader) chunk(body []byte) error {
	r := pack.NewReader(body)
	for r.Len() > 0 {
		if l.done {
			return fmt.Errorf("%d bytes behind the trailer: %w", r.Len(), ErrSnapshot)
		}
		sec, err := r.Uint()
		if err != nil {
			return fmt.Errorf("row %d: %w: %w", l.rows, err, ErrSnapshot)
		}
		raw, err := r.Raw()
		if err == nil {
			err = l.row(section(sec), raw)
		}
		if err != nil {
			return fmt.Errorf("row %d of section %d: %w: %w", l.rows, sec, err, ErrSnapshot)
		}
		l.rows++
	}
	return nil
}

func (l *loader) row(sec section, raw []byte) error {
	s := l.s
	if sec < l.last && sec != secEnd {
		return errors.New("the sections are out of order")
	}
	l.last = sec
	switch sec {
	case secHead:
		return pack.UnmarshalLoose(raw, &s.head)
	case secAgents:
		return load(raw, func(v Agent) { s.putAgent(v) })
	case secNodes:
		return load(raw, func(v Node) { s.putNode(v) })
	case secShards:
		return load(raw, func(v Shard) { s.putShard(v) })
	case secTxns:
		return load(raw, func(v Txn) { s.putTxn(v) })
	case secMasters:
		return load(raw, func(v Master) { s.putMaster(v) })
	case secSettings:
		return load(raw, func(v Setting) { s.settings.set(v.Key, v) })
	case secTypes:
		return load(raw, func(v AssociationType) { s.types.set(v.Name, v) })
	case secSinks:
		return load(raw, func(v Sink) { s.sinks.set(v.Name, v) })
	case secMark:
		return pack.UnmarshalLoose(raw, &s.mark)
	}
	return l.localRow(sec, raw)
}

func (l *loader) localRow(sec section, raw []byte) error {
	s := l.s
	switch sec {
	case secPulses:
		return load(raw, func(v Pulse) { s.pulses.set(v.AgentID, v) })
	case secRequests:
		return load(raw, func(v request) { s.putRequest(v) })
	case secEmitters:
		return load(raw, func(v Emitter) { s.emitters.set(v.AgentID, v) })
	case secCursors:
		return load(raw, func(v Cursor) { s.cursors.set(v.Sink, v) })
	case secBacklog:
		return load(raw, func(v backlogMark) { s.backlog.set(v.Seq, v) })
	case secCheck:
		return pack.UnmarshalLoose(raw, &s.check)
	case secMembers:
		return load(raw, func(v Members) { s.members.set(v.Number, v) })
	case secEnd:
		return l.end(raw)
	}
	return fmt.Errorf("the section is unknown: a newer version wrote it")
}

func load[V any](raw []byte, put func(V)) error {
	var v V
	if err := pack.UnmarshalLoose(raw, &v); err != nil {
		return err
	}
	put(v)
	return nil
}

// end compares what was read with what was written.
func (l *loader) end(raw []byte) error {
	var t trailer
	if err := pack.Unmarshal(raw, &t); err != nil {
		return err
	}
	s := l.s
	switch {
	case s.head.Level > SupportedLevel:
		return fmt.Errorf("it is of level %d, this version supports %d: run a newer one", s.head.Level, SupportedLevel)
	case t.Rows != l.rows:
		return fmt.Errorf("%d rows were read, %d were written", l.rows, t.Rows)
	case t.Digest != s.Digest() || t.Local != s.LocalDigest():
		return errors.New("the digests do not match the content")
	}
	s.limits = limitsOf(s)
	s.refreshMap()
	l.done = true
	return nil
}

var _ io.WriterTo = (*State)(nil)
