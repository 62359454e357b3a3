package semanticwalk

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/sutra-grid/sutra-grid/transport"
)

// graph is the part of the data that a walk knows.
type graph struct {
	nodes []transport.Classified
	ok    []bool // per node: it exists and passes
	at    map[string]int32
	out   [][]edge // per node
	edges map[[2]int32]struct{}
}

// edge leads to a node. Its cost is the negative logarithm of its confidence, in fixed point: costs add up exactly, in any
// order, where confidences would multiply to something slightly different each time.
type edge struct {
	to   int32
	cost int64
}

// costUnit is a cost of 1 (natural logarithm). The least confidence that a float32 can hold costs about 103 of them, so the
// costs of a path stay far below an int64's end.
const costUnit = 1 << 40

// costOf is the cost of a confidence; false: it has none, and is not walked along. Above 1 is 1.
func costOf(confidence float32) (int64, bool) {
	if !(confidence > 0) {
		return 0, false
	}
	return int64(math.Round(-math.Log(min(float64(confidence), 1)) * costUnit)), true
}

// confidenceOf is the product of the confidences that make a cost.
func confidenceOf(cost int64) float32 { return float32(math.Exp(-float64(cost) / costUnit)) }

func newGraph() *graph {
	return &graph{at: map[string]int32{}, edges: map[[2]int32]struct{}{}}
}

// add takes a node in.
func (g *graph) add(c transport.Classified) int32 {
	n := int32(len(g.nodes))
	g.at[c.ConceptID] = n
	g.nodes, g.ok, g.out = append(g.nodes, c), append(g.ok, c.Known && c.Passes), append(g.out, nil)
	return n
}

// link adds an edge; the first one between two nodes stays. It tells whether there is one now.
func (g *graph) link(from, to int32, confidence float32) bool {
	cost, ok := costOf(confidence)
	if !ok {
		return false
	}
	if _, there := g.edges[[2]int32{from, to}]; !there {
		g.edges[[2]int32{from, to}] = struct{}{}
		g.out[from] = append(g.out[from], edge{to, cost})
	}
	return true
}

func (g *graph) id(n int32) string { return g.nodes[n].ConceptID }

// chain is a path in the making: its nodes, and the cost of the edges between them.
type chain struct {
	nodes []int32
	cost  int64
}

// compare is the order of answers: confidence, highest first, then length, then ids.
func (g *graph) compare(a, b chain) int {
	return cmp.Or(cmp.Compare(a.cost, b.cost), cmp.Compare(len(a.nodes), len(b.nodes)), g.compareIDs(a.nodes, b.nodes))
}

func (g *graph) compareIDs(a, b []int32) int {
	return slices.CompareFunc(a, b, func(m, n int32) int { return strings.Compare(g.id(m), g.id(n)) })
}

// path is a chain as it is answered.
func (g *graph) path(c chain) transport.SemanticPath {
	p := transport.SemanticPath{Confidence: confidenceOf(c.cost), TypeDistribution: map[string]uint32{}, Domains: []string{}, IsTemporallyOrdered: true}
	for i, n := range c.nodes {
		node := &g.nodes[n]
		p.Concepts = append(p.Concepts, node.ConceptID)
		p.TypeDistribution[node.SemanticType]++
		p.Domains = append(p.Domains, node.Domain)
		p.IsTemporallyOrdered = p.IsTemporallyOrdered && (i == 0 || g.nodes[c.nodes[i-1]].Time <= node.Time)
	}
	slices.Sort(p.Domains)
	p.Domains = slices.Compact(p.Domains)
	return p
}
