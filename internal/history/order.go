package history

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/sutra-grid/sutra-grid/transport"
)

// Forks finds long forks (Sovran and others, SOSP 2011, parallel snapshot isolation): the concepts of a group, which is what their ids
// have up to the last dash, are each created once and never deleted, so what transactions see of a group can be put in an order in which
// each sees what the one before it saw. The time is that of sorting.
func Forks(h []Txn, of Concepts) Report {
	r := Report{Checker: "long fork"}
	groups := map[string][]seenSet{}
	var names []string
	for _, t := range sorted(h) {
		if t.Outcome != OK || len(t.Results) != len(t.Ops) {
			continue
		}
		s := seenSet{txn: t, has: map[string]bool{}}
		for i, op := range t.Ops {
			if op.Kind == transport.OpRead && (of == nil || of(op.ID)) {
				s.group = op.ID[:max(0, strings.LastIndexByte(op.ID, '-'))]
				if s.has[op.ID] = t.Results[i].Found; t.Results[i].Found {
					s.n++
				}
			}
		}
		if len(s.has) < 2 {
			continue
		}
		if groups[s.group] == nil {
			names = append(names, s.group)
		}
		groups[s.group] = append(groups[s.group], s)
		r.Checked++
	}
	for _, name := range names {
		g := groups[name]
		slices.SortStableFunc(g, func(a, b seenSet) int { return cmp.Compare(a.n, b.n) })
		for i := 1; i < len(g); i++ {
			if id, missed := g[i].misses(g[i-1]); missed {
				r.Add(LongFork, []uint64{g[i-1].txn.Call, g[i].txn.Call}, "only one of them sees %s, and only the other one something else\n%s\n%s", id, say(g[i-1].txn), say(g[i].txn))
			}
		}
	}
	r.empty()
	return r
}

// seenSet is the concepts of a group as a transaction saw them.
type seenSet struct {
	txn   Txn
	group string
	has   map[string]bool
	n     int
}

// misses is a concept that s looked for and did not find, and that the smaller set has.
func (s seenSet) misses(smaller seenSet) (string, bool) {
	for _, op := range smaller.txn.Ops {
		if there, read := s.has[op.ID]; smaller.has[op.ID] && read && !there {
			return op.ID, true
		}
	}
	return "", false
}

// Sequences checks that what a client creates one after the other ("<chain>-<number>", the next when the last is acknowledged) is seen in
// that order: who finds one finds, from then on, all with lower numbers. Reads need not be of one transaction.
func Sequences(h []Txn, of Concepts) Report {
	r := Report{Checker: "sequential"}
	type fact struct {
		txn    Txn
		number int
		found  bool
	}
	chains := map[string][]fact{}
	var names []string
	for _, t := range sorted(h) {
		if t.Outcome != OK || len(t.Results) != len(t.Ops) {
			continue
		}
		for i, op := range t.Ops {
			dash := strings.LastIndexByte(op.ID, '-')
			if op.Kind != transport.OpRead || dash < 0 || of != nil && !of(op.ID) {
				continue
			}
			n, err := strconv.Atoi(op.ID[dash+1:])
			if err != nil {
				continue
			}
			if chains[op.ID[:dash]] == nil {
				names = append(names, op.ID[:dash])
			}
			chains[op.ID[:dash]] = append(chains[op.ID[:dash]], fact{t, n, t.Results[i].Found})
			r.Checked++
		}
	}
	for _, name := range names {
		begun := chains[name] // by Invoke
		ended := slices.Clone(begun)
		slices.SortStableFunc(ended, func(a, b fact) int { return cmp.Compare(a.txn.Return, b.txn.Return) })
		var high *fact
		next := 0
		for _, f := range begun {
			for ; ended[next].txn.Return < f.txn.Invoke; next++ {
				if e := &ended[next]; e.found && (high == nil || e.number > high.number) {
					high = e
				}
			}
			if high != nil && !f.found && f.number <= high.number {
				r.Add(Sequential, []uint64{high.txn.Call, f.txn.Call}, "%s-%d was there before, and %s-%d, which was there before that, is not found\n%s\n%s",
					name, high.number, name, f.number, say(high.txn), say(f.txn))
			}
		}
	}
	r.empty()
	return r
}

// Counters checks numbers that adds of 1 gave: none twice, and none that began later is lower than one that was there before.
func Counters(h []Txn, of Concepts) Report {
	r := Report{Checker: "unique ids"}
	type key struct {
		id    string
		value int64
	}
	given := map[key]Txn{}
	for _, t := range sorted(h) {
		if t.Outcome != OK || len(t.Results) != len(t.Ops) {
			continue
		}
		for i, op := range t.Ops {
			if op.Kind != transport.OpAdd || op.Number != 1 || of != nil && !of(op.ID) {
				continue
			}
			r.Checked++
			k := key{op.ID, t.Results[i].Value}
			if was, twice := given[k]; twice {
				r.Add(DuplicateID, []uint64{was.Call, t.Call}, "%s gave %d twice\n%s\n%s", op.ID, k.value, say(was), say(t))
			}
			given[k] = t
		}
	}
	r.empty()
	return r
}

