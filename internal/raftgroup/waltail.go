package raftgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
	"github.com/sutra-grid/sutra-grid/internal/fault"
)

// tailFiler makes and opens raft-wal's files. raft-wal takes whatever it cannot read in the last file for a write that a crash
// interrupted, and forgets it and what is behind it; and a last file that is gone or empty for one that was just begun. So entries that
// were acknowledged would be lost unseen, and with them the promise that a majority holds them.
//
// Invariants:
//   - walMeta.held names the last file before an entry in it is acknowledged; so a file that it names holds at least one.
//   - All that is behind the last commit of the last file is zeros when raft-wal opens it.
//   - What is cut off was never acknowledged: its write did not reach the disk as a whole (torn). Everything else that does not read is
//     damage, and refused with its place.
//   - The last file can be written to, and its name is on the disk.
type tailFiler struct {
	types.SegmentFiler
	meta       *walMeta
	dir, group string
	log        hclog.Logger

	tail   types.SegmentWriter // nil, or what raft-wal recovers next, which completeRotation has opened
	tailID uint64
}

// sectorBytes is what a disk writes as a whole.
const sectorBytes = 512

// Create implements types.SegmentFiler.
func (f *tailFiler) Create(info types.SegmentInfo) (types.SegmentWriter, error) {
	return f.writer(info)(f.SegmentFiler.Create(info))
}

// Open implements types.SegmentFiler. What a file holds that is complete is checked by its entries' seals, when they are read.
func (f *tailFiler) Open(info types.SegmentInfo) (types.SegmentReader, error) {
	if stat, err := os.Stat(f.path(info)); err == nil && stat.Size() < int64(info.SizeLimit) {
		return nil, cutOff(f.path(info), info, stat.Size())
	}
	r, err := f.SegmentFiler.Open(info)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path(info), err)
	}
	return r, nil
}

