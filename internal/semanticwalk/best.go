package semanticwalk

import (
	"cmp"
	"container/heap"
	"context"
	"math"
	"slices"
)

// ahead is the least that is to come on the way to the end: cost, and of that cost the fewest edges.
type ahead struct {
	cost  int64
	edges int
}

var unreachable = ahead{cost: math.MaxInt64}

func (a ahead) compare(b ahead) int {
	return cmp.Or(cmp.Compare(a.cost, b.cost), cmp.Compare(a.edges, b.edges))
}

// remaining computes, for every number of edges that may be left and every node, the least that is to come.
func (g *graph) remaining(end int32, depth int) [][]ahead {
	table := make([][]ahead, depth+1)
	for left := range table {
		table[left] = slices.Repeat([]ahead{unreachable}, len(g.nodes))
		table[left][end] = ahead{}
		if left == 0 {
			continue
		}
		for n, edges := range g.out {
			if int32(n) == end {
				continue
			}
			for _, e := range edges {
				if rest := table[left-1][e.to]; rest != unreachable {
					if via := (ahead{e.cost + rest.cost, 1 + rest.edges}); via.compare(table[left][n]) < 0 {
						table[left][n] = via
					}
				}
			}
		}
	}
	return table
}

// best finds the first most simple paths from start to end in the order of answers. It is A*: beginnings of paths are taken up in
// the order of the best that they may become, which `remaining` says without ever saying too much, so that what is complete
// first is best. Ties are taken up in the order of their ids, which leads straight on to the end.
func (g *graph) best(ctx context.Context, start, end int32, depth, most int) ([]chain, error) {
	table := g.remaining(end, depth)
	if table[depth][start] == unreachable {
		return nil, nil
	}
	open := &beginnings{g: g, items: []beginning{{chain: chain{nodes: []int32{start}}, may: table[depth][start]}}}
	var found []chain
	for steps := 0; len(open.items) > 0 && len(found) < most; steps++ {
		if steps%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		b := heap.Pop(open).(beginning)
		last := b.nodes[len(b.nodes)-1]
		if last == end {
			found = append(found, b.chain)
			continue
		}
		left := depth - len(b.nodes)
		for _, e := range g.out[last] {
			if left < 0 || table[left][e.to] == unreachable || slices.Contains(b.nodes, e.to) {
				continue
			}
			next := chain{nodes: append(slices.Clone(b.nodes), e.to), cost: b.cost + e.cost}
			rest := table[left][e.to]
			heap.Push(open, beginning{chain: next, may: ahead{next.cost + rest.cost, len(b.nodes) + rest.edges}})
		}
		if len(open.items) > MaxSteps || steps > MaxSteps {
			return nil, tooLarge("beginnings of paths", MaxSteps)
		}
	}
	return found, nil
}

// beginning is the beginning of a path, and the best that it may become.
type beginning struct {
	chain
	may ahead
}

// beginnings is a heap of them.
type beginnings struct {
	g     *graph
	items []beginning
}

func (b *beginnings) Len() int { return len(b.items) }
func (b *beginnings) Less(i, j int) bool {
	x, y := &b.items[i], &b.items[j]
	return cmp.Or(x.may.compare(y.may), b.g.compareIDs(x.nodes, y.nodes)) < 0
}
func (b *beginnings) Swap(i, j int) { b.items[i], b.items[j] = b.items[j], b.items[i] }
func (b *beginnings) Push(x any)    { b.items = append(b.items, x.(beginning)) }
func (b *beginnings) Pop() any {
	last := len(b.items) - 1
	x := b.items[last]
	b.items[last] = beginning{}
	b.items = b.items[:last]
	return x
}

// label is the best chain to a node so far, by its last step.
type label struct {
	node  int32
	edges int
	cost  int64
	from  *label
}

func (l *label) nodes() []int32 {
	nodes := make([]int32, l.edges+1)
	for at := l; at != nil; at = at.from {
		nodes[at.edges] = at.node
	}
	return nodes
}

// tree finds the best chain of at most depth edges to every node but start. Costs are not negative, so the best chain to a node
// is simple, and what comes before its last edge is the best chain with one edge less.
func (g *graph) tree(start int32, depth int) []chain {
	labels := make([]*label, len(g.nodes))
	labels[start] = &label{node: start}
	changed := []*label{labels[start]}
	for range depth {
		next := map[int32]*label{}
		for _, l := range changed {
			for _, e := range g.out[l.node] {
				via := &label{node: e.to, edges: l.edges + 1, cost: l.cost + e.cost, from: l}
				if better := next[e.to]; better != nil && !g.before(via, better) {
					continue
				}
				if labels[e.to] == nil || g.before(via, labels[e.to]) {
					next[e.to] = via
				}
			}
		}
		changed = changed[:0]
		for n, l := range next {
			labels[n] = l
			changed = append(changed, l)
		}
	}
	var chains []chain
	for n, l := range labels {
		if l != nil && int32(n) != start {
			chains = append(chains, chain{nodes: l.nodes(), cost: l.cost})
		}
	}
	return chains
}

func (g *graph) before(a, b *label) bool {
	if c := cmp.Or(cmp.Compare(a.cost, b.cost), cmp.Compare(a.edges, b.edges)); c != 0 {
		return c < 0
	}
	return g.compareIDs(a.nodes(), b.nodes()) < 0
}
