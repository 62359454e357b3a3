package vector

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/storagenode/vector/vectortest"
	"pgregory.net/rapid"
)

// table is the rows of a test, and so its truth.
type table map[string][]float32

func (m table) rows(id string, _ []float32) ([]float32, error) { return m[id], nil }

func (m table) seq() iter.Seq2[string, []float32] { return maps.All(m) }

func (m table) apply(changes []Change) {
	for _, c := range changes {
		if c.Vector == nil {
			delete(m, c.ID)
		} else {
			m[c.ID] = c.Vector
		}
	}
}

// fataler is a test of the testing package or of rapid.
type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

func must(t fataler, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func kindOf(err error) event.Kind {
	var e *event.Error
	if !errors.As(err, &e) {
		return ""
	}
	return e.Kind
}

func newIndex(t fataler, o Options) *Index {
	t.Helper()
	x, err := New(o)
	must(t, err)
	return x
}

// sound checks every invariant of the graph, and once more without the tree that from the entry point layer 0 leads
// to all.
func sound(t fataler, x *Index, m table) {
	t.Helper()
	x.write.Lock()
	defer x.write.Unlock()
	must(t, x.verify())
	if len(x.slots) != len(m) {
		t.Fatalf("%d vectors in the index, %d rows", len(x.slots), len(m))
	}
	entry := x.entryPoint().slot
	if entry == none {
		return
	}
	seen, todo := map[uint32]bool{entry: true}, []uint32{entry}
	for len(todo) > 0 {
		l := x.list(todo[0], 0)
		todo = todo[1:]
		for i := range l.len() {
			if s := l.at(i); !seen[s] {
				seen[s] = true
				todo = append(todo, s)
			}
		}
	}
	for id := range m {
		if s, ok := x.slots[id]; !ok || !seen[s] {
			t.Fatalf("%q (slot %d, %v) cannot be reached", id, s, ok)
		}
	}
}

// serial leaves out, where the race detector runs in a hurry, what has one goroutine.
func serial(t *testing.T) {
	if raceDetector && testing.Short() {
		t.Skip("nothing is concurrent here")
	}
}

func random(r *rand.Rand, dimension int) []float32 { return vectortest.Random(r, dimension) }

func TestDot(t *testing.T) {
	kernels := map[string]func(a, b []int16) int32{"go": dotGo, "this machine's": newDot()}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 64).Draw(t, "blocks") * codeBlock
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		a, b := make([]int16, n), make([]int16, n)
		encode(a, random(r, n))
		encode(b, random(r, n))
		if rapid.Bool().Draw(t, "same") { // the largest sums, alone and opposite
			copy(b, a)
		}
		want := int64(0)
		for i := range a {
			want += int64(a[i]) * int64(b[i])
		}
		for name, dot := range kernels {
			if got := dot(a, b); int64(got) != want {
				t.Fatalf("%s: %d of %d components, want %d", name, got, n, want)
			}
		}
	})
	for _, hot := range []int{1, 2, 2048} { // all weight in few components, and spread evenly
		v := make([]float32, 2048)
		for i := range hot {
			v[i] = -1
		}
		code := make([]int16, 2048)
		encode(code, v)
		for name, dot := range kernels {
			if got := float64(dot(code, code)) / (codeScale * codeScale); math.Abs(got-1) > 2e-3 {
				t.Fatalf("%s: a vector with %d equal components has length %v", name, hot, got)
			}
		}
	}
}

func TestCodeErrorIsABound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := rapid.SampledFrom([]int{1, 2, 3, 31, 32, 33, 768, 2048}).Draw(t, "dimension")
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		a, b := random(r, d), random(r, d)
		if rapid.Bool().Draw(t, "near") {
			for i := range b {
				b[i] = a[i] + b[i]/100
			}
		}
		ca, cb := make([]int16, stride(d)), make([]int16, stride(d))
		encode(ca, a)
		encode(cb, b)
		got, want := float64(dotGo(ca, cb))/(codeScale*codeScale), float64(Cosine(a, b))
		if math.Abs(got-want) > codeError(d)+1e-7 {
			t.Fatalf("dimension %d: the codes say %v, the vectors %v, farther apart than %v", d, got, want, codeError(d))
		}
	})
}

func TestHeap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOf(rapid.Uint64()).Draw(t, "in")
		var pushed, ordered heap
		for _, n := range in {
			pushed.push(scored(n))
			ordered = append(ordered, scored(n))
		}
		ordered.order()
		slices.Sort(in)
		for _, want := range in {
			if a, b := pushed.pop(), ordered.pop(); a != scored(want) || b != scored(want) {
				t.Fatalf("popped %d and %d, want %d", a, b, want)
			}
		}
	})
}

func TestScoresOrder(t *testing.T) {
	near, far := score(5, 9), score(-5, 1)
	if near < far || score(5, 3) < near || near.slot() != 9 || near.dot() != 5 || far.slot() != 1 || far.dot() != -5 {
		t.Fatal("the nearer, and of equal ones the lower slot, is the larger number")
	}
}

