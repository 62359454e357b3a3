package engine

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/pack"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/transport"
	"pgregory.net/rapid"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// golden compares lines with a file under testdata, or writes it. A released format never changes: a difference here is a
// store or a log that this version cannot read.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(path, []byte(got), 0o644))
		return
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if string(want) != got {
		t.Fatalf("%s changed:\n%s\nwant\n%s", path, got, want)
	}
}

func sampleCommands() []Command {
	full := concept("a")
	full.Embedding = []float32{1, -0.5}
	full.Metadata = &transport.Metadata{Attributes: map[string]string{"z": "1", "a": "2"}, Tags: []string{"t"}}
	p := prepareOf(2, 77, 5, half(transport.OpLinkOut, "a", "far"), concept("b"))
	p.Prepare.Horizon = event.Position{N: 1, Seq: 2}
	return []Command{
		writeOf(1, testTime, full, concept("b"), association("a", "b", 1000)),
		p,
		withHorizon(finishOf(2, 77, 5, true), 3),
	}
}

func TestGoldenCommands(t *testing.T) {
	var b strings.Builder
	for _, c := range sampleCommands() {
		encoded := encode(t, c)
		fmt.Fprintf(&b, "%s %x\n", c.Kind, encoded)
		decoded, err := DecodeCommand(encoded)
		if err != nil || !bytes.Equal(encode(t, decoded), encoded) {
			t.Errorf("%s: decoded and encoded again it differs (%v)", c.Kind, err)
		}
	}
	golden(t, "commands.txt", b.String())
}

// goldenEngine has applied a few commands that touch every table.
func goldenEngine(t *testing.T) *Engine {
	t.Helper()
	return goldenEngineAt(t, 2)
}

func goldenEngineAt(t *testing.T, level uint32) *Engine {
	t.Helper()
	e := newEngine(t)
	commands := sampleCommands()
	doAt(t, e, level, commands[0])
	doAt(t, e, level, commands[1:]...)
	doAt(t, e, level, prepareOf(3, 88, 9, half(transport.OpLinkIn, "far", "b")), finishOf(4, 99, 8, false),
		writeOf(5, testTime, association("a", "nobody", 0)))
	return e
}

// txnCommands are commands of level 3, one of each form: every op, results, an attempt in parts.
func txnCommands() []Command {
	link := association("c", "e", 1000)
	first := prepareOf(6, 66, 9, transport.Op{Kind: transport.OpRead, ID: "c"}, deleting("d"))
	first.Prepare.Open = true
	second := prepareOf(6, 66, 9, half(transport.OpUnlinkInType, "far", "c"))
	second.Prepare.Part, second.Prepare.Participants = 1, []event.ShardID{"shard-1", "shard-2", testShard}
	committed := prepareOf(7, 77, 9, transport.Op{Kind: transport.OpAdd, ID: "e", Key: "n", Number: -3})
	return []Command{
		writeOf(8, testTime, concept("c"), concept("d"), concept("e"), half(transport.OpLinkOut, "d", "far"), association("c", "d", 0),
			transport.Op{Kind: transport.OpSetAttribute, ID: "c", Key: "k", Value: "v"}, transport.Op{Kind: transport.OpAdd, ID: "c", Key: "n", Number: 7},
			transport.Op{Kind: transport.OpReadNeighbors, ID: "c"}, transport.Op{Kind: transport.OpExists, ID: "c"}, transport.Op{Kind: transport.OpAbsent, ID: "nobody"},
			transport.Op{Kind: transport.OpVersion, ID: "c", Version: 3}, transport.Op{Kind: transport.OpAttributeEquals, ID: "c", Key: "k", Value: "v"},
			transport.Op{Kind: transport.OpAttributeAtLeast, ID: "c", Key: "n", Number: 7}, deleting("nobody"), cutting("d", "c"), cuttingType("d", "c", 1),
			half(transport.OpUnlinkOut, "c", "far"), half(transport.OpUnlinkIn, "far", "c"), half(transport.OpUnlinkOutType, "c", "far"), link),
		writeOf(9, testTime, transport.Op{Kind: transport.OpVersion, ID: "c", Version: 9}),
		first, second, committed, finishOf(7, 77, 9, true), raising(3),
	}
}

func TestGoldenTxnCommands(t *testing.T) {
	var b strings.Builder
	for _, c := range txnCommands() {
		encoded := encode(t, c)
		fmt.Fprintf(&b, "%s %x\n", c.Kind, encoded)
		decoded, err := DecodeCommand(encoded)
		if err != nil || fmt.Sprintf("%+v", decoded.message()) != fmt.Sprintf("%+v", c.message()) {
			t.Errorf("%s: decoded it is %+v (%v), want %+v", c.Kind, decoded, err, c)
		}
	}
	golden(t, "commands-3.txt", b.String())
}

