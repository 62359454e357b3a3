package offline

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

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

func wantKind(t *testing.T, err error, kind event.Kind) {
	t.Helper()
	var e *event.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Errorf("got %v, want kind %s", err, kind)
	}
}

// TestStateAt rebuilds the state at every event, from the snapshot and from the beginning, compares it with what the outbox
// recorded, and with one rebuilt from the recorded events alone; the directory stays as it was, to the byte.
func TestStateAt(t *testing.T) {
	dir := settings(t, 20, "master-1", nil, nil)
	before := treeSum(t, dir)
	m := open(t, dir)
	first, last := m.Outbox().Bounds()
	if first != 1 || last != 22 {
		t.Fatalf("events %d to %d", first, last)
	}
	follower := fsm.NewMachine()
	fromSnapshot := 0
	for seq := first; seq <= last; seq++ {
		got, err := m.StateAt(seq)
		if err != nil {
			t.Fatal(err)
		}
		chain, err := m.Outbox().Chain(seq)
		if err != nil || got.State.Chain() != chain || got.State.Seq() != seq || !got.Committed {
			t.Fatalf("state at %d is at %d, chain %x, recorded %x, %v", seq, got.State.Seq(), got.State.Chain(), chain, err)
		}
		e, err := m.Outbox().Event(seq)
		if err != nil {
			t.Fatal(err)
		}
		if err := follower.Replay([][]byte{e}); err != nil {
			t.Fatal(err)
		}
		if got.State.Digest() != follower.View().Digest() {
			t.Fatalf("event %d: the state rebuilt from the log is not the one its events lead to", seq)
		}
		if got.From != "" {
			fromSnapshot++
		}
	}
	if fromSnapshot < 5 || fromSnapshot > 15 {
		t.Errorf("%d of %d states were rebuilt from the snapshot", fromSnapshot, last)
	}
	_, err := m.StateAt(last + 1)
	wantKind(t, err, event.KindNotFound)
	end, err := m.Last()
	if err != nil || end.State.Seq() != last {
		t.Errorf("the last state is at %d, %v", end.State.Seq(), err)
	}
	if n, err := m.Outbox().Check(); n != last || err != nil {
		t.Errorf("%d events hold, %v", n, err)
	}
	if treeSum(t, dir) != before {
		t.Error("reading changed the directory")
	}
}

func TestMarks(t *testing.T) {
	m := open(t, settings(t, 6, "master-1", nil, nil))
	r, err := m.ReplayAll()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	next := uint64(1)
	err = m.Marks(r, func(k Mark) error {
		at, err := m.StateAt(next)
		if err != nil || k.Seq != next || k.Digest != at.State.Digest() || k.Chain != at.State.Chain() {
			t.Errorf("mark %+v, want that of event %d (%v)", k, next, err)
		}
		next++
		return nil
	})
	if err != nil || next != 9 {
		t.Errorf("%d marks, %v", next-1, err)
	}
}

// A running master's directory is refused with its pid; anything else is no master's directory.
func TestOpenRefusals(t *testing.T) {
	d := newDirectory(t, filepath.Join(t.TempDir(), "d"), "master-1", 100)
	_, err := Open(d.path)
	wantKind(t, err, event.KindBusy)
	if err == nil || !strings.Contains(err.Error(), "process "+strconv.Itoa(os.Getpid())) {
		t.Errorf("the holder is not named: %v", err)
	}
	d.close()
	if _, err := Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "IDENTITY") {
		t.Errorf("an empty directory: %v", err)
	}
}

// TestBisectCommand: one log has another command from one entry on.
func TestBisectCommand(t *testing.T) {
	good := open(t, settings(t, 30, "master-1", nil, nil))
	bad := open(t, settings(t, 30, "master-1", func(i int) event.Body {
		if i == 17 {
			return setting("perturbed")
		}
		return nil
	}, nil))
	f, err := Bisect(good, bad)
	if err != nil {
		t.Fatal(err)
	}
	// Events 1 and 2 are the beginning; setting i is event 3+i.
	if f.What != DifferentCommand || f.Seq != 3+17 || f.Index == 0 || len(f.A.Commands) != 1 || bytes.Equal(f.A.Commands[0], f.B.Commands[0]) {
		t.Fatalf("%s at event %d, entry %d: %s", f.What, f.Seq, f.Index, f.Message)
	}
	if len(f.Objects) == 0 || f.Objects[0].Section != "head" || f.Objects[1].Section != "settings" || f.Objects[1].Key != "note" {
		t.Errorf("objects %+v", f.Objects)
	}
	same, err := Bisect(good, good)
	if err != nil || same.What != "" || same.To == 0 || same.EventsTo != 32 {
		t.Errorf("a directory and itself: %+v, %v", same, err)
	}
}

// TestBisectPerturbedReplica: the logs are the same, but one replica applied one command as if it said something else. Its
// log does not tell; what it recorded does, and which of the two is wrong is found from its own log.
func TestBisectPerturbedReplica(t *testing.T) {
	good := open(t, settings(t, 30, "master-1", nil, nil))
	for _, at := range []int{0, 23, 29} {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			n := 0
			bad := open(t, settings(t, 30, "master-1", nil, func(c []byte) []byte {
				if n++; n != at+2 { // the first command starts the grid
					return c
				}
				b, err := event.AppendCommand(nil, event.NewCommand("test", setting("perturbed")))
				if err != nil {
					t.Fatal(err)
				}
				return b
			}))
			f, err := Bisect(good, bad)
			if err != nil {
				t.Fatal(err)
			}
			if f.What != DifferentFeed || f.Seq != uint64(3+at) || f.Wrong != bad.Dir() {
				t.Fatalf("%s at event %d, wrong %q: %s", f.What, f.Seq, f.Wrong, f.Message)
			}
			if len(f.Objects) < 2 || f.Objects[1].Section != "settings" || bytes.Equal(f.A.Event, f.B.Event) {
				t.Errorf("objects %+v", f.Objects)
			}
			back, err := Bisect(bad, good)
			if err != nil || back.Seq != f.Seq || back.Wrong != f.Wrong {
				t.Errorf("the other way round: %+v, %v", back, err)
			}
		})
	}
}

func TestVerifySnapshot(t *testing.T) {
	dir := settings(t, 8, "master-1", nil, nil)
	found, err := FindSnapshots(dir)
	if err != nil || len(found) != 1 {
		t.Fatalf("%v, %v", found, err)
	}
	if p := VerifySnapshot(found[0]); len(p) > 0 {
		t.Fatal(p)
	}
	s, err := ReadSnapshot(found[0])
	if err != nil {
		t.Fatal(err)
	}
	at, err := open(t, dir).StateAt(s.State.Seq())
	if err != nil || len(Diff(s.State, at.State)) > 1 { // the mark: a snapshot ends behind the entry
		t.Errorf("differs from the log in %+v, %v", Diff(s.State, at.State), err)
	}
	sections := s.Sections()
	if len(sections) < 3 || sections[0].Name != "head" || sections[0].Objects != 1 || sections[0].Bytes == 0 {
		t.Errorf("sections %+v", sections)
	}
	path := filepath.Join(found[0], "state.bin")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := range content {
		flipped := bytes.Clone(content)
		flipped[at] ^= 1
		if err := os.WriteFile(path, flipped, 0o644); err != nil {
			t.Fatal(err)
		}
		if p := VerifySnapshot(path); len(p) != 1 || !strings.Contains(p[0].Error(), "state.bin: offset ") {
			t.Errorf("byte %d of %d: %v", at, len(content), p)
		}
	}
}
