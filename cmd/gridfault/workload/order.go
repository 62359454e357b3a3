package workload

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/sutra-grid/sutra-grid/internal/history"
	"github.com/sutra-grid/sutra-grid/transport"
)

// order is W9: what Jepsen's tests of long forks, of sequential consistency, of unique ids and of sets do. Concepts of forks are created
// each by itself and read together; those of sequences one after the other and read each by itself, the last first; one counter gives
// numbers; the elements of a set are looked up in the index of ids.
type order struct {
	*load
	chains []chain
	era    atomic.Int64
}

const (
	forkSize  = 3
	forkTxns  = 12 // transactions for each group of forks
	chainEnd  = 40 // elements of a sequence
	setSize   = 300
	kinds     = 4
	kindFork  = "fork."
	kindSeq   = "seq."
	kindCount = "count"
	kindSet   = "set."
)

// chain is a client's sequence.
type chain struct {
	number  atomic.Int64 // of it, among the client's
	created atomic.Int64 // its elements
}

func newOrder(env Env) Workload {
	o := &order{load: newLoad(env, "W9")}
	o.chains = make([]chain, len(o.clients))
	return o
}

func (o *order) id(format string, args ...any) string {
	return "w9." + o.name + "." + fmt.Sprintf(format, args...)
}

// Setup implements Workload.
func (o *order) Setup(ctx context.Context) error {
	if err := o.announce(prefixed{o.id("")}); err != nil {
		return err
	}
	return o.clients[0].once(ctx, []transport.Op{learn(o.id(kindCount), nil)})
}

// Run implements Workload.
func (o *order) Run(ctx context.Context) error {
	o.each(ctx, func(ctx context.Context, u *user) history.Outcome {
		switch n := o.era.Add(1); u.rng.IntN(kinds) {
		case 0:
			return o.fork(ctx, u, n/(forkTxns*kinds))
		case 1:
			return o.sequence(ctx, u)
		case 2:
			return u.txn(ctx, []transport.Op{{Kind: transport.OpAdd, ID: o.id(kindCount), Key: "n", Number: 1}}).Outcome
		default:
			return o.element(ctx, u, n/(setSize*kinds))
		}
	})
	return nil
}

// fork creates one concept of a group, or reads all of it.
func (o *order) fork(ctx context.Context, u *user, group int64) history.Outcome {
	if k := u.rng.IntN(2 * forkSize); k < forkSize {
		id := o.id(kindFork+"%d-%d", group, k)
		return u.txn(ctx, []transport.Op{learn(id, nil)}).Outcome
	}
	var ops []transport.Op
	for k := range forkSize {
		ops = append(ops, transport.Op{Kind: transport.OpRead, ID: o.id(kindFork+"%d-%d", group, k)})
	}
	return u.txn(ctx, ops).Outcome
}

// sequence creates the next element of the client's own sequence, or reads two of another one, the later one first. What may not have been
// created ends a sequence: nothing may be created behind it.
func (o *order) sequence(ctx context.Context, u *user) history.Outcome {
	if c := &o.chains[u.index]; u.rng.IntN(2) == 0 {
		n := c.created.Load()
		outcome := u.txn(ctx, []transport.Op{learn(o.id(kindSeq+"%d.%d-%d", u.index, c.number.Load(), n), nil)}).Outcome
		if outcome == history.OK && n+1 < chainEnd {
			c.created.Add(1)
		} else if outcome != history.Fail {
			c.created.Store(0)
			c.number.Add(1)
		}
		return outcome
	}
	other := u.rng.IntN(len(o.chains))
	c := &o.chains[other]
	number, last := c.number.Load(), c.created.Load()
	for _, n := range []int64{last, max(0, last-1-u.rng.Int64N(3))} {
		if outcome := u.txn(ctx, []transport.Op{{Kind: transport.OpRead, ID: o.id(kindSeq+"%d.%d-%d", other, number, n)}}).Outcome; outcome != history.OK {
			return outcome
		}
	}
	return history.OK
}

// element creates one of a set, or looks the set up.
func (o *order) element(ctx context.Context, u *user, set int64) history.Outcome {
	if u.rng.IntN(8) == 0 {
		return u.query(ctx, history.QueryOp{Index: history.IndexScan, Of: o.id(kindSet+"%d-", set)})
	}
	return u.txn(ctx, []transport.Op{learn(o.id(kindSet+"%d-%s", set, u.next()), nil)}).Outcome
}

// Settle implements Workload.
func (o *order) Settle(ctx context.Context) error {
	for set := range o.era.Load()/(setSize*kinds) + 1 {
		if err := o.clients[0].mustQuery(ctx, history.QueryOp{Index: history.IndexScan, Of: o.id(kindSet+"%d-", set)}); err != nil {
			return err
		}
	}
	o.settled()
	return nil
}

// Check implements Workload.
func (o *order) Check(l *history.Log) []history.Report { return append(checkOrder(l), Complete(l)) }

func checkOrder(l *history.Log) []history.Report {
	all, err := params[prefixed](l, "W9")
	if err != nil {
		return []history.Report{history.Fault("order", err)}
	}
	of := func(kind string) history.Concepts {
		return func(id string) bool {
			for _, p := range all {
				if having(p.Prefix + kind)(id) {
					return true
				}
			}
			return false
		}
	}
	return []history.Report{history.Forks(l.Txns, of(kindFork)), history.Sequences(l.Txns, of(kindSeq)), history.Counters(l.Txns, of(kindCount)), history.Sets(l, of(kindSet))}
}
