package vector

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// run is one random history: an index and the rows it should stand for.
type run struct {
	t *rapid.T
	x *Index
	m table
	r *rand.Rand
	n uint64 // changes so far
}

func (s *run) options() Options { return s.x.Options() }

// vector is often equal or nearly equal to another, as real ones are.
func (s *run) vector() []float32 {
	v := random(s.r, s.options().Dimension)
	other, how := s.m[s.id()], s.r.IntN(4)
	switch {
	case other == nil:
	case how == 0:
		return slices.Clone(other)
	case how == 1:
		for i := range v {
			v[i] = other[i] + v[i]/50
		}
	}
	return v
}

func (s *run) id() string { return fmt.Sprint(s.r.IntN(400)) }

func (s *run) apply(changes []Change) {
	s.n++
	must(s.t, s.x.Apply(s.n, changes))
	s.m.apply(changes)
}

func (s *run) insert() {
	var changes []Change
	for range 1 + s.r.IntN(rapid.SampledFrom([]int{1, 40, 400}).Draw(s.t, "most")) {
		changes = append(changes, Change{s.id(), s.vector()})
	}
	s.apply(changes)
}

func (s *run) remove() {
	var changes []Change
	most := rapid.SampledFrom([]int{1, 30, 1000}).Draw(s.t, "most")
	for _, id := range slices.Sorted(maps.Keys(s.m)) {
		if len(changes) == most {
			break
		}
		changes = append(changes, Change{ID: id})
	}
	s.apply(append(changes, Change{ID: "nobody"}))
}

func (s *run) mixed() {
	var changes []Change
	for range s.r.IntN(50) {
		c := Change{ID: s.id()}
		if s.r.IntN(2) == 0 {
			c.Vector = s.vector()
		}
		changes = append(changes, c)
	}
	s.apply(changes)
}

// removeEntry takes away what searches begin with, and the root of the tree.
func (s *run) removeEntry() {
	if e := s.x.entryPoint(); e.slot != none {
		s.apply([]Change{{ID: s.x.id(e.slot)}})
	}
	if s.x.root != none {
		s.apply([]Change{{ID: s.x.id(s.x.root)}})
	}
}

func (s *run) reload() {
	var b bytes.Buffer
	_, err := s.x.WriteTo(&b)
	must(s.t, err)
	s.x, err = Read(&b, s.options())
	must(s.t, err)
	if s.x.Applied() != s.n {
		s.t.Fatalf("loaded at %d, saved at %d", s.x.Applied(), s.n)
	}
}

// search compares with the oracle: exactly when it must be exact, and in what a walk promises otherwise.
func (s *run) search() {
	q := Query{Vector: random(s.r, s.options().Dimension), K: 1 + s.r.IntN(30), Rows: s.m.rows}
	if s.r.IntN(2) == 0 {
		q.Match = func(id string) bool { return id[len(id)-1]%2 == 0 }
	}
	want, err := Exact(context.Background(), q, s.m.seq())
	must(s.t, err)
	got, err := s.x.Search(context.Background(), q)
	must(s.t, err)
	if !slices.Equal(got, want) {
		s.t.Fatalf("%d vectors: a scan answers\n%v, the rows say\n%v", len(s.m), got, want)
	}
	walked := walk(s.t, s.x, q, max(len(s.m), 1))
	if len(walked) != len(want) {
		s.t.Fatalf("a walk over everything finds %d of %d", len(walked), len(want))
	}
	for i, r := range walk(s.t, s.x, q, 40) {
		if row := s.m[r.ID]; row == nil || r.Score != Cosine(q.Vector, row) {
			s.t.Fatalf("result %d, %v, is not what the rows say: %v", i, r, row)
		}
	}
}

