package semanticwalk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// world is all the data of a test: concepts by id, associations as they were learnt.
type world struct {
	concepts map[string]transport.Classified
	links    []assoc
}

type assoc struct {
	from, to   string
	kind       uint32
	confidence float32
}

// passes is the filter of these tests: the domain, and the time in seconds.
func passes(c transport.Classified, f *transport.SemanticFilter) bool {
	return f == nil || (f.DomainContext == nil || *f.DomainContext == "" || *f.DomainContext == c.Domain) &&
		(f.TemporalAfter == nil || c.Time >= *f.TemporalAfter*1e6) && (f.TemporalBefore == nil || c.Time < (*f.TemporalBefore+1)*1e6)
}

func (w *world) classified(id string, f *transport.SemanticFilter) transport.Classified {
	c, known := w.concepts[id]
	c.ConceptID, c.Known = id, known
	c.Passes = known && passes(c, f)
	return c
}

func (w *world) store() Store {
	return Store{
		Slots: NewSlots(),
		Classify: func(_ context.Context, q *transport.Classify) (all []transport.Classified, _ error) {
			for _, id := range q.ConceptIDs {
				all = append(all, w.classified(id, q.Filter))
			}
			return all, nil
		},
		Links: func(_ context.Context, q *transport.Links) (all [][]transport.Edge, _ error) {
			for _, id := range q.ConceptIDs {
				all = append(all, w.edges(id, q.Direction, q.Type))
			}
			return all, nil
		},
		Survey: func(_ context.Context, f *transport.SemanticFilter, each func([]transport.Classified) error) error {
			for id := range w.concepts { // in any order
				if c := w.classified(id, f); c.Passes {
					if err := each([]transport.Classified{c}); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}
}

// edges are the best associations to each other end.
func (w *world) edges(id, direction string, kind *uint32) (list []transport.Edge) {
	best := map[string]float32{}
	for _, a := range w.links {
		self, other := a.from, a.to
		if direction == in {
			self, other = a.to, a.from
		}
		if self == id && (kind == nil || *kind == a.kind) {
			if have, there := best[other]; !there || a.confidence > have {
				best[other] = a.confidence
			}
		}
	}
	for other, confidence := range best {
		list = append(list, transport.Edge{ID: other, Confidence: confidence})
	}
	return list
}

// simple lists all simple paths of at most depth edges from start, by walking them all.
func (w *world) simple(start string, depth int, kind *uint32, step func(from, to string) bool) (all [][]string) {
	var walk func(path []string)
	walk = func(path []string) {
		all = append(all, slices.Clone(path))
		if len(path) > depth {
			return
		}
		last := path[len(path)-1]
		for _, e := range w.edges(last, out, kind) {
			if _, known := w.concepts[e.ID]; known && e.Confidence > 0 && !slices.Contains(path, e.ID) && step(last, e.ID) {
				walk(append(path, e.ID))
			}
		}
	}
	if _, known := w.concepts[start]; known {
		walk([]string{start})
	}
	return all
}

// exact is the confidence of a path, as a product of a double's precision.
func (w *world) exact(path []string, kind *uint32) float64 {
	product := 1.0
	for i := 1; i < len(path); i++ {
		for _, e := range w.edges(path[i-1], out, kind) {
			if e.ID == path[i] {
				product *= min(float64(e.Confidence), 1)
			}
		}
	}
	return product
}

// order sorts paths as answers are sorted. Products that differ by rounding alone are equal.
func (w *world) order(paths [][]string, kind *uint32) {
	slices.SortFunc(paths, func(a, b []string) int {
		x, y := w.exact(a, kind), w.exact(b, kind)
		if math.Abs(x-y) > 1e-9*max(x, y) {
			return cmp.Compare(y, x)
		}
		return cmp.Or(cmp.Compare(len(a), len(b)), slices.Compare(a, b))
	})
}

func concepts(paths []transport.SemanticPath) [][]string {
	all := [][]string{}
	for _, p := range paths {
		all = append(all, p.Concepts)
	}
	return all
}

var kinds = []string{"rule", "causal", "entity"}

// draw makes a small world. Confidences are few, so that there are many ties.
func draw(t *rapid.T) *world {
	w := &world{concepts: map[string]transport.Classified{}}
	n := rapid.IntRange(1, 8).Draw(t, "concepts")
	name := func(i int) string { return fmt.Sprintf("c%d", i) }
	for i := range n {
		w.concepts[name(i)] = transport.Classified{
			SemanticType: rapid.SampledFrom(kinds).Draw(t, "type"), Domain: rapid.SampledFrom([]string{"legal", "general", "medical"}).Draw(t, "domain"),
			Relation: rapid.SampledFrom([]string{"", "direct", "enabling"}).Draw(t, "relation"), Time: rapid.Int64Range(-3e6, 3e6).Draw(t, "time"),
			Statement: transport.Statement{Subject: rapid.Uint64Range(0, 2).Draw(t, "subject"), Negated: rapid.Bool().Draw(t, "negated"), Numbers: rapid.Uint64Range(0, 2).Draw(t, "numbers")},
		}
	}
	for range rapid.IntRange(0, 24).Draw(t, "associations") {
		w.links = append(w.links, assoc{name(rapid.IntRange(0, n-1).Draw(t, "from")), name(rapid.IntRange(0, n).Draw(t, "to")), // n does not exist
			rapid.Uint32Range(0, 2).Draw(t, "type"), rapid.SampledFrom([]float32{1, 1, 0.5, 0.25, 0.7, 0.1, 0, 2}).Draw(t, "confidence")})
	}
	return w
}

func drawFilter(t *rapid.T) *transport.SemanticFilter {
	f := &transport.SemanticFilter{}
	if rapid.Bool().Draw(t, "by domain") {
		f.DomainContext = ptr(rapid.SampledFrom([]string{"legal", "general"}).Draw(t, "domain"))
	}
	if rapid.Bool().Draw(t, "by time") {
		f.TemporalAfter, f.TemporalBefore = ptr(int64(-2)), ptr(int64(1))
	}
	return f
}

func ptr[T any](v T) *T { return &v }

func id(t *rapid.T) string { return fmt.Sprintf("c%d", rapid.IntRange(0, 8).Draw(t, "id")) }

// TestPathsAgainstAllPaths compares the best paths between two concepts with all there are.
func TestPathsAgainstAllPaths(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, f := draw(t), drawFilter(t)
		start, end, depth := id(t), id(t), rapid.IntRange(0, 9).Draw(t, "depth")
		most := rapid.IntRange(0, 5).Draw(t, "most")
		ok := answer[transport.FindPathSemanticOk](t, w, &transport.FindPathSemantic{StartID: start, EndID: end, Filter: f, MaxDepth: uint32(depth), MaxPaths: uint32(most)})
		if most == 0 {
			most = transport.MaxPaths
		}
		want := [][]string{}
		for _, p := range w.simple(start, depth, nil, func(_, to string) bool { return to == end || passes(w.concepts[to], f) }) {
			if p[len(p)-1] == end && !slices.Contains(p[:len(p)-1], end) {
				want = append(want, p)
			}
		}
		w.order(want, nil)
		same(t, w, nil, want[:min(len(want), most)], ok.Paths)
	})
}

// TestTemporalChainsAgainstAllPaths: between two concepts, time does not go back.
func TestTemporalChainsAgainstAllPaths(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := draw(t)
		q := &transport.FindTemporalChain{StartID: ptr(id(t)), EndID: ptr(id(t)), MaxDepth: ptr(uint32(rapid.IntRange(0, 9).Draw(t, "depth")))}
		f := &transport.SemanticFilter{}
		if rapid.Bool().Draw(t, "bounded") {
			q.After, q.Before = ptr("1969-12-31T23:59:58Z"), ptr("1970-01-01T00:00:01")
			f.TemporalAfter, f.TemporalBefore = ptr(int64(-2)), ptr(int64(1))
		}
		ok := answer[transport.FindTemporalChainOk](t, w, q)
		want := [][]string{}
		for _, p := range w.simple(*q.StartID, int(*q.MaxDepth), nil, func(from, to string) bool {
			return passes(w.concepts[to], f) && w.concepts[from].Time <= w.concepts[to].Time
		}) {
			if p[len(p)-1] == *q.EndID && passes(w.concepts[p[0]], f) {
				want = append(want, p)
			}
		}
		w.order(want, nil)
		same(t, w, nil, want, ok.Paths)
	})
}

