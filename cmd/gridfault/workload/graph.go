package workload

import (
	"context"
	"fmt"

	"github.com/sutra-grid/sutra-grid/internal/history"
	"github.com/sutra-grid/sutra-grid/transport"
)

// graph is W5: concepts are created by natural keys, associated together with the inverse, and deleted with their associations, and read
// with all others of their group in one transaction. At the end the indexes are asked too.
type graph struct {
	*load
	groups eras
}

const (
	groupSize = 8
	groupTxns = 200 // before the group changes
	indexed   = 10  // groups of which the indexes are asked: the last ones
	forward   = 11  // type of an association; that of its inverse is the next
)

func newGraph(env Env) Workload {
	g := &graph{load: newLoad(env, "W5")}
	g.groups = eras{every: groupTxns, open: func(context.Context, *user, int64) error { return nil }} // what is absent needs no preparation
	return g
}

func (g *graph) prefix() string                  { return "w5." + g.name + "." }
func (g *graph) group(era int64) string          { return fmt.Sprintf("%s%d-", g.prefix(), era) }
func (g *graph) concept(era int64, k int) string { return fmt.Sprintf("%s%d", g.group(era), k) }

// Setup implements Workload.
func (g *graph) Setup(ctx context.Context) error {
	if err := g.announce(prefixed{g.prefix()}); err != nil {
		return err
	}
	_, err := g.clients[0].must(ctx, g.all(0))
	return err
}

// Run implements Workload.
func (g *graph) Run(ctx context.Context) error {
	g.each(ctx, func(ctx context.Context, u *user) history.Outcome {
		return u.txn(ctx, g.draw(u, g.groups.next(ctx, u))).Outcome
	})
	return nil
}

func (g *graph) draw(u *user, era int64) []transport.Op {
	k := u.rng.Perm(groupSize)
	a, b := g.concept(era, k[0]), g.concept(era, k[1])
	switch n := u.rng.IntN(100); {
	case n < 25:
		return []transport.Op{{Kind: transport.OpAbsent, ID: a}, learn(a, map[string]string{history.AttributeGroup: g.group(era)})}
	case n < 60:
		there, back := link(a, b), link(b, a)
		there.AssocType, back.AssocType = forward, forward+1
		return []transport.Op{there, back}
	case n < 70:
		return []transport.Op{
			{Kind: transport.OpDeleteAssociationType, ID: a, Target: b, AssocType: forward},
			{Kind: transport.OpDeleteAssociationType, ID: b, Target: a, AssocType: forward + 1},
		}
	case n < 80:
		return []transport.Op{{Kind: transport.OpDeleteConcept, ID: a}}
	}
	return g.all(era)
}

// all reads a group.
func (g *graph) all(era int64) (ops []transport.Op) {
	for k := range groupSize {
		id := g.concept(era, k)
		ops = append(ops, transport.Op{Kind: transport.OpRead, ID: id}, transport.Op{Kind: transport.OpReadNeighbors, ID: id})
	}
	return ops
}

// Settle implements Workload: each of the last groups is read, looked up in the indexes, and read again.
func (g *graph) Settle(ctx context.Context) error {
	u := g.clients[0]
	for era := max(0, g.groups.last()-indexed+1); era <= g.groups.last(); era++ {
		if _, err := u.must(ctx, g.all(era)); err != nil {
			return err
		}
		queries := []history.QueryOp{{Index: history.IndexScan, Of: g.group(era)}, {Index: history.IndexMetadata, Of: g.group(era)}}
		for k := range groupSize {
			queries = append(queries, history.QueryOp{Index: history.IndexIncoming, Of: g.concept(era, k)})
		}
		for _, q := range queries {
			if err := u.mustQuery(ctx, q); err != nil {
				return err
			}
		}
		if _, err := u.must(ctx, g.all(era)); err != nil {
			return err
		}
	}
	g.settled()
	return nil
}

// Check implements Workload.
func (g *graph) Check(l *history.Log) []history.Report { return append(checkGraph(l), Complete(l)) }

func checkGraph(l *history.Log) []history.Report {
	of, err := prefixes(l, "W5")
	if err != nil {
		return []history.Report{history.Fault("edges", err)}
	}
	return []history.Report{history.Edges(l.Txns, of), history.Indexes(l, of)}
}