func TestBadInput(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	x := newIndex(t, Options{Dimension: 2})
	must(t, x.Apply(7, []Change{{"a", []float32{1, 0}}, {"b", []float32{0, 1}}}))
	m := table{"a": {1, 0}, "b": {0, 1}}
	for _, c := range []struct {
		name, want string
		vector     []float32
		kind       event.Kind
	}{
		{"empty", "0 dimensions", []float32{}, event.KindInvalid},
		{"short", "1 dimensions", []float32{1}, event.KindInvalid},
		{"long", "2049 dimensions: at most 2048", make([]float32, 2049), event.KindTooLarge},
		{"NaN", "component 1", []float32{1, nan}, event.KindInvalid},
		{"infinite", "component 0", []float32{inf, 1}, event.KindInvalid},
		{"zero", "no direction", []float32{0, 0}, event.KindInvalid},
	} {
		_, searched := x.Search(t.Context(), Query{Vector: c.vector, K: 1, Rows: m.rows})
		applied := x.Apply(8, []Change{{"c", []float32{1, 1}}, {"d", c.vector}, {"a", nil}})
		for verb, err := range map[string]error{"search": searched, "apply": applied} {
			if err == nil || !strings.Contains(err.Error(), c.want) || kindOf(err) != c.kind {
				t.Errorf("%s %s: %v", verb, c.name, err)
			}
		}
	}
	for _, q := range []Query{{K: 0}, {K: -1}, {K: MaxK + 1}, {K: 1, EF: MaxEF + 1}, {K: 1, EF: -1}} {
		q.Vector, q.Rows = []float32{1, 1}, m.rows
		if _, err := x.Search(t.Context(), q); kindOf(err) != event.KindInvalid {
			t.Errorf("k %d, ef %d: %v", q.K, q.EF, err)
		}
	}
	for _, id := range []string{"", strings.Repeat("i", 513)} {
		if err := x.Apply(8, []Change{{id, []float32{1, 1}}}); kindOf(err) != event.KindInvalid {
			t.Errorf("id of %d bytes: %v", len(id), err)
		}
	}
	if err := x.Apply(6, nil); err == nil {
		t.Error("changes of the past were taken")
	}
	if x.Applied() != 7 || x.Len() != 2 || x.Contains("c") || !x.Contains("a") {
		t.Errorf("refused changes left traces: %d vectors at %d", x.Len(), x.Applied())
	}
	sound(t, x, m)
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := New(Options{Dimension: 2049, M: 1, EFConstruction: -1, Workers: -1})
	for _, name := range []string{"Dimension", "M", "EFConstruction", "Workers"} {
		if err == nil || !strings.Contains(err.Error(), name+" is ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSearch(t *testing.T) {
	x := newIndex(t, Options{Dimension: 2})
	m := table{}
	search := func(q Query) []Result {
		t.Helper()
		q.Vector, q.Rows = []float32{1, 0}, m.rows
		r, err := x.Search(t.Context(), q)
		must(t, err)
		return r
	}
	if r := search(Query{K: 3}); len(r) != 0 {
		t.Errorf("an empty index answers %v", r)
	}
	changes := []Change{{"far", []float32{-1, 0}}, {"b", []float32{2, 0}}, {"a", []float32{3, 0}}, {"near", []float32{1, 1}}}
	must(t, x.Apply(1, changes))
	m.apply(changes)
	all := []Result{{"a", 1}, {"b", 1}, {"near", 0.70710677}, {"far", -1}}
	for name, c := range map[string]struct {
		q    Query
		want []Result
	}{
		"all, equal ones by id": {Query{K: 10}, all},
		"ef below k":            {Query{K: 3, EF: 1}, all[:3]},
		"the first":             {Query{K: 1}, all[:1]},
		"a match":               {Query{K: 2, Match: func(id string) bool { return len(id) > 1 }}, all[2:]},
		"among":                 {Query{K: 2, Among: []string{"far", "nobody", "b", "far"}}, []Result{all[1], all[3]}},
		"among none":            {Query{K: 2, Among: []string{}}, nil},
		"among and a match":     {Query{K: 2, Among: []string{"far", "b"}, Match: func(id string) bool { return id != "b" }}, all[3:]},
	} {
		if got := search(c.q); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	delete(m, "a")
	m["far"] = []float32{5, 0} // rows are ahead of the index
	if got := search(Query{K: 9}); !slices.Equal(got, []Result{{"b", 1}, {"far", 1}, {"near", 0.70710677}}) {
		t.Errorf("the rows do not decide: %v", got)
	}
}

func TestSearchEnds(t *testing.T) {
	serial(t)
	x := newIndex(t, Options{Dimension: 4, EFConstruction: 8})
	m := grow(t, x, scanAlways+1000, 4, 3)
	q := Query{Vector: []float32{1, 0, 0, 0}, K: 10, EF: 100, Rows: m.rows}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, exact := range []bool{false, true} {
		q.Exact = exact
		if _, err := x.Search(ctx, q); err == nil || !strings.Contains(err.Error(), "canceled") {
			t.Errorf("exact %v: a cancelled search answers %v", exact, err)
		}
	}
	q.Rows = func(string, []float32) ([]float32, error) { return nil, fmt.Errorf("disk") }
	if _, err := x.Search(t.Context(), q); err == nil || !strings.Contains(err.Error(), "disk") {
		t.Errorf("a failing row: %v", err)
	}
	q.Rows = nil
	if _, err := x.Search(t.Context(), q); err == nil {
		t.Error("a query without rows was answered")
	}
}

// grow fills an index with n vectors in one Apply.
func grow(t testing.TB, x *Index, n, dimension int, seed uint64) table {
	t.Helper()
	r, m := rand.New(rand.NewPCG(seed, 0)), table{}
	changes := make([]Change, n)
	for i := range changes {
		changes[i] = Change{fmt.Sprint("v", i), random(r, dimension)}
	}
	must(t, x.Apply(1, changes))
	m.apply(changes)
	return m
}

func TestGraphDoesNotDependOnWorkers(t *testing.T) {
	var files [2]strings.Builder
	for i, workers := range []int{1, 4} {
		x := newIndex(t, Options{Dimension: 16, EFConstruction: 32, Seed: 5, Workers: workers})
		grow(t, x, 800, 16, 9)
		_, err := x.WriteTo(&files[i])
		must(t, err)
	}
	if files[0].String() != files[1].String() {
		t.Fatal("one worker and four make different graphs")
	}
}

func TestUnchangedVectorChangesNothing(t *testing.T) {
	x := newIndex(t, Options{Dimension: 8})
	m := grow(t, x, 300, 8, 4)
	used := x.used
	for id, v := range m {
		must(t, x.Apply(2, []Change{{id, v}}))
	}
	if x.used != used || len(x.released) != 0 || x.Applied() != 2 {
		t.Fatalf("%d slots became %d, %d released", used, x.used, len(x.released))
	}
}

// TestSlotsAreGivenAgain: an index under endless change does not grow.
func TestSlotsAreGivenAgain(t *testing.T) {
	serial(t)
	x := newIndex(t, Options{Dimension: 4, EFConstruction: 8})
	m := grow(t, x, 500, 4, 4)
	r := rand.New(rand.NewPCG(1, 2))
	for range 10 {
		var changes []Change
		for id := range m {
			changes = append(changes, Change{id, random(r, 4)})
		}
		must(t, x.Apply(2, changes))
		m.apply(changes)
	}
	sound(t, x, m)
	if x.used > 500+2*maxReleased {
		t.Fatalf("%d slots for 500 vectors", x.used)
	}
}

func TestBuild(t *testing.T) {
	serial(t)
	r := rand.New(rand.NewPCG(6, 6))
	m, zeros := table{}, 0
	for i := range buildVectors + 100 {
		m[fmt.Sprint(i)] = random(r, 6)
	}
	failing := errors.New("disk")
	rows := func(fail bool) iter.Seq2[Change, error] {
		return func(yield func(Change, error) bool) {
			for id, v := range m {
				if !yield(Change{id, v}, nil) {
					return
				}
			}
			for range zeros {
				if !yield(Change{"zero", make([]float32, 6)}, nil) {
					return
				}
			}
			if fail {
				yield(Change{}, failing)
			}
		}
	}
	zeros = 3
	x, left, err := Build(t.Context(), Options{Dimension: 6, EFConstruction: 8}, 77, rows(false))
	must(t, err)
	sound(t, x, m)
	ids := x.IDs()
	slices.Sort(ids)
	if left != 3 || x.Applied() != 77 || !slices.Equal(ids, slices.Sorted(maps.Keys(m))) {
		t.Fatalf("%d left out, complete to %d, %d ids", left, x.Applied(), len(ids))
	}
	if _, _, err := Build(t.Context(), Options{Dimension: 6}, 1, rows(true)); !errors.Is(err, failing) {
		t.Fatalf("a failing row: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := Build(ctx, Options{Dimension: 6}, 1, rows(false)); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
}

// TestScanIsExact: vectors so close together that their codes say little about their order.
func TestScanIsExact(t *testing.T) {
	serial(t)
	for _, d := range []int{2, 3, 64, 768} {
		for _, spread := range []float32{0, 1e-5, 1e-3, 1e-2} {
			r := rand.New(rand.NewPCG(uint64(d), 8))
			x, m, centre := newIndex(t, Options{Dimension: d, EFConstruction: 8}), table{}, random(r, d)
			var changes []Change
			for i := range 400 {
				v := random(r, d)
				for j := range v {
					v[j] = centre[j] + spread*v[j]
				}
				changes = append(changes, Change{fmt.Sprint(i * 7919 % 400), v})
			}
			must(t, x.Apply(1, changes))
			m.apply(changes)
			q := Query{Vector: random(r, d), K: 20, Rows: m.rows}
			want, err := Exact(t.Context(), q, m.seq())
			must(t, err)
			got, err := x.Search(t.Context(), q)
			must(t, err)
			if !slices.Equal(got, want) {
				t.Errorf("dimension %d, spread %v:\n%v, the rows say\n%v", d, spread, got, want)
			}
		}
	}
}
