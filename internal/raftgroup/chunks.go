package raftgroup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/sutra-grid/sutra-grid/internal/pack"
)

// A snapshot's content is a sequence of chunks: u32 length, body, CRC-32C over (group id, chunk number, body). The first
// chunk is the header, the last one is empty. So damage, a missing part and another group's snapshot are all seen before
// the FSM sees the bytes (safety S26).
const (
	snapshotVersion = 1
	recordVersion   = 2 // of a record in place of the content (KeptSnapshot)
	chunkBytes      = 256 << 10
)

var errEndMissing = errors.New("the snapshot ends before its last chunk")

// snapshotHeader says what a snapshot stands for, as MessagePack [version, level, index, fsm index, time]. The version says
// whether the content follows.
type snapshotHeader struct {
	Level    uint32 // of the vocabulary when it was taken (safety S13)
	Index    uint64 // the last entry it includes
	FSMIndex uint64 // the last entry the FSM was handed: barriers and configurations are not
	Time     int64  // of the last entry, µs
	Kept     bool   // the FSM has the state in its own store; what follows is a record of it
}

func (h snapshotHeader) encode() []byte {
	b := pack.AppendArrayHeader(nil, 5)
	b = pack.AppendUint(b, h.version())
	b = pack.AppendUint(b, uint64(h.Level))
	b = pack.AppendUint(b, h.Index)
	b = pack.AppendUint(b, h.FSMIndex)
	return pack.AppendInt(b, h.Time)
}

func (h snapshotHeader) version() uint64 {
	if h.Kept {
		return recordVersion
	}
	return snapshotVersion
}

func decodeSnapshotHeader(b []byte) (h snapshotHeader, err error) {
	r := pack.NewReader(b)
	fields, err := r.ArrayLen()
	if err != nil || fields != 5 {
		return h, fmt.Errorf("snapshot header: %d fields, want 5 (%w)", fields, err)
	}
	version, err := r.Uint()
	if err != nil || version != snapshotVersion && version != recordVersion {
		return h, fmt.Errorf("snapshot version %d, this program reads versions %d and %d (%w)", version, snapshotVersion, recordVersion, err)
	}
	h.Kept = version == recordVersion
	if h.Level, err = readUint32(r, "level"); err != nil {
		return h, fmt.Errorf("snapshot header: %w", err)
	}
	var errs [3]error
	h.Index, errs[0] = r.Uint()
	h.FSMIndex, errs[1] = r.Uint()
	h.Time, errs[2] = r.Int()
	if err := errors.Join(errs[:]...); err != nil {
		return h, fmt.Errorf("snapshot header: %w", err)
	}
	return h, nil
}

func chunkSum(group string, number uint64, body []byte) uint32 {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], number)
	sum := crc32.Update(crc32.Checksum([]byte(group), castagnoli()), castagnoli(), n[:])
	return crc32.Update(sum, castagnoli(), body)
}

// chunkWriter writes chunks to w. The content is complete only after Close.
type chunkWriter struct {
	w      io.Writer
	group  string
	number uint64
	buf    []byte // body of the chunk that is being filled, behind room for its length
}

func newChunkWriter(w io.Writer, group string, h snapshotHeader) (*chunkWriter, error) {
	c := &chunkWriter{w: w, group: group, buf: make([]byte, 4, 4+chunkBytes+sumBytes)}
	c.buf = append(c.buf, h.encode()...)
	return c, c.flush()
}

// Write implements io.Writer.
func (c *chunkWriter) Write(p []byte) (int, error) {
	n := 0
	for len(p) > 0 {
		room := 4 + chunkBytes - len(c.buf)
		if room == 0 {
			if err := c.flush(); err != nil {
				return n, err
			}
			continue
		}
		part := p[:min(room, len(p))]
		c.buf = append(c.buf, part...)
		p, n = p[len(part):], n+len(part)
	}
	return n, nil
}

// Close writes what is left and the last chunk; it does not close the writer below.
func (c *chunkWriter) Close() error {
	if len(c.buf) > 4 {
		if err := c.flush(); err != nil {
			return err
		}
	}
	return c.flush()
}

func (c *chunkWriter) flush() error {
	body := c.buf[4:]
	binary.BigEndian.PutUint32(c.buf, uint32(len(body)))
	c.buf = binary.BigEndian.AppendUint32(c.buf, chunkSum(c.group, c.number, body))
	_, err := c.w.Write(c.buf)
	c.buf = c.buf[:4]
	c.number++
	return err
}

// chunkReader reads what a chunkWriter wrote, and gives out only what it has checked.
type chunkReader struct {
	r      io.Reader
	group  string
	number uint64
	buf    []byte
	rest   []byte // of buf, not read yet
	err    error
}

func newChunkReader(r io.Reader, group string) (*chunkReader, snapshotHeader, error) {
	c := &chunkReader{r: r, group: group}
	if c.next(); c.err != nil {
		if c.err == io.EOF {
			c.err = errEndMissing
		}
		return nil, snapshotHeader{}, c.err
	}
	h, err := decodeSnapshotHeader(c.rest)
	c.rest = nil
	return c, h, err
}

// Read implements io.Reader. io.EOF means that all of the content was there.
func (c *chunkReader) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		if c.err != nil {
			return 0, c.err
		}
		c.next()
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// next reads one chunk; the empty one is the end.
func (c *chunkReader) next() {
	body, err := c.chunk()
	switch {
	case err != nil:
		c.err = fmt.Errorf("chunk %d: %w", c.number, err)
	case len(body) == 0:
		c.err = io.EOF
	}
	c.number++
	c.rest = body
}

func (c *chunkReader) chunk() ([]byte, error) {
	var length [4]byte
	if err := readFull(c.r, length[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(length[:]))
	if n > chunkBytes {
		return nil, fmt.Errorf("%d bytes, at most %d are allowed", n, chunkBytes)
	}
	if cap(c.buf) == 0 {
		c.buf = make([]byte, chunkBytes+sumBytes)
	}
	b := c.buf[:n+sumBytes]
	if err := readFull(c.r, b); err != nil {
		return nil, err
	}
	if !sumIs(b[n:], chunkSum(c.group, c.number, b[:n])) {
		return nil, errSum
	}
	return b[:n], nil
}

func readFull(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errEndMissing
	}
	return err
}
