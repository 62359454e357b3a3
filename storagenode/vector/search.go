package vector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sutra-grid/sutra-grid/transport"
)

// What a query may ask for.
const (
	MaxK  = transport.MaxK  // results
	MaxEF = transport.MaxEF // candidates of a walk
	// DefaultEF is the candidates of a walk that names no number: recall@10 is above 0.95 with it.
	DefaultEF = 64
)

// Rows reads a row's vector into buf, which may be too small, and answers it; nil when there is no such row. It is called in the
// goroutine of the search and must not wait for Apply, which may be waiting for the search.
type Rows func(id string, buf []float32) ([]float32, error)

// Query is what to search for.
type Query struct {
	Vector []float32
	K      int // results, 1 to MaxK
	// EF is how many candidates a walk over the graph collects, at most MaxEF: more find more and cost in proportion. 0: DefaultEF;
	// what is below K counts as K.
	EF int
	// Match, when set, tells which ids may be results. It is asked about each candidate, in the goroutine of the search, and
	// must not wait for Apply. Where Among can be given it is cheaper.
	Match func(id string) bool
	// Among, when not nil, holds every id that may be a result, in any order; unknown ones and repetitions do no harm.
	Among []string
	Exact bool // compare with every vector that may be a result
	Rows  Rows // the truth that candidates are scored by
}

// Result is an id and the cosine of its row's vector with the query, -1 to 1.
type Result struct {
	ID    string
	Score float32
}

// Search answers the K ids nearest to the query, by score and then id; fewer when there are fewer. A row that is gone is
// left out, one that changed scores as it is. Few vectors, or few that may be results, are compared one by one, and then the
// answer is exact (scanRule); otherwise the graph is walked and the answer is approximate. Errors are *event.Error of
// KindInvalid or KindTooLarge for the query, the context's, and those of Rows.
func (x *Index) Search(ctx context.Context, q Query) ([]Result, error) {
	if err := x.check(&q); err != nil {
		return nil, err
	}
	x.searching.RLock() // slots keep their ids
	defer x.searching.RUnlock()
	w := x.walkers.Get().(*walker)
	defer x.walkers.Put(w)
	if err := w.search(ctx, &q); err != nil {
		return nil, fmt.Errorf("search vectors: %w", err)
	}
	return w.rescore(ctx, &q)
}

func (x *Index) check(q *Query) error {
	if err := Validate(q.Vector, x.o.Dimension); err != nil {
		return err
	}
	if q.EF == 0 {
		q.EF = DefaultEF
	}
	switch {
	case q.K < 1 || q.K > MaxK:
		return invalid("k is %d: it must be 1 to %d", q.K, MaxK)
	case q.EF < 0 || q.EF > MaxEF:
		return invalid("ef is %d: it must be at most %d, and 0 for the default", q.EF, MaxEF)
	case q.Rows == nil:
		return errors.New("search vectors: the query has no Rows")
	}
	q.EF = max(q.EF, q.K)
	return nil
}

// search leaves what may be a result in front, which hands out the nearest first.
func (w *walker) search(ctx context.Context, q *Query) error {
	entry := w.begin()
	encode(w.q, q.Vector)
	w.front = w.front[:0]
	if entry.slot == none {
		return nil
	}
	f := w.filter(q)
	if q.Exact || scanRule(f.total, f.matching, q.EF) {
		return w.scan(ctx, &f)
	}
	return w.walk(entry, aim{ef: q.EF, ok: f.ok, ctx: ctx})
}

// walk leaves what it finds from the entry point on in front.
func (w *walker) walk(entry entryPoint, a aim) error {
	found, err := w.layer([]scored{w.descend(entry, 0)}, a)
	w.front = w.front[:0]
	for _, s := range found {
		w.front = append(w.front, ^s) // ascending, so a heap
	}
	return err
}

// rescore scores the candidates in front by their rows until no other can come among the first K: a code's score is off by at
// most codeError, and by a rounding of the score itself.
func (w *walker) rescore(ctx context.Context, q *Query) ([]Result, error) {
	off := codeError(w.x.o.Dimension) + 1e-7
	top := topK{k: q.K, seen: make(map[string]struct{}, q.K)}
	qq := product(q.Vector, q.Vector)
	var row []float32
	for n := 1; len(w.front) > 0; n++ {
		c := ^w.front.pop()
		if top.full() && float64(c.dot())/(codeScale*codeScale)+off < float64(top.worst().Score) {
			break
		}
		if n%looks == 0 && ctx.Err() != nil {
			return nil, fmt.Errorf("search vectors: %w", ctx.Err())
		}
		id := w.x.id(c.slot())
		if !top.fresh(id) {
			continue
		}
		var err error
		if row, err = q.Rows(id, row); err != nil {
			return nil, fmt.Errorf("search vectors: read the row of %q: %w", id, err)
		}
		if len(row) == len(q.Vector) {
			if rr := product(row, row); rr > 0 {
				top.add(Result{id, cosine(product(q.Vector, row), qq, rr)})
			}
		}
	}
	return top.best, nil
}

// topK collects the k best results, each id once.
type topK struct {
	k    int
	best []Result
	seen map[string]struct{}
}

func (t *topK) full() bool    { return len(t.best) == t.k }
func (t *topK) worst() Result { return t.best[len(t.best)-1] }

// fresh tells whether an id comes for the first time.
func (t *topK) fresh(id string) bool {
	n := len(t.seen)
	t.seen[id] = struct{}{}
	return len(t.seen) > n
}

func (t *topK) add(r Result) {
	i, _ := slices.BinarySearchFunc(t.best, r, compare)
	if i == t.k {
		return
	}
	if t.full() {
		t.best = t.best[:t.k-1]
	}
	t.best = slices.Insert(t.best, i, r)
}

// compare orders results: by score, the higher first, and then by id.
func compare(a, b Result) int {
	if a.Score != b.Score {
		return cmp.Compare(b.Score, a.Score)
	}
	return strings.Compare(a.ID, b.ID)
}
