package vector

import "slices"

// remove takes a slot out of the graph and lets its neighbours find others among themselves. Its own lists stay, so that a
// search that stands on it can go on.
func (x *Index) remove(s uint32) {
	x.setLive(s, false)
	x.forget(s)
	children, fallback := x.orphan(s)
	x.replaceEntry(s)
	for level := x.level(s); level >= 0; level-- {
		l := x.list(s, level)
		around := slices.Clone(l[1 : 1+l[0]])
		for _, n := range around {
			x.list(n, level).remove(s)
		}
		if level == 0 {
			x.adoptAll(children, around, fallback)
		}
		for _, n := range around {
			x.mend(n, around, level)
		}
	}
	x.release(s)
}

// forget ends an id's being in s, unless it is in another slot by now.
func (x *Index) forget(s uint32) {
	x.names.Lock()
	defer x.names.Unlock()
	if id := x.id(s); x.slots[id] == s {
		delete(x.slots, id)
	}
}

// adoptAll gives the children of a removed vector parents near them: their neighbours, or those of the removed one.
func (x *Index) adoptAll(children, around []uint32, fallback uint32) {
	for _, c := range children {
		l := x.list(c, 0)
		near := x.ranked(c, append(slices.Clone(l[1:1+l[0]]), around...))
		x.adopt(c, func(yield func(uint32) bool) {
			for _, n := range near {
				if !yield(n.slot()) {
					return
				}
			}
		}, fallback)
		if fallback == none {
			fallback = x.root
		}
	}
}

// ranked orders slots by their nearness to s, which is not one of the answer.
func (x *Index) ranked(s uint32, slots []uint32) []scored {
	code := x.code(s)
	r := make([]scored, 0, len(slots))
	for _, n := range slots {
		if n != s {
			r = append(r, score(x.dot(code, x.code(n)), n))
		}
	}
	slices.Sort(r)
	slices.Reverse(r)
	return slices.Compact(r)
}

// mend gives s, which has lost a neighbour, another one of those around the lost one: the nearest in a direction in which it
// has none, or the nearest of all when it has none at all.
func (x *Index) mend(s uint32, around []uint32, level int) {
	l := x.list(s, level)
	if l.full() {
		return
	}
	has := l[1 : 1+l[0]]
	for _, c := range x.ranked(s, around) {
		if l.has(c.slot()) || !x.apart(has, c) {
			continue
		}
		x.connect(s, c.slot(), level)
		return
	}
}

// replaceEntry finds another entry point when s is it: the lowest slot of the highest layer.
func (x *Index) replaceEntry(s uint32) {
	if x.entryPoint().slot != s {
		return
	}
	next := entryPoint{slot: none}
	for n := range x.used {
		if !x.live(n) {
			continue
		}
		if level := x.level(n); next.slot == none || level > next.level {
			next = entryPoint{n, level}
		}
	}
	x.entry.Store(next.pack())
}
