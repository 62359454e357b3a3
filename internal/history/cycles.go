package history

import (
	"fmt"
	"slices"
	"strings"
)

// maxSearches bounds the searches for a short cycle in one component. A component is a proof however many are made; with more of them
// the cycle is shorter, and G-single is told from G2-item more often.
const maxSearches = 256

// step is one edge of a cycle.
type step struct {
	from int
	edge
}

// cycles tells one cycle of each strongly connected component, with the worst class that it shows: first over what was written and
// read alone, then with what clients did one after the other, then with time.
func (g *dependencies) cycles() {
	for _, order := range []struct {
		kinds kind
		name  Class
	}{{0, ""}, {process, "-process"}, {process | realtime, "-realtime"}} {
		for _, kinds := range []kind{ww, ww | wr, ww | wr | rw} {
			for _, c := range g.components(kinds | order.kinds) {
				if !slices.ContainsFunc(c, func(v int) bool { return g.told[v] }) {
					g.tell(g.worst(c, kinds|order.kinds), order.name)
				}
			}
		}
	}
}

// worst is a cycle of a component: one with at most one rw if there is any, and the shortest of those that were found. No cycle of fewer
// kinds is in it, since that was told before.
func (g *dependencies) worst(component []int, kinds kind) (best []step) {
	in := make(map[int]bool, len(component))
	for _, v := range component {
		in[v] = true
	}
	searches := 0
	shorter := func(c []step) {
		if searches++; c != nil && (best == nil || len(c) < len(best)) {
			best = c
		}
	}
	if kinds&rw != 0 {
		for _, v := range component {
			for _, e := range g.out[v] {
				if e.kind == rw && in[int(e.to)] && searches < maxSearches {
					shorter(g.back(v, e, in, kinds&^rw))
				}
			}
		}
		if best != nil {
			return best
		}
		searches = 0
	}
	for _, v := range component {
		for _, e := range g.out[v] {
			if e.kind&kinds != 0 && in[int(e.to)] && searches < maxSearches {
				shorter(g.back(v, e, in, kinds))
			}
		}
	}
	return best
}

// back is the shortest way from an edge's end to its beginning, the edge first; nil: there is none.
func (g *dependencies) back(from int, first edge, in map[int]bool, kinds kind) []step {
	came := map[int]step{int(first.to): {from, first}}
	queue := []int{int(first.to)}
	for len(queue) > 0 && queue[0] != from {
		v := queue[0]
		queue = queue[1:]
		for _, e := range g.out[v] {
			to := int(e.to)
			if _, met := came[to]; e.kind&kinds == 0 || !in[to] || met {
				continue
			}
			came[to] = step{v, e}
			queue = append(queue, to)
		}
	}
	if len(queue) == 0 {
		return nil
	}
	cycle := []step{came[from]}
	for cycle[len(cycle)-1].from != from {
		cycle = append(cycle, came[cycle[len(cycle)-1].from])
	}
	slices.Reverse(cycle)
	return cycle
}

// tell reports a cycle.
func (g *dependencies) tell(cycle []step, suffix Class) {
	var all kind
	several := 0
	var calls []uint64
	var who, why strings.Builder
	for _, s := range cycle {
		g.told[s.from] = true
		if all |= s.kind; s.kind == rw {
			several++
		}
		calls = append(calls, g.txns[s.from].Call)
		fmt.Fprintf(&who, "\n%s", say(g.txns[s.from]))
		fmt.Fprintf(&why, "\n%s", g.say(s.from, s.edge))
	}
	class := G0
	switch {
	case several > 1:
		class = G2Item
	case several == 1:
		class = GSingle
	case all&wr != 0:
		class = G1c
	}
	g.report.Add(class+suffix, calls, "a cycle of %d transactions%s%s", len(cycle), who.String(), why.String())
}

// components is the strongly connected components of more than one transaction (Tarjan's algorithm, without recursion).
func (g *dependencies) components(kinds kind) [][]int {
	t := &tarjan{dependencies: g, kinds: kinds, index: make([]int32, len(g.out)), low: make([]int32, len(g.out)), on: make([]bool, len(g.out))}
	for v := range g.out {
		if t.index[v] == 0 {
			t.from(v)
		}
	}
	return t.found
}

type tarjan struct {
	*dependencies
	kinds      kind
	index, low []int32
	on         []bool // stack has it
	stack      []int
	last       int32
	found      [][]int
}

type frame struct{ v, next int }

func (t *tarjan) enter(v int) frame {
	t.last++
	t.index[v], t.low[v], t.on[v] = t.last, t.last, true
	t.stack = append(t.stack, v)
	return frame{v: v}
}

func (t *tarjan) from(root int) {
	for calls := []frame{t.enter(root)}; len(calls) > 0; {
		f := &calls[len(calls)-1]
		if f.next == len(t.out[f.v]) {
			v := f.v
			if calls = calls[:len(calls)-1]; len(calls) > 0 {
				u := calls[len(calls)-1].v
				t.low[u] = min(t.low[u], t.low[v])
			}
			t.leave(v)
			continue
		}
		e := t.out[f.v][f.next]
		f.next++
		switch to := int(e.to); {
		case e.kind&t.kinds == 0:
		case t.index[to] == 0:
			calls = append(calls, t.enter(to))
		case t.on[to]:
			t.low[f.v] = min(t.low[f.v], t.index[to])
		}
	}
}

// leave takes a component off the stack when its first transaction is done.
func (t *tarjan) leave(v int) {
	if t.low[v] != t.index[v] {
		return
	}
	at := len(t.stack) - 1
	for t.stack[at] != v {
		at--
	}
	c := slices.Clone(t.stack[at:])
	t.stack = t.stack[:at]
	for _, u := range c {
		t.on[u] = false
	}
	if len(c) > 1 {
		t.found = append(t.found, c)
	}
}
