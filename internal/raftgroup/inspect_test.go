package raftgroup

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/types"
	"github.com/sutra-grid/sutra-grid/transport"
)

// stopped is the directory of a replica that applied lines, took a snapshot behind the first half, and was stopped.
func stopped(t *testing.T, lines []string, segmentBytes int) *node {
	t.Helper()
	c := newCluster(t, transport.TCP(), 1)
	n := c.nodes[0]
	n.tune = func(cfg *Config) { cfg.SegmentBytes = segmentBytes }
	c.start()
	c.leader()
	half := len(lines) / 2
	n.must(lines[:half]...)
	if err := n.group.Snapshot(); err != nil {
		t.Fatal(err)
	}
	n.must(lines[half:]...)
	c.stop()
	return n
}

func numbered(n, size int) []string {
	var lines []string
	for i := range n {
		lines = append(lines, fmt.Sprintf("%04d%s", i, strings.Repeat("x", size)))
	}
	return lines
}

// treeSum is a hash of every name, size, time of change and byte below dir.
func treeSum(t *testing.T, dir string) [32]byte {
	t.Helper()
	h := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(h, path, info.Size(), info.ModTime())
		if d.IsDir() {
			return nil
		}
		b, err := os.ReadFile(path)
		h.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return [32]byte(h.Sum(nil))
}

// commandsOf walks the log and gives its commands; damage ends the test.
func commandsOf(t *testing.T, i *Inspection) (commands []string, last uint64) {
	t.Helper()
	for e := range i.Log(0, 0) {
		if e.Damage != nil {
			t.Fatalf("entry %d at %s:%d: %v", e.Index, e.File, e.Offset, e.Damage)
		}
		if last != 0 && e.Index != last+1 {
			t.Fatalf("entry %d behind %d", e.Index, last)
		}
		last = e.Index
		for _, c := range e.Entry.Commands {
			commands = append(commands, string(c))
		}
	}
	return commands, last
}

func inspect(t *testing.T, n *node) *Inspection {
	t.Helper()
	i, err := Inspect(n.dir, testGroup)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// TestInspect reads all that a stopped replica's directory holds, over several files of the log, and changes nothing.
func TestInspect(t *testing.T) {
	lines := numbered(60, 24<<10) // more than the first file, which Create makes, takes
	n := stopped(t, lines, 64<<10)
	before := treeSum(t, n.dir)
	i := inspect(t, n)
	if len(i.segments) < 2 {
		t.Fatalf("%d files of the log: the test means several", len(i.segments))
	}
	got, last := commandsOf(t, i)
	if tail := lines[len(lines)-len(got):]; len(got) < len(lines)/2 || !slices.Equal(got, tail) {
		t.Fatalf("%d commands, from %.4s: not the last of %d", len(got), got[0], len(lines))
	}
	var window []uint64
	for e := range i.Log(last-3, last-1) {
		window = append(window, e.Index)
	}
	if want := []uint64{last - 3, last - 2, last - 1}; !slices.Equal(window, want) {
		t.Errorf("entries %v, want %v", window, want)
	}
	vote, err := i.Vote()
	if err != nil || vote.Term == 0 || vote.VotedTerm != vote.Term || vote.Candidate != n.id {
		t.Errorf("vote %+v, %v: a single voter votes for itself", vote, err)
	}
	all, problems := i.Snapshots()
	if len(all) != 1 || len(problems) > 0 || all[0].Members[0] != (Member{n.id, Voter}) || all[0].Taken.IsZero() {
		t.Fatalf("snapshots %+v, %v", all, problems)
	}
	if problems := CheckSnapshot(all[0].Dir, testGroup); len(problems) > 0 {
		t.Errorf("a whole snapshot: %v", problems)
	}
	content, err := OpenSnapshotContent(all[0].Dir, testGroup)
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	restored := &journal{}
	if err := restored.Restore(content); err != nil || !slices.Equal(restored.lines, lines[:len(lines)/2]) || restored.applied != content.FSMIndex {
		t.Errorf("the snapshot holds %d lines up to entry %d (%v)", len(restored.lines), restored.applied, err)
	}
	if treeSum(t, n.dir) != before {
		t.Error("reading changed the directory")
	}
}

func TestInspectRefusesARunningReplica(t *testing.T) {
	c := newCluster(t, transport.TCP(), 1).start()
	defer c.stop()
	c.leader()
	if _, err := Inspect(c.nodes[0].dir, testGroup); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("got %v", err)
	}
	if _, err := Inspect(t.TempDir(), testGroup); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Fatalf("an empty directory: %v", err)
	}
}

