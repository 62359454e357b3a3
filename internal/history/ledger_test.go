package history

import (
	"testing"

	"github.com/sutra-grid/sutra-grid/transport"
)

func TestLedgers(t *testing.T) {
	l := Ledger{Prefix: "bank-", Accounts: 3, Deposit: 10, Key: "balance"}
	all := func(balances []string, entries ...[]string) (x Txn) {
		x = Txn{Call: 7, Invoke: 1, Return: 2, Outcome: OK}
		for k, b := range balances {
			id := l.Account(4, k)
			x.Ops = append(x.Ops, transport.Op{Kind: transport.OpRead, ID: id}, transport.Op{Kind: transport.OpReadNeighbors, ID: id})
			x.Results = append(x.Results, transport.OpResult{Found: true, Attributes: map[string]string{"balance": b}}, transport.OpResult{Neighbors: entries[k]})
		}
		return x
	}
	a, b := l.Entry(0, 1, 5, "a"), l.Entry(2, 1, 3, "b")
	if r := Ledgers([]Txn{all([]string{"5", "18", "7"}, []string{a}, []string{a, b}, []string{b})}, l); !r.Valid() || r.Checked != 1 {
		t.Error(r)
	}
	for name, tt := range map[string]struct {
		want Class
		h    []Txn
	}{
		"one side":      {BankSymmetry, []Txn{all([]string{"5", "15", "10"}, []string{a}, nil, nil)}},
		"other amounts": {BankSymmetry, []Txn{all([]string{"6", "14", "10"}, []string{a}, []string{a}, nil)}},
		"lost money":    {BankTotal, []Txn{all([]string{"5", "14", "10"}, []string{a}, []string{a}, nil)}},
		"below zero":    {BankNegative, []Txn{all([]string{"-5", "25", "10"}, nil, nil, nil)}},
		"nobody's":      {Garbage, []Txn{all([]string{"10", "10", "10"}, []string{b}, []string{b}, []string{b})}},
		"nothing read":  {Empty, []Txn{{Outcome: OK, Ops: []transport.Op{{Kind: transport.OpExists, ID: l.Account(4, 0)}}, Results: make([]transport.OpResult, 1)}}},
		"empty":         {Empty, nil},
	} {
		if r := Ledgers(tt.h, l); !r.Has(tt.want) {
			t.Errorf("%s: want %s, got %s", name, tt.want, r)
		}
	}
}
