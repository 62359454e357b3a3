package raftgroup

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// A file of the log (raft-wal's segment, version 0), numbers little endian:
//
//	header: magic (4) 0 0 0 version (1) base index (8) segment id (8) codec (8)
//	frame:  type (1) 0 0 0, length or CRC (4), body, zeros up to a multiple of 8
//
// A batch is the frames of one write: entries, an index when it seals the file, and a commit whose CRC-32C covers all of
// the batch before it, in the first batch the header too. Behind the last batch there are zeros, or nothing.
const (
	segmentMagic  = 0x58eb6b0d
	segmentHeader = 32
	frameHeader   = 8
	scanBytes     = 64 << 10 // read at a time when looking for the next whole entry
)

// frame is one frame's header and place.
type frame struct {
	offset int64
	typ    byte
	value  uint32 // length; CRC of a commit
}

func (f frame) size() int64 { return frameHeader + (int64(f.value)+7)&^7 }

var (
	errFrame  = errors.New("not a frame of the log")
	errZeroes = errors.New("nothing was written here")
)

func parseFrame(b []byte, offset int64) (frame, error) {
	f := frame{offset: offset, typ: b[0], value: binary.LittleEndian.Uint32(b[4:])}
	switch {
	case binary.LittleEndian.Uint64(b) == 0:
		return f, errZeroes
	case f.typ < segment.FrameEntry || f.typ > segment.FrameCommit || b[1]|b[2]|b[3] != 0:
		return f, errFrame
	case f.typ != segment.FrameCommit && f.value > segment.MaxEntrySize:
		return f, fmt.Errorf("%w: %d bytes long", errFrame, f.value)
	}
	return f, nil
}

// batch is what was read of one write.
type batch struct {
	start, end int64 // end: behind the commit, or where reading stopped
	need       int64 // where what the frames tell of ends, at least
	entries    []frame
	err        error // why there is no commit; errZeroes, io.EOF: what was written ends here
	sum        bool  // the commit's checksum holds
}

// logFile reads one file of the log.
type logFile struct {
	info  types.SegmentInfo
	path  string
	group string
	f     io.ReaderAt
	size  int64
	buf   []byte

	ahead *bufio.Reader // of f, from at on; nil: there is none. Writes are small and follow each other
	at    int64
}

// newLogFile reads f, which the caller closes.
func newLogFile(f *os.File, group string, info types.SegmentInfo) (*logFile, error) {
	stat, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return &logFile{info: info, path: f.Name(), group: group, f: f, size: stat.Size()}, nil
}

// header checks that the file is the one the log store means.
func (l *logFile) header() error {
	var h [segmentHeader]byte
	if _, err := l.f.ReadAt(h[:], 0); err != nil {
		return fmt.Errorf("the header: %w", err)
	}
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(h[at:]) }
	if u64(0) != segmentMagic || u64(8) != l.info.BaseIndex || u64(16) != l.info.ID || u64(24) != l.info.Codec {
		return errors.New("the header is not that of this file of the log")
	}
	if l.info.Codec != wal.CodecBinaryV1 {
		return fmt.Errorf("codec %d, this program reads codec %d", l.info.Codec, wal.CodecBinaryV1)
	}
	return nil
}

// batch reads the frames from start to the next commit, and sums them.
func (l *logFile) batch(start int64) batch {
	if l.ahead == nil || l.at != start {
		l.ahead = bufio.NewReaderSize(io.NewSectionReader(l.f, start, max(l.size-start, 0)), scanBytes)
	}
	b := l.frames(l.ahead, start)
	if l.at = b.end; b.err != nil {
		l.ahead = nil
	}
	return b
}

func (l *logFile) frames(r *bufio.Reader, start int64) batch {
	b := batch{start: start, end: start}
	crc := crc32.New(castagnoli())
	if start == 0 {
		if b.err = sumNext(r, crc, segmentHeader); b.err != nil {
			return b
		}
		b.end = segmentHeader
	}
	for {
		b.need = b.end + frameHeader
		head, err := r.Peek(frameHeader)
		if err != nil {
			b.err = err
			return b
		}
		f, err := parseFrame(head, b.end)
		switch {
		case err != nil:
			b.err = err
			return b
		case f.typ == segment.FrameCommit:
			b.end, b.sum = f.offset+frameHeader, f.value == crc.Sum32()
			_, b.err = r.Discard(frameHeader)
			return b
		case f.offset+f.size() > l.size:
			b.need = f.offset + f.size()
			b.err = fmt.Errorf("%w: it reaches beyond the end of the file", errFrame)
			return b
		}
		if b.err = sumNext(r, crc, f.size()); b.err != nil {
			return b
		}
		if f.typ == segment.FrameEntry {
			b.entries = append(b.entries, f)
		}
		b.end += f.size()
	}
}

