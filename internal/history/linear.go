package history

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/sutra-grid/sutra-grid/transport"
)

// Concepts chooses concepts by id.
type Concepts func(id string) bool

// LinearConfig bounds a check.
type LinearConfig struct {
	Of      Concepts      // what is judged; operations on other concepts are left out, which is sound; nil: everything
	Timeout time.Duration // for one group of concepts; zero: 10 s. A group that takes longer is Undecided, which is no pass
	Most    int           // transactions of one group; zero: 20,000. A larger one is Undecided: memory grows with its square
}

// Linear checks with Porcupine (Lowe's variant of the algorithm of Wing and Gong) that transactions can be put in an order which lies
// between their beginnings and ends and in which a machine that does one after the other says what was said. Concepts that no
// transaction touches together are independent and are checked as groups of their own, so a load should change its concepts now and
// then: each group is exponential in what is under way at once and in the unknown ends of its transactions.
//
// A transaction that failed for an operation's precondition must have failed for it at some moment between its beginning and its end.
func Linear(h []Txn, c LinearConfig) Report {
	r := Report{Checker: "linear"}
	c.Timeout, c.Most = cmp.Or(c.Timeout, 10*time.Second), cmp.Or(c.Most, 20_000)
	for _, g := range groups(project(h, c.Of)) {
		r.Checked += len(g)
		if len(g) > c.Most {
			r.Add(Undecided, nil, "%d transactions share the concepts of %s: more than %d", len(g), say(g[0]), c.Most)
			continue
		}
		c.group(&r, g)
	}
	r.empty()
	return r
}

// project leaves the operations on chosen concepts, and the transactions that have any and say anything: one that surely did not
// happen says nothing, unless it names the operation that did not hold.
func project(h []Txn, of Concepts) []Txn {
	var all []Txn
	for _, t := range sorted(h) {
		if t.Outcome == Fail && t.FailedOp == 0 {
			continue
		}
		p, failed := t, t.FailedOp
		p.Ops, p.Results, p.FailedOp = nil, nil, 0
		for i, op := range t.Ops {
			if of != nil && !of(op.ID) {
				continue
			}
			p.Ops = append(p.Ops, op)
			if len(t.Results) > 0 {
				p.Results = append(p.Results, t.Results[i])
			}
			if i+1 == failed {
				p.FailedOp = len(p.Ops)
			}
		}
		if len(p.Ops) > 0 && (t.Outcome != Fail || p.FailedOp > 0) {
			all = append(all, p)
		}
	}
	return all
}

// groups parts transactions into those that have concepts in common, over any number of others; the result is in the order of the first.
func groups(h []Txn) [][]Txn {
	parent := map[string]string{}
	find := func(id string) string {
		if parent[id] == "" {
			parent[id] = id
		}
		for parent[id] != id {
			parent[id] = parent[parent[id]]
			id = parent[id]
		}
		return id
	}
	for _, t := range h {
		for _, op := range t.Ops {
			parent[find(op.ID)] = find(t.Ops[0].ID)
			if op.Target != "" {
				parent[find(op.Target)] = find(op.ID)
			}
		}
	}
	index := map[string]int{}
	var all [][]Txn
	for _, t := range h {
		root := find(t.Ops[0].ID)
		if _, known := index[root]; !known {
			index[root] = len(all)
			all = append(all, nil)
		}
		all[index[root]] = append(all[index[root]], t)
	}
	return all
}

// group judges transactions that share concepts.
func (c LinearConfig) group(r *Report, h []Txn) {
	ops := make([]porcupine.Operation, len(h))
	for i := range h {
		ops[i] = porcupine.Operation{ClientId: h[i].Client, Input: &h[i], Call: h[i].Invoke, Return: h[i].Return}
	}
	switch porcupine.CheckOperationsTimeout(sequential, ops, c.Timeout) {
	case porcupine.Unknown:
		r.Add(Undecided, nil, "%d transactions were not judged within %s, from %s", len(h), c.Timeout, say(h[0]))
	case porcupine.Illegal: // once more, for what to say: twice as fast for all that is sound
		_, info := porcupine.CheckOperationsVerbose(sequential, ops, c.Timeout)
		stuck(r, h, info)
	}
}

// sequential is the grid as Porcupine wants it.
var sequential = porcupine.Model{
	Init: func() any { return graph{} },
	Step: func(state, input, _ any) (bool, any) {
		return state.(graph).step(input.(*Txn))
	},
	Equal: func(a, b any) bool { return a.(graph).equal(b.(graph)) },
	Hash:  func(state any) uint64 { return state.(graph).hash },
}

// step tells whether a transaction may have been done in this state with what its client was told. Done at the very end, one of unknown
// outcome is as if it never was.
func (g graph) step(t *Txn) (bool, graph) {
	next, results, failed := g.run(t.Ops)
	switch t.Outcome {
	case OK:
		return len(failed) == 0 && (t.Results == nil || slices.EqualFunc(results, t.Results, sameResult)), next
	case Fail:
		return slices.Contains(failed, t.FailedOp-1), g
	}
	return true, next
}

// sameResult compares what the model knows of.
func sameResult(a, b transport.OpResult) bool {
	return a.Found == b.Found && a.Content == b.Content && a.Version == b.Version && a.Value == b.Value &&
		maps.Equal(a.Attributes, b.Attributes) && slices.Equal(a.Neighbors, b.Neighbors)
}

// stuck explains where the longest order that could be found ends: the state there, and what cannot come next.
func stuck(r *Report, h []Txn, info porcupine.LinearizationInfo) {
	var longest []porcupine.Operation
	for _, partition := range info.PartialLinearizationsOperations() {
		for _, order := range partition {
			if len(order) > len(longest) {
				longest = order
			}
		}
	}
	state, done := graph{}, map[uint64]bool{}
	var text strings.Builder
	fmt.Fprintf(&text, "%d of %d transactions can be put in an order, no further", len(longest), len(h))
	for i, op := range longest {
		t := op.Input.(*Txn)
		_, state = state.step(t)
		done[t.Call] = true
		if i >= len(longest)-5 {
			fmt.Fprintf(&text, "\nafter %s", say(*t))
		}
	}
	until := int64(math.MaxInt64) // whatever comes next began before any that is left has ended
	for _, t := range h {
		if !done[t.Call] {
			until = min(until, t.Return)
		}
	}
	var calls []uint64
	for _, t := range h {
		if done[t.Call] || t.Invoke > until || len(calls) == 5 {
			continue
		}
		_, would, failed := state.run(t.Ops)
		calls = append(calls, t.Call)
		fmt.Fprintf(&text, "\nnot %s: here it is answered %s", say(t), sayResults(t.Ops, would, failed))
	}
	r.Add(NotLinear, calls, "%s", text.String())
}