// smallLog is a stopped replica's only file of the log and how many of its bytes were written.
func smallLog(t *testing.T) (n *node, path string, content []byte, used int) {
	t.Helper()
	n = stopped(t, numbered(6, 10), 64<<10)
	files, err := filepath.Glob(filepath.Join(n.dir, walDir, "*.wal"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, %v", files, err)
	}
	if content, err = os.ReadFile(files[0]); err != nil {
		t.Fatal(err)
	}
	for used = len(content); content[used-1] == 0; used-- {
	}
	content = content[:used+100] // the rest, which is allocated ahead, only takes time
	return n, files[0], content, used
}

func writeFile(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestInspectNamesEveryFlippedByteOfTheLog flips each byte that was written: of the file's header, of frames' headers, of
// entries and their checksums, of padding and of commits. Each is named with its file and a place at or before it, and the
// entries that do not share the write are still read.
func TestInspectNamesEveryFlippedByteOfTheLog(t *testing.T) {
	n, path, content, used := smallLog(t)
	i := inspect(t, n)
	whole, _ := commandsOf(t, i)
	for at := range used {
		flipped := bytes.Clone(content)
		flipped[at] ^= []byte{2, 0x40, 0x40, 0x40, 0x10, 1, 0x80, 0x40}[at%8] // a frame begins at a multiple of 8: its type becomes another
		writeFile(t, path, flipped)
		named, commands := false, 0
		for e := range i.Log(0, 0) {
			if e.Damage == nil {
				commands += len(e.Entry.Commands)
			} else if e.File == path && e.Offset <= int64(at) && int64(at) < e.Offset+200 || e.Offset == 0 && at < 200 {
				named = true // in this write, or in the first, which holds the file's header
			}
		}
		if !named {
			t.Errorf("byte %d of %d (%02x) was flipped and not named", at, used, content[at])
		}
		// The last write may look torn; nothing else takes more than one entry with it.
		if commands < len(whole)-1 {
			t.Errorf("byte %d: %d of %d commands are left", at, commands, len(whole))
		}
	}
}

// TestInspectTruncatedLog cuts the file at every length, also between two writes: what is whole is read, and that it is cut is said.
func TestInspectTruncatedLog(t *testing.T) {
	n, path, content, used := smallLog(t)
	i := inspect(t, n)
	whole, _ := commandsOf(t, i)
	for size := range used {
		writeFile(t, path, content[:size])
		var commands []string
		cut := false
		for e := range i.Log(0, 0) {
			if e.Damage != nil {
				cut = cut || !e.Torn
				if e.File != path {
					t.Errorf("cut at %d: %s:%d torn %v: %v", size, e.File, e.Offset, e.Torn, e.Damage)
				}
			}
			for _, c := range e.Entry.Commands {
				commands = append(commands, string(c))
			}
		}
		if !cut {
			t.Errorf("cut at %d of %d: not noticed", size, used)
		}
		if len(commands) > len(whole) || !slices.Equal(commands, whole[:len(commands)]) {
			t.Errorf("cut at %d of %d: commands %q", size, used, commands)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	var problems []error
	for e := range i.Log(0, 0) {
		problems = append(problems, e.Damage)
	}
	if len(problems) != 1 || !errors.Is(problems[0], fs.ErrNotExist) {
		t.Errorf("without the file: %v", problems)
	}
}

// TestCheckSnapshotNamesEveryFlippedByte flips every byte of what raft says about a snapshot, and many of its content.
func TestCheckSnapshotNamesEveryFlippedByte(t *testing.T) {
	n := stopped(t, numbered(4, 10), 64<<10)
	all, _ := inspect(t, n).Snapshots()
	dir := all[0].Dir
	for name, step := range map[string]int{snapshotMetaFile: 1, snapshotContentFile: 4999} {
		path := filepath.Join(dir, name)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at < len(content); at++ {
			if at > 80 && at < len(content)-80 && at%step != 0 {
				continue
			}
			flipped := bytes.Clone(content)
			flipped[at] ^= 0x20
			writeFile(t, path, flipped)
			if p := CheckSnapshot(dir, testGroup); len(p) == 0 || !strings.Contains(p[0].Error(), dir) {
				t.Errorf("byte %d of %s (%q) was flipped: %v", at, name, content[max(at-10, 0):at+1], p)
			}
		}
		for _, size := range []int{0, 1, 30, len(content) / 2, len(content) - 1} {
			writeFile(t, path, content[:size])
			if p := CheckSnapshot(dir, testGroup); len(p) == 0 {
				t.Errorf("%s was cut at %d of %d", name, size, len(content))
			}
		}
		writeFile(t, path, append(bytes.Clone(content), 0))
		if p := CheckSnapshot(dir, testGroup); len(p) == 0 {
			t.Errorf("%s has a byte more", name)
		}
		writeFile(t, path, content)
	}
	if p := CheckSnapshot(dir, testGroup); len(p) > 0 {
		t.Errorf("restored: %v", p)
	}
	if p := CheckSnapshot(dir, "another"); len(p) == 0 {
		t.Error("a snapshot passes for one of another group")
	}
}

// FuzzDecodeLog: whatever is stored, it is decoded as the log store would, or refused.
func FuzzDecodeLog(f *testing.F) {
	l := raft.Log{Index: 7, Term: 2, Type: raft.LogCommand, Data: appendEntry(nil, testGroup, Entry{Version: entryVersion, Level: 1, Commands: [][]byte{[]byte("one")}})}
	seal(testGroup, &l)
	var b bytes.Buffer
	if err := (&wal.BinaryCodec{}).Encode(&l, &b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte{})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		ours, err := decodeLog(data)
		if err != nil {
			return
		}
		var theirs raft.Log
		if err := (&wal.BinaryCodec{}).Decode(data, &theirs); err != nil {
			t.Fatalf("the log store refuses it: %v", err)
		}
		if ours.Index != theirs.Index || ours.Term != theirs.Term || ours.Type != theirs.Type ||
			!bytes.Equal(ours.Data, theirs.Data) || !bytes.Equal(ours.Extensions, theirs.Extensions) {
			t.Fatalf("%+v, the log store reads %+v", ours, theirs)
		}
		inspectLog(testGroup, data, decodeLog)
	})
}

// FuzzInspectLog: a file of any content is walked to its end.
func FuzzInspectLog(f *testing.F) {
	dir := f.TempDir()
	info := types.SegmentInfo{ID: 1, BaseIndex: 1, MinIndex: 1, Codec: wal.CodecBinaryV1, SizeLimit: 64 << 10}
	seedLog(f, dir)
	files, _ := filepath.Glob(filepath.Join(dir, "*.wal"))
	if len(files) != 1 {
		f.Fatalf("files %v", files)
	}
	seed, err := os.ReadFile(files[0])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed[:2048])
	f.Add(seed[:100])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		given := 0
		w := logWalk{group: testGroup, next: 1, tail: true, yield: func(LogEntry) bool { given++; return true }}
		w.file = &logFile{info: info, path: "file", group: testGroup, f: bytes.NewReader(data), size: int64(len(data))}
		w.batches()
		if given > 2+len(data)/4 {
			t.Fatalf("%d entries from %d bytes", given, len(data))
		}
	})
}

