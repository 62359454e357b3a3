package vector

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/sutra-grid/sutra-grid/transport"
)

// DamagedError says where a file stops being an index. The rows are the truth: rebuild the index from them.
type DamagedError struct {
	Path   string // empty: it did not come from a file
	Offset int64  // of the block that is wrong, or of the end that is missing, in bytes
	Err    error
}

// Error names file, offset and what is wrong.
func (e *DamagedError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("vector index is damaged at byte %d: %v", e.Offset, e.Err)
	}
	return fmt.Sprintf("vector index %s is damaged at byte %d: %v", e.Path, e.Offset, e.Err)
}

// Unwrap answers what is wrong.
func (e *DamagedError) Unwrap() error { return e.Err }

// OptionsError says that an index was made with other options. Rebuild it from the rows.
type OptionsError struct {
	File, Want Options
}

// Error names both.
func (e *OptionsError) Error() string {
	return fmt.Sprintf("vector index was made with %+v, not with %+v", e.File, e.Want)
}

// Read reads what WriteTo wrote and checks all of it, sums and graph. The index is complete to Applied. o must be the options it
// was made with, Workers aside, or the error is an *OptionsError; a *DamagedError says what is not an index. Memory
// follows from the bytes that are there, never from a length that they claim.
func Read(r io.Reader, o Options) (*Index, error) {
	x, err := New(o)
	if err != nil {
		return nil, err
	}
	d := decoder{x: x, r: bufio.NewReaderSize(r, 64<<10), table: castagnoli()}
	err = d.all()
	var other *OptionsError
	switch {
	case errors.As(err, &other):
		return nil, err
	case err != nil:
		return nil, &DamagedError{Offset: d.offset, Err: err}
	}
	return x, nil
}

type decoder struct {
	x      *Index
	r      *bufio.Reader
	table  *crc32.Table
	sum    uint32
	offset int64 // of the block in hand
	next   int64 // behind it
	body   []byte
}

// errShort: a body ends inside a vector, or says a number that cannot be.
var errShort = errors.New("a vector does not fit its block")

func (d *decoder) all() error {
	start := make([]byte, len(fileMagic)+1)
	if err := d.full(start); err != nil {
		return err
	}
	if string(start[:len(fileMagic)]) != fileMagic {
		return errors.New("it does not begin like a vector index")
	}
	if v := start[len(fileMagic)]; v != fileVersion {
		return fmt.Errorf("it has format %d, this version reads %d", v, fileVersion)
	}
	d.sum = crc32.Update(0, d.table, start)
	if err := d.block(); err != nil {
		return err
	}
	h, err := d.header()
	if err != nil {
		return err
	}
	for {
		if err := d.block(); err != nil {
			return err
		}
		if len(d.body) == 0 {
			break
		}
		for len(d.body) > 0 {
			if err := d.vector(); err != nil {
				return fmt.Errorf("vector %d: %w", d.x.used, err)
			}
		}
	}
	if _, err := d.r.ReadByte(); err != io.EOF {
		d.offset = d.next
		return errors.New("something follows its end")
	}
	return d.finish(h)
}

type header struct {
	applied            uint64
	count, root, entry uint32
}

func (d *decoder) header() (h header, err error) {
	if len(d.body) != headerLen {
		return h, fmt.Errorf("the header has %d bytes, not %d", len(d.body), headerLen)
	}
	le, b := binary.LittleEndian, d.body
	file := Options{
		Dimension: int(le.Uint32(b)), M: int(le.Uint32(b[4:])), EFConstruction: int(le.Uint32(b[8:])),
		Seed: le.Uint64(b[12:]), Workers: d.x.o.Workers,
	}
	if file != d.x.o {
		return h, &OptionsError{File: file, Want: d.x.o}
	}
	return header{le.Uint64(b[20:]), le.Uint32(b[28:]), le.Uint32(b[32:]), le.Uint32(b[36:])}, nil
}

// block reads the next block's body.
func (d *decoder) block() error {
	d.offset = d.next
	var word [4]byte
	if err := d.full(word[:]); err != nil {
		return err
	}
	n := binary.LittleEndian.Uint32(word[:])
	if n > maxBlock {
		return fmt.Errorf("it claims a block of %d bytes, the largest have %d", n, maxBlock)
	}
	if cap(d.body) < int(n) {
		d.body = make([]byte, n)
	}
	d.body = d.body[:n]
	if err := d.full(d.body); err != nil {
		return err
	}
	if err := d.full(word[:]); err != nil {
		return err
	}
	d.sum = crc32.Update(d.sum, d.table, d.body)
	if sum := binary.LittleEndian.Uint32(word[:]); sum != d.sum {
		return fmt.Errorf("the checksum of a block of %d bytes is %08x, not %08x", n, sum, d.sum)
	}
	return nil
}

// full fills b.
func (d *decoder) full(b []byte) error {
	n, err := io.ReadFull(d.r, b)
	d.next += int64(n)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		d.offset = d.next
		return errors.New("it ends here, before its end")
	}
	return err
}

func (d *decoder) uvarint(most uint64) (uint64, error) {
	n, size := binary.Uvarint(d.body)
	if size <= 0 || n > most {
		return 0, errShort
	}
	d.body = d.body[size:]
	return n, nil
}

// vector takes one vector out of the body. Links may lead to later ones: finish checks them.
func (d *decoder) vector() error {
	n, err := d.uvarint(transport.MaxID)
	if err != nil {
		return err
	}
	if uint64(len(d.body)) < n {
		return errShort
	}
	id := string(d.body[:n])
	d.body = d.body[n:]
	level, err := d.uvarint(topLevel)
	if err != nil {
		return err
	}
	parent, err := d.uvarint(1<<32 - 1)
	if err != nil {
		return err
	}
	if len(d.body) < 2*d.x.o.Dimension {
		return errShort
	}
	s := d.x.give(id, int(level))
	d.x.setParent(s, uint32(parent)-1) // 0 is none + 1
	code := d.x.code(s)[:d.x.o.Dimension]
	for i := range code {
		code[i] = int16(binary.LittleEndian.Uint16(d.body[2*i:]))
	}
	d.body = d.body[2*len(code):]
	d.x.slots[id] = s
	d.x.setLive(s, true)
	return d.links(s, int(level))
}

func (d *decoder) links(s uint32, level int) error {
	for l := range level + 1 {
		links := d.x.list(s, l)
		n, err := d.uvarint(uint64(len(links) - 1))
		if err != nil {
			return err
		}
		for range n {
			to, err := d.uvarint(1<<32 - 1)
			if err != nil {
				return err
			}
			links.add(uint32(to))
		}
	}
	return nil
}

// finish makes the decoded vectors an index, if they are one.
func (d *decoder) finish(h header) error {
	x := d.x
	if h.count != x.used {
		return fmt.Errorf("%d vectors, the header says %d", x.used, h.count)
	}
	x.root = h.root
	if h.entry != none {
		if h.entry >= x.used {
			return fmt.Errorf("entry point %d of %d vectors", h.entry, x.used)
		}
		x.entry.Store(entryPoint{h.entry, x.level(h.entry)}.pack())
	}
	x.applied.Store(h.applied)
	return x.verify()
}
