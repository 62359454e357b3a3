package history

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/transport"
)

// serial makes the history of a sound machine: clients whose transactions overlap, each done at one moment between its beginning and its
// end, or, where the end is unknown, some time later or never.
type serial struct {
	rng      *rand.Rand
	clients  int
	lists    int
	unknown  int // in 100
	elements int
	op       func(s *serial, era int) []transport.Op
	perEra   int // transactions before the concepts change

	machine graph
}

// mixed draws operations on lists and on registers.
func mixed(s *serial, era int) (ops []transport.Op) {
	for range 1 + s.rng.IntN(4) {
		id := fmt.Sprintf("list-%d-%d", era, s.rng.IntN(s.lists))
		register := fmt.Sprintf("register-%d-%d", era, s.rng.IntN(2))
		switch s.rng.IntN(10) {
		case 0, 1, 2:
			s.elements++
			e := fmt.Sprintf("e%d", s.elements)
			ops = append(ops, transport.Op{Kind: transport.OpLearnConcept, ID: e}, transport.Op{Kind: transport.OpLearnAssociation, ID: id, Target: e})
		case 3, 4, 5:
			ops = append(ops, transport.Op{Kind: transport.OpReadNeighbors, ID: id})
		case 6:
			ops = append(ops, transport.Op{Kind: transport.OpSetAttribute, ID: register, Key: "k", Value: strconv.Itoa(s.rng.IntN(1000))})
		case 7:
			ops = append(ops, transport.Op{Kind: transport.OpAdd, ID: register, Key: "n", Number: int64(s.rng.IntN(9) - 4)})
		case 8:
			ops = append(ops, transport.Op{Kind: transport.OpAttributeAtLeast, ID: register, Key: "n", Number: int64(s.rng.IntN(5) - 4)})
		default:
			ops = append(ops, transport.Op{Kind: transport.OpRead, ID: register})
		}
	}
	return ops
}

// appends draws what the checker of lists looks at.
func appends(s *serial, era int) (ops []transport.Op) {
	for range 1 + s.rng.IntN(4) {
		id := fmt.Sprintf("list-%d-%d", era, s.rng.IntN(s.lists))
		if s.rng.IntN(2) == 0 {
			ops = append(ops, transport.Op{Kind: transport.OpReadNeighbors, ID: id})
			continue
		}
		s.elements++
		ops = append(ops, transport.Op{Kind: transport.OpLearnAssociation, ID: id, Target: fmt.Sprintf("e%d", s.elements)})
	}
	return ops
}

// history makes n transactions, and before them one for the concepts of each era.
func (s *serial) history(n int) []Txn {
	type done struct {
		Txn
		at int64
	}
	var all []done
	clock := make([]int64, s.clients)
	for i := range n {
		era := i / max(1, s.perEra)
		if i%max(1, s.perEra) == 0 { // concepts of an era are there before anything else is done in it
			at := slices.Max(clock) + 1
			for c := range clock {
				clock[c] = at + 1
			}
			all = append(all, done{Txn{Client: -1, Invoke: at, Return: at + 1, Outcome: OK, Ops: s.concepts(era)}, at})
		}
		c := i % s.clients
		begin := clock[c] + 1 + s.rng.Int64N(10)
		took := 5 + s.rng.Int64N(60)
		t := done{Txn{Client: c, Invoke: begin, Return: begin + took, Outcome: OK, Ops: s.op(s, era)}, begin + s.rng.Int64N(took)}
		clock[c] = t.Return
		if s.rng.IntN(100) < s.unknown {
			t.Return, t.Outcome, t.Client = Never, Unknown, i+1000 // whoever gave up begins anew as somebody else
			t.at += s.rng.Int64N(300)
		}
		all = append(all, t)
	}
	slices.SortStableFunc(all, func(a, b done) int { return int(a.at - b.at) })
	h := make([]Txn, 0, len(all))
	for _, t := range all {
		if t.Client == -1 {
			s.machine = graph{} // what is left of the era before is not asked for again
		}
		if t.Outcome != Unknown || s.rng.IntN(2) == 0 {
			s.do(&t.Txn)
		}
		h = append(h, t.Txn)
	}
	h = sorted(h)
	for i := range h {
		h[i].Call = uint64(i + 1)
	}
	return h
}

func (s *serial) concepts(era int) (ops []transport.Op) {
	for k := range s.lists {
		ops = append(ops, transport.Op{Kind: transport.OpLearnConcept, ID: fmt.Sprintf("list-%d-%d", era, k)})
	}
	for k := range 2 {
		ops = append(ops, transport.Op{Kind: transport.OpLearnConcept, ID: fmt.Sprintf("register-%d-%d", era, k)})
	}
	return ops
}

// do does a transaction and tells its client.
func (s *serial) do(t *Txn) {
	ops := t.Ops
	for _, op := range t.Ops { // elements that are appended without a concept of their own get one
		if op.Kind == transport.OpLearnAssociation && !slices.ContainsFunc(t.Ops, func(o transport.Op) bool { return o.ID == op.Target }) {
			ops = append([]transport.Op{{Kind: transport.OpLearnConcept, ID: op.Target}}, ops...)
		}
	}
	next, results, failed := s.machine.run(ops)
	s.machine = next
	switch {
	case t.Outcome == Unknown:
	case len(failed) > 0:
		t.Outcome, t.FailedOp = Fail, failed[0]+1
	default:
		t.Results = results[len(ops)-len(t.Ops):]
	}
}

// short reads a history from lines "client begin-end outcome: operation …" with a+e for an append and a=e,f for a read of a list, end or
// outcome ? for unknown.
func short(t *testing.T, text string) (h []Txn) {
	t.Helper()
	for _, l := range strings.Split(strings.TrimSpace(text), "\n") {
		head, ops, _ := strings.Cut(strings.TrimSpace(l), ":")
		var x Txn
		var outcome string
		if _, err := fmt.Sscanf(head, "%d %d-%d %s", &x.Client, &x.Invoke, &x.Return, &outcome); err != nil {
			t.Fatalf("%q: %v", l, err)
		}
		x.Outcome = map[string]Outcome{"ok": OK, "fail": Fail, "?": Unknown}[outcome]
		if x.Outcome == Unknown {
			x.Return = Never
		}
		for _, word := range strings.Fields(ops) {
			op, res := transport.Op{Kind: transport.OpReadNeighbors}, transport.OpResult{}
			if id, e, appended := strings.Cut(word, "+"); appended {
				op = transport.Op{Kind: transport.OpLearnAssociation, ID: id, Target: e}
			} else if id, list, _ := strings.Cut(word, "="); true {
				op.ID = id
				res.Neighbors = strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
			}
			x.Ops, x.Results = append(x.Ops, op), append(x.Results, res)
		}
		if x.Outcome != OK {
			x.Results = nil
		}
		h = append(h, x)
	}
	return h
}

// into puts a small history into the middle of a sound one of other concepts.
func into(good, bad []Txn) []Txn {
	at := good[len(good)/2].Invoke
	h := slices.Clone(good)
	for _, t := range bad {
		t.Client += 100_000
		t.Invoke += at
		if t.Return != Never {
			t.Return += at
		}
		h = append(h, t)
	}
	h = sorted(h)
	for i := range h {
		h[i].Call = uint64(i + 1)
	}
	return h
}

// many is how many transactions a large history has: GRID_HISTORY_TXNS, or few.
func many(t *testing.T) int {
	t.Helper()
	text := os.Getenv("GRID_HISTORY_TXNS")
	if text == "" {
		return 8_000
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