// txnEngine has applied commands of level 3 behind those of level 2.
func txnEngine(t *testing.T) *Engine {
	t.Helper()
	e := goldenEngine(t)
	for _, c := range txnCommands() {
		a := do(t, e, c)[0]
		if refused := c.RequestID == id(9); (a.Err != nil) != refused || (a.Prepare != nil && !a.Prepare.Vote) {
			t.Fatalf("%+v: %+v (%+v)", c, a, a.Prepare)
		}
	}
	return e
}

// TestGoldenTxnKeySpace is format 3: what level 3 adds to format 2.
func TestGoldenTxnKeySpace(t *testing.T) {
	e := txnEngine(t)
	golden(t, "keyspace-3.txt", keySpace(t, e))
	golden(t, "snapshot-3.txt", hex.EncodeToString(snapshotOf(t, e))+"\n")
	golden(t, "kept-3.txt", hex.EncodeToString(keptOf(t, e))+"\n")
	if got := goldenEngine(t).shared.Load().Format; got != indexedFormat {
		t.Errorf("below level 3 the store has format %d, which older versions do not open", got)
	}
	text, err := os.ReadFile(filepath.Join("testdata", "snapshot-3.txt"))
	must(t, err)
	other := newEngine(t)
	must(t, other.Restore(bytes.NewReader(unhex(t, strings.TrimSpace(string(text))))))
	if got, want := keySpace(t, other), keySpace(t, e); got != want {
		t.Errorf("restored it is\n%s, want\n%s", got, want)
	}
}

// keySpace is every row that replicas have in common, in hexadecimal.
func keySpace(t *testing.T, e *Engine) string {
	t.Helper()
	return dumpOf(t, e, func(key []byte) bool { return !isLocal(key) })
}

func dumpOf(t *testing.T, e *Engine, want func(key []byte) bool) string {
	t.Helper()
	var b strings.Builder
	s, err := e.use()
	must(t, err)
	defer s.release()
	it, err := s.db.NewIter(&pebble.IterOptions{})
	must(t, err)
	for ok := it.First(); ok; ok = it.Next() {
		if want(it.Key()) {
			fmt.Fprintf(&b, "%x %x\n", it.Key(), it.Value())
		}
	}
	must(t, it.Close())
	return b.String()
}

// TestGoldenKeySpace is the whole key space after a few commands that touch every table.
func TestGoldenKeySpace(t *testing.T) {
	e := goldenEngine(t)
	golden(t, "keyspace-2.txt", keySpace(t, e))
	golden(t, "local-2.txt", dumpOf(t, e, isLocal))
	golden(t, "snapshot-2.txt", hex.EncodeToString(snapshotOf(t, e))+"\n")
	golden(t, "kept-2.txt", hex.EncodeToString(keptOf(t, e))+"\n")
}

// TestGoldenSnapshotsAreRead reads the streams of the files, not the one that this version writes: both formats are the
// state that the same commands make today.
func TestGoldenSnapshotsAreRead(t *testing.T) {
	want := digestOf(t, goldenEngine(t))
	for _, name := range []string{"snapshot.txt", "snapshot-2.txt"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		must(t, err)
		stream, err := hex.DecodeString(strings.TrimSpace(string(text)))
		must(t, err)
		e := newEngine(t)
		must(t, e.Restore(bytes.NewReader(stream)))
		if got, want := e.Stats(), (Stats{Concepts: 2, Edges: 2, Written: 5}); got.Concepts != want.Concepts || got.Edges != want.Edges {
			t.Fatalf("%s: stats %+v, want %+v", name, got, want)
		}
		locked(t, e, "b", 3)
		if digestOf(t, e) != want {
			t.Errorf("%s restored is not the state of today:\n%s", name, keySpace(t, e))
		}
	}
}

// storeOf makes an engine's directory whose store has exactly these rows.
func storeOf(t *testing.T, o Options, rows func(set func(key, value []byte))) {
	t.Helper()
	c := (&Engine{o: o}).storeConfig()
	c.cacheBytes, c.fatal = 1<<20, o.Fatal
	must(t, createDir("engine", c, meta{}))
	s, err := openStore(o.fs.PathJoin("engine", storePrefix+"000001"), c)
	must(t, err)
	rows(func(key, value []byte) { must(t, s.db.Set(key, value, pebble.NoSync)) })
	must(t, s.db.Flush())
	s.release()
	must(t, s.err)
}

