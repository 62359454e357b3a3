package nearest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/storagenode/vector/vectortest"
	"github.com/sutra-grid/sutra-grid/transport"
)

// fill stores n vectors v0, v1, …
func (s *shard) fill(r *rand.Rand, n int) {
	for i := 0; i < n; i += 100 {
		var ops []transport.Op
		for j := i; j < min(i+100, n); j++ {
			ops = append(ops, s.learn(fmt.Sprint("v", j), row{vector: vectortest.Random(r, s.dimension)}))
		}
		s.write(ops...)
	}
}

// restart closes the shard in order, changes its file, and opens it again.
func (s *shard) restart(change func()) (built []Built, loaded []Loaded, said string) {
	s.t.Helper()
	s.close()
	s.reports()
	change()
	s.open()
	s.settle()
	return s.reports()
}

// TestRestart: what was saved is loaded; only a file that is missing, damaged or of other options is built anew, and said with its name.
func TestRestart(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	s := newTestShard(t, 4, limits{})
	s.fill(r, 300)
	q := &transport.VectorSearch{QueryVector: vectortest.Random(r, 4), K: 20}
	right := func(when string) {
		t.Helper()
		if got, want := s.search(q), s.nearest(q); !same(got, want) {
			t.Errorf("%s: found %v, want %v", when, got, want)
		}
	}
	right("filled")
	s.settle()
	overwrite := func(at int64, b []byte) func() {
		return func() {
			f, err := s.fs.OpenReadWrite(s.file(), vfs.WriteCategoryUnspecified)
			must(t, err)
			_, err = f.WriteAt(b, at)
			must(t, errors.Join(err, f.Sync(), f.Close()))
		}
	}
	for _, c := range []struct {
		name   string
		change func()
		built  bool
		says   string
	}{
		{"in order", func() {}, false, ""},
		{"file lost", func() { must(t, s.fs.Remove(s.file())) }, true, ""},
		{"in order again", func() {}, false, ""},
		{"file damaged", overwrite(2000, []byte{1, 2, 3, 4, 5}), true, "damaged at byte"},
		{"file torn", func() {
			f, err := s.fs.Create(s.file(), vfs.WriteCategoryUnspecified)
			must(t, err)
			_, err = f.Write([]byte("sutra vectors"))
			must(t, errors.Join(err, f.Close()))
		}, true, s.file()},
	} {
		built, loaded, said := s.restart(c.change)
		if c.built != (len(built) == 1) || c.built == (len(loaded) == 1) || !strings.Contains(said, c.says) || c.says != "" && !strings.Contains(said, s.file()) {
			t.Errorf("%s: built %v, loaded %v, said %q", c.name, built, loaded, said)
		}
		if c.built && (built[0].Vectors != 300 || built[0].Dimension != 4) || !c.built && loaded[0].Vectors != 300 {
			t.Errorf("%s: built %+v, loaded %+v", c.name, built, loaded)
		}
		right(c.name)
	}
}

// TestSavesByChanges: a machine that stops leaves a file that its store has reached, and the record is forgotten behind it.
func TestSavesByChanges(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	fs := vfs.NewCrashableMem()
	s := newShard(t, fs, "/", 4)
	s.config.limits = limits{step: 50, save: 100, waiting: 10}
	s.open()
	for range 2 { // what is forgotten behind one save is durable with the next
		s.fill(r, 500)
		s.settle()
	}
	after := fs.CrashClone(vfs.CrashCloneCfg{})
	s.close()
	s.reports()
	s.fs = after
	s.open()
	s.settle()
	built, loaded, said := s.reports()
	if len(built) != 0 || len(loaded) != 1 || loaded[0].Vectors < 300 || said != "" {
		t.Errorf("built %v, loaded %+v, said %s", built, loaded, said)
	}
	view, err := s.e.Vectors()
	must(t, err)
	if _, _, known, err := view.Changed(0, 1); known || err != nil {
		t.Errorf("nothing is forgotten: %v", err)
	}
	must(t, view.Close())
	s.close()
}

// failingFS refuses to make the index's file while it is told to.
type failingFS struct {
	vfs.FS
	fail *atomic.Bool
}