// RecoverTail implements types.SegmentFiler.
func (f *tailFiler) RecoverTail(info types.SegmentInfo) (types.SegmentWriter, error) {
	if w := f.tail; w != nil && f.tailID == info.ID {
		f.tail = nil
		return w, nil
	}
	if err := f.examine(info); err != nil {
		return nil, err
	}
	w, err := f.writer(info)(f.SegmentFiler.RecoverTail(info))
	if err != nil {
		return nil, err
	}
	// raft-wal syncs a name with the first write of who made the file; that one may have been killed before it.
	if err := datadir.SyncDir(f.dir); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// completeRotation makes a log that a crash has left with a full last file go on in a new one. The write that fills a file seals it too, and
// then what raft-wal knows of its files is changed; where only the first has happened every write fails, for ever. (raft-wal's Close says that
// its recovery handles this, which it does not.) The result is false when there is nothing to complete.
func (f *tailFiler) completeRotation(state *types.PersistentState) (bool, error) {
	n := len(state.Segments)
	if n == 0 || !state.Segments[n-1].SealTime.IsZero() {
		return false, nil
	}
	last := &state.Segments[n-1]
	w, err := f.RecoverTail(*last)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	sealed, start, err := w.Sealed()
	if err == nil && !sealed {
		f.tail, f.tailID = w, last.ID // it is read once
		return false, nil
	}
	end := w.LastIndex()
	if err = errors.Join(err, w.Close()); err != nil {
		return false, fmt.Errorf("%s: %w", f.path(*last), err)
	}
	now := time.Now()
	last.SealTime, last.MaxIndex, last.IndexStart = now, end, start
	state.Segments = append(state.Segments, types.SegmentInfo{
		ID: state.NextSegmentID, BaseIndex: end + 1, MinIndex: end + 1, Codec: last.Codec, CreateTime: now, SizeLimit: last.SizeLimit,
	})
	state.NextSegmentID++
	return true, nil
}

// Close closes what was opened for raft-wal and not taken by it.
func (f *tailFiler) Close() error {
	if f.tail == nil {
		return nil
	}
	return f.tail.Close()
}

func (f *tailFiler) path(info types.SegmentInfo) string {
	return filepath.Join(f.dir, segment.FileName(info))
}

// examine checks every write of the last file, and cuts off one that is torn.
func (f *tailFiler) examine(info types.SegmentInfo) (err error) {
	path, held := f.path(info), f.meta.holds(info.ID)
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		if held {
			return fmt.Errorf("%s is missing: it held entries", path) // not ErrNotExist: raft-wal would make it again
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	l, err := newLogFile(file, f.group, info)
	if err != nil {
		return err
	}
	if held && l.size < int64(info.SizeLimit) {
		return cutOff(path, info, l.size)
	}
	t, err := l.tail()
	if err != nil {
		return fmt.Errorf("%s is damaged: %w", path, err)
	}
	if t.entries == 0 && held {
		return fmt.Errorf("%s is damaged: offset 0: its entries are gone", path)
	}
	if t.end == t.written {
		return nil
	}
	f.log.Warn("the last write to the log did not complete and is cut off; nobody was told that it did", "file", path, "offset", t.end,
		"bytes", t.written-t.end)
	if err := zero(file, t.end, t.written); err != nil {
		return fmt.Errorf("cut off the torn end of %s: %w", path, err)
	}
	return nil
}

// cutOff: a file is made at its full size.
func cutOff(path string, info types.SegmentInfo, size int64) error {
	return fmt.Errorf("%s is damaged: it was made with %d bytes and is cut off at offset %d", path, info.SizeLimit, size)
}

// zero writes zeros, durably: or else what is torn could be taken for a part of what is written over it.
func zero(f *os.File, from, to int64) error {
	none := make([]byte, 64<<10)
	for at := from; at < to; at += int64(len(none)) {
		if _, err := f.WriteAt(none[:min(int64(len(none)), to-at)], at); err != nil {
			return err
		}
	}
	return datadir.SyncFile(f)
}

// logTail is how far a file that is written to goes.
type logTail struct {
	entries int
	end     int64 // of the last whole write
	written int64 // behind the last byte that is not 0, up to a multiple of 8; end when nothing is behind it
}

// tail reads a file that is written to, from its first write to its last. An error is damage.
func (l *logFile) tail() (t logTail, err error) {
	if t.written, err = l.written(); err != nil {
		return t, err
	}
	for t.end < t.written {
		b := l.batch(t.end)
		if b.err != nil && !isDamage(b.err) {
			return t, fmt.Errorf("offset %d: %w", b.end, b.err)
		}
		if b.err != nil || !b.sum && !fault.Broken(fault.ChecksumOff) {
			return t, l.torn(b, t.written)
		}
		if t.end == 0 {
			if err := l.header(); err != nil {
				return t, fmt.Errorf("offset 0: %w", err)
			}
		}
		t.entries, t.end = t.entries+len(b.entries), b.end
	}
	t.written = max(t.written, t.end) // a commit may end in zeros
	return t, nil
}

// isDamage tells what a write is like from a disk that cannot be read.
func isDamage(err error) bool {
	return errors.Is(err, errFrame) || errors.Is(err, errZeroes) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// torn is nil when a write that does not read, the last one, up to written, is one that a crash interrupted: then some of its sectors were not
// written, and are zeros, as the file was made. (A sector of its content that is zeros is taken for one too.) Otherwise all of it was
// written, so it was acknowledged, and then damaged.
func (l *logFile) torn(b batch, written int64) error {
	why := b.err
	if why == nil {
		why = errSum
	}
	damage := fmt.Errorf("offset %d: a write of %d entries or more: %w", b.start, len(b.entries), why)
	if at, ok := l.nextWrite(b.start); ok {
		return fmt.Errorf("%w; behind it, at offset %d, is a later one", damage, at)
	}
	body := make([]byte, written-b.start)
	if _, err := l.f.ReadAt(body, b.start); err != nil && err != io.EOF {
		return fmt.Errorf("offset %d: %w", b.start, err)
	}
	for at := b.start; at < written; {
		next := min(at-at%sectorBytes+sectorBytes, written)
		if len(bytes.TrimRight(body[at-b.start:next-b.start], "\x00")) == 0 {
			return nil
		}
		at = next
	}
	sectors := (written + sectorBytes - 1) / sectorBytes * sectorBytes
	if b.need > sectors && (len(body) < frameHeader || body[len(body)-frameHeader] != segment.FrameCommit) {
		return nil
	}
	return damage
}

// isTorn tells whether a write that does not read is the last one and torn.
func (l *logFile) isTorn(b batch) bool {
	written, err := l.written()
	return err == nil && l.torn(b, max(written, b.start)) == nil
}

// nextWrite looks for a whole write behind at.
func (l *logFile) nextWrite(at int64) (int64, bool) {
	for {
		next, ok := l.nextWhole(at, 0)
		if !ok {
			return 0, false
		}
		if b := l.batch(next); b.err == nil && b.sum {
			return next, true
		}
		at = next
	}
}

// written finds the end of what was ever written.
func (l *logFile) written() (int64, error) {
	window, none := make([]byte, scanBytes), make([]byte, scanBytes)
	for end := l.size; end > 0; end -= min(end, scanBytes) {
		start := max(0, end-scanBytes)
		part := window[:end-start]
		if _, err := l.f.ReadAt(part, start); err != nil {
			return 0, fmt.Errorf("offset %d: %w", start, err)
		}
		if !bytes.Equal(part, none[:len(part)]) {
			return (start + int64(len(bytes.TrimRight(part, "\x00"))) + 7) &^ 7, nil
		}
	}
	return 0, nil
}

// writer wraps the one that was made for a file.
func (f *tailFiler) writer(info types.SegmentInfo) func(types.SegmentWriter, error) (types.SegmentWriter, error) {
	return func(w types.SegmentWriter, err error) (types.SegmentWriter, error) {
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.path(info), err)
		}
		return &tailWriter{w, f.meta, info.ID}, nil
	}
}

// tailWriter names its file as the one that holds entries.
type tailWriter struct {
	types.SegmentWriter
	meta *walMeta
	id   uint64
}

// Append implements types.SegmentWriter.
func (w *tailWriter) Append(entries []types.LogEntry) error {
	if err := w.SegmentWriter.Append(entries); err != nil {
		return err
	}
	if w.meta.holds(w.id) || len(entries) == 0 {
		return nil
	}
	return w.meta.hold(w.id)
}