// TestOldDirectoriesAreUpgraded opens a store with the rows of the file of format 1: it becomes what the same commands make
// today, whatever an upgrade that was cut short has left.
func TestOldDirectoriesAreUpgraded(t *testing.T) {
	want := keySpace(t, goldenEngine(t))
	text, err := os.ReadFile(filepath.Join("testdata", "keyspace.txt"))
	must(t, err)
	for _, leftover := range []string{"", "4080060a24182d824063", "42e3b98a4da31a127d4bde6e43033f66ba80060a24182d82406161"} {
		o := testOptions(t, vfs.NewCrashableMem())
		storeOf(t, o, func(set func(key, value []byte)) {
			for line := range strings.Lines(string(text)) {
				k, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
				set(unhex(t, k), unhex(t, v))
			}
			if leftover != "" {
				set(unhex(t, leftover), nil)
			}
		})
		e := mustOpen(t, o)
		if got := keySpace(t, e); got != want {
			t.Errorf("upgraded it is\n%s, want\n%s", got, want)
		}
		// It is durable: what a crash leaves opens as the new format.
		after := testOptions(t, o.fs.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{}))
		mustClose(t, e)
		again := mustOpen(t, after)
		if got := keySpace(t, again); got != want {
			t.Errorf("after a crash it is\n%s, want\n%s", got, want)
		}
		mustClose(t, again)
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	must(t, err)
	return b
}

func TestStoresOfOtherFormatsAreRefused(t *testing.T) {
	for _, format := range []uint32{0, formatVersion + 1} {
		o := testOptions(t, vfs.NewMem())
		storeOf(t, o, func(set func(key, value []byte)) {
			value, err := encodeMeta(meta{Format: format, ShardID: testShard})
			must(t, err)
			set([]byte{tableMeta}, value)
		})
		if _, err := Open("engine", o); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("format %d", format)) {
			t.Errorf("format %d: %v", format, err)
		}
	}
}

func TestLinksAreWrittenAsPackWould(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := link{Type: rapid.Uint32().Draw(t, "type"), Confidence: rapid.Float32().Draw(t, "confidence"), Other: rapid.String().Draw(t, "other")}
		want, err := pack.AppendArray(nil, &l)
		if err != nil {
			t.Fatal(err)
		}
		if got := l.append(nil); !bytes.Equal(got, want) {
			t.Fatalf("%x, pack writes %x", got, want)
		}
		var back link
		if err := back.read(want); err != nil || back != l {
			t.Fatalf("read %+v, %v; want %+v", back, err, l)
		}
	})
}

func TestKeysOrderAsTheirParts(t *testing.T) {
	ids := rapid.StringMatching(`[a-c\x{1}\x{10ffff}]{1,3}`)
	orders := rapid.Custom(func(t *rapid.T) order {
		return order{uint64(rapid.IntRange(0, 300).Draw(t, "index")), uint32(rapid.IntRange(0, 300).Draw(t, "position"))}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := ids.Draw(t, "a"), ids.Draw(t, "b")
		o, p := orders.Draw(t, "o"), orders.Draw(t, "p")
		inTable := bytes.Compare(linkKey(nil, outgoing, a, o), linkKey(nil, outgoing, b, p))
		want := strings.Compare(a, b)
		if want == 0 && o.before(p) {
			want = -1
		} else if want == 0 && p.before(o) {
			want = 1
		}
		if inTable != want {
			t.Fatalf("links of %q at %v and of %q at %v: order %d, want %d", a, o, b, p, inTable, want)
		}
		prefix := linkPrefix(nil, outgoing, a)
		key := linkKey(nil, outgoing, b, p)
		within := bytes.Compare(key, prefix) >= 0 && bytes.Compare(key, prefixEnd(nil, prefix)) < 0
		if within != (a == b) {
			t.Fatalf("a link of %q is among those of %q: %v", b, a, within)
		}
	})
	if got := prefixEnd(nil, []byte{1, 0xff}); !bytes.Equal(got, []byte{2}) {
		t.Errorf("prefix end %x", got)
	}
}

