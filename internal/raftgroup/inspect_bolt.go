package raftgroup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"

	"github.com/hashicorp/raft"
)

// A bbolt file is pages; numbers are little endian, as on all machines we run on:
//
//	page:   id (8) flags (2) count (2) overflow (4), elements, keys and values; 1 + overflow pages long
//	meta:   (pages 0 and 1, written in turn) magic (4) version (4) page size (4) flags (4) root (8) sequence (8)
//	        freelist (8) end (8) transaction (8) FNV-1a of the 56 bytes before (8)
//	branch: per element the key's place (4) and length (4), child (8)
//	leaf:   per element flags (4), the key's place (4) and length (4), the value's length (4); the value follows the key
//
// A place counts from its element. A bucket is a leaf element with flag 1, whose value begins with its root page (8) and a
// sequence (8); with root 0 one leaf page follows. raft-boltdb keeps the log in a bucket, by index, 8 bytes big-endian.
//
// Keys and values follow the elements, and each other, without a gap. The file is read as it is and not by the library: that maps it
// and follows what a damaged page says, into memory that is not there, or round in circles. Pages have no checksum: a changed entry
// is seen by its seal, a page with fewer elements by the gap.
const (
	boltMagic      = 0xed0cdaed
	boltVersion    = 2
	boltLogBucket  = "logs"
	boltBranch     = 1
	boltLeaf       = 2
	boltPageHeader = 16
	boltElement    = 16
	boltMetaSize   = 64
	boltNoFreelist = 1<<64 - 1
	maxBoltDepth   = 32 // a page has room for two children at least
)

// errBoltPage is a page that is not what led to it says.
var errBoltPage = errors.New("a damaged page")

// boltMeta is what a meta page says.
type boltMeta struct {
	pageSize                  int64
	root, freelist, end, txid uint64
}

func parseBoltMeta(page []byte) (boltMeta, error) {
	b := page[boltPageHeader:][:boltMetaSize]
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	sum := fnv.New64a()
	sum.Write(b[:56])
	if u32(0) != boltMagic || u32(4) != boltVersion || u64(56) != sum.Sum64() {
		return boltMeta{}, fmt.Errorf("%w: its checksum does not match", errBoltPage)
	}
	m := boltMeta{pageSize: int64(u32(8)), root: u64(16), freelist: u64(32), end: u64(40), txid: u64(48)}
	if m.pageSize < 512 || m.pageSize > 64<<10 || m.pageSize&(m.pageSize-1) != 0 {
		return boltMeta{}, fmt.Errorf("%w: pages of %d bytes", errBoltPage, m.pageSize)
	}
	return m, nil
}

// boltLog is the log in a bbolt file.
type boltLog struct {
	path, group string
	f           io.ReaderAt
	size        int64
	meta        boltMeta
	torn        error // the other meta page is damaged, at tornAt: what it was written for is lost
	tornAt      int64
	root        uint64 // page of the log's bucket; 0: it is inline
	inline      int64  // of an inline bucket: where its page is
}

