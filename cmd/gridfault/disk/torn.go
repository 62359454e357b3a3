package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/raft-wal/segment"
)

// Tear tears every log below a machine's data directory, as a power loss does while they are written to: behind what was synced there is a
// part of one more write of each. A disk writes sectors as a whole and in any order, and ext4 shows what was not synced only in the block
// that was last written to, as only that is no longer marked as empty in its journal. So that much of a write that nobody was told of is
// put there, with some of its sectors missing. The bytes that are missing are the proof. No process uses the logs.
func Tear(data string, rng *rand.Rand) (lost int64, err error) {
	logs, err := Logs(data)
	if err == nil && len(logs) == 0 {
		err = fmt.Errorf("there is no log below %s", data)
	}
	t := tearing{rng}
	for _, path := range logs {
		missing, failed := t.tearLog(path)
		lost += int64(missing)
		err = errors.Join(err, failed)
	}
	return lost, err
}

// tearing draws what is torn.
type tearing struct{ rng *rand.Rand }

// roll is a number from lo to hi, both included.
func (t tearing) roll(lo, hi int) int { return lo + t.rng.IntN(hi-lo+1) }

// Logs are the files that logs below a machine's data directory are written to: the last one of each.
func Logs(data string) (list []string, err error) {
	for _, pattern := range []string{"raft/wal", "shards/*/raft/wal", "nodes/*/data/shards/*/raft/wal"} {
		dirs, err := filepath.Glob(filepath.Join(data, pattern))
		if err != nil {
			return nil, err
		}
		for _, dir := range dirs {
			files, err := filepath.Glob(filepath.Join(dir, "*.wal"))
			if err != nil {
				return nil, err
			}
			if len(files) > 0 {
				list = append(list, slices.Max(files)) // names are numbers with leading zeros
			}
		}
	}
	return list, nil
}

const (
	blockBytes = 4096 // of ext4

	segmentHeader = 32 // of raft-wal: a file's
	frameBytes    = 8  // of raft-wal: the header of an entry, and what everything is rounded up to
)

// tearLog writes a part of one more entry behind the end of a log, and returns how many bytes of it are missing. A log that was not
// begun is left alone: its file has no block that shows anything. So is one behind whose last whole write there is something already: that
// is a write which the power loss itself has torn, and there is never another one under way.
func (t tearing) tearLog(path string) (lost int, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	end := wholeEnd(content)
	if end == 0 || end%blockBytes == 0 || len(bytes.TrimRight(content[end:], "\x00")) > 0 {
		return 0, nil
	}
	write := t.unfinished()
	for _, s := range t.survivors(end, len(write)) {
		if _, err := f.WriteAt(write[s.from-end:s.to-end], int64(s.from)); err != nil {
			return 0, err
		}
		lost -= s.to - s.from
	}
	return lost + len(write), f.Sync()
}

// wholeEnd is where the last whole write of a log's file ends; 0: there is none. A write is frames up to a commit, which has their checksum;
// that of the first one covers the file's header too.
func wholeEnd(file []byte) (end int) {
	start, at := 0, segmentHeader
	for at+frameBytes <= len(file) {
		value := binary.LittleEndian.Uint32(file[at+4:])
		switch file[at] {
		case segment.FrameEntry, segment.FrameIndex:
			at += frameBytes + (int(value)+frameBytes-1)/frameBytes*frameBytes
			continue
		case segment.FrameCommit:
			if crc32.Checksum(file[start:at], crc32.MakeTable(crc32.Castagnoli)) != value {
				return end
			}
			at += frameBytes
			start, end = at, at
			continue
		}
		return end
	}
	return end
}

// unfinished is an entry as raft-wal writes it: a header with its type and size, and its content, which has no zeros.
func (t tearing) unfinished() []byte {
	content := make([]byte, t.roll(2*sectorBytes, blockBytes))
	for i := range content {
		content[i] = byte('a' + t.rng.IntN(26))
	}
	header := make([]byte, frameBytes)
	header[0] = segment.FrameEntry
	binary.LittleEndian.PutUint32(header[4:], uint32(len(content)))
	return append(header, content...)
}

// span is a part of a file.
type span struct{ from, to int }

// survivors are some of the sectors, but not all, of a write of n bytes at end, within the block that has the end.
func (t tearing) survivors(end, n int) (list []span) {
	last := min(end+n, end-end%blockBytes+blockBytes)
	var sectors []span
	for at := end; at < last; {
		next := min(at-at%sectorBytes+sectorBytes, last)
		sectors = append(sectors, span{at, next})
		at = next
	}
	missing, kept := -1, t.rng.IntN(len(sectors)) // what is missing is beyond the block, or else there are two sectors at least
	if last == end+n {
		missing = t.rng.IntN(len(sectors))
		kept = (missing + 1 + t.rng.IntN(len(sectors)-1)) % len(sectors)
	}
	for i, s := range sectors {
		if i != missing && (i == kept || t.rng.IntN(2) == 0) {
			list = append(list, s)
		}
	}
	return list
}
