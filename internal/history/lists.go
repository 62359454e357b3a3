package history

import (
	"slices"

	"github.com/sutra-grid/sutra-grid/transport"
)

// Lists checks appends and reads of lists for strict serialisability, as Elle does (Kingsbury and Alvaro, VLDB 2020, section 4): reads
// show in which order the appends to a list took effect; the dependencies between transactions that follow from that, from what each
// client did after the other, and from what was over before something else began, may not form a cycle. Its time grows linearly with
// what was read.
//
// of chooses the concepts that are lists; nil: all. Nobody may append the same element to a list twice, and nothing is removed from
// lists. Operations that are neither learn_association nor read_neighbors of a list are left out.
func Lists(h []Txn, of Concepts) Report {
	r := Report{Checker: "lists"}
	l := &lists{report: &r, keys: map[string]*list{}, told: map[int]bool{}}
	for _, t := range sorted(h) {
		l.note(t, of)
	}
	for k := range l.reads {
		l.internal(&l.reads[k])
	}
	slices.SortStableFunc(l.reads, func(a, b read) int { return len(b.seen) - len(a.seen) })
	for k := range l.reads {
		l.order(&l.reads[k])
	}
	if len(l.reads) == 0 || l.written == 0 {
		r.Checked = 0
	}
	r.empty()
	if !r.Has(Undecided) {
		l.elements()
		l.lostUpdates()
		l.dependencies().cycles()
	}
	return r
}

// lists is a history of lists on its way to a graph.
type lists struct {
	report  *Report
	txns    []Txn // with an operation on a list; failed ones too
	reads   []read
	keys    map[string]*list
	named   []*list      // in the order of their first operation
	written int          // appends
	told    map[int]bool // transactions that are part of an anomaly of which a cycle would tell once more
}

// list is one list.
type list struct {
	name    string
	number  int32
	writers map[string]int // of each element, index into txns
	last    map[int]string // each writer's last element
	order   []string       // as the longest read shows it
	witness int            // that read's transaction
	place   map[string]int // of each element in order
	broken  bool           // reads contradict each other: nothing follows from its order
}

// read is one read of a list in a committed transaction.
type read struct {
	txn    int
	list   *list
	seen   []string
	own    []string // what the transaction had appended before
	again  bool     // the transaction had read the list before
	before []string // what others had appended then
	ext    int      // how many of seen others had appended
	bad    bool     // it contradicts other reads
}

// others is what others had appended, if the transaction sees what it appended itself.
func (r *read) others() []string { return r.seen[:max(0, len(r.seen)-len(r.own))] }

func (l *lists) list(name string) *list {
	k := l.keys[name]
	if k == nil {
		k = &list{name: name, number: int32(len(l.named)), writers: map[string]int{}, last: map[int]string{}}
		l.keys[name] = k
		l.named = append(l.named, k)
	}
	return k
}

// note takes a transaction in.
func (l *lists) note(t Txn, of Concepts) {
	n, touched := len(l.txns), false
	before, own := map[*list]read{}, map[*list][]string{}
	for i, op := range t.Ops {
		if op.Kind != transport.OpLearnAssociation && op.Kind != transport.OpReadNeighbors || of != nil && !of(op.ID) {
			continue
		}
		touched = true
		k := l.list(op.ID)
		if op.Kind == transport.OpLearnAssociation {
			if _, twice := k.writers[op.Target]; twice {
				l.report.Add(Undecided, []uint64{t.Call}, "%s appends what was appended before: such a history cannot be judged", say(t))
			}
			k.writers[op.Target], k.last[n] = n, op.Target
			own[k] = append(own[k], op.Target)
			l.written++
			continue
		}
		if t.Outcome != OK || i >= len(t.Results) {
			continue
		}
		now := read{txn: n, list: k, seen: t.Results[i].Neighbors, own: slices.Clone(own[k])}
		if was, again := before[k]; again {
			now.before = was.others()
			now.again = true
		}
		before[k] = now
		l.reads = append(l.reads, now)
	}
	if touched {
		l.txns = append(l.txns, t)
		l.report.Checked++
	}
}

