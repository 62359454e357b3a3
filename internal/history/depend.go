package history

import (
	"cmp"
	"fmt"
	"slices"
)

// kind is why one transaction comes before another one.
type kind uint8

const (
	ww       kind = 1 << iota // it appended the element before
	wr                        // it appended the last element that was read
	rw                        // it read the list without the element
	process                   // the client did it before
	realtime                  // it was over before the other one began
)

func (k kind) String() string {
	switch k {
	case ww:
		return "ww"
	case wr:
		return "wr"
	case rw:
		return "rw"
	case process:
		return "process"
	}
	return "realtime"
}

// edge says that a transaction comes before to; at is the place of the element in its list that says so, -1: no read has it.
type edge struct {
	to   int32
	list int32
	at   int32
	kind kind
}

// dependencies is the graph over the transactions of a history: those that were committed, and those of unknown outcome of which
// something was read.
type dependencies struct {
	*lists
	out      [][]edge
	happened []bool // acknowledged, or something of it was read
}

func (g *dependencies) add(from int, e edge) {
	if from != int(e.to) {
		g.out[from] = append(g.out[from], e)
	}
}

func (l *lists) dependencies() *dependencies {
	n := len(l.txns)
	g := &dependencies{lists: l, out: make([][]edge, n), happened: make([]bool, n)}
	for i, t := range l.txns {
		g.happened[i] = t.Outcome == OK
	}
	for _, k := range l.named {
		for _, e := range k.order {
			if w, known := k.writers[e]; known && l.txns[w].Outcome != Fail {
				g.happened[w] = true
			}
		}
	}
	unread := map[*list][]int{} // who appended what no read has, and surely did
	for _, k := range l.named {
		if !k.broken {
			unread[k] = g.appended(k, g.appends(k))
		}
	}
	for i := range l.reads {
		g.read(&l.reads[i], unread)
	}
	g.sessions()
	g.times()
	return g
}

// appends links who appended to a list to who appended next, and returns the last of them; -1: that is not known.
func (g *dependencies) appends(k *list) (last int) {
	last = -1
	for at, e := range k.order {
		w, known := k.writers[e]
		if !known || !g.happened[w] {
			last = -1
			continue
		}
		if last >= 0 {
			g.add(last, edge{int32(w), k.number, int32(at), ww})
		}
		last = w
	}
	return last
}

// appended links the last element of a list to those that surely were appended and that no read has: they are behind it.
func (g *dependencies) appended(k *list, last int) (unread []int) {
	for e, w := range k.writers {
		if _, read := k.place[e]; !read && g.happened[w] {
			unread = append(unread, w)
		}
	}
	slices.Sort(unread)
	unread = slices.Compact(unread)
	for _, w := range unread {
		if last >= 0 {
			g.add(last, edge{int32(w), k.number, -1, ww})
		}
	}
	return unread
}

// read links a read to who appended its last element and to who appended what it does not have yet.
func (g *dependencies) read(r *read, unread map[*list][]int) {
	k := r.list
	if r.bad || k.broken {
		return
	}
	if r.ext > 0 {
		if w, known := k.writers[k.order[r.ext-1]]; known {
			g.add(w, edge{int32(r.txn), k.number, int32(r.ext - 1), wr})
		}
	}
	if r.ext < len(k.order) {
		if w, known := k.writers[k.order[r.ext]]; known {
			g.add(r.txn, edge{int32(w), k.number, int32(r.ext), rw})
		}
		return
	}
	for _, w := range unread[k] {
		g.add(r.txn, edge{int32(w), k.number, -1, rw})
	}
}

// sessions links what a client did to what it did next. What it gave up on may have happened later.
func (g *dependencies) sessions() {
	last := map[int]int{}
	for i, t := range g.txns {
		if !g.happened[i] {
			continue
		}
		if before, has := last[t.Client]; has && g.txns[before].Return <= t.Invoke {
			g.add(before, edge{to: int32(i), kind: process})
		}
		if t.Outcome == OK {
			last[t.Client] = i
		}
	}
}

// times links what was over to what began later. What follows by way of a third transaction is left out: at each moment only the
// transactions that are over, and before no other one that is, are linked to what begins; they are at most as many as clients.
func (g *dependencies) times() {
	type moment struct {
		at   int64
		txn  int
		over bool
	}
	var all []moment
	for i, t := range g.txns {
		if g.happened[i] {
			all = append(all, moment{t.Invoke, i, false})
		}
		if t.Outcome == OK {
			all = append(all, moment{t.Return, i, true})
		}
	}
	slices.SortStableFunc(all, func(a, b moment) int {
		if a.at == b.at && a.over != b.over { // equal moments are concurrent: beginnings first
			if b.over {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.at, b.at)
	})
	frontier, covers := map[int]bool{}, map[int][]int{}
	for _, m := range all {
		if m.over {
			for _, f := range covers[m.txn] {
				delete(frontier, f)
			}
			delete(covers, m.txn)
			frontier[m.txn] = true
			continue
		}
		begun := make([]int, 0, len(frontier))
		for f := range frontier {
			begun = append(begun, f)
			g.add(f, edge{to: int32(m.txn), kind: realtime})
		}
		if g.txns[m.txn].Outcome == OK {
			covers[m.txn] = begun
		}
	}
}

// say is an edge for people.
func (g *dependencies) say(from int, e edge) string {
	a, b := g.txns[from], g.txns[e.to]
	text := fmt.Sprintf("T%d -%s-> T%d: ", a.Call, e.kind, b.Call)
	switch e.kind {
	case process:
		return text + fmt.Sprintf("client %d did one after the other", a.Client)
	case realtime:
		return text + fmt.Sprintf("T%d was acknowledged at %s, T%d began at %s", a.Call, moment(a.Return), b.Call, moment(b.Invoke))
	}
	k := g.named[e.list]
	if e.at < 0 {
		if e.kind == ww {
			return text + fmt.Sprintf("T%d appended to %s what was there last; what T%d appended no read has", a.Call, k.name, b.Call)
		}
		return text + fmt.Sprintf("T%d read %s without what T%d appended", a.Call, k.name, b.Call)
	}
	element := k.order[e.at]
	switch e.kind {
	case ww:
		return text + fmt.Sprintf("T%d appended %s to %s, right behind T%d's %s", b.Call, element, k.name, a.Call, k.order[e.at-1])
	case wr:
		return text + fmt.Sprintf("T%d appended %s to %s, which T%d read", a.Call, element, k.name, b.Call)
	}
	return text + fmt.Sprintf("T%d read %s without %s, which T%d appended", a.Call, k.name, element, b.Call)
}
