// Package graphwalk finds shortest paths in a graph that can only be asked for the neighbours of many concepts at once: in
// one shard's engine, or over all shards by frontier.
//
//	start -> out-neighbours, level by level ->  meet  <- in-neighbours, level by level <- end
//
// Invariants: the path is a shortest one, and the same for the same graph whoever answers first; a level is one
// question, unless it has more than MaxAsk ids; at most MaxVisited concepts are remembered. It knows nothing of shards, networks or stores and imports
// nothing of ours.
package graphwalk

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

const (
	// MaxDepth is the most edges a path may have: the wire protocol's limit.
	MaxDepth = 20
	// MaxAsk is how many ids go into one call of Expand. A larger one would make an answer with their neighbours too large to
	// hold, a smaller one makes round trips; whoever asks over a wire cuts it to what a message may have.
	MaxAsk = 1 << 16
	// MaxVisited is how many concepts one search may touch: about 40 MB. A search that needs more is refused, as it would
	// crowd out everybody else's.
	MaxVisited = 1 << 18
)

// ErrTooLarge: the search would touch more than MaxVisited concepts.
var ErrTooLarge = errors.New("the search touches too many concepts: ask with a smaller depth")

// Directions of an expansion.
const (
	Out = "out"
	In  = "in"
)

// Expand answers, for each id, its distinct neighbours in the direction (Out or In) in an order that is always the same, and
// whether the concept exists. Both results have one entry per id.
type Expand func(ctx context.Context, ids []string, direction string) (neighbors [][]string, known []bool, err error)

// ShortestPath finds a shortest path from start to end along outgoing associations, both ends included, of at most maxDepth
// edges (0 to MaxDepth). found is false when there is none or an end does not exist. Errors are ErrTooLarge, a maxDepth out
// of bounds, and those of expand.
func ShortestPath(ctx context.Context, start, end string, maxDepth int, expand Expand) (path []string, found bool, err error) {
	if maxDepth < 0 || maxDepth > MaxDepth {
		return nil, false, fmt.Errorf("depth %d: want 0 to %d", maxDepth, MaxDepth)
	}
	if start == end {
		_, known, err := ask(ctx, expand, []string{start}, Out)
		if err != nil || !known[0] {
			return nil, false, err
		}
		return []string{start}, true, nil
	}
	ahead, back := newSide(start, Out), newSide(end, In)
	for depth := 0; depth < maxDepth; depth++ {
		near, far := ahead, back
		if len(back.frontier) < len(ahead.frontier) {
			near, far = back, ahead
		}
		meet, ok, err := near.advance(ctx, expand, far)
		switch {
		case err != nil:
			return nil, false, err
		case ok:
			return join(ahead, back, meet), true, nil
		case len(near.frontier) == 0: // everything on this side has been seen, or its end does not exist
			return nil, false, nil
		}
	}
	return nil, false, nil
}

// side is the search from one end.
type side struct {
	direction string
	via       map[string]string // visited id -> the id it was reached from; the end itself: ""
	frontier  []string          // ids of the last complete level, in the order they were reached
}

func newSide(id, direction string) *side {
	return &side{direction: direction, via: map[string]string{id: ""}, frontier: []string{id}}
}

// advance visits the next level. The first id that the far side has visited is where a shortest path meets: both sides know
// complete levels, and no earlier pair of levels met, so that every meeting of this level is equally short.
func (s *side) advance(ctx context.Context, expand Expand, far *side) (meet string, ok bool, err error) {
	var next []string
	for ids := range slices.Chunk(s.frontier, MaxAsk) {
		neighbors, _, err := ask(ctx, expand, ids, s.direction)
		if err != nil {
			return "", false, err
		}
		for i, id := range ids {
			for _, n := range neighbors[i] {
				if _, seen := s.via[n]; seen {
					continue
				}
				s.via[n] = id
				if _, there := far.via[n]; there {
					return n, true, nil
				}
				next = append(next, n)
			}
			if len(s.via)+len(far.via) > MaxVisited {
				return "", false, fmt.Errorf("%w (more than %d)", ErrTooLarge, MaxVisited)
			}
		}
	}
	s.frontier = next
	return "", false, nil
}

// join puts the two halves together.
func join(ahead, back *side, meet string) []string {
	var path []string
	for id := meet; id != ""; id = ahead.via[id] {
		path = append(path, id)
	}
	slices.Reverse(path)
	for id := back.via[meet]; id != ""; id = back.via[id] {
		path = append(path, id)
	}
	return path
}

// ask calls expand and checks that it answered every id.
func ask(ctx context.Context, expand Expand, ids []string, direction string) ([][]string, []bool, error) {
	neighbors, known, err := expand(ctx, ids, direction)
	if err != nil {
		return nil, nil, err
	}
	if len(neighbors) != len(ids) || len(known) != len(ids) {
		return nil, nil, fmt.Errorf("expand %d concepts: got %d and %d answers", len(ids), len(neighbors), len(known))
	}
	return neighbors, known, nil
}