// internal checks a read against what its own transaction did before, and takes that off it.
func (l *lists) internal(r *read) {
	t := l.txns[r.txn]
	r.ext = len(r.others())
	if !slices.Equal(r.seen[r.ext:], r.own) {
		l.report.Add(Internal, []uint64{t.Call}, "%s reads %s as %s and had appended %s itself", say(t), r.list.name, tail(r.seen), tail(r.own))
		r.bad = true
		return
	}
	if r.again && !slices.Equal(r.before, r.others()) {
		l.report.Add(Internal, []uint64{t.Call}, "%s reads %s, its own elements aside, as %s and as %s", say(t), r.list.name, tail(r.before), tail(r.others()))
		r.bad = true
	}
}

// order compares a read with the longest one, which comes first.
func (l *lists) order(r *read) {
	k := r.list
	if k.place == nil {
		k.order, k.witness, k.place = r.seen, r.txn, map[string]int{}
	}
	if len(r.seen) <= len(k.order) && slices.Equal(r.seen, k.order[:len(r.seen)]) {
		return
	}
	r.bad, k.broken = true, true
	a, b := l.txns[k.witness], l.txns[r.txn]
	l.report.Add(Incompatible, []uint64{a.Call, b.Call}, "%s is read as %s and as %s\n%s\n%s", k.name, tail(k.order), tail(r.seen), say(a), say(b))
}

// elements looks at each list's elements: who wrote them, how often they are there.
func (l *lists) elements() {
	for _, k := range l.named {
		for i, e := range k.order {
			by := l.txns[k.witness]
			if at, twice := k.place[e]; twice {
				l.report.Add(Duplicate, []uint64{by.Call}, "%s has %s at %d and at %d\n%s", k.name, e, at, i, say(by))
				k.broken = true
				continue
			}
			k.place[e] = i
			w, known := k.writers[e]
			switch {
			case !known:
				l.report.Add(Garbage, []uint64{by.Call}, "%s has %s, which nobody appended\n%s", k.name, e, say(by))
			case l.txns[w].Outcome == Fail:
				l.report.Add(G1a, []uint64{l.txns[w].Call, by.Call}, "%s has %s of a transaction that failed\n%s\n%s", k.name, e, say(l.txns[w]), say(by))
			}
		}
	}
	for i := range l.reads {
		l.intermediate(&l.reads[i])
	}
}

// intermediate finds reads that end inside of what one transaction appended.
func (l *lists) intermediate(r *read) {
	if r.bad || r.ext == 0 {
		return
	}
	e := r.seen[r.ext-1]
	w, known := r.list.writers[e]
	if known && w != r.txn && r.list.last[w] != e {
		a, b := l.txns[w], l.txns[r.txn]
		l.report.Add(G1b, []uint64{a.Call, b.Call}, "%s is read up to %s, in the middle of what was appended together\n%s\n%s", r.list.name, e, say(a), say(b))
		l.told[w], l.told[r.txn] = true, true
	}
}

// lostUpdates finds transactions that read a list at the same length and then appended to it: only one can have been the next. They are
// a cycle, which is not told again.
func (l *lists) lostUpdates() {
	type version struct {
		list *list
		ext  int
	}
	first := map[version]int{}
	for _, r := range l.reads {
		if _, wrote := r.list.last[r.txn]; !wrote || r.bad || r.list.broken {
			continue
		}
		v := version{r.list, r.ext}
		other, met := first[v]
		if !met {
			first[v] = r.txn
		}
		if !met || other == r.txn {
			continue
		}
		a, b := l.txns[other], l.txns[r.txn]
		l.report.Add(LostUpdate, []uint64{a.Call, b.Call}, "both read %s with %d elements and appended to it\n%s\n%s", r.list.name, r.ext, say(a), say(b))
		l.told[other], l.told[r.txn] = true, true
	}
}
