package engine

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/transport"
)

func raising(level uint32) Command { return Command{Kind: Raise, Raise: &LogLevel{level}} }

func TestTheLogsLevel(t *testing.T) {
	fs := vfs.NewMem()
	e := mustOpen(t, testOptions(t, fs))
	doAt(t, e, 2, writeOf(1, testTime, concept("a")))
	read := writeOf(2, testTime, of(transport.OpRead, "a"))
	if got := e.LogLevel(); got != 2 {
		t.Fatalf("level %d", got)
	}
	wantKind(t, e.CheckLevel(read), event.KindUnsupported)
	must(t, e.CheckLevel(writeOf(3, testTime, deleting("a"))))
	if a := doAt(t, e, 2, raising(3))[0]; a.Err != nil {
		t.Fatalf("%+v", a)
	}
	for _, lower := range []uint32{2, 3} { // once more, and to what it was
		doAt(t, e, 2, raising(lower))
		if got := e.LogLevel(); got != 3 {
			t.Fatalf("level %d after it was raised", got)
		}
	}
	must(t, e.CheckLevel(read))
	stream := snapshotOf(t, e)
	mustClose(t, e)
	e = mustOpen(t, testOptions(t, fs))
	defer func() { mustClose(t, e) }()
	other := newEngine(t)
	must(t, other.Restore(bytes.NewReader(stream)))
	if e.LogLevel() != 3 || other.LogLevel() != 3 {
		t.Errorf("level %d after a restart, %d from a snapshot", e.LogLevel(), other.LogLevel())
	}
	o := testOptions(t, vfs.NewMem())
	o.First = 3
	made := mustOpen(t, o)
	defer func() { mustClose(t, made) }()
	if made.LogLevel() != 3 {
		t.Errorf("level %d of a store that was made for 3", made.LogLevel())
	}
}

// TestAnOlderVersionStops: rather than apply what it does not understand.
func TestAnOlderVersionStops(t *testing.T) {
	for what, en := range map[string]raftgroup.Entry{
		"raised to level 3":         {Index: 1, Term: 1, Version: 1, Level: 2, Commands: [][]byte{encode(t, raising(3))}},
		"it was written at level 3": {Index: 1, Term: 1, Version: 1, Level: 3},
	} {
		o := testOptions(t, vfs.NewMem())
		o.Level = 2
		var why error
		o.Fatal = func(err error) { why = err }
		e := mustOpen(t, o)
		e.Apply([]raftgroup.Entry{en})
		if why == nil || !strings.Contains(why.Error(), what) || e.Applied() != 0 {
			t.Errorf("%s: applied %d, stopped by %v", what, e.Applied(), why)
		}
		mustClose(t, e)
	}
}
