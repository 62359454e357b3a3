package vector

import "iter"

// The spanning tree of layer 0. Every vector but the root has a parent, parents lead to the root, and parent and child are linked
// in layer 0 in both directions, whatever else the choice of neighbours drops. Hence from every vector a path leads to every
// other, also after any sequence of removals. A vector has at most M children, half its list: the other half is chosen freely.

// related tells whether two slots are parent and child.
func (x *Index) related(a, b uint32) bool { return x.parent(a) == b || x.parent(b) == a }

// roomy tells whether s may have another child.
func (x *Index) roomy(s uint32) bool {
	l, children := x.list(s, 0), 0
	for _, n := range l[1 : 1+l[0]] {
		if x.parent(n) == s {
			children++
		}
	}
	return children < x.o.M
}

// maxClimb bounds the way to the root that is followed. A tree over data in the order of a line can be as deep as it is
// large; then the fall-back finds a parent.
const maxClimb = 256

// attached tells whether s surely is in the root's tree.
func (x *Index) attached(s uint32) bool {
	for range maxClimb {
		if s == x.root {
			return true
		}
		if s = x.parent(s); s == none {
			return false
		}
	}
	return false
}

// adopt makes s, and what hangs below it, part of the tree: under the first candidate that is in it and has room, else below
// fallback, which is in it; that is none only when the tree is empty, and then s is its root.
func (x *Index) adopt(s uint32, candidates iter.Seq[uint32], fallback uint32) {
	if fallback == none {
		x.root = s
		return
	}
	parent := none
	for c := range candidates {
		if x.roomy(c) && x.attached(c) {
			parent = c
			break
		}
	}
	if parent == none {
		parent = x.below(fallback)
	}
	x.setParent(s, parent)
	x.connect(s, parent, 0)
}

// below finds a vector with room at s or under it. It ends: a leaf has room.
func (x *Index) below(s uint32) uint32 {
	for !x.roomy(s) {
		l := x.list(s, 0)
		for _, n := range l[1 : 1+l[0]] {
			if x.parent(n) == s {
				s = n
				break
			}
		}
	}
	return s
}

// orphan takes s out of the tree and answers its children, which have no parent then, and a vector of the tree that may
// adopt them; when s was the root that is none, and the first child to be adopted becomes the root.
func (x *Index) orphan(s uint32) (children []uint32, fallback uint32) {
	l := x.list(s, 0)
	for _, n := range l[1 : 1+l[0]] {
		if x.parent(n) == s {
			x.setParent(n, none)
			children = append(children, n)
		}
	}
	fallback = x.parent(s)
	x.setParent(s, none)
	if s == x.root {
		x.root = none
	}
	return children, fallback
}