// seedLog writes a small log as the log store does.
func seedLog(f *testing.F, dir string) {
	w, err := wal.Open(dir, wal.WithSegmentSize(64<<10))
	if err != nil {
		f.Fatal(err)
	}
	defer w.Close()
	for i := uint64(1); i < 4; i++ {
		l := &raft.Log{Index: i, Term: 1, Data: appendEntry(nil, testGroup, Entry{Version: entryVersion, Level: 1, Commands: [][]byte{[]byte("x")}})}
		seal(testGroup, l)
		if err := w.StoreLogs([]*raft.Log{l}); err != nil {
			f.Fatal(err)
		}
	}
}

// FuzzSnapshotMeta: whatever meta.json says, it is refused or consistent.
func FuzzSnapshotMeta(f *testing.F) {
	f.Add([]byte(`{"Version":1,"ID":"2-8-1","Index":8,"Term":2,"Peers":"kaFh","Configuration":{"Servers":[{"Suffrage":0,"ID":"a","Address":"a"}]},"ConfigurationIndex":1,"Size":9,"CRC":"AAAAAAAAAAA="}` + "\n"))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decodeSnapshotMeta(data)
		if err == nil && m.ConfigurationIndex > m.Index {
			t.Fatalf("accepted %+v", m)
		}
	})
}

var _ io.Reader = (*SnapshotContent)(nil)
