package history

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sutra-grid/sutra-grid/transport"
)

// Ledger describes sets of accounts, each set opened and closed to others: concepts "<Prefix><set>-<account>" that hold money in an
// attribute, and as neighbours the transfers that they took part in. Every transfer is one transaction over two accounts of a set, and
// its concept says in its id what it did (Entry).
type Ledger struct {
	Prefix   string `json:"prefix"`
	Accounts int    `json:"accounts"` // of a set
	Deposit  int64  `json:"deposit"`  // of each account, when it is opened
	Key      string `json:"key"`      // of the attribute
}

// Account is the id of an account of a set.
func (l Ledger) Account(set int64, account int) string {
	return fmt.Sprintf("%s%d-%d", l.Prefix, set, account)
}

// Entry is the id of a transfer's concept; unique tells transfers apart.
func (l Ledger) Entry(from, to int, amount int64, unique string) string {
	return fmt.Sprintf("%sentry:%d:%d:%d:%s", l.Prefix, from, to, amount, unique)
}

// Ledgers checks every transaction that read all accounts of a set with their entries: what they hold together is what was deposited, each
// entry is with exactly its two accounts, and every account holds what its entries make of its deposit. Nobody ever sees an account
// below zero.
func Ledgers(h []Txn, l Ledger) Report {
	r := Report{Checker: "ledger"}
	for _, t := range sorted(h) {
		if t.Outcome == OK && len(t.Results) == len(t.Ops) && len(t.Ops) > 0 {
			l.check(&r, t)
		}
	}
	r.empty()
	return r
}

func (l Ledger) check(r *Report, t Txn) {
	set, _, ours := strings.Cut(strings.TrimPrefix(t.Ops[0].ID, l.Prefix), "-")
	number, err := strconv.ParseInt(set, 10, 64)
	if !ours || err != nil || !strings.HasPrefix(t.Ops[0].ID, l.Prefix) {
		return
	}
	money := Accounts{Key: l.Key, Total: int64(l.Accounts) * l.Deposit}
	for k := range l.Accounts {
		money.IDs = append(money.IDs, l.Account(number, k))
	}
	judged := r.Checked
	money.check(r, t)
	entries := make([]map[string]bool, l.Accounts)
	for i, op := range t.Ops {
		if op.Kind != transport.OpReadNeighbors {
			continue
		}
		for k, id := range money.IDs {
			if id == op.ID {
				entries[k] = map[string]bool{}
				for _, e := range t.Results[i].Neighbors {
					entries[k][e] = true
				}
			}
		}
	}
	for _, seen := range entries {
		if seen == nil {
			return
		}
	}
	if r.Checked > judged {
		l.symmetry(r, t, money, entries)
	}
}

// symmetry compares entries with each other and with what the accounts hold.
func (l Ledger) symmetry(r *Report, t Txn, money Accounts, entries []map[string]bool) {
	want := make([]int64, l.Accounts)
	for k := range want {
		want[k] = l.Deposit
	}
	for k, seen := range entries {
		for e := range seen {
			var from, to int
			var amount int64
			text := strings.ReplaceAll(strings.TrimPrefix(e, l.Prefix+"entry:"), ":", " ")
			if _, err := fmt.Sscanf(text, "%d %d %d", &from, &to, &amount); err != nil || from != k && to != k || max(from, to) >= len(entries) || min(from, to) < 0 {
				r.Add(Garbage, []uint64{t.Call}, "%s has the entry %q, which is none of its transfers\n%s", money.IDs[k], e, say(t))
				continue
			}
			if other := from + to - k; !entries[other][e] {
				r.Add(BankSymmetry, []uint64{t.Call}, "the transfer %s is with %s and not with %s\n%s", e, money.IDs[k], money.IDs[other], say(t))
			}
			if k == from {
				want[k] -= amount
			}
			if k == to {
				want[k] += amount
			}
		}
	}
	for i, op := range t.Ops {
		for k, id := range money.IDs {
			if op.Kind != transport.OpRead || op.ID != id {
				continue
			}
			if text, has := t.Results[i].Attributes[l.Key]; has && text != strconv.FormatInt(want[k], 10) {
				r.Add(BankSymmetry, []uint64{t.Call}, "%s holds %s, its %d transfers say %d\n%s", id, text, len(entries[k]), want[k], say(t))
			}
		}
	}
}
