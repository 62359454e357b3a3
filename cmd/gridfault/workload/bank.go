package workload

import (
	"context"
	"fmt"

	"github.com/sutra-grid/sutra-grid/internal/history"
	"github.com/sutra-grid/sutra-grid/transport"
)

// bank is W3: money moves between accounts of a set, in transactions over the shards of both and of the transfer's own concept, which
// is appended to both; some transactions read a whole set. Sets are given up after a while, so that their ledgers stay short.
type bank struct {
	*load
	ledger history.Ledger
	sets   eras
}

const (
	accounts  = 6
	setsAside = 2   // sets that are in use at once
	setTxns   = 150 // before sets change
)

func newBank(env Env) Workload {
	b := &bank{load: newLoad(env, "W3")}
	b.ledger = history.Ledger{Prefix: "w3." + b.name + ".", Accounts: accounts, Deposit: 100, Key: "balance"}
	b.sets = eras{every: setTxns * setsAside, open: b.open}
	return b
}

// Setup implements Workload.
func (b *bank) Setup(ctx context.Context) error {
	if err := b.announce(b.ledger); err != nil {
		return err
	}
	return b.open(ctx, b.clients[0], 0)
}

// open creates the accounts of an era's sets.
func (b *bank) open(ctx context.Context, u *user, era int64) error {
	var ops []transport.Op
	for set := range int64(setsAside) {
		for k := range accounts {
			ops = append(ops, learn(b.ledger.Account(era*setsAside+set, k), map[string]string{b.ledger.Key: fmt.Sprint(b.ledger.Deposit)}))
		}
	}
	return u.once(ctx, ops)
}

// Run implements Workload.
func (b *bank) Run(ctx context.Context) error {
	b.each(ctx, func(ctx context.Context, u *user) history.Outcome {
		set := b.sets.next(ctx, u)*setsAside + int64(u.index)%setsAside
		ops := b.all(set)
		if u.rng.IntN(6) > 0 {
			ops = b.transfer(u, set)
		}
		return u.txn(ctx, ops).Outcome
	})
	return nil
}

func (b *bank) transfer(u *user, set int64) []transport.Op {
	k, amount := u.rng.Perm(accounts), int64(1+u.rng.IntN(40))
	from, to := b.ledger.Account(set, k[0]), b.ledger.Account(set, k[1])
	entry := b.ledger.Entry(k[0], k[1], amount, u.next())
	return []transport.Op{
		{Kind: transport.OpAttributeAtLeast, ID: from, Key: b.ledger.Key, Number: amount},
		{Kind: transport.OpAdd, ID: from, Key: b.ledger.Key, Number: -amount},
		{Kind: transport.OpAdd, ID: to, Key: b.ledger.Key, Number: amount},
		learn(entry, nil), link(from, entry), link(to, entry),
	}
}

// all reads a whole set.
func (b *bank) all(set int64) (ops []transport.Op) {
	for k := range accounts {
		id := b.ledger.Account(set, k)
		ops = append(ops, transport.Op{Kind: transport.OpRead, ID: id}, transport.Op{Kind: transport.OpReadNeighbors, ID: id})
	}
	return ops
}

// Settle implements Workload.
func (b *bank) Settle(ctx context.Context) error {
	for set := range (b.sets.last() + 1) * setsAside {
		if _, err := b.clients[0].must(ctx, b.all(set)); err != nil {
			return err
		}
	}
	b.settled()
	return nil
}

// Check implements Workload.
func (b *bank) Check(l *history.Log) []history.Report { return append(checkBank(l), Complete(l)) }

// checkBank looks at the money, and at the ledgers as lists: a transfer that is lost, or seen too early, is a cycle there.
func checkBank(l *history.Log) []history.Report {
	all, err := params[history.Ledger](l, "W3")
	if err != nil {
		return []history.Report{history.Fault("ledger", err)}
	}
	var reports []history.Report
	for _, ledger := range all {
		reports = append(reports, history.Ledgers(l.Txns, ledger), history.Lists(l.Txns, having(ledger.Prefix)))
	}
	return reports
}
