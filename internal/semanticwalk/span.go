package semanticwalk

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/sutra-grid/sutra-grid/transport"
)

// span finds chains among the concepts of a span of time: each that nothing in the span follows, with what came directly before
// it, and before that.
func span(ctx context.Context, s Store, f *transport.SemanticFilter) ([]transport.SemanticPath, error) {
	w := newWalk(s, f)
	err := s.Survey(ctx, f, func(page []transport.Classified) error {
		for _, c := range page {
			if _, twice := w.at[c.ConceptID]; twice { // pages are not one point in time
				continue
			}
			if w.add(c); len(w.nodes) > MaxVisited {
				return tooLarge("concepts", MaxVisited)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := w.within(ctx); err != nil {
		return nil, err
	}
	return w.sorted(w.lasts()), nil
}

// within reads the associations between the nodes that lead onwards in time.
func (w *walk) within(ctx context.Context) error {
	all := make([]int32, len(w.nodes))
	for n := range all {
		all[n] = int32(n)
	}
	for part := range slices.Chunk(all, maxChunk) {
		links, err := w.store.Links(ctx, &transport.Links{ConceptIDs: w.ids(part), Direction: out})
		if err != nil {
			return err
		}
		if len(links) != len(part) {
			return wrongCount("read associations", len(links), len(part))
		}
		for i, n := range part {
			for _, l := range links[i] {
				if to, there := w.at[l.ID]; there && w.earlier(n, to) {
					w.link(n, to, l.Confidence)
				}
			}
		}
		if len(w.edges) > MaxEdges {
			return tooLarge("associations", MaxEdges)
		}
	}
	return nil
}

// earlier orders nodes by time, then by id.
func (g *graph) earlier(a, b int32) bool {
	return cmp.Or(cmp.Compare(g.nodes[a].Time, g.nodes[b].Time), strings.Compare(g.id(a), g.id(b))) < 0
}

// lasts makes a chain for each node that nothing follows, of at most MaxPathDepth edges; one that nothing comes before is no chain.
func (g *graph) lasts() []chain {
	before := make([]int32, len(g.nodes)) // what came directly before; -1: nothing
	cost := make([]int64, len(g.nodes))   // of the edge from there
	for n := range before {
		before[n] = -1
	}
	for n, edges := range g.out {
		for _, e := range edges {
			if b := before[e.to]; b < 0 || g.earlier(b, int32(n)) {
				before[e.to], cost[e.to] = int32(n), e.cost
			}
		}
	}
	var chains []chain
	for n, edges := range g.out {
		if len(edges) > 0 || before[n] < 0 {
			continue
		}
		c := chain{nodes: []int32{int32(n)}}
		for at := int32(n); before[at] >= 0 && len(c.nodes) <= transport.MaxPathDepth; at = before[at] {
			c.nodes, c.cost = append(c.nodes, before[at]), c.cost+cost[at]
		}
		slices.Reverse(c.nodes)
		chains = append(chains, c)
	}
	return chains
}