// TestCausalChainsAgainstAllPaths: the best of all causal paths to each concept.
func TestCausalChainsAgainstAllPaths(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, kind := draw(t), ptr(uint32(1))
		q := &transport.FindCausalChain{StartID: id(t), MaxDepth: uint32(rapid.IntRange(0, 9).Draw(t, "depth"))}
		if rapid.Bool().Draw(t, "of a type") {
			q.CausalType = ptr(rapid.SampledFrom([]string{"Direct", "enabling", "preventing"}).Draw(t, "causal type"))
		}
		ok := answer[transport.FindCausalChainOk](t, w, q)
		all := w.simple(q.StartID, int(q.MaxDepth), kind, func(from, _ string) bool {
			relation := cmp.Or(w.concepts[from].Relation, "direct")
			return q.CausalType == nil || strings.EqualFold(*q.CausalType, relation)
		})
		w.order(all, kind)
		want, reached := [][]string{}, map[string]bool{}
		for _, p := range all {
			if last := p[len(p)-1]; len(p) > 1 && !reached[last] {
				reached[last] = true
				want = append(want, p)
			}
		}
		same(t, w, kind, want, ok.Paths)
	})
}

// TestSpansAgainstPlainSearch: each last concept of a span, with what came directly before.
func TestSpansAgainstPlainSearch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := draw(t)
		q := &transport.FindTemporalChain{StartTime: ptr(int64(-2)), EndTime: ptr(int64(1))}
		if rapid.Bool().Draw(t, "of a domain") {
			q.Domain = ptr("legal")
		}
		f := &transport.SemanticFilter{DomainContext: q.Domain, TemporalAfter: q.StartTime, TemporalBefore: q.EndTime}
		ok := answer[transport.FindTemporalChainOk](t, w, q)
		before := func(a, b string) bool {
			return cmp.Or(cmp.Compare(w.concepts[a].Time, w.concepts[b].Time), strings.Compare(a, b)) < 0
		}
		leads := func(a, b string) bool {
			return passes(w.concepts[a], f) && passes(w.concepts[b], f) && before(a, b) &&
				slices.ContainsFunc(w.edges(a, out, nil), func(e transport.Edge) bool { return e.ID == b && e.Confidence > 0 })
		}
		want := [][]string{}
		for last := range w.concepts {
			path := []string{last}
			for {
				latest := ""
				for c := range w.concepts {
					if leads(c, path[0]) && (latest == "" || before(latest, c)) {
						latest = c
					}
					if leads(last, c) {
						path = nil
						break
					}
				}
				if path == nil || latest == "" {
					break
				}
				path = append([]string{latest}, path...)
			}
			if len(path) > 1 {
				want = append(want, path)
			}
		}
		w.order(want, nil)
		same(t, w, nil, want, ok.Paths)
	})
}