// Sets checks, as set-full does in Jepsen, concepts that are created and never deleted, against queries of IndexScan: what was acknowledged
// before a query began is in its answer, what surely failed never is, and once an answer had an element all later ones have it.
func Sets(l *Log, of Concepts) Report {
	r := Report{Checker: "set-full"}
	type element struct {
		txn   Txn
		since int64 // when it was surely there
	}
	elements := map[string]*element{}
	var order []string
	for _, t := range sorted(l.Txns) {
		for _, op := range t.Ops {
			if op.Kind == transport.OpLearnConcept && (of == nil || of(op.ID)) {
				e := &element{t, Never}
				if t.Outcome == OK {
					e.since = t.Return
				}
				elements[op.ID] = e
				order = append(order, op.ID)
			}
		}
	}
	queries := slices.Clone(l.Queries)
	slices.SortStableFunc(queries, func(a, b Query) int { return cmp.Compare(a.Return, b.Return) })
	for _, q := range queries {
		if q.Outcome != OK || q.Index != IndexScan || of != nil && !of(q.Of) {
			continue
		}
		r.Checked++
		has := map[string]bool{}
		for _, id := range q.IDs {
			has[id] = true
			switch e := elements[id]; {
			case e == nil:
				r.Add(Garbage, []uint64{q.Call}, "query %d has %s, which nobody created", q.Call, id)
			case e.txn.Outcome == Fail:
				r.Add(G1a, []uint64{e.txn.Call, q.Call}, "query %d has %s, which surely was not created\n%s", q.Call, id, say(e.txn))
			default:
				e.since = min(e.since, q.Return)
			}
		}
		for _, id := range order {
			if e := elements[id]; e.since < q.Invoke && !has[id] && strings.HasPrefix(id, q.Of) {
				r.Add(LostElement, []uint64{e.txn.Call, q.Call}, "query %d, from %s, lacks %s, which was there at %s\n%s", q.Call, moment(q.Invoke), id, moment(e.since), say(e.txn))
			}
		}
	}
	if len(elements) == 0 {
		r.Checked = 0
	}
	r.empty()
	return r
}

// Owners checks what IndexNodes says: a node belongs to one agent for ever, and is listed once.
func Owners(l *Log) Report {
	r := Report{Checker: "owners"}
	owner := map[string]string{}
	for _, q := range l.Queries {
		if q.Outcome != OK || q.Index != IndexNodes {
			continue
		}
		r.Checked++
		listed := map[string]bool{}
		for _, id := range q.IDs {
			node, agent, _ := strings.Cut(id, "@")
			if was, known := owner[node]; known && was != agent || listed[node] {
				r.Add(TwoOwners, []uint64{q.Call}, "query %d: %s belongs to %s, and to %s", q.Call, node, agent, cmp.Or(was, agent))
			}
			owner[node], listed[node] = agent, true
		}
	}
	r.empty()
	return r
}

// Members checks what IndexAgents says of agents whose registrations are registers of the same log, with one writer each: one that was
// acknowledged before the query began is listed, unless it may have left by its end; one that surely had left is not. Leaving is the
// write with the highest version, and what is never acknowledged to be written was not.
func Members(l *Log) Report {
	r := Report{Checker: "members"}
	type member struct {
		since, leaving, gone int64
	}
	agents := map[string]*member{}
	var names []string
	for _, o := range l.Registers {
		if !o.Foreign || o.Kind == RegisterRead {
			continue
		}
		m := agents[o.Key]
		if m == nil {
			m = &member{Never, Never, Never}
			agents[o.Key] = m
			names = append(names, o.Key)
		}
		switch left := strings.HasPrefix(o.Value, LeftValue); {
		case !left && o.Outcome == OK:
			m.since = min(m.since, o.Return)
		case left && o.Outcome != Fail:
			if m.leaving = min(m.leaving, o.Invoke); o.Outcome == OK {
				m.gone = min(m.gone, o.Return)
			}
		}
	}
	for _, q := range l.Queries {
		if q.Outcome != OK || q.Index != IndexAgents {
			continue
		}
		r.Checked++
		listed := map[string]bool{}
		for _, id := range q.IDs {
			listed[id] = true
		}
		for _, name := range names {
			m := agents[name]
			if m.since < q.Invoke && m.leaving > q.Return && !listed[name] {
				r.Add(LostWrite, []uint64{q.Call}, "query %d, from %s, lacks agent %s, which was registered at %s", q.Call, moment(q.Invoke), name, moment(m.since))
			}
			if m.gone < q.Invoke && listed[name] {
				r.Add(StaleRead, []uint64{q.Call}, "query %d, from %s, has agent %s, which had left at %s", q.Call, moment(q.Invoke), name, moment(m.gone))
			}
		}
	}
	r.empty()
	return r
}

// LeftValue is how the value of an agent begins that has left.
const LeftValue = "left-"
