package engine

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
)

// fatals collects what an engine gives up for.
type fatals struct {
	mu   sync.Mutex
	errs []error
}

func (f *fatals) add(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, err)
}

func (f *fatals) list() []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.errs
}

// TestDamagedFile flips one byte after the other in a store's tables. No read may give other data: it fails and names the
// file, and the owner is told.
func TestDamagedFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "engine")
	open := func(t *testing.T, f *fatals) *Engine {
		o := testOptions(t, vfs.Default)
		o.Fatal = f.add
		e, err := Open(dir, o)
		if err != nil {
			t.Skipf("the damage was found at the start: %v", err)
		}
		return e
	}
	e := open(t, &fatals{})
	fillWith(t, e, "c", 40)
	want := digestOf(t, e)
	mustClose(t, e)
	tables, err := filepath.Glob(filepath.Join(dir, "store-*", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("tables %q, %v", tables, err)
	}
	file := tables[len(tables)-1]
	whole, err := os.ReadFile(file)
	must(t, err)
	found := 0
	for at := 0; at < len(whole)/2; at += len(whole) / 23 {
		damaged := append([]byte(nil), whole...)
		damaged[at] ^= 0x20
		must(t, os.WriteFile(file, damaged, 0o644))
		t.Run("", func(t *testing.T) {
			f := &fatals{}
			e := open(t, f)
			defer func() { _ = e.Close() }()
			sum, _, err := e.Digest(t.Context())
			if err == nil {
				if sum != want {
					t.Fatalf("a byte changed at %d, and other data was read without an error", at)
				}
				return // a byte that no read needs
			}
			found++
			wantKind(t, err, event.KindInternal)
			if !strings.Contains(err.Error(), filepath.Base(file)) {
				t.Errorf("%q does not name %s", err, file)
			}
			if errs := f.list(); len(errs) != 1 || !strings.Contains(errs[0].Error(), filepath.Base(file)) {
				t.Errorf("the owner was told %q, want once, with the file", errs)
			}
			// The replica takes part in nothing any more.
			applied := e.Applied()
			answers := e.Apply([]raftgroup.Entry{entryAt(t, applied+1, writeOf(1, issuedBy(e), concept("a")))})
			refusal(t, answers[0][0].(Answer), event.KindInternal)
			if e.Applied() != applied {
				t.Error("an entry was applied to a damaged store")
			}
			if _, err := e.Snapshot(); err == nil {
				t.Error("a snapshot of a damaged store")
			}
		})
	}
	if found == 0 {
		t.Error("no damage was found: this test shows nothing")
	}
}

func TestUndecodableEntryStopsTheReplica(t *testing.T) {
	good := func(t *testing.T, index uint64) raftgroup.Entry {
		return entryAt(t, index, writeOf(byte(index), testTime, concept("a")))
	}
	cases := map[string]func(*raftgroup.Entry){
		"garbage":      func(en *raftgroup.Entry) { en.Commands[0] = []byte{0xc1, 1, 2} },
		"empty":        func(en *raftgroup.Entry) { en.Commands[0] = nil },
		"unknown kind": func(en *raftgroup.Entry) { en.Commands[0][1] = 9 },
		"newer level":  func(en *raftgroup.Entry) { en.Level = Level + 1 },
	}
	for name, spoil := range cases {
		t.Run(name, func(t *testing.T) {
			f := &fatals{}
			o := testOptions(t, vfs.NewMem())
			o.Fatal = f.add
			e := mustOpen(t, o)
			defer func() { _ = e.Close() }()
			bad := good(t, 2)
			spoil(&bad)
			answers := e.Apply([]raftgroup.Entry{good(t, 1), bad, good(t, 3)})
			for i, a := range answers {
				if len(a) != 1 {
					t.Fatalf("entry %d has %d answers", i+1, len(a))
				}
			}
			refusal(t, answers[2][0].(Answer), event.KindInternal)
			if e.Applied() > 1 {
				t.Errorf("applied %d, behind the entry that cannot be decoded", e.Applied())
			}
			if errs := f.list(); len(errs) != 1 || !strings.Contains(errs[0].Error(), "entry 2") {
				t.Errorf("the owner was told %q, want once, with the entry", errs)
			}
		})
	}
}
