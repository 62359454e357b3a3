package history

import (
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/sutra-grid/sutra-grid/transport"
)

// TestBank: transfers and readings of all accounts pass until money is made, lost or overdrawn.
func TestBank(t *testing.T) {
	accounts := Accounts{IDs: []string{"a", "b", "c"}, Key: "balance", Total: 300}
	op := func(s *serial, _ int) (ops []transport.Op) {
		if s.rng.IntN(3) == 0 {
			for _, id := range accounts.IDs {
				ops = append(ops, transport.Op{Kind: transport.OpRead, ID: id})
			}
			return ops
		}
		k, amount := s.rng.Perm(3), int64(1+s.rng.IntN(200))
		return []transport.Op{
			{Kind: transport.OpAttributeAtLeast, ID: accounts.IDs[k[0]], Key: "balance", Number: amount},
			{Kind: transport.OpAdd, ID: accounts.IDs[k[0]], Key: "balance", Number: -amount},
			{Kind: transport.OpAdd, ID: accounts.IDs[k[1]], Key: "balance", Number: amount},
		}
	}
	make := func() []Txn {
		s := &serial{rng: rand.New(rand.NewPCG(1, 9)), clients: 6, unknown: 4, op: op, perEra: 1000}
		s.op = func(s *serial, era int) []transport.Op {
			if s.machine.rows["a"] == nil && s.elements == 0 {
				s.elements++
				var open []transport.Op
				for _, id := range accounts.IDs {
					open = append(open, transport.Op{Kind: transport.OpLearnConcept, ID: id, Metadata: &transport.Metadata{Attributes: map[string]string{"balance": "100"}}})
				}
				return open
			}
			return op(s, era)
		}
		return s.history(200)[2:]
	}
	sound := make()
	opened := sound[:0]
	for _, x := range sound { // readings before the accounts were there say nothing
		if len(x.Ops) != 3 || x.Results == nil || x.Ops[0].Kind != transport.OpRead || x.Results[0].Found {
			opened = append(opened, x)
		}
	}
	if r := Bank(opened, accounts); !r.Valid() || r.Checked < 20 {
		t.Fatal(r)
	}
	for name, tc := range map[string]struct {
		at   int64
		want Class
	}{"one more": {101, BankTotal}, "below zero": {-1, BankNegative}} {
		h := append([]Txn{}, opened...)
		for i := range h {
			if len(h[i].Ops) == 3 && h[i].Ops[0].Kind == transport.OpRead && h[i].Results != nil {
				h[i].Results = append([]transport.OpResult{}, h[i].Results...)
				h[i].Results[1].Attributes = map[string]string{"balance": strconv.FormatInt(tc.at, 10)}
				break
			}
		}
		if r := Bank(h, accounts); !r.Has(tc.want) {
			t.Errorf("%s: %s", name, r)
		}
	}
	total := []Txn{{Call: 1, Outcome: OK, Ops: []transport.Op{{Kind: transport.OpRead, ID: "a"}}, Results: []transport.OpResult{{}}}}
	if r := Bank(total, accounts); !r.Has(Empty) {
		t.Errorf("one account is not all of them: %s", r)
	}
}
