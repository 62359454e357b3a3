package raftgroup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
	"github.com/sutra-grid/sutra-grid/transport"
)

func TestValuesHaveSums(t *testing.T) {
	number, vote := binary.BigEndian.AppendUint64(nil, 7), append(binary.BigEndian.AppendUint64(nil, 7), "node-1.abc"...)
	for key, value := range map[string][]byte{keyCurrentTerm: number, keyVote: vote} {
		if got, err := withoutSum(key, value); err != nil || !bytes.Equal(got, value) {
			t.Errorf("%s of before: %x, %v", key, got, err)
		}
		stored := withSum(key, value)
		if got, err := withoutSum(key, stored); err != nil || !bytes.Equal(got, value) {
			t.Errorf("%s: %x, %v", key, got, err)
		}
		if got := binary.BigEndian.Uint64(stored); got != 7 {
			t.Errorf("%s: a program of before reads %d", key, got)
		}
		for at := range len(stored) * 8 {
			flipped := bytes.Clone(stored)
			flipped[at/8] ^= 1 << (at % 8)
			if got, err := withoutSum(key, flipped); !errors.Is(err, errValue) || !strings.Contains(err.Error(), key) {
				t.Errorf("%s with bit %d flipped: %x, %v", key, at, got, err)
			}
		}
		for size := range len(stored) {
			if key == keyVote && size > len(value) {
				break // the length of a value is its page's to hold (checkPages)
			}
			if got, err := withoutSum(key, stored[:size]); err == nil && (key != keyVote || size <= 8) && !bytes.Equal(got, value) {
				t.Errorf("%s cut at %d: %x", key, size, got)
			}
		}
		other := keyJoining
		if got, err := withoutSum(other, stored); err == nil {
			t.Errorf("the value of %s is %s's: %x", key, other, got)
		}
	}
	body := []byte(`{"NextSegmentID":3,"Segments":null}`)
	stored := withMetaSum(body)
	for _, raw := range [][]byte{body, stored} {
		if got, err := withoutMetaSum(raw); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%s: %s, %v", raw, got, err)
		}
	}
	for at := range len(body) - 1 {
		flipped := bytes.Clone(stored)
		flipped[at] ^= 1
		if got, err := withoutMetaSum(flipped); !errors.Is(err, errSum) {
			t.Errorf("byte %d flipped: %s, %v", at, got, err)
		}
	}
}

// reopen opens the stores of a directory and closes them; said is what was logged.
func reopen(t *testing.T, dir string) (last uint64, said string, err error) {
	t.Helper()
	kind, err := logStoreOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := mustExist(dir, kind); err != nil {
		return 0, "", err
	}
	var out strings.Builder
	log := newRaftLog(slog.New(slog.NewTextHandler(&out, nil)))
	s, err := openStores(dir, storeConfig{group: testGroup, kind: kind, segmentBytes: 64 << 10, latch: newLatch(nil), log: log})
	if err != nil {
		return 0, out.String(), err
	}
	last, err = s.log.LastIndex()
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	return last, out.String(), nil
}

// TestDamagedDatabasesAreRefused flips bits of the small databases in every page that is in use, and cuts them: they are refused
// with their name, or what is read is what was written.
func TestDamagedDatabasesAreRefused(t *testing.T) {
	n, _, _, _ := smallLog(t)
	i := inspect(t, n)
	wantVote, err := i.Vote()
	if err != nil || wantVote.VotedTerm == 0 {
		t.Fatal(wantVote, err)
	}
	for _, name := range []string{stableFile, filepath.Join(walDir, metadb.FileName)} {
		path := filepath.Join(n.dir, name)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		wantSegments, _, err := readSegments(filepath.Join(n.dir, walDir, metadb.FileName))
		if err != nil {
			t.Fatal(err)
		}
		refused := 0
		check := func(what string, at int, changed []byte, must bool) {
			t.Helper()
			writeFile(t, path, changed)
			vote, err1 := i.Vote()
			segments, _, err2 := readSegments(filepath.Join(n.dir, walDir, metadb.FileName))
			err := errors.Join(err1, err2)
			switch {
			case err != nil && !strings.Contains(err.Error(), filepath.Base(name)):
				t.Errorf("%s %s at %d: the file is not named: %v", name, what, at, err)
			case err != nil:
				refused++
			case must:
				t.Errorf("%s %s at %d: not refused", name, what, at)
			case vote != wantVote || len(segments) != len(wantSegments) || segments[0] != wantSegments[0]:
				t.Errorf("%s %s at %d: %+v, %+v", name, what, at, vote, segments)
			}
		}
		for at := range content {
			if in := at % 4096; in < 400 && (in < 120 || in%7 == 0) && at < 8*4096 {
				flipped := bytes.Clone(content)
				flipped[at] ^= 1 << (at % 8)
				check("flipped", at, flipped, false)
			}
		}
		if refused < 100 {
			t.Errorf("%s: only %d flips were refused", name, refused)
		}
		for size := 0; size < 4*4096; size += 1000 {
			check("cut", size, content[:size], true)
		}
		writeFile(t, path, nil)
		if _, _, err := reopen(t, n.dir); err == nil || !strings.Contains(err.Error(), filepath.Base(name)) {
			t.Errorf("%s emptied: %v", name, err)
		}
		writeFile(t, path, content)
	}
	if _, _, err := reopen(t, n.dir); err != nil {
		t.Error(err)
	}
}

// wholeTail is smallLog with its file at its full size.
func wholeTail(t *testing.T) (n *node, path string, content []byte, used int) {
	t.Helper()
	n, path, _, used = smallLog(t)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return n, path, content, (used + 7) &^ 7
}