// TestContradictionsAgainstAllPairs: in a domain, and around a concept.
func TestContradictionsAgainstAllPairs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := draw(t)
		q := &transport.FindContradictions{}
		if rapid.Bool().Draw(t, "of a domain") {
			q.Domain = ptr("legal")
		}
		near := map[string]bool{}
		for c := range w.concepts {
			near[c] = true
		}
		if rapid.Bool().Draw(t, "around") {
			q.ConceptID, q.MaxDepth = ptr(id(t)), ptr(rapid.Uint32Range(0, 3).Draw(t, "depth"))
			near = map[string]bool{*q.ConceptID: true}
			for range *q.MaxDepth {
				next := map[string]bool{}
				for c := range near {
					_, known := w.concepts[c]
					for _, e := range slices.Concat(w.edges(c, out, nil), w.edges(c, in, nil)) {
						if known && e.Confidence > 0 {
							next[e.ID] = true
						}
					}
				}
				maps.Copy(near, next)
			}
		}
		ok := answer[transport.FindContradictionsOk](t, w, q)
		want := [][]string{}
		for a, x := range w.concepts {
			for b, y := range w.concepts {
				if a >= b || !near[a] || !near[b] || x.Statement.Subject == 0 || x.Statement.Subject != y.Statement.Subject ||
					q.Domain != nil && (x.Domain != *q.Domain || y.Domain != *q.Domain) {
					continue
				}
				s, u := x.Statement, y.Statement
				switch {
				case s.Negated != u.Negated && s.Numbers == u.Numbers:
					want = append(want, []string{a, b, reasonDenied})
				case !s.Negated && !u.Negated && s.Numbers*u.Numbers != 0 && s.Numbers != u.Numbers:
					want = append(want, []string{a, b, reasonAmounts})
				}
			}
		}
		slices.SortFunc(want, func(a, b []string) int { return slices.Compare(a, b) })
		if d := gocmp.Diff(want, ok.Contradictions); d != "" {
			t.Fatal(d)
		}
	})
}