func TestCursorBelongsToItsQuestion(t *testing.T) {
	one := uint32(1)
	q := &transport.Neighbors{ConceptID: "a", Direction: "both", Limit: 5}
	at := place{order{9, 4}, incoming}
	q.Cursor = encodeCursor(at, q)
	if got, err := decodeCursor(q); err != nil || got != at {
		t.Fatalf("place %v, %v; want %v", got, err, at)
	}
	more := *q
	more.Limit = 7
	if _, err := decodeCursor(&more); err != nil {
		t.Errorf("another limit: %v", err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(q.Cursor)
	must(t, err)
	damaged := bytes.Clone(raw)
	damaged[5] ^= 1
	for name, bad := range map[string]transport.Neighbors{
		"another concept":   {ConceptID: "b", Direction: "both", Cursor: q.Cursor},
		"another direction": {ConceptID: "a", Direction: "out", Cursor: q.Cursor},
		"a type":            {ConceptID: "a", Direction: "both", Type: &one, Cursor: q.Cursor},
		"damaged":           {ConceptID: "a", Direction: "both", Cursor: base64.RawURLEncoding.EncodeToString(damaged)},
		"short":             {ConceptID: "a", Direction: "both", Cursor: base64.RawURLEncoding.EncodeToString(raw[:9])},
		"no base64":         {ConceptID: "a", Direction: "both", Cursor: strings.Repeat("*", len(q.Cursor))},
	} {
		_, err := decodeCursor(&bad)
		wantKind(t, err, event.KindInvalid)
		if _, err := newEngine(t).Neighbors(&bad); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func FuzzCursor(f *testing.F) {
	q := &transport.Neighbors{ConceptID: "a", Direction: "out"}
	f.Add(encodeCursor(place{order{1, 2}, outgoing}, q), "a", "out")
	f.Add("AQAAAAAAAAAAAAAAAAAAAAAA", "a", "in")
	f.Add("AQA000000000000000\r00000", "0", "0") // a line break
	f.Fuzz(func(t *testing.T, cursor, id, direction string) {
		q := &transport.Neighbors{ConceptID: id, Direction: direction, Cursor: cursor}
		at, err := decodeCursor(q)
		if err != nil {
			return
		}
		if again := encodeCursor(at, q); again != cursor {
			// Unused bits at the end of base64 would make two texts one cursor.
			t.Fatalf("cursor %q is %v, which is written %q", cursor, at, again)
		}
	})
}

// FuzzCommand decodes a command, and applies what can be decoded: no input makes Apply panic or give up.
func FuzzCommand(f *testing.F) {
	for _, c := range append(sampleCommands(), txnCommands()...) {
		b, err := AppendCommand(nil, c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	e := mustOpen(f, testOptions(f, vfs.NewMem()))
	f.Cleanup(func() { mustClose(f, e) })
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeCommand(b)
		if err != nil {
			return
		}
		encoded, err := AppendCommand(nil, c)
		if err != nil {
			t.Fatalf("encode what was decoded: %v", err)
		}
		again, err := DecodeCommand(encoded)
		if err != nil {
			t.Fatalf("decode what was encoded: %v", err)
		}
		if twice, err := AppendCommand(nil, again); err != nil || !bytes.Equal(twice, encoded) {
			t.Fatalf("encoded again it is %x (%v), was %x", twice, err, encoded)
		}
		index := e.Applied() + 1
		e.Apply([]raftgroup.Entry{{Index: index, Term: 1, Version: 1, Level: Level, Time: testTime, Commands: [][]byte{b}}})
		if e.Applied() != index {
			t.Fatalf("applied %d, want %d", e.Applied(), index)
		}
	})
}

func FuzzSnapshot(f *testing.F) {
	e := mustOpen(f, testOptions(f, vfs.NewMem()))
	write(f, e, concept("a"), concept("b"))
	write(f, e, association("a", "b", 1))
	f.Add(snapshotOf(f, e))
	mustClose(f, e)
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var rows []byte
		_, err := readSnapshot(bytes.NewReader(b), testShard, func(body []byte, sum *digest) error {
			return eachChunkRow(body, func(key, value []byte) error {
				sum.add(key, value)
				rows = appendRow(rows, key, value)
				return nil
			})
		})
		if err == nil && len(rows) > len(b) {
			t.Fatalf("%d bytes of rows from %d bytes", len(rows), len(b))
		}
	})
}

func TestLockIDs(t *testing.T) {
	ops := []transport.Op{concept("d"), association("c", "a", 0), half(transport.OpLinkOut, "b", "far"), half(transport.OpLinkIn, "far", "e"), concept("a")}
	if got, want := LockIDs(ops), []string{"a", "b", "c", "d", "e"}; !reflect.DeepEqual(got, want) {
		t.Fatalf("ids %q, want %q", got, want)
	}
}
