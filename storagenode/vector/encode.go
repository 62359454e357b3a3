package vector

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// A file is magic, version (1 byte), blocks. A block is the length of its body (4, little-endian as everything here), the
// body and a CRC-32C (4) that goes on from that of the block before, and the first from that of magic and version: so a
// block that is damaged, missing, moved or another file's does not pass. An empty body is the last; nothing follows it.
//
// The first body is the header: dimension, M, EFConstruction (4 each), seed, applied index (8 each), number of vectors, root, entry
// point (4 each; none for no vector). Every other body is whole vectors in the order of their numbers, from 0 without gaps:
//
//	uvarint length, id; uvarint level; uvarint parent + 1, 0 for the root; dimension × int16, the code;
//	for each layer from 0 to level: uvarint number, so many uvarints: its neighbours
//
// The released slots of the index in memory are left out, and numbers are dense again.
const (
	fileMagic   = "sutra vectors"
	fileVersion = 1

	blockBytes = 256 << 10 // a block ends with the vector that passes this
	maxBlock   = blockBytes + 64<<10
	headerLen  = 3*4 + 2*8 + 3*4
)

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// WriteTo writes the index as a file has it. Apply waits meanwhile, searches do not. The applied index that was written is
// Applied's, unless Apply runs at the same time; Save answers it.
func (x *Index) WriteTo(w io.Writer) (int64, error) {
	x.write.Lock()
	defer x.write.Unlock()
	return x.writeTo(w)
}

func (x *Index) writeTo(w io.Writer) (int64, error) {
	e := encoder{x: x, w: bufio.NewWriterSize(w, 64<<10), table: castagnoli()}
	e.number()
	err := e.all()
	if err == nil {
		err = e.w.Flush()
	}
	if err != nil {
		return e.written, fmt.Errorf("write vector index: %w", err)
	}
	return e.written, nil
}

type encoder struct {
	x       *Index
	w       *bufio.Writer
	table   *crc32.Table
	sum     uint32
	written int64
	body    []byte
	numbers []uint32 // of slots; none: not in the graph
}

// number gives the slots in the graph dense numbers in their order.
func (e *encoder) number() {
	e.numbers = make([]uint32, e.x.used)
	next := uint32(0)
	for s := range e.x.used {
		e.numbers[s] = none
		if e.x.live(s) {
			e.numbers[s] = next
			next++
		}
	}
}

func (e *encoder) of(s uint32) uint32 {
	if s == none {
		return none
	}
	return e.numbers[s]
}

func (e *encoder) all() error {
	start := append([]byte(fileMagic), fileVersion)
	e.sum = crc32.Update(0, e.table, start)
	if err := e.put(start); err != nil {
		return err
	}
	e.header()
	if err := e.block(); err != nil {
		return err
	}
	for s := range e.x.used {
		if e.numbers[s] == none {
			continue
		}
		if e.vector(s); len(e.body) >= blockBytes {
			if err := e.block(); err != nil {
				return err
			}
		}
	}
	if len(e.body) > 0 {
		if err := e.block(); err != nil {
			return err
		}
	}
	return e.block()
}

func (e *encoder) header() {
	le, o := binary.LittleEndian, e.x.o
	b := e.body[:0]
	for _, n := range []int{o.Dimension, o.M, o.EFConstruction} {
		b = le.AppendUint32(b, uint32(n))
	}
	b = le.AppendUint64(b, o.Seed)
	b = le.AppendUint64(b, e.x.applied.Load())
	for _, n := range []uint32{uint32(len(e.x.slots)), e.of(e.x.root), e.of(e.x.entryPoint().slot)} {
		b = le.AppendUint32(b, n)
	}
	e.body = b
}

func (e *encoder) vector(s uint32) {
	id, level, b := e.x.id(s), e.x.level(s), e.body
	b = append(binary.AppendUvarint(b, uint64(len(id))), id...)
	b = binary.AppendUvarint(b, uint64(level))
	b = binary.AppendUvarint(b, uint64(e.of(e.x.parent(s))+1)) // none + 1 is 0
	for _, c := range e.x.code(s)[:e.x.o.Dimension] {
		b = binary.LittleEndian.AppendUint16(b, uint16(c))
	}
	for l := range level + 1 {
		links := e.x.list(s, l)
		b = binary.AppendUvarint(b, uint64(links.len()))
		for i := range links.len() {
			b = binary.AppendUvarint(b, uint64(e.numbers[links.at(i)]))
		}
	}
	e.body = b
}

// block writes the body and empties it.
func (e *encoder) block() error {
	e.sum = crc32.Update(e.sum, e.table, e.body)
	if err := e.put(binary.LittleEndian.AppendUint32(nil, uint32(len(e.body)))); err != nil {
		return err
	}
	if err := e.put(e.body); err != nil {
		return err
	}
	e.body = e.body[:0]
	return e.put(binary.LittleEndian.AppendUint32(nil, e.sum))
}

func (e *encoder) put(b []byte) error {
	n, err := e.w.Write(b)
	e.written += int64(n)
	return err
}
