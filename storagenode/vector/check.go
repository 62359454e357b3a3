package vector

import (
	"fmt"
	"slices"
)

// verify checks the graph's invariants (doc.go, tree.go). The caller holds write. It takes time in proportion to the links.
func (x *Index) verify() error {
	inGraph := 0
	for s := range x.used {
		if !x.live(s) {
			continue
		}
		inGraph++
		if at, ok := x.slots[x.id(s)]; !ok || at != s {
			return fmt.Errorf("slot %d holds %q, which is in slot %d (%v)", s, x.id(s), at, ok)
		}
		for level := range x.level(s) + 1 {
			if err := x.verifyList(s, level); err != nil {
				return fmt.Errorf("slot %d, layer %d: %w", s, level, err)
			}
		}
	}
	if inGraph != len(x.slots) {
		return fmt.Errorf("%d slots in the graph, %d ids", inGraph, len(x.slots))
	}
	if err := x.verifyEntry(); err != nil {
		return err
	}
	return x.verifyTree()
}

func (x *Index) inGraph(s uint32) bool { return s < x.used && x.live(s) }

// verifyList: neighbours are others, in the layer, no one twice, and have s as theirs.
func (x *Index) verifyList(s uint32, level int) error {
	l := x.list(s, level)
	if l.len() >= len(l) {
		return fmt.Errorf("%d neighbours, at most %d have room", l.len(), len(l)-1)
	}
	for i := range l.len() {
		n := l.at(i)
		switch {
		case n == s || !x.inGraph(n) || x.level(n) < level:
			return fmt.Errorf("a link to %d, which cannot be a neighbour", n)
		case l.index(n) != i:
			return fmt.Errorf("%d is linked twice", n)
		case !x.list(n, level).has(s):
			return fmt.Errorf("the link to %d does not lead back", n)
		}
	}
	return nil
}

// verifyEntry: the entry point is in the highest layer that any vector is in.
func (x *Index) verifyEntry() error {
	e := x.entryPoint()
	if e.slot == none {
		if len(x.slots) > 0 || x.root != none {
			return fmt.Errorf("no entry point to %d vectors", len(x.slots))
		}
		return nil
	}
	if !x.inGraph(e.slot) || x.level(e.slot) != e.level {
		return fmt.Errorf("entry point %d is not in layer %d", e.slot, e.level)
	}
	for s := range x.used {
		if x.live(s) && x.level(s) > e.level {
			return fmt.Errorf("slot %d is in layer %d, above the entry point's %d", s, x.level(s), e.level)
		}
	}
	return nil
}

// verifyTree: parents are linked, have at most M children, and lead to the root.
func (x *Index) verifyTree() error {
	if x.root == none {
		return nil
	}
	if !x.inGraph(x.root) || x.parent(x.root) != none {
		return fmt.Errorf("slot %d cannot be the root", x.root)
	}
	children := make([]int, x.used)
	for s := range x.used {
		if !x.live(s) || s == x.root {
			continue
		}
		p := x.parent(s)
		if p == none || !x.list(s, 0).has(p) {
			return fmt.Errorf("slot %d is not linked to a parent (%d)", s, p)
		}
		if children[p]++; children[p] > x.o.M {
			return fmt.Errorf("slot %d has more than %d children", p, x.o.M)
		}
	}
	return x.verifyWays()
}

// verifyWays: from every vector parents lead to the root. Each is known to be linked.
func (x *Index) verifyWays() error {
	walked := make([]bool, x.used) // by an earlier way, which led to the root, or by this one
	walked[x.root] = true
	var way []uint32
	for s := range x.used {
		if !x.live(s) {
			continue
		}
		for way = way[:0]; !walked[s]; s = x.parent(s) {
			walked[s] = true
			way = append(way, s)
		}
		if slices.Contains(way, s) {
			return fmt.Errorf("slot %d is its own ancestor", s)
		}
	}
	return nil
}
