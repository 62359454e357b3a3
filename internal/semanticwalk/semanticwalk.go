// Package semanticwalk answers the semantic requests of the Sutra protocol that lead from concept to concept: in one shard or
// over all of them, by the rules of docs/semantics.md.
//
//	request ── reads of many concepts at once ── a bounded part of the graph, in memory ── the best chains in it
//
// Invariants: the answer is a function of the data, whoever answers first and however it is sharded. A walk knows at most
// MaxVisited concepts and MaxEdges associations, then it is refused; never a silently smaller answer. It reaches the store
// through funcs alone: a storage node gives it its replica, the client library gives it the grid. It must not import either.
package semanticwalk

import (
	"context"
	"fmt"
	"slices"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

const (
	// MaxVisited is how many concepts one walk may look at, those included that a filter does not let pass.
	MaxVisited = 1 << 15
	// MaxEdges is how many associations one walk may know.
	MaxEdges = 1 << 18
	// MaxSteps is how many beginnings of paths FindPathSemantic and FindTemporalChain may compare.
	MaxSteps = 1 << 18
	// MaxStatements is how many statements FindContradictions may compare: about 20 MB.
	MaxStatements = 1 << 18
	// maxChunk is how many ids go into one read: the protocol's limit.
	maxChunk = transport.MaxExists
)

// Slots are how many walks a process works on at once: each may hold some tens of megabytes. Others wait.
type Slots chan struct{}

// maxWalks is how many: enough for all cores of a small machine, and less than 200 MB.
const maxWalks = 4

// NewSlots makes them.
func NewSlots() Slots { return make(Slots, maxWalks) }

// Take waits for a slot until ctx ends; then the answer is KindBusy.
func (s Slots) Take(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return &event.Error{Kind: event.KindBusy, Op: "semantic walk", Message: fmt.Sprintf("%d others were worked on until the deadline: try again later", cap(s))}
	}
}

// Give gives back what Take took.
func (s Slots) Give() { <-s }

// Store is what walks read. The funcs are safe for concurrent use; their errors are *event.Error. Each read is linearizable
// or stale on its own, all of a walk together are not one point in time.
type Store struct {
	Slots Slots
	// Classify has one answer per id; at most 10,000 ids.
	Classify func(ctx context.Context, q *transport.Classify) ([]transport.Classified, error)
	// Links has one list per id; at most 10,000 ids.
	Links func(ctx context.Context, q *transport.Links) ([][]transport.Edge, error)
	// Survey calls each with all concepts that pass a filter, in pages and in no particular order, one page at a time.
	Survey func(ctx context.Context, f *transport.SemanticFilter, each func([]transport.Classified) error) error
}

// Answer answers FindPathSemantic, FindTemporalChain, FindCausalChain and FindContradictions that transport.Validate has let
// pass. Errors are those of the store, and *event.Error of KindTooLarge when a bound is met.
func Answer(ctx context.Context, s Store, req any) (any, error) {
	if err := s.Slots.Take(ctx); err != nil {
		return nil, err
	}
	defer s.Slots.Give()
	switch q := req.(type) {
	case *transport.FindPathSemantic:
		paths, err := pathsBetween(ctx, s, q)
		return &transport.FindPathSemanticOk{Paths: paths}, err
	case *transport.FindTemporalChain:
		paths, err := temporal(ctx, s, q)
		return &transport.FindTemporalChainOk{Paths: paths}, err
	case *transport.FindCausalChain:
		paths, err := causal(ctx, s, q)
		return &transport.FindCausalChainOk{Paths: paths}, err
	case *transport.FindContradictions:
		found, err := contradictions(ctx, s, q)
		return &transport.FindContradictionsOk{Contradictions: found}, err
	}
	return nil, &event.Error{Kind: event.KindUnsupported, Message: transport.VariantName(req) + " is no walk"}
}

// Walks tells the requests that Answer answers.
func Walks(req any) bool {
	switch req.(type) {
	case *transport.FindPathSemantic, *transport.FindTemporalChain, *transport.FindCausalChain, *transport.FindContradictions:
		return true
	}
	return false
}

func tooLarge(what string, bound int) *event.Error {
	return &event.Error{Kind: event.KindTooLarge, Op: "semantic walk",
		Message: fmt.Sprintf("more than %d %s are concerned: ask with a smaller depth, a narrower filter or a shorter time", bound, what)}
}

// pathsBetween finds the best paths along associations of any type; what lies between the ends passes the filter.
func pathsBetween(ctx context.Context, s Store, q *transport.FindPathSemantic) ([]transport.SemanticPath, error) {
	w := newWalk(s, q.Filter)
	w.free = []string{q.StartID, q.EndID}
	most := transport.MaxPaths
	if q.MaxPaths > 0 {
		most = min(most, int(q.MaxPaths))
	}
	return w.between(ctx, q.StartID, q.EndID, int(q.MaxDepth), most)
}

// temporal finds what followed what, between two concepts or in a span of time.
func temporal(ctx context.Context, s Store, q *transport.FindTemporalChain) ([]transport.SemanticPath, error) {
	f := &transport.SemanticFilter{DomainContext: q.Domain, TemporalAfter: q.StartTime, TemporalBefore: q.EndTime}
	if !q.ByEnds() {
		return span(ctx, s, f)
	}
	f.TemporalAfter, f.TemporalBefore = later(q.StartTime, seconds(q.After)), earlier(q.EndTime, seconds(q.Before))
	w := newWalk(s, f)
	w.allow = func(from, to *transport.Classified) bool { return from.Time <= to.Time }
	return w.between(ctx, *q.StartID, *q.EndID, int(*q.MaxDepth), transport.MaxPaths)
}

// seconds reads a time that was validated; nil for none.
func seconds(iso *string) *int64 {
	if iso == nil {
		return nil
	}
	at, _ := transport.ParseISO(*iso)
	return &at
}

// later is the later of two bounds, either of which may be missing.
func later(a, b *int64) *int64 {
	if a == nil || b != nil && *b > *a {
		return b
	}
	return a
}

func earlier(a, b *int64) *int64 {
	if a == nil || b != nil && *b < *a {
		return b
	}
	return a
}

// causal finds, for every concept that the start leads to by causal associations, the best chain to it.
func causal(ctx context.Context, s Store, q *transport.FindCausalChain) ([]transport.SemanticPath, error) {
	w := newWalk(s, nil)
	kind := uint32(transport.CausalAssociation)
	w.kind = &kind
	if q.CausalType != nil && *q.CausalType != "" {
		w.allow = func(from, _ *transport.Classified) bool { return relationOf(from) == lower(*q.CausalType) }
	}
	return w.reached(ctx, q.StartID, int(q.MaxDepth))
}

// relationOf is how a concept brings about what it is causally associated with: as its content states, else directly.
func relationOf(c *transport.Classified) string {
	if c.Relation == "" {
		return "direct"
	}
	return c.Relation
}

// sorted puts chains in the order of answers and makes paths of the first of them.
func (g *graph) sorted(chains []chain) []transport.SemanticPath {
	slices.SortFunc(chains, g.compare)
	paths := make([]transport.SemanticPath, 0, min(len(chains), transport.MaxPaths))
	for _, c := range chains[:min(len(chains), transport.MaxPaths)] {
		paths = append(paths, g.path(c))
	}
	return paths
}