func answer[T any](t *rapid.T, w *world, q any) *T {
	if err := transport.Validate(q, 0); err != nil {
		t.Fatal(err)
	}
	reply, err := Answer(context.Background(), w.store(), q)
	if err != nil {
		t.Fatal(err)
	}
	return reply.(*T)
}

// same compares paths with those expected, and what they say of themselves.
func same(t *rapid.T, w *world, kind *uint32, want [][]string, got []transport.SemanticPath) {
	if d := gocmp.Diff(want, concepts(got)); d != "" {
		t.Fatal(d)
	}
	for _, p := range got {
		if exact := w.exact(p.Concepts, kind); math.Abs(float64(p.Confidence)-exact) > 1e-6*exact {
			t.Fatalf("%v has confidence %v, want %v", p.Concepts, p.Confidence, exact)
		}
		types, domains, ordered := map[string]uint32{}, map[string]bool{}, true
		for i, id := range p.Concepts {
			types[w.concepts[id].SemanticType]++
			domains[w.concepts[id].Domain] = true
			ordered = ordered && (i == 0 || w.concepts[p.Concepts[i-1]].Time <= w.concepts[id].Time)
		}
		if !gocmp.Equal(types, p.TypeDistribution) || len(domains) != len(p.Domains) || !slices.IsSorted(p.Domains) || ordered != p.IsTemporallyOrdered {
			t.Fatalf("%+v: types %v, domains %v, ordered %v", p, types, domains, ordered)
		}
	}
}

// wide is a concept with n others, each of which leads to the next.
func wide(n int) *world {
	w := &world{concepts: map[string]transport.Classified{"hub": {}}}
	for i := range n {
		w.concepts[fmt.Sprint("x", i)] = transport.Classified{}
	}
	return w
}

