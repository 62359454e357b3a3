package vector

import (
	"cmp"
	"context"
	"iter"
	"math"
	"slices"
)

// scanRule tells whether to compare one by one, and so exactly: what is few in any case, and what a walk would hardly compare
// less for. A walk meets ef results among total/matching times as many slots, and compares about walkCost slots for each, in
// memory order of chance; a scan compares matching in order.
func scanRule(total, matching, ef int) bool {
	return matching <= scanAlways || float64(matching)*float64(matching) <= walkCost*float64(ef)*float64(total)
}

// Few is how many vectors a search compares one by one at most when only they may be results. More need not be listed: Match
// costs less.
func (x *Index) Few(q *Query) int {
	ef := max(cmp.Or(q.EF, DefaultEF), q.K)
	return max(scanAlways, int(math.Sqrt(walkCost*float64(ef)*float64(x.Len()))))
}

// Measured (DESIGN.md, "Scan or walk").
const (
	scanAlways = 2000
	walkCost   = 16
)

// filter is which slots may be results.
type filter struct {
	ok       func(uint32) bool
	total    int      // vectors
	matching int      // of them that may be results, estimated when there is a Match
	slots    []uint32 // those of Among, in order
	listed   bool     // there is an Among
}

// samples is how many vectors a Match is tried on to estimate how many match.
const samples = 200

func (w *walker) filter(q *Query) filter {
	f := filter{total: w.x.Len()}
	f.matching, f.ok = f.total, w.live
	if q.Among != nil {
		f.slots, f.listed = w.x.slotsOf(q.Among), true
		f.matching = len(f.slots)
		bits := make([]uint64, len(w.chunks)*chunkSlots/64)
		for _, s := range f.slots {
			if int(s/64) < len(bits) {
				bits[s/64] |= 1 << (s % 64)
			}
		}
		f.ok = func(s uint32) bool { return bits[s/64]&(1<<(s%64)) != 0 && w.live(s) }
	}
	if q.Match != nil {
		in := f.ok
		f.ok = func(s uint32) bool { return in(s) && q.Match(w.x.id(s)) }
		f.estimate(w)
	}
	return f
}

// estimate tries the filter on vectors spread over those it may let through.
func (f *filter) estimate(w *walker) {
	n, at := len(w.chunks)*chunkSlots, func(i int) uint32 { return uint32(i) }
	if f.listed {
		n, at = len(f.slots), func(i int) uint32 { return f.slots[i] }
	}
	step := max(n/samples, 1) | 1 // odd, so that it is in step with nothing of powers of two
	tried, matched := 0, 0
	for i := 0; i < n; i += step {
		if s := at(i); w.inside(s) && w.live(s) {
			tried++
			if f.ok(s) {
				matched++
			}
		}
	}
	f.matching = f.matching * matched / max(tried, 1)
}

func (w *walker) live(s uint32) bool   { return w.chunks[s/chunkSlots].live[s%chunkSlots].Load() }
func (w *walker) inside(s uint32) bool { return int(s/chunkSlots) < len(w.chunks) }

// slotsOf answers the slots of ids, each once, ascending.
func (x *Index) slotsOf(ids []string) []uint32 {
	x.names.RLock()
	defer x.names.RUnlock()
	slots := make([]uint32, 0, len(ids))
	for _, id := range ids {
		if s, ok := x.slots[id]; ok {
			slots = append(slots, s)
		}
	}
	slices.Sort(slots)
	return slices.Compact(slots)
}

// each are the slots that a scan compares.
func (w *walker) each(f *filter) iter.Seq[uint32] {
	if f.listed {
		return slices.Values(f.slots)
	}
	return func(yield func(uint32) bool) {
		for s := range uint32(len(w.chunks) * chunkSlots) {
			if !yield(s) {
				return
			}
		}
	}
}

// scan leaves all that may be results in front.
func (w *walker) scan(ctx context.Context, f *filter) error {
	n := 0
	for s := range w.each(f) {
		if n++; n%(16*looks) == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if w.inside(s) && f.ok(s) {
			w.front = append(w.front, ^w.score(s))
		}
	}
	w.front.order()
	return nil
}

// Exact answers a query from rows alone, without an index: what Search is measured against, and how a caller searches rows
// that are not in the index yet. It looks at Vector, K and Match. Rows that Validate refuses are left out.
func Exact(ctx context.Context, q Query, rows iter.Seq2[string, []float32]) ([]Result, error) {
	if q.K < 1 || q.K > MaxK {
		return nil, invalid("k is %d: it must be 1 to %d", q.K, MaxK)
	}
	if err := Validate(q.Vector, len(q.Vector)); err != nil {
		return nil, err
	}
	top := topK{k: q.K, seen: make(map[string]struct{})}
	qq := product(q.Vector, q.Vector)
	for id, row := range rows {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if Validate(row, len(q.Vector)) == nil && (q.Match == nil || q.Match(id)) && top.fresh(id) {
			top.add(Result{id, cosine(product(q.Vector, row), qq, product(row, row))})
		}
	}
	return top.best, nil
}