// patch writes a part of a file.
func patch(t *testing.T, path string, at int, b ...byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(b, int64(at))
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedTail flips and cuts the last file of the log: nothing that was acknowledged is forgotten.
func TestDamagedTail(t *testing.T) {
	n, path, content, used := wholeTail(t)
	last, said, err := reopen(t, n.dir)
	if err != nil || strings.Contains(said, "cut off") {
		t.Fatal(said, err)
	}
	want := func(what string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), filepath.Base(path)) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for at := 0; at < used; at += 3 {
		patch(t, path, at, content[at]^0x10)
		_, _, err := reopen(t, n.dir)
		patch(t, path, at, content[at])
		if want("flipped", err); err != nil && !strings.Contains(err.Error(), "offset") {
			t.Errorf("flipped at %d: no offset: %v", at, err)
		}
	}
	for _, size := range []int{0, 1, used / 2, used, len(content) - 1} {
		writeFile(t, path, content[:size])
		_, _, err := reopen(t, n.dir)
		want("cut", err)
	}
	writeFile(t, path, make([]byte, len(content)))
	_, _, err = reopen(t, n.dir)
	want("zeros", err)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	_, _, err = reopen(t, n.dir)
	want("gone", err)
	writeFile(t, path, content)
	if again, _, err := reopen(t, n.dir); err != nil || again != last {
		t.Errorf("the whole file: entry %d of %d, %v", again, last, err)
	}
}

// TestTornTailIsCutOff: of a write's sectors some did not get to the disk. It is cut off, that is said, nothing else is lost, and nothing of it
// is left that a later write could be mistaken for.
func TestTornTailIsCutOff(t *testing.T) {
	n, path, content, used := wholeTail(t)
	last, _, err := reopen(t, n.dir)
	if err != nil {
		t.Fatal(err)
	}
	body := bytes.Repeat([]byte{0xa5}, 5000)
	frame := append(binary.LittleEndian.AppendUint32([]byte{1, 0, 0, 0}, uint32(len(body))), body...)
	frame = append(frame, 3, 0, 0, 0, 1, 2, 3, 4)
	first := (used/sectorBytes + 1) * sectorBytes
	for lost := first; lost < used+len(frame); lost += sectorBytes {
		for _, rest := range []bool{false, true} { // whether what is behind it was written
			torn := bytes.Clone(content)
			copy(torn[used:], frame)
			end := lost + sectorBytes
			if !rest {
				end = len(torn)
			}
			clear(torn[lost:end])
			writeFile(t, path, torn)
			again, said, err := reopen(t, n.dir)
			if err != nil || again != last || !strings.Contains(said, "cut off") || !strings.Contains(said, path) {
				t.Fatalf("sector %d, rest %v: entry %d of %d, %q, %v", lost/sectorBytes, rest, again, last, said, err)
			}
			after, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(after, content) {
				t.Fatalf("sector %d, rest %v: something is left of it, %v", lost/sectorBytes, rest, err)
			}
			if _, said, err := reopen(t, n.dir); err != nil || strings.Contains(said, "cut off") {
				t.Errorf("the next start: %q, %v", said, err)
			}
		}
	}
	whole := bytes.Clone(content)
	copy(whole[used:], frame)
	writeFile(t, path, whole)
	if _, _, err := reopen(t, n.dir); err == nil {
		t.Error("a write that reached the disk and does not match its sum was cut off")
	}
}

// TestOlderDirectories: what a program of before wrote has no sums and no mark, and is read; the next write adds them.
func TestOlderDirectories(t *testing.T) {
	c := newCluster(t, transport.TCP(), 1)
	n := c.nodes[0]
	c.start()
	c.leader()
	n.must(numbered(3, 10)...)
	c.stop()
	s, err := openBolt(stableBolt(filepath.Join(n.dir, stableFile)))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{keyCurrentTerm, keyVote} {
		raw, err := s.Get([]byte(key))
		if err != nil {
			t.Fatal(err)
		}
		value, err := withoutSum(key, raw)
		if err != nil || len(value) == len(raw) {
			t.Fatalf("%s: %x, %v", key, raw, err)
		}
		if err := s.Set([]byte(key), value); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var before metadb.BoltMetaDB
	state, err := before.Load(filepath.Join(n.dir, walDir)) // reads what has a sum
	if err != nil || len(state.Segments) == 0 {
		t.Fatal(state, err)
	}
	if err := errors.Join(before.CommitState(state), before.Close()); err != nil { // and writes none
		t.Fatal(err)
	}
	c.start()
	c.leader()
	n.must(numbered(3, 10)...)
	c.stop()
	if _, _, err := reopen(t, n.dir); err != nil {
		t.Error(err)
	}
}

// FuzzLogTail: any content of a last file is read to its end, and what is cut off lies within it.
func FuzzLogTail(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{1, 0, 0, 0, 8, 0, 0, 0}, 200))
	f.Add(append(make([]byte, segmentHeader), 1, 0, 0, 0, 4, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 3, 0, 0, 0, 9, 9, 9, 9))
	f.Fuzz(func(t *testing.T, data []byte) {
		l := &logFile{info: types.SegmentInfo{BaseIndex: 1}, path: "file", group: testGroup, f: bytes.NewReader(data), size: int64(len(data))}
		tail, err := l.tail()
		if err != nil {
			return
		}
		if rest := io.NewSectionReader(l.f, tail.written, l.size); tail.end > tail.written || tail.written > l.size+7 {
			t.Fatalf("%+v of %d bytes", tail, l.size)
		} else if b, _ := io.ReadAll(rest); len(bytes.Trim(b, "\x00")) > 0 {
			t.Fatalf("%+v: something is behind it", tail)
		}
	})
}