// TestBounds: a walk that needs more than it may know is refused and says which bound it was; a grid of ties is no such walk.
func TestBounds(t *testing.T) {
	hub := func(n int) Store {
		w := wide(0)
		s := w.store()
		s.Classify = func(_ context.Context, q *transport.Classify) (all []transport.Classified, _ error) {
			for _, id := range q.ConceptIDs {
				all = append(all, transport.Classified{ConceptID: id, Known: true, Passes: true})
			}
			return all, nil
		}
		s.Links = func(_ context.Context, q *transport.Links) ([][]transport.Edge, error) {
			all := make([][]transport.Edge, len(q.ConceptIDs))
			for i := range n {
				all[0] = append(all[0], transport.Edge{ID: fmt.Sprint("x", i), Confidence: 1})
			}
			return all, nil
		}
		return s
	}
	for _, tt := range []struct {
		n    int
		q    any
		want string
	}{
		{MaxVisited, &transport.FindCausalChain{StartID: "hub", MaxDepth: 1}, "32768 concepts"},
		{MaxVisited, &transport.FindContradictions{ConceptID: ptr("hub"), MaxDepth: ptr(uint32(1))}, "32768 concepts"},
		{MaxVisited, &transport.FindPathSemantic{StartID: "hub", EndID: "y", MaxDepth: 2}, "32768 concepts"},
		{100, &transport.FindCausalChain{StartID: "hub", MaxDepth: 1}, ""},
	} {
		_, err := Answer(t.Context(), hub(tt.n), tt.q)
		if tt.want == "" && err != nil || tt.want != "" && (!errors.Is(err, &event.Error{Kind: event.KindTooLarge}) || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%T with %d: %v, want %q", tt.q, tt.n, err, tt.want)
		}
	}
	ties := &world{concepts: map[string]transport.Classified{}}
	at := func(i, j int) string { return fmt.Sprintf("%02d-%02d", i, j) }
	for i := range 11 {
		for j := range 11 {
			ties.concepts[at(i, j)] = transport.Classified{}
			ties.links = append(ties.links, assoc{at(i, j), at(i+1, j), 0, 1}, assoc{at(i, j), at(i, j+1), 0, 1})
		}
	}
	reply, err := Answer(t.Context(), ties.store(), &transport.FindPathSemantic{StartID: at(0, 0), EndID: at(10, 10), MaxDepth: 20}) // 184,756 paths are equally good
	if err != nil {
		t.Fatal(err)
	}
	paths := concepts(reply.(*transport.FindPathSemanticOk).Paths)
	if len(paths) != transport.MaxPaths || !slices.IsSortedFunc(paths, slices.Compare[[]string]) || paths[0][10] != at(0, 10) {
		t.Errorf("%d paths, the first is %v", len(paths), paths[0])
	}
}

// TestManyContradictions are cut off at the first hundred, whatever the order of maps.
func TestManyContradictions(t *testing.T) {
	w := &world{concepts: map[string]transport.Classified{}}
	for i := range 400 {
		w.concepts[fmt.Sprintf("c%03d", i)] = transport.Classified{Statement: transport.Statement{Subject: 7, Numbers: uint64(1 + i%40)}}
	}
	reply, err := Answer(t.Context(), w.store(), &transport.FindContradictions{})
	if err != nil {
		t.Fatal(err)
	}
	got := reply.(*transport.FindContradictionsOk).Contradictions
	if len(got) != 100 || got[0][1] != "c001" || got[99][0] != "c000" || got[99][1] != "c102" { // c040 and c080 say the same as c000
		t.Errorf("%d, the last %v", len(got), got[len(got)-1])
	}
}

// TestFailures: a store that fails, one that answers too little, and a deadline end a walk with what they are.
func TestFailures(t *testing.T) {
	s := wide(3).store()
	s.Links = func(context.Context, *transport.Links) ([][]transport.Edge, error) { return nil, errors.New("broken") }
	q := &transport.FindCausalChain{StartID: "hub", MaxDepth: 3}
	if _, err := Answer(t.Context(), s, q); err == nil || err.Error() != "broken" {
		t.Error(err)
	}
	s.Links = func(context.Context, *transport.Links) ([][]transport.Edge, error) { return nil, nil }
	if _, err := Answer(t.Context(), s, q); !errors.Is(err, &event.Error{Kind: event.KindInternal}) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range maxWalks {
		s.Slots <- struct{}{}
	}
	if _, err := Answer(ctx, s, q); !errors.Is(err, &event.Error{Kind: event.KindBusy}) {
		t.Error(err)
	}
	if _, err := Answer(t.Context(), wide(0).store(), &transport.GetStats{}); !errors.Is(err, &event.Error{Kind: event.KindUnsupported}) {
		t.Error(err)
	}
}
