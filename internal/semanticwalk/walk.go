package semanticwalk

import (
	"context"
	"fmt"
	"slices"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

const (
	out = "out"
	in  = "in"
)

// walk collects a part of the graph, level by level.
type walk struct {
	*graph
	store  Store
	filter *transport.SemanticFilter
	kind   *uint32                                   // of the associations to follow; nil: all
	free   []string                                  // concepts that need not pass the filter
	allow  func(from, to *transport.Classified) bool // which associations count; nil: all
}

func newWalk(s Store, f *transport.SemanticFilter) *walk {
	return &walk{graph: newGraph(), store: s, filter: f}
}

// side is a search from one end: what it has reached, and the last level of it.
type side struct {
	direction string
	seen      map[int32]bool
	frontier  []int32
}

// begin starts a search at a concept; false: it is not there, or the filter refuses it.
func (w *walk) begin(ctx context.Context, id, direction string) (*side, bool, error) {
	if err := w.classify(ctx, []string{id}); err != nil {
		return nil, false, err
	}
	n := w.at[id]
	return &side{direction: direction, seen: map[int32]bool{n: true}, frontier: []int32{n}}, w.ok[n], nil
}

// classify takes in the concepts of ids that are not known yet.
func (w *walk) classify(ctx context.Context, ids []string) error {
	ids = slices.DeleteFunc(ids, func(id string) bool { _, known := w.at[id]; return known })
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if len(w.nodes)+len(ids) > MaxVisited {
		return tooLarge("concepts", MaxVisited)
	}
	for part := range slices.Chunk(ids, maxChunk) {
		found, err := w.store.Classify(ctx, &transport.Classify{ConceptIDs: part, Filter: w.filter})
		if err != nil {
			return err
		}
		if len(found) != len(part) {
			return wrongCount("classify", len(found), len(part))
		}
		for i, c := range found {
			c.ConceptID = part[i]
			c.Passes = c.Passes || slices.Contains(w.free, part[i])
			w.add(c)
		}
	}
	return nil
}

// advance reaches the next level of a side.
func (w *walk) advance(ctx context.Context, s *side) error {
	var next []int32
	for part := range slices.Chunk(s.frontier, maxChunk) {
		q := &transport.Links{ConceptIDs: w.ids(part), Direction: s.direction, Type: w.kind}
		links, err := w.store.Links(ctx, q)
		if err != nil {
			return err
		}
		if len(links) != len(part) {
			return wrongCount("read associations", len(links), len(part))
		}
		if err := w.classify(ctx, ends(links)); err != nil {
			return err
		}
		for i, n := range part {
			for _, l := range links[i] {
				other := w.at[l.ID]
				if w.connect(s, n, other, l.Confidence) && !s.seen[other] {
					s.seen[other] = true
					next = append(next, other)
				}
			}
			if len(w.edges) > MaxEdges {
				return tooLarge("associations", MaxEdges)
			}
		}
	}
	s.frontier = next
	return nil
}

// connect adds the association between a node and another one that its side has found, if it counts.
func (w *walk) connect(s *side, n, other int32, confidence float32) bool {
	from, to := n, other
	if s.direction == in {
		from, to = other, n
	}
	if from == to || !w.ok[from] || !w.ok[to] || w.allow != nil && !w.allow(&w.nodes[from], &w.nodes[to]) {
		return false
	}
	return w.link(from, to, confidence)
}

func (w *walk) ids(nodes []int32) []string {
	ids := make([]string, len(nodes))
	for i, n := range nodes {
		ids[i] = w.id(n)
	}
	return ids
}

// ends lists the concepts that associations lead to.
func ends(links [][]transport.Edge) (ids []string) {
	for _, of := range links {
		for _, l := range of {
			ids = append(ids, l.ID)
		}
	}
	return ids
}

func wrongCount(op string, got, want int) *event.Error {
	return &event.Error{Kind: event.KindInternal, Op: op, Message: fmt.Sprintf("the store answered %d of %d ids", got, want)}
}

// between finds the best simple paths of at most depth edges from start to end.
func (w *walk) between(ctx context.Context, start, end string, depth, most int) ([]transport.SemanticPath, error) {
	ahead, there, err := w.begin(ctx, start, out)
	if err != nil || !there {
		return []transport.SemanticPath{}, err
	}
	if start == end {
		return w.sorted([]chain{{nodes: []int32{w.at[start]}}}), nil
	}
	back, there, err := w.begin(ctx, end, in)
	if err != nil || !there {
		return []transport.SemanticPath{}, err
	}
	// A path of at most depth edges has its first edges within the levels that were reached ahead and its last ones within those
	// that were reached back, as soon as both together are depth levels. A side that is exhausted knows all there is.
	for range depth {
		near := ahead
		if len(back.frontier) < len(ahead.frontier) {
			near = back
		}
		if len(near.frontier) == 0 {
			break
		}
		if err := w.advance(ctx, near); err != nil {
			return nil, err
		}
	}
	chains, err := w.best(ctx, w.at[start], w.at[end], depth, most)
	if err != nil {
		return nil, err
	}
	return w.sorted(chains), nil
}

// reached finds the best chain to every concept that start leads to by at most depth edges.
func (w *walk) reached(ctx context.Context, start string, depth int) ([]transport.SemanticPath, error) {
	ahead, there, err := w.begin(ctx, start, out)
	if err != nil || !there {
		return []transport.SemanticPath{}, err
	}
	for i := 0; i < depth && len(ahead.frontier) > 0; i++ {
		if err := w.advance(ctx, ahead); err != nil {
			return nil, err
		}
	}
	return w.sorted(w.tree(w.at[start], depth)), nil
}
