package nearest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/storagenode/engine"
	"github.com/sutra-grid/sutra-grid/storagenode/vector"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Search answers a query that transport.Validate accepts, from the vectors as they are at an applied index not lower than the engine's
// now. Errors are *event.Error, of the context's kind when it ends.
func (k *Keeper) Search(ctx context.Context, q *transport.VectorSearch) (results []transport.VectorResult, err error) {
	// The view comes first: the record that it sees then reaches back to whatever the index has.
	view, err := k.c.Engine.Vectors()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	s := &search{view: view, q: q, chosen: engine.Selection{Attributes: q.Attributes, Tags: q.Tags}}
	x := k.index.Load()
	ready := x != nil
	if ready {
		if ready, err = s.findWaiting(x, k.c.limits.waiting); err != nil {
			return nil, err
		}
	}
	if ready {
		err = s.searchIndex(ctx, x)
	} else {
		err = k.scan(ctx, s)
	}
	if err = errors.Join(s.err, err); err != nil {
		return nil, kinded(ctx, err)
	}
	slices.SortFunc(s.results, transport.VectorResult.Compare)
	return s.results[:min(len(s.results), int(q.K))], nil
}

// kinded gives an error that has no kind the context's.
func kinded(ctx context.Context, err error) error {
	var e *event.Error
	switch {
	case errors.As(err, &e):
		return err
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &event.Error{Kind: event.KindDeadline, Op: "search vectors", Message: "the deadline passed"}
	}
	return err
}

// scan compares with all vectors, beside few others that do.
func (k *Keeper) scan(ctx context.Context, s *search) error {
	select {
	case k.scans <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-k.scans }()
	return s.exact(ctx, func(yield func(string, []float32) bool) { s.keep(s.view.Each(yield)) })
}

// search is one search at one point in time.
type search struct {
	view    *engine.Vectors
	q       *transport.VectorSearch
	chosen  engine.Selection
	waiting map[string]struct{} // vectors that the index may not have as they are
	results []transport.VectorResult
	err     error // of a callback that cannot return it
}

// keep remembers the first error of callbacks.
func (s *search) keep(err error) {
	if s.err == nil {
		s.err = err
	}
}

// findWaiting finds out what the index lacks; false: more than most, or nobody knows.
func (s *search) findWaiting(x *vector.Index, most int) (ready bool, err error) {
	applied := x.Applied()
	if applied >= s.view.Applied() {
		return true, nil
	}
	ids, through, known, err := s.view.Changed(applied, most)
	if err != nil || !known || through < s.view.Applied() {
		return false, err
	}
	s.waiting = make(map[string]struct{}, len(ids))
	for _, id := range ids {
		s.waiting[id] = struct{}{}
	}
	return true, nil
}

func (s *search) query() vector.Query {
	return vector.Query{Vector: s.q.QueryVector, K: int(s.q.K), EF: int(s.q.EFSearch), Exact: s.q.Exact}
}

// searchIndex asks the index for what it has as it is, and compares with the rest.
func (s *search) searchIndex(ctx context.Context, x *vector.Index) error {
	q := s.query()
	q.Rows = s.view.Vector
	if err := s.narrow(&q, x); err != nil {
		return err
	}
	found, err := x.Search(ctx, q)
	s.add(found)
	if err != nil || len(s.waiting) == 0 {
		return err
	}
	return s.exact(ctx, s.waitingRows())
}

// narrow tells the index which concepts may be results: by a list where few are selected, else one by one.
func (s *search) narrow(q *vector.Query, x *vector.Index) error {
	if !s.chosen.Everything() {
		limit := x.Few(q)
		if q.Exact {
			limit = math.MaxInt
		}
		ids, all, err := s.view.Selected(&s.chosen, limit)
		if err != nil {
			return err
		}
		if all {
			q.Among = slices.DeleteFunc(ids, s.waits)
			if q.Among == nil {
				q.Among = []string{}
			}
			q.Rows = s.selectedRow // the list may hold what only shares a hash
			return nil
		}
		q.Match = func(id string) bool { return !s.waits(id) && s.selects(id) }
		return nil
	}
	if len(s.waiting) > 0 {
		q.Match = func(id string) bool { return !s.waits(id) }
	}
	return nil
}

func (s *search) waits(id string) bool { _, yes := s.waiting[id]; return yes }

// selects tells whether a concept is selected.
func (s *search) selects(id string) bool {
	if s.chosen.Everything() || s.err != nil {
		return s.err == nil
	}
	yes, err := s.view.Selects(&s.chosen, id)
	s.keep(err)
	return yes
}

// selectedRow is the vector of a concept that is selected.
func (s *search) selectedRow(id string, buf []float32) ([]float32, error) {
	if !s.selects(id) {
		return nil, s.err
	}
	return s.view.Vector(id, buf)
}

// waitingRows are the vectors that the index may not have.
func (s *search) waitingRows() iter.Seq2[string, []float32] {
	return func(yield func(string, []float32) bool) {
		var buf []float32
		for id := range s.waiting {
			v, err := s.view.Vector(id, buf)
			if err != nil {
				s.keep(err)
				return
			}
			if v == nil {
				continue
			}
			if buf = v; !yield(id, v) {
				return
			}
		}
	}
}

// exact compares with rows one by one.
func (s *search) exact(ctx context.Context, rows iter.Seq2[string, []float32]) error {
	q := s.query()
	if !s.chosen.Everything() {
		q.Match = s.selects
	}
	found, err := vector.Exact(ctx, q, rows)
	if err != nil {
		return fmt.Errorf("compare with vectors: %w", err)
	}
	s.add(found)
	return nil
}

func (s *search) add(found []vector.Result) {
	for _, r := range found {
		s.results = append(s.results, transport.VectorResult{ID: r.ID, Score: r.Score})
	}
}
