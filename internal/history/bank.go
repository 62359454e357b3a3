package history

import (
	"strconv"

	"github.com/sutra-grid/sutra-grid/transport"
)

// Accounts are concepts that each hold money in an attribute; what all hold together never changes.
type Accounts struct {
	IDs   []string
	Key   string // of the attribute, a decimal int64; absent: 0
	Total int64
}

// Bank checks that every transaction that read all accounts saw Total, and that nobody ever saw an account below zero.
func Bank(h []Txn, a Accounts) Report {
	r := Report{Checker: "bank"}
	for _, t := range sorted(h) {
		if t.Outcome == OK && len(t.Results) == len(t.Ops) {
			a.check(&r, t)
		}
	}
	r.empty()
	return r
}

func (a Accounts) check(r *Report, t Txn) {
	seen := map[string]int64{}
	for i, op := range t.Ops {
		balance, known := t.Results[i].Value, op.Kind == transport.OpAdd && op.Key == a.Key
		if op.Kind == transport.OpRead {
			text, has := t.Results[i].Attributes[a.Key]
			n, err := strconv.ParseInt(text, 10, 64)
			balance, known = n, err == nil || !has
		}
		if !known {
			continue
		}
		if balance < 0 {
			r.Add(BankNegative, []uint64{t.Call}, "%s saw %s at %d", say(t), op.ID, balance)
		}
		seen[op.ID] = balance
	}
	total := int64(0)
	for _, id := range a.IDs {
		balance, read := seen[id]
		if !read {
			return
		}
		total += balance
	}
	if r.Checked++; total != a.Total {
		r.Add(BankTotal, []uint64{t.Call}, "%s saw %d in all accounts together, which hold %d: %v", say(t), total, a.Total, seen)
	}
}
