package vector

import "slices"

// link puts a planned vector into the graph.
func (x *Index) link(v *newVector) {
	x.adopt(v.slot, func(yield func(uint32) bool) {
		for _, s := range v.chosen[0] {
			if !yield(s) {
				return
			}
		}
		for _, c := range v.near {
			if !yield(c.slot()) {
				return
			}
		}
	}, x.root)
	for level, chosen := range v.chosen {
		for _, s := range chosen {
			x.connect(v.slot, s, level)
		}
	}
}

// connect links two slots in a layer, unless one of them prefers what it has. A pair of the spanning tree is always linked.
func (x *Index) connect(a, b uint32, level int) {
	if x.list(a, level).has(b) || !x.take(a, b, level) {
		return
	}
	if !x.take(b, a, level) {
		x.list(a, level).remove(b)
	}
}

// take adds b to a's list. A full list is chosen anew from its members and b; whom it loses loses a as well. It tells
// whether b is in.
func (x *Index) take(a, b uint32, level int) bool {
	l := x.list(a, level)
	if !l.full() {
		l.add(b)
		return true
	}
	code := x.code(a)
	kept := make([]uint32, 0, len(l))
	others := make([]scored, 0, len(l))
	for _, s := range append(slices.Clone(l[1:]), b) {
		if level == 0 && x.related(a, s) {
			kept = append(kept, s)
		} else {
			others = append(others, score(x.dot(code, x.code(s)), s))
		}
	}
	slices.Sort(others)
	slices.Reverse(others)
	kept = x.choose(kept, others, len(l)-1)
	before := slices.Clone(l[1:])
	l.set(kept)
	for _, s := range before {
		if !slices.Contains(kept, s) {
			x.list(s, level).remove(a)
		}
	}
	return slices.Contains(kept, b)
}
