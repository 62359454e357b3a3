package engine

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/transport"
)

const (
	testShard = event.ShardID("shard-7")
	testTime  = int64(1_700_000_000_000_000) // of entry 0; one second passes per entry
)

// failer is what a test needs of *testing.T and *rapid.T.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

func testOptions(t failer, fs vfs.FS) Options {
	return Options{
		ShardID: testShard, Dimension: 2, CacheBytes: 1 << 20, Log: slog.New(slog.DiscardHandler), fs: fs,
		Fatal: func(err error) { t.Errorf("the engine gave up: %v", err) },
	}
}

func mustOpen(t failer, o Options) *Engine {
	t.Helper()
	e, err := Open("engine", o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return e
}

func mustClose(t failer, e *Engine) {
	t.Helper()
	if err := e.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

// newEngine opens an engine in memory for the length of a test.
func newEngine(t *testing.T) *Engine {
	t.Helper()
	e := mustOpen(t, testOptions(t, vfs.NewMem()))
	t.Cleanup(func() { mustClose(t, e) })
	return e
}

func encode(t failer, c Command) []byte {
	t.Helper()
	b, err := AppendCommand(nil, c)
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	return b
}

func entryAt(t failer, index uint64, commands ...Command) raftgroup.Entry {
	t.Helper()
	en := raftgroup.Entry{Index: index, Term: 1, Version: 1, Level: Level, Time: testTime + int64(index)*1_000_000}
	for _, c := range commands {
		en.Commands = append(en.Commands, encode(t, c))
	}
	return en
}

// do applies commands as the next entry and returns their answers.
func do(t failer, e *Engine, commands ...Command) []Answer {
	t.Helper()
	return doAt(t, e, Level, commands...)
}

// doAt is do with an entry of another level.
func doAt(t failer, e *Engine, level uint32, commands ...Command) []Answer {
	t.Helper()
	en := entryAt(t, e.Applied()+1, commands...)
	en.Level = level
	all := e.Apply([]raftgroup.Entry{en})
	if len(all) != 1 || len(all[0]) != len(commands) {
		t.Fatalf("answers %v for %d commands", all, len(commands))
	}
	answers := make([]Answer, len(commands))
	for i, a := range all[0] {
		answers[i] = a.(Answer)
	}
	return answers
}

func id(n byte) event.RequestID { return event.RequestID{0xee, n} }

// issuedBy is an issue time that an entry applied next accepts.
func issuedBy(e *Engine) int64 { return testTime + int64(e.Applied())*1_000_000 }

func writeOf(request byte, issued int64, ops ...transport.Op) Command {
	return Command{Kind: Write, RequestID: id(request), Issued: issued, Write: &transport.Write{Ops: ops}}
}

func concept(name string) transport.Op {
	return transport.Op{Kind: transport.OpLearnConcept, ID: name, Content: "about " + name, Strength: 1, Confidence: 1}
}

func association(source, target string, assocType uint32) transport.Op {
	return transport.Op{Kind: transport.OpLearnAssociation, ID: source, Target: target, AssocType: assocType, Confidence: 0.5}
}

func half(kind transport.OpKind, source, target string) transport.Op {
	return transport.Op{Kind: kind, ID: source, Target: target, Confidence: 0.5}
}

// write applies a write under a fresh request id and fails the test when it is refused.
func write(t failer, e *Engine, ops ...transport.Op) Answer {
	t.Helper()
	c := Command{Kind: Write, Issued: issuedBy(e), Write: &transport.Write{Ops: ops}}
	c.RequestID[0] = 0xdd
	for i := range 8 {
		c.RequestID[15-i] = byte(e.Applied() >> (8 * i))
	}
	a := do(t, e, c)[0]
	if a.Err != nil {
		t.Fatalf("write: %v", a.Err)
	}
	return a
}

func wantKind(t failer, err error, kind event.Kind) {
	t.Helper()
	if !errors.Is(err, &event.Error{Kind: kind}) {
		t.Fatalf("error %v, want kind %s", err, kind)
	}
}

func refusal(t failer, a Answer, kind event.Kind) *event.Error {
	t.Helper()
	if a.Err == nil {
		t.Fatalf("answer %+v, want a refusal of kind %s", a, kind)
	}
	wantKind(t, a.Err, kind)
	return a.Err
}

func digestOf(t failer, e *Engine) [32]byte {
	t.Helper()
	sum, applied, err := e.Digest(context.Background())
	if err != nil {
		t.Fatalf("digest: %v", err)
	}
	if applied != e.Applied() {
		t.Fatalf("digest at entry %d, applied %d", applied, e.Applied())
	}
	return sum
}

func snapshotOf(t failer, e *Engine) []byte {
	t.Helper()
	s, err := e.Snapshot()
	if err != nil {
		t.Fatalf("snapshot: %v", err)
	}
	defer s.Release()
	var b bytes.Buffer
	if err := s.Write(&b); err != nil {
		t.Fatalf("write snapshot: %v", err)
	}
	return b.Bytes()
}

// keptOf is the record of a snapshot that stays here.
func keptOf(t failer, e *Engine) []byte {
	t.Helper()
	s, err := e.Snapshot()
	if err != nil {
		t.Fatalf("snapshot: %v", err)
	}
	defer s.Release()
	var b bytes.Buffer
	if err := s.(raftgroup.KeptSnapshot).Keep(&b); err != nil {
		t.Fatalf("keep snapshot: %v", err)
	}
	return b.Bytes()
}

func targets(t failer, e *Engine, source string) []string {
	t.Helper()
	ids, err := e.Targets(source)
	if err != nil {
		t.Fatalf("targets of %q: %v", source, err)
	}
	return ids
}

// testRand is a source that differs with the seed and nothing else.
func testRand(seed int) *rand.Rand { return rand.New(rand.NewPCG(uint64(seed), 1)) }
