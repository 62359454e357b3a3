package workload

import (
	"context"
	"fmt"
	"strings"

	"github.com/sutra-grid/sutra-grid/internal/history"
	"github.com/sutra-grid/sutra-grid/transport"
)

// appends is W4: transactions of one to four appends to lists and reads of lists, which are concepts with their neighbours; half of the
// reads of one list come without a transaction.
type appends struct {
	*load
	prefix string
	lists  eras
}

const (
	listsAside = 6   // lists that are in use at once
	listTxns   = 300 // before lists change
)

func newAppends(env Env) Workload { return makeAppends(env, "W4") }

// makeAppends makes them for another workload, too.
func makeAppends(env Env, id string) *appends {
	a := &appends{load: newLoad(env, id)}
	a.prefix = strings.ToLower(id) + "." + a.name + ".list"
	a.lists = eras{every: listTxns, open: a.open}
	return a
}

func (a *appends) list(era int64, k int) string { return fmt.Sprintf("%s%d-%d", a.prefix, era, k) }

// Setup implements Workload.
func (a *appends) Setup(ctx context.Context) error {
	if err := a.announce(prefixed{a.prefix}); err != nil {
		return err
	}
	return a.open(ctx, a.clients[0], 0)
}

func (a *appends) open(ctx context.Context, u *user, era int64) error {
	var ops []transport.Op
	for k := range listsAside {
		ops = append(ops, learn(a.list(era, k), nil))
	}
	return u.once(ctx, ops)
}

// Run implements Workload.
func (a *appends) Run(ctx context.Context) error {
	a.each(ctx, func(ctx context.Context, u *user) history.Outcome {
		ops := a.draw(u, a.lists.next(ctx, u))
		if len(ops) == 1 && ops[0].Kind == transport.OpReadNeighbors && u.rng.IntN(2) == 0 {
			return u.neighbors(ctx, ops[0].ID).Outcome
		}
		return u.txn(ctx, ops).Outcome
	})
	return nil
}

func (a *appends) draw(u *user, era int64) (ops []transport.Op) {
	for range 1 + u.rng.IntN(4) {
		id := a.list(era, u.rng.IntN(listsAside))
		if u.rng.IntN(2) == 0 {
			ops = append(ops, transport.Op{Kind: transport.OpReadNeighbors, ID: id})
			continue
		}
		e := fmt.Sprintf("%s.%s.%s", strings.ToLower(a.load.id), a.name, u.next())
		ops = append(ops, learn(e, nil), link(id, e))
	}
	return ops
}

// Settle implements Workload.
func (a *appends) Settle(ctx context.Context) error {
	if err := a.readLists(ctx); err != nil {
		return err
	}
	a.settled()
	return nil
}

// readLists reads all lists that there ever were.
func (a *appends) readLists(ctx context.Context) error {
	for era := range a.lists.last() + 1 {
		var ops []transport.Op
		for k := range listsAside {
			ops = append(ops, transport.Op{Kind: transport.OpReadNeighbors, ID: a.list(era, k)})
		}
		if _, err := a.clients[0].must(ctx, ops); err != nil {
			return err
		}
	}
	return nil
}

// Check implements Workload.
func (a *appends) Check(l *history.Log) []history.Report { return append(checkAppends(l), Complete(l)) }

func checkAppends(l *history.Log) []history.Report {
	lists, err := prefixes(l, "W4")
	if err != nil {
		return []history.Report{history.Fault("lists", err)}
	}
	return []history.Report{history.Lists(l.Txns, lists)}
}