// walk is Search without its rule: it always walks.
func walk(t fataler, x *Index, q Query, ef int) []Result {
	x.searching.RLock()
	defer x.searching.RUnlock()
	w := x.walkers.Get().(*walker)
	defer x.walkers.Put(w)
	q.EF = max(ef, q.K)
	must(t, x.check(&q))
	entry := w.begin()
	encode(w.q, q.Vector)
	w.front = w.front[:0]
	if entry.slot != none {
		f := w.filter(&q)
		must(t, w.walk(entry, aim{ef: q.EF, ok: f.ok}))
	}
	results, err := w.rescore(context.Background(), &q)
	must(t, err)
	return results
}

// TestModel drives random histories: nothing removed is found, everything else is reachable and found, nothing twice,
// also after saving and loading.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := Options{
			Dimension: rapid.SampledFrom([]int{1, 2, 3, 8, 33}).Draw(t, "dimension"),
			M:         rapid.SampledFrom([]int{2, 3, 4, 16}).Draw(t, "m"), EFConstruction: 20, Workers: 2,
			Seed: rapid.Uint64().Draw(t, "seed"),
		}
		s := &run{t: t, x: newIndex(t, o), m: table{}, r: rand.New(rand.NewPCG(o.Seed, 1))}
		step := map[string]func(){
			"insert": s.insert, "remove": s.remove, "mixed": s.mixed, "remove entry": s.removeEntry, "reload": s.reload,
		}
		names := []string{"insert", "remove", "mixed", "remove entry", "reload"}
		for range 1 + rapid.IntRange(0, 12).Draw(t, "steps") {
			step[rapid.SampledFrom(names).Draw(t, "step")]()
			sound(t, s.x, s.m)
			s.search()
		}
	})
}

// TestConcurrent: searches during inserts, updates, removals and saves find only what is or was there, nothing twice, and
// always what never changes.
func TestConcurrent(t *testing.T) {
	const dimension, kept, changing = 8, 200, 600
	x := newIndex(t, Options{Dimension: dimension, M: 4, EFConstruction: 30})
	r := rand.New(rand.NewPCG(3, 3))
	rows := table{}
	var stay []Change
	for i := range kept {
		v := random(r, dimension)
		stay = append(stay, Change{fmt.Sprint("kept", i), v})
		rows[stay[i].ID] = v
	}
	must(t, x.Apply(1, stay))
	for i := range changing {
		rows[fmt.Sprint("c", i)] = random(r, dimension)
	}
	stop := make(chan struct{})
	var done sync.WaitGroup
	for g := range 3 {
		done.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 9))
			for {
				select {
				case <-stop:
					return
				default:
					searchWhileChanging(t, x, rows, stay[r.IntN(kept)], r)
				}
			}
		})
	}
	n := uint64(1)
	for range 60 {
		var changes []Change
		for range 40 {
			c := Change{ID: fmt.Sprint("c", r.IntN(changing))}
			if r.IntN(3) > 0 {
				c.Vector = random(r, dimension)
			}
			changes = append(changes, c)
		}
		n++
		must(t, x.Apply(n, changes))
		if n%20 == 0 {
			_, err := x.WriteTo(&bytes.Buffer{})
			must(t, err)
		}
	}
	close(stop)
	done.Wait()
	x.write.Lock()
	defer x.write.Unlock()
	must(t, x.verify())
}

func searchWhileChanging(t *testing.T, x *Index, rows table, kept Change, r *rand.Rand) {
	q := Query{Vector: kept.Vector, K: 1 + r.IntN(20), Rows: rows.rows}
	found := walk(t, x, q, 50)
	if r.IntN(2) == 0 {
		var err error
		if found, err = x.Search(context.Background(), q); err != nil {
			t.Error(err)
			return
		}
		if found[0].ID != kept.ID {
			t.Errorf("a scan for %s finds %v", kept.ID, found)
		}
	}
	seen := map[string]bool{}
	for _, f := range found {
		if rows[f.ID] == nil || seen[f.ID] {
			t.Errorf("found %v, known %v, twice %v", f, rows[f.ID] != nil, seen[f.ID])
		}
		seen[f.ID] = true
	}
	if len(found) == 0 {
		t.Error("a walk finds nothing")
	}
}
