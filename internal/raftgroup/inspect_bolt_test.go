package raftgroup

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/sutra-grid/sutra-grid/transport"
)

// stoppedBolt is what stopped is, with a log in boltdb.
func stoppedBolt(t *testing.T, lines []string) (n *node, path string) {
	t.Helper()
	c := newCluster(t, transport.TCP(), 1)
	n = c.nodes[0]
	if err := os.RemoveAll(n.dir); err != nil {
		t.Fatal(err)
	}
	if err := Create(n.dir, CreateConfig{GroupID: testGroup, LocalID: n.id, Voters: n.voters(), LogStore: BoltDB}); err != nil {
		t.Fatal(err)
	}
	c.start()
	c.leader()
	half := len(lines) / 2
	n.must(lines[:half]...)
	if err := n.group.Snapshot(); err != nil {
		t.Fatal(err)
	}
	n.must(lines[half:]...)
	c.stop()
	return n, filepath.Join(n.dir, boltFile)
}

// TestInspectBolt reads a log in boltdb, over several levels of its tree and entries of several pages, and changes nothing.
func TestInspectBolt(t *testing.T) {
	lines := append(numbered(300, 1500), numbered(20, 24<<10)...)
	n, _ := stoppedBolt(t, lines)
	before := treeSum(t, n.dir)
	i := inspect(t, n)
	got, last := commandsOf(t, i)
	if tail := lines[len(lines)-len(got):]; len(got) < len(lines)/2 || !slices.Equal(got, tail) {
		t.Fatalf("%d commands: not the last of %d", len(got), len(lines))
	}
	for _, w := range [][2]uint64{{last - 3, last - 1}, {i.First(), i.First() + 1}, {last, 0}, {last, last + 9}} {
		var window, want []uint64
		for e := range i.Log(w[0], w[1]) {
			window = append(window, e.Index)
			if e.Damage != nil || e.Term == 0 || e.Size == 0 || e.Offset == 0 || !strings.HasSuffix(e.File, boltFile) {
				t.Errorf("%+v", e)
			}
		}
		for x := w[0]; x <= last && (w[1] == 0 || x <= w[1]); x++ {
			want = append(want, x)
		}
		if !slices.Equal(window, want) {
			t.Errorf("%d to %d: entries %v, want %v", w[0], w[1], window, want)
		}
	}
	for range i.Log(0, 0) {
		break
	}
	if vote, err := i.Vote(); err != nil || vote.VotedTerm == 0 {
		t.Errorf("vote %+v, %v", vote, err)
	}
	if treeSum(t, n.dir) != before {
		t.Error("reading changed the directory")
	}
	if err := os.Remove(filepath.Join(n.dir, boltFile)); err != nil {
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

// TestInspectBoltThatJoins: a replica that holds no entry yet.
func TestInspectBoltThatJoins(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "r")
	if err := Create(dir, CreateConfig{GroupID: testGroup, LocalID: "a.1", Join: true, LogStore: BoltDB}); err != nil {
		t.Fatal(err)
	}
	i, err := Inspect(dir, testGroup)
	if err != nil || i.First() != 0 {
		t.Fatalf("first %d, %v", i.First(), err)
	}
	for e := range i.Log(0, 0) {
		t.Errorf("%+v", e)
	}
}

// readBolt is what can be read of a file's content, and what is wrong with it.
func readBolt(content []byte) (commands []string, problems []LogEntry, err error) {
	l, err := openBoltLog(bytes.NewReader(content), int64(len(content)), "log.db", testGroup)
	if err != nil {
		return nil, nil, err
	}
	l.entries(0, 0, func(e LogEntry) bool {
		if e.Damage != nil {
			problems = append(problems, e)
		}
		for _, c := range e.Entry.Commands {
			commands = append(commands, string(c))
		}
		return true
	})
	return commands, problems, nil
}

// TestInspectBoltDamage flips bytes and cuts the file: what is wrong is named, no command is made up, and what does not
// depend on the damage is read.
func TestInspectBoltDamage(t *testing.T) {
	_, path := stoppedBolt(t, numbered(60, 700))
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	whole, problems, err := readBolt(content)
	if err != nil || len(problems) > 0 || len(whole) < 30 {
		t.Fatalf("%d commands, %v, %v", len(whole), problems, err)
	}
	named, silent := 0, 0
	check := func(what string, at int, changed []byte) {
		commands, problems, err := readBolt(changed)
		if err != nil || len(problems) > 0 {
			named++
			if err != nil && !strings.Contains(err.Error(), "log.db") {
				t.Errorf("%s at %d: the file is not named: %v", what, at, err)
			}
			for _, p := range problems {
				if p.File != "log.db" || p.Offset > int64(len(content)) {
					t.Errorf("%s at %d: %+v", what, at, p)
				}
			}
		} else if len(commands) < len(whole) {
			silent++ // nothing but the first and the last page says how many entries there are
		}
		for _, c := range commands {
			if !slices.Contains(whole, c) {
				t.Fatalf("%s at %d: a command that was never stored: %.20q", what, at, c)
			}
		}
		if begin := slices.Index(whole, append(commands, "")[0]); problems == nil && err == nil && begin >= 0 && !slices.Equal(commands, whole[begin:][:len(commands)]) {
			t.Errorf("%s at %d: %d commands with a gap, and nothing is wrong", what, at, len(commands))
		}
	}
	for at := range content {
		if in := at % 4096; in < 112 || at%61 == 0 { // the tables of pages, and a part of the rest
			changed := content[at]
			content[at] ^= 1 << (at % 8)
			check("flip", at, content)
			content[at] = changed
		}
	}
	for size := 0; size < len(content); size += 509 {
		check("cut", size, content[:size])
	}
	if named < 500 || silent > 16 {
		t.Errorf("%d changes were named; %d lost entries in silence", named, silent)
	}
	// One entry's bytes: it alone is lost.
	at := bytes.Index(content, []byte("0045xxx")) // the newest copy may lie elsewhere: change all
	for n := at; n >= 0 && n < len(content); {
		content[n+5] ^= 1
		next := bytes.Index(content[n:], []byte("0045xxx"))
		if next < 0 {
			break
		}
		n += next
	}
	commands, problems, err := readBolt(content)
	if err != nil || len(problems) != 1 || len(commands) != len(whole)-1 || problems[0].Index == 0 {
		t.Errorf("one entry is damaged: %d of %d commands, %v, %v", len(commands), len(whole), problems, err)
	}
}

// TestInspectBoltInCircles: a branch that leads back to itself, or to one page twice.
func TestInspectBoltInCircles(t *testing.T) {
	_, path := stoppedBolt(t, numbered(100, 700))
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	l, err := openBoltLog(bytes.NewReader(content), int64(len(content)), "log.db", testGroup)
	if err != nil {
		t.Fatal(err)
	}
	at := l.root * uint64(l.meta.pageSize)
	if p, err := l.elements(int64(at), l.root); err != nil || p.leaf || len(p.items) < 3 {
		t.Fatalf("%+v, %v: the test means a branch", p, err)
	}
	first := content[at+boltPageHeader+8:]
	for name, to := range map[string]byte{"itself": byte(l.root), "the second twice": first[boltElement]} {
		changed := bytes.Clone(content)
		changed[at+boltPageHeader+8] = to
		if _, problems, err := readBolt(changed); err != nil || len(problems) == 0 || !errors.Is(problems[0].Damage, errBoltPage) {
			t.Errorf("%s: %v, %v", name, problems, err)
		}
	}
}

// FuzzInspectBolt: a file of any content is walked to its end, in time and memory that its size bounds.
func FuzzInspectBolt(f *testing.F) {
	path := filepath.Join(f.TempDir(), "log.db")
	b, err := openBolt(logBolt(path))
	if err != nil {
		f.Fatal(err)
	}
	for i := uint64(1); i < 4; i++ {
		l := &raft.Log{Index: i, Term: 1, Data: appendEntry(nil, testGroup, Entry{Version: entryVersion, Level: 1, Commands: [][]byte{[]byte("x")}})}
		seal(testGroup, l)
		if err := b.StoreLogs([]*raft.Log{l}); err != nil {
			f.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		f.Fatal(err)
	}
	seed, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	l, err := openBoltLog(bytes.NewReader(seed), int64(len(seed)), path, testGroup)
	if err != nil {
		f.Fatal(err)
	}
	seed = seed[:int64(l.meta.end)*l.meta.pageSize] // behind it nothing was written
	f.Add(seed)
	f.Add(seed[:4096+100])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := openBoltLog(bytes.NewReader(data), int64(len(data)), "file", testGroup)
		if err != nil {
			return
		}
		given := 0
		l.entries(0, 0, func(LogEntry) bool { given++; return true })
		if given > 4+len(data)/4 {
			t.Fatalf("%d entries from %d bytes", given, len(data))
		}
	})
}

// FuzzDecodeBoltLog: what we decode, the log store does, to the same.
func FuzzDecodeBoltLog(f *testing.F) {
	f.Add([]byte("\x86\xaaAppendedAt\xaf\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xa4Data\xa3dat\xaaExtensions\xc0\xa5Index\xcd\x01,\xa4Term\xce\x00\x01\x11p\xa4Type\x01"))
	f.Add([]byte{0x86})
	f.Fuzz(func(t *testing.T, data []byte) {
		if l, err := decodeBoltLog(data); err == nil && len(l.Data)+len(l.Extensions) > len(data) {
			t.Fatalf("%d bytes become %+v", len(data), l)
		}
		inspectLog(testGroup, data, decodeBoltLog)
	})
}