// sumNext takes the next n bytes.
func sumNext(r *bufio.Reader, sum io.Writer, n int64) error {
	for n > 0 {
		part, err := r.Peek(int(min(n, scanBytes)))
		if err != nil {
			return err
		}
		if _, err := sum.Write(part); err != nil {
			return err
		}
		if _, err := r.Discard(len(part)); err != nil {
			return err
		}
		n -= int64(len(part))
	}
	return nil
}

// entry reads and checks the entry of a frame.
func (l *logFile) entry(f frame) LogEntry {
	if cap(l.buf) < int(f.value) {
		l.buf = make([]byte, f.value)
	}
	b := l.buf[:f.value]
	e := LogEntry{}
	if _, err := l.f.ReadAt(b, f.offset+frameHeader); err != nil {
		e.Damage = err
	} else {
		e = inspectLog(l.group, b, decodeLog)
	}
	e.File, e.Offset, e.Size = l.path, f.offset, int(f.value)
	return e
}

// nextWhole finds the first place behind at where a whole entry begins, with an index of at least index.
func (l *logFile) nextWhole(at int64, index uint64) (int64, bool) {
	window := make([]byte, scanBytes)
	for at = (at + frameHeader) &^ (frameHeader - 1); at < l.size; at += scanBytes {
		n, err := l.f.ReadAt(window, at)
		if err != nil && err != io.EOF {
			return 0, false
		}
		for i := 0; i+frameHeader <= n; i += frameHeader {
			f, err := parseFrame(window[i:], at+int64(i))
			if err != nil || f.typ != segment.FrameEntry || f.offset+f.size() > l.size {
				continue
			}
			if e := l.entry(f); e.Damage == nil && e.Index >= index {
				return f.offset, true
			}
		}
	}
	return 0, false
}

// logWalk gives out the entries of all files in order.
type logWalk struct {
	group    string
	from, to uint64 // of what is given out; 0: no bound
	next     uint64 // the entry expected; 0: any
	held     uint64 // as in walMeta
	yield    func(LogEntry) bool

	file *logFile
	tail bool  // file is the one that is written to
	pos  int64 // behind the last entry of file that was given out
	hole error // what is wrong at pos, until it is known how far it reaches
}

// segment walks one file; false: the walk ends.
func (w *logWalk) segment(dir string, info types.SegmentInfo, last bool) bool {
	if w.next != 0 && info.MinIndex > w.next && !w.give(LogEntry{Index: w.next, File: dir, Damage: missing(w.next, info.MinIndex-1)}) {
		return false
	}
	path := filepath.Join(dir, segment.FileName(info))
	f, err := os.Open(path)
	if err == nil {
		defer f.Close() // read only
		w.file, err = newLogFile(f, w.group, info)
	}
	if err != nil {
		w.next = 0
		return w.give(LogEntry{Index: info.MinIndex, File: path, Damage: err})
	}
	w.tail, w.next, w.pos, w.hole = last && info.MaxIndex == 0, info.BaseIndex, 0, nil
	if !w.batches() {
		return false
	}
	if w.tail && w.held == info.ID+1 && w.file.size < int64(info.SizeLimit) &&
		!w.damage(w.file.size, false, fmt.Errorf("the file was made with %d bytes and is cut off", info.SizeLimit)) {
		return false
	}
	if w.tail && w.held == info.ID+1 && w.next == info.BaseIndex && !w.damage(0, false, errors.New("the entries of the file are gone")) {
		return false
	}
	if info.MaxIndex != 0 {
		if w.next <= info.MaxIndex && !w.damage(w.pos, false, fmt.Errorf("%w: the file ends before them", missing(w.next, info.MaxIndex))) {
			return false
		}
		w.next = info.MaxIndex + 1
	}
	return true
}

func missing(first, last uint64) error {
	if first == last {
		return fmt.Errorf("entry %d is missing", first)
	}
	return fmt.Errorf("entries %d to %d are missing", first, last)
}