func (f failingFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if f.fail.Load() && strings.HasPrefix(name, "/vectors") {
		return nil, errors.New("no space left")
	}
	return f.FS.Create(name, c)
}

// TestSaveFails: the older file and the changes since stay, and the next restart has everything.
func TestSaveFails(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	var fail atomic.Bool
	s := newShard(t, failingFS{vfs.NewMem(), &fail}, "/", 4)
	s.config.limits = limits{step: 50, save: 100, waiting: 10}
	s.open()
	s.fill(r, 200)
	s.settle()
	s.restart(func() {}) // which saves it
	fail.Store(true)
	s.fill(r, 600)
	s.settle()
	s.close()
	if _, _, said := s.reports(); !strings.Contains(said, "no space left") || !strings.Contains(said, s.file()) {
		t.Errorf("said %s", said)
	}
	fail.Store(false)
	s.open()
	s.settle()
	built, loaded, said := s.reports()
	if len(built) != 0 || len(loaded) != 1 || loaded[0].Vectors > 200 || strings.Contains(said, "compared") {
		t.Errorf("built %v, loaded %+v, said %s", built, loaded, said)
	}
	q := &transport.VectorSearch{QueryVector: vectortest.Random(r, 4), K: 1000}
	if got, want := s.search(q), s.nearest(q); !same(got, want) {
		t.Errorf("found %d of %d", len(got), len(want))
	}
	s.close()
}

// TestSearchBeforeTheIndex: while another index is built, searches compare one by one; they end with their context.
func TestSearchBeforeTheIndex(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 1))
	s := newShard(t, vfs.NewMem(), "/", 4)
	s.openEngine()
	s.fill(r, 50)
	building := make(chan struct{}, 1)
	building <- struct{}{}
	s.k = Open(Config{Engine: s.e, Dimension: 4, FS: s.fs, Path: s.file(), Building: building, Log: slog.New(slog.DiscardHandler)})
	q := &transport.VectorSearch{QueryVector: vectortest.Random(r, 4), K: 10}
	if got, want := s.search(q), s.nearest(q); !same(got, want) || s.k.index.Load() != nil {
		t.Errorf("found %v, want %v", got, want)
	}
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if _, err := s.k.Search(ctx, q); kindOf(err) != event.KindDeadline {
		t.Errorf("behind the deadline: %v", err)
	}
	s.close() // although it never could build
}

// TestSearchDuringChanges: a search sees everything that was written when it began, and nothing that was deleted by then.
func TestSearchDuringChanges(t *testing.T) {
	for name, l := range map[string]limits{"followed": {}, "far behind": {step: 3, save: 40, waiting: 2}, "a little behind": {step: 3, save: 1000, waiting: 1000}} {
		s := newTestShard(t, 4, l)
		const writes, window = 400, 20
		var written, deleted, deleting atomic.Int64 // ids below these numbers
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			r := rand.New(rand.NewPCG(5, 1))
			for i := range int64(writes) {
				ops := []transport.Op{s.learn(fmt.Sprint("w", i), row{vector: vectortest.Random(r, 4)})}
				if i >= window {
					deleting.Store(i - window + 1)
					ops = append(ops, s.remove(fmt.Sprint("w", i-window)))
				}
				s.write(ops...)
				written.Store(i + 1)
				deleted.Store(deleting.Load())
			}
		}()
		for searching, n := true, 0; searching; n++ {
			select {
			case <-ended:
				searching = false
			default:
			}
			from, to := deleted.Load(), written.Load()
			found, err := s.k.Search(t.Context(), &transport.VectorSearch{QueryVector: []float32{1, 2, 3, 4}, K: 1000, Exact: n%2 == 0})
			must(t, err)
			went := deleting.Load()
			for i := went; i < to; i++ {
				if !slices.ContainsFunc(found, func(r transport.VectorResult) bool { return r.ID == fmt.Sprint("w", i) }) {
					t.Errorf("%s: w%d was written (%d were), %d deleted, and is not found", name, i, to, went)
				}
			}
			for _, r := range found {
				var i int64
				if _, err := fmt.Sscanf(r.ID, "w%d", &i); err != nil || i < from {
					t.Errorf("%s: %s was deleted before the search began", name, r.ID)
				}
			}
		}
	}
}