// openBoltLog finds the log in f, a file of size bytes.
func openBoltLog(f io.ReaderAt, size int64, path, group string) (*boltLog, error) {
	l := &boltLog{path: path, group: group, f: f, size: size}
	if err := l.newestMeta(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	found := false
	w := boltWalk{log: l, seen: map[uint64]bool{}}
	w.leaf = func(e boltItem) bool {
		if string(e.key) == boltLogBucket && e.flags&1 != 0 && e.valueSize >= 16 {
			var b [8]byte
			if w.err = l.read(b[:], e.value); w.err == nil {
				found, l.root, l.inline = true, binary.LittleEndian.Uint64(b[:]), e.value+16
			}
			return false
		}
		return true
	}
	w.bad = func(_ int64, err error) bool { w.err = err; return false }
	w.page(boltLink{to: l.meta.root})
	if w.err == nil && !found {
		w.err = fmt.Errorf("there is no bucket %q", boltLogBucket)
	}
	if w.err != nil {
		return nil, fmt.Errorf("%s: %w", path, w.err)
	}
	return l, nil
}

// newestMeta takes the meta page of the last transaction, as the library does. The second one's place follows from the size of
// pages, which only the first one says; if that is damaged, it is looked for.
func (l *boltLog) newestMeta() error {
	found := false
	try := func(at int64) error {
		page := make([]byte, boltPageHeader+boltMetaSize)
		if err := l.read(page, at); err != nil {
			return err
		}
		m, err := parseBoltMeta(page)
		if err == nil && at != 0 && at != m.pageSize {
			err = fmt.Errorf("%w: at %d, of pages of %d bytes", errBoltPage, at, m.pageSize)
		}
		if err == nil && (!found || m.txid > l.meta.txid) {
			l.meta, found = m, true
		}
		return err
	}
	err := try(0)
	if err == nil {
		l.tornAt = l.meta.pageSize
		l.torn = try(l.meta.pageSize)
		return nil
	}
	l.torn = err
	for at := int64(512); at <= 64<<10 && !found; at *= 2 {
		if e := try(at); e != nil && !errors.Is(e, errBoltPage) && !errors.Is(e, io.EOF) {
			return e
		}
	}
	if !found {
		return fmt.Errorf("it is not a bbolt file, or both of its meta pages are damaged: %w", err)
	}
	return nil
}

// read fills b; what ends before is damage.
func (l *boltLog) read(b []byte, at int64) error {
	if at < 0 || int64(len(b)) > l.size-at {
		return fmt.Errorf("%w: offset %d and %d bytes reach beyond the end of the file: %w", errBoltPage, at, len(b), io.EOF)
	}
	_, err := l.f.ReadAt(b, at)
	return err
}

// boltItem is an element of a page.
type boltItem struct {
	flags     uint32
	key       []byte
	value     int64 // its place in the file, in a leaf
	valueSize int64
	child     uint64 // in a branch
}

// boltPage is a page of a tree.
type boltPage struct {
	leaf  bool
	pages uint64 // how many it takes
	items []boltItem
	used  int64 // bytes, from its header to the end of its last value
}

// elements reads the table and the keys of the page at offset at; id is what it has to be, 0 for one that is inline.
func (l *boltLog) elements(at int64, id uint64) (p boltPage, err error) {
	head := make([]byte, boltPageHeader)
	if err := l.read(head, at); err != nil {
		return p, err
	}
	flags := binary.LittleEndian.Uint16(head[8:])
	count := int(binary.LittleEndian.Uint16(head[10:]))
	p.pages = 1 + uint64(binary.LittleEndian.Uint32(head[12:]))
	length := int64(p.pages) * l.meta.pageSize
	if is := binary.LittleEndian.Uint64(head); is != id || flags != boltBranch && flags != boltLeaf {
		return p, fmt.Errorf("%w: page %d says it is page %d with flags %#x", errBoltPage, id, is, flags)
	}
	if id == 0 && p.pages != 1 {
		return p, fmt.Errorf("%w: an inline bucket of %d pages", errBoltPage, p.pages)
	}
	if id != 0 && at+length > l.size {
		return p, fmt.Errorf("%w: page %d reaches beyond the end of the file", errBoltPage, id)
	}
	table := make([]byte, count*boltElement)
	if err := l.read(table, at+boltPageHeader); err != nil {
		return p, err
	}
	p.used = boltPageHeader + int64(len(table))
	for n := range count {
		b := table[n*boltElement:][:boltElement]
		u32 := func(i int) int64 { return int64(binary.LittleEndian.Uint32(b[i:])) }
		item, pos, keySize := boltItem{}, u32(0), u32(4)
		if flags == boltLeaf {
			item.flags, pos, keySize, item.valueSize = binary.LittleEndian.Uint32(b), u32(4), u32(8), u32(12)
		} else {
			item.child = binary.LittleEndian.Uint64(b[8:])
		}
		place := boltPageHeader + int64(n)*boltElement + pos
		if keySize > 1<<10 || place+keySize+item.valueSize > length {
			return p, fmt.Errorf("%w: element %d of page %d reaches beyond it", errBoltPage, n, id)
		}
		if place != p.used { // what shows that elements are missing
			return p, fmt.Errorf("%w: element %d of page %d is not behind the one before", errBoltPage, n, id)
		}
		p.used += keySize + item.valueSize
		item.key, item.value = make([]byte, keySize), at+place+keySize
		if err := l.read(item.key, at+place); err != nil {
			return p, err
		}
		if n > 0 && bytes.Compare(p.items[n-1].key, item.key) >= 0 {
			return p, fmt.Errorf("%w: elements %d and %d of page %d are out of order", errBoltPage, n-1, n, id)
		}
		p.items = append(p.items, item)
	}
	p.leaf = flags == boltLeaf
	return p, nil
}

// boltWalk walks a tree in order, and around what is damaged. Every page is taken once, whatever damaged ones point to.
type boltWalk struct {
	log  *boltLog
	seen map[uint64]bool
	leaf func(boltItem) bool            // false: the walk ends
	skip func(behind []byte) bool       // whether what is before this key is not wanted; nil: never
	bad  func(at int64, err error) bool // what is at offset at cannot be walked; false: the walk ends
	err  error
}

// boltLink leads to a page.
type boltLink struct {
	to    uint64
	from  int64 // the offset of the page that says so
	depth int
}

// page walks what is below a page; false: the walk ends.
func (w *boltWalk) page(l boltLink) bool {
	if l.to < 2 || l.to >= w.log.meta.end || l.to > uint64(w.log.size/w.log.meta.pageSize) || w.seen[l.to] || l.depth > maxBoltDepth {
		return w.bad(l.from, fmt.Errorf("%w: it leads to page %d, which has no place below it", errBoltPage, l.to))
	}
	return w.at(int64(l.to)*w.log.meta.pageSize, l.to, l.depth)
}

func (w *boltWalk) at(at int64, id uint64, depth int) bool {
	p, err := w.log.elements(at, id)
	if err != nil {
		return w.bad(at, err)
	}
	if len(p.items) == 0 && depth > 0 {
		return w.bad(at, fmt.Errorf("%w: page %d is empty", errBoltPage, id))
	}
	for part := id; part < id+p.pages; part++ { // elements has seen that the file has so many
		if w.seen[part] {
			return w.bad(at, fmt.Errorf("%w: page %d is part of two others", errBoltPage, part))
		}
		w.seen[part] = true
	}
	for n, item := range p.items {
		if p.leaf {
			if !w.leaf(item) {
				return false
			}
			continue
		}
		if n+1 < len(p.items) && w.skip != nil && w.skip(p.items[n+1].key) {
			continue
		}
		if !w.page(boltLink{item.child, at, depth + 1}) {
			return false
		}
	}
	return true
}

// walk gives the leaves of the log's bucket, from index from on, and what is damaged.
func (l *boltLog) walk(from uint64, leaf func(boltItem) bool, bad func(int64, error) bool) {
	w := boltWalk{log: l, seen: map[uint64]bool{}, leaf: leaf, bad: bad}
	w.skip = func(behind []byte) bool { return len(behind) == 8 && binary.BigEndian.Uint64(behind) <= from }
	if l.root == 0 {
		w.at(l.inline, 0, 0)
		return
	}
	w.page(boltLink{to: l.root})
}

// first is the first index that can be read; 0: there is none.
func (l *boltLog) first() (first uint64) {
	l.walk(0, func(e boltItem) bool {
		if len(e.key) == 8 {
			first = binary.BigEndian.Uint64(e.key)
		}
		return first == 0
	}, func(int64, error) bool { return true })
	return first
}

// entries gives out the entries from first to last, 0 meaning no bound, and in their place what is damaged.
func (l *boltLog) entries(first, last uint64, yield func(LogEntry) bool) {
	g := boltGiver{log: l, from: first, to: last, next: max(first, l.first()), yield: yield}
	l.walk(first, g.item, func(at int64, err error) bool {
		if g.hole == nil {
			g.hole, g.holeAt = err, at
		}
		return true
	})
	if !g.ended && g.hole != nil {
		g.damage(g.hole)
	}
	if !g.ended && l.torn != nil && (last == 0 || g.next <= last) {
		g.give(LogEntry{Index: g.next, Offset: l.tornAt, Torn: true, Damage: fmt.Errorf("the last write did not complete: %w", l.torn)})
	}
}

// boltGiver holds what is found in the file against what should be there.
type boltGiver struct {
	log      *boltLog
	from, to uint64
	next     uint64 // the entry expected
	hole     error  // what is wrong before the next entry that is found
	holeAt   int64
	yield    func(LogEntry) bool
	ended    bool
}

func (g *boltGiver) give(e LogEntry) {
	e.File = g.log.path
	g.ended = g.ended || !g.yield(e)
}

func (g *boltGiver) damage(err error) {
	g.hole = nil
	g.give(LogEntry{Index: g.next, Offset: g.holeAt, Damage: err})
}

// item takes what is stored next; false: the walk ends.
func (g *boltGiver) item(item boltItem) bool {
	e := g.log.entry(item)
	if e.Index != 0 && e.Index < g.from {
		return true
	}
	beyond := g.to != 0 && e.Index > g.to
	found := e.Index
	if beyond {
		found = g.to + 1
	}
	switch {
	case g.hole != nil && found > g.next:
		g.damage(fmt.Errorf("%w; %w", g.hole, missing(g.next, found-1)))
	case g.hole != nil:
		g.damage(g.hole)
	case found > g.next:
		g.holeAt = e.Offset
		g.damage(missing(g.next, found-1))
	}
	if beyond || g.ended {
		g.ended = true
		return false
	}
	if e.Index < g.next {
		if e.Damage == nil {
			e.Damage = fmt.Errorf("%w: entry %d is stored where entry %d is expected", errBoltPage, e.Index, g.next)
		}
		e.Index = g.next
	}
	g.next = e.Index + 1
	g.give(e)
	return !g.ended
}

// entry reads and checks one.
func (l *boltLog) entry(item boltItem) LogEntry {
	var e LogEntry
	var index uint64
	if len(item.key) == 8 {
		index = binary.BigEndian.Uint64(item.key)
	}
	switch {
	case index == 0 || item.flags != 0 || item.valueSize > MaxEntryBytes+1<<10:
		e.Damage = fmt.Errorf("%w: key %x with a value of %d bytes is no entry", errBoltPage, item.key, item.valueSize)
	default:
		b := make([]byte, item.valueSize)
		if e.Damage = l.read(b, item.value); e.Damage == nil {
			e = inspectLog(l.group, b, decodeBoltLog)
		}
		if e.Damage == nil && e.Index != index {
			e.Damage = fmt.Errorf("%w: it is entry %d, stored as entry %d", errBoltPage, e.Index, index)
		}
		e.Index = index
	}
	e.Offset, e.Size = item.value, int(item.valueSize)
	return e
}

// decodeBoltLog reads an entry as raft-boltdb writes it: a msgpack map of its fields, text and bytes alike in the forms that
// are now text's, the time as time.MarshalBinary makes it. It shares b's memory.
func decodeBoltLog(b []byte) (l raft.Log, err error) {
	d := boltDecoder{b: b}
	if fields := d.next(1); len(fields) == 0 || fields[0]&0xf0 != 0x80 {
		return raft.Log{}, errNotALog
	}
	for range b[0] & 0x0f {
		switch name := string(d.raw()); name {
		case "Index":
			l.Index = d.uint()
		case "Term":
			l.Term = d.uint()
		case "Type":
			typ := d.uint()
			d.bad = d.bad || typ > 255
			l.Type = raft.LogType(typ)
		case "Data":
			l.Data = d.raw()
		case "Extensions":
			l.Extensions = d.raw()
		case "AppendedAt":
			if at := d.raw(); !d.bad {
				err = l.AppendedAt.UnmarshalBinary(at)
			}
		default:
			return raft.Log{}, fmt.Errorf("%w: a field %q", errNotALog, name)
		}
	}
	if d.bad || err != nil || len(d.b) > 0 {
		return raft.Log{}, errors.Join(errNotALog, err)
	}
	return l, nil
}

// boltDecoder reads the few forms of msgpack that raft-boltdb writes.
type boltDecoder struct {
	b   []byte
	bad bool
}

func (d *boltDecoder) next(n uint64) []byte {
	if d.bad = d.bad || n > uint64(len(d.b)); d.bad {
		return nil
	}
	out := d.b[:n:n]
	d.b = d.b[n:]
	return out
}

func (d *boltDecoder) number(size uint64) (v uint64) {
	for _, b := range d.next(size) {
		v = v<<8 | uint64(b)
	}
	return v
}

func (d *boltDecoder) uint() uint64 {
	switch code := d.number(1); {
	case code < 0x80:
		return code
	case code >= 0xcc && code <= 0xcf:
		return d.number(1 << (code - 0xcc))
	}
	d.bad = true
	return 0
}

func (d *boltDecoder) raw() []byte {
	switch code := d.number(1); {
	case d.bad || code == 0xc0: // nil
		return nil
	case code&0xe0 == 0xa0:
		return d.next(code & 0x1f)
	case code >= 0xd9 && code <= 0xdb:
		return d.next(d.number(1 << (code - 0xd9)))
	case code >= 0xc4 && code <= 0xc6:
		return d.next(d.number(1 << (code - 0xc4)))
	}
	d.bad = true
	return nil
}

// withBoltLog opens the file of a log for reading, and closes it behind do.
func withBoltLog(path, group string, do func(*boltLog)) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() // read only
	stat, err := f.Stat()
	if err != nil {
		return err
	}
	l, err := openBoltLog(f, stat.Size(), path, group)
	if err == nil {
		do(l)
	}
	return err
}