// batches walks the writes of the file. Behind damage it goes on at the next whole entry.
func (w *logWalk) batches() bool {
	at, whole := int64(0), true // whole: from a batch's beginning, so that its checksum says something
	for {
		b := w.file.batch(at)
		if b.err != nil {
			if len(b.entries) == 0 && whole && w.file.ends(b) {
				return true
			}
			good, err := w.file.whole(b)
			if next, more := w.file.nextWhole(b.place(good), w.next+uint64(good)); !more && w.tail && whole && w.file.isTorn(b) {
				return w.damage(b.start, true, fmt.Errorf("a write of %d entries or more did not complete: %w", len(b.entries), err))
			} else if !w.entries(b.entries[:good]) {
				return false
			} else if w.hole, w.pos = err, b.place(good); !more {
				return w.damage(w.pos, false, err)
			} else {
				at, whole = next, false
				continue
			}
		}
		bad, ok := w.complete(b, whole)
		if !ok {
			return false
		}
		at, whole = b.end, true
		if bad >= 0 { // its length may be wrong, so where the next one begins is not known
			next, more := w.file.nextWhole(bad, w.next)
			if !more {
				return w.damage(bad, w.tail && whole && w.file.isTorn(b), w.hole)
			}
			at, whole = next, false
		}
	}
}

// place is where the entry behind the first n would be.
func (b batch) place(n int) int64 {
	if n < len(b.entries) {
		return b.entries[n].offset
	}
	return b.end
}

// whole counts the entries of a write before the first that is damaged, and says what is wrong with that, or behind them.
func (l *logFile) whole(b batch) (int, error) {
	for i, f := range b.entries {
		if e := l.entry(f); e.Damage != nil {
			return i, e.Damage
		}
	}
	return len(b.entries), b.err
}

// ends tells whether nothing was written where a write is looked for.
func (l *logFile) ends(b batch) bool {
	if errors.Is(b.err, errZeroes) {
		return true
	}
	rest := make([]byte, frameHeader)
	n, err := l.f.ReadAt(rest, b.start)
	return err == io.EOF && bytes.Count(rest[:n], []byte{0}) == n
}

// complete gives out a write that has a commit, up to the first entry that is damaged: bad is its place, -1: none is.
func (w *logWalk) complete(b batch, whole bool) (bad int64, ok bool) {
	first := w.next
	if len(b.entries) == 0 { // never written: the commit is something else, damaged
		w.hole, w.pos = errFrame, b.start
		return b.start, true
	}
	for _, f := range b.entries {
		e := w.file.entry(f)
		if e.Damage != nil {
			w.hole, w.pos = e.Damage, f.offset
			return f.offset, true
		}
		if !w.one(e) {
			return -1, false
		}
	}
	if b.start == 0 {
		if err := w.file.header(); err != nil {
			return -1, w.damageOf(first, 0, err)
		}
	}
	if whole && !b.sum {
		err := fmt.Errorf("the write of %d entries up to offset %d: %w", len(b.entries), b.end, errSum)
		return -1, w.give(LogEntry{Index: first, File: w.file.path, Offset: b.start, Torn: w.tail && w.file.isTorn(b), Damage: err})
	}
	w.pos = b.end
	return -1, true
}

// entries gives out entries that are whole.
func (w *logWalk) entries(frames []frame) bool {
	for _, f := range frames {
		if !w.one(w.file.entry(f)) {
			return false
		}
	}
	return true
}

// one gives out a whole entry, and before it what was wrong between it and the one before: its index says how much is lost.
func (w *logWalk) one(e LogEntry) bool {
	if w.hole != nil || e.Index > w.next {
		err := w.hole
		switch {
		case err == nil:
			err = missing(w.next, e.Index-1)
		case e.Index > w.next:
			err = fmt.Errorf("%w; %w", err, missing(w.next, e.Index-1))
		}
		if !w.damage(w.pos, false, err) {
			return false
		}
		w.hole = nil
	} else if e.Index < w.next {
		e.Damage = fmt.Errorf("it is entry %d, where entry %d is expected", e.Index, w.next)
		e.Index = w.next
	}
	w.next, w.pos = e.Index+1, e.Offset+frameHeader+int64(e.Size+7)&^7
	return w.give(e)
}

func (w *logWalk) damage(offset int64, torn bool, err error) bool {
	w.hole = nil
	return w.give(LogEntry{Index: w.next, File: w.file.path, Offset: offset, Torn: torn, Damage: err})
}

func (w *logWalk) damageOf(index uint64, offset int64, err error) bool {
	return w.give(LogEntry{Index: index, File: w.file.path, Offset: offset, Damage: err})
}

// give yields what is in the log and in bounds: what a file still holds of deleted entries is not.
func (w *logWalk) give(e LogEntry) bool {
	if w.file != nil && e.File == w.file.path {
		info := w.file.info
		if e.Index < info.MinIndex || info.MaxIndex != 0 && e.Index > info.MaxIndex {
			return true
		}
	}
	if e.Index < w.from || w.to != 0 && e.Index > w.to {
		return w.to == 0 || e.Index <= w.to
	}
	return w.yield(e)
}
