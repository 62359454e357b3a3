package txn

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// maxResults bounds the results of a transaction, so that its reply fits into a frame beside what else is in it.
const maxResults = transport.MaxTxnBytes - 64<<10

// answers tells whether any of the operations has a result.
func answers(ops []transport.Op) bool {
	return slices.ContainsFunc(ops, func(op transport.Op) bool { return op.Kind.Answers() })
}

// results gathers what the shards answer to a transaction's operations.
type results struct {
	list []transport.OpResult // one for each operation; nil: none of them has one
	size int                  // about the bytes of list on the wire
}

func newResults(ops []transport.Op) *results {
	r := &results{}
	if answers(ops) {
		r.list = make([]transport.OpResult, len(ops))
		for i, op := range ops {
			_, halved := halvesOf[op.Kind]
			r.list[i].Found = halved && op.Kind.Answers()
		}
	}
	return r
}

// take puts a shard's results where they belong. There may be more of them than operations: of halves that were found out later. An
// association was there to be deleted if each of its shards has found its half: behind a delete of one of its concepts in the same step
// only that concept's shard knows that it is gone, the other one's half goes with the next step.
func (r *results) take(h half, got []transport.OpResult) error {
	if r.list == nil || !answers(h.ops[h.far:]) {
		return nil
	}
	if len(got) < len(h.ops) {
		return fmt.Errorf("%s answered %d of %d operations", h.shard, len(got), len(h.ops))
	}
	for i := h.far; i < len(h.ops); i++ {
		if h.ops[i].Kind.Answers() {
			to := &r.list[h.index[i]]
			found := to.Found && got[i].Found
			*to = got[i]
			if h.ops[i].Kind.Half() {
				to.Found = found
			}
			r.size += sizeOf(&got[i])
		}
	}
	return nil
}

// excess is a refusal of more than a reply can hold, before anything is decided.
func (r *results) excess() error {
	if r.size <= maxResults {
		return nil
	}
	return &event.Error{Kind: event.KindTooLarge, Op: "txn", Message: fmt.Sprintf("what it reads has %d bytes: at most %d are answered; read less at once", r.size, maxResults)}
}

// sizeOf is about what a result takes in a frame.
func sizeOf(r *transport.OpResult) int {
	n := 128 + len(r.Content)
	for k, v := range r.Attributes {
		n += len(k) + len(v) + 10
	}
	for _, s := range r.Tags {
		n += len(s) + 5
	}
	for _, s := range r.Neighbors {
		n += len(s) + 5
	}
	return n
}

// committedAs answers a transaction that is committed under an attempt which is not the caller's: with the results that its shards keep.
func (c *Coordinator) committedAs(ctx context.Context, w *work, attempt, seq uint64) *transport.TxnOk {
	ok := &transport.TxnOk{TxnID: w.id, Seq: seq}
	if !answers(w.ops) {
		return ok
	}
	list, err := c.collect(ctx, w, attempt)
	if err != nil { // it is committed all the same
		c.cfg.Log.Debug("results of a committed transaction", "txn", w.id.String(), "attempt", attempt, "error", err)
	}
	ok.Results, ok.ResultsOmitted = list, list == nil
	return ok
}

// collect asks the shards for what a committed attempt answered; nil when that is not kept, or not to be had now.
func (c *Coordinator) collect(ctx context.Context, w *work, attempt uint64) ([]transport.OpResult, error) {
	first := w.plan.steps[0].halves
	for _, s := range w.plan.steps[1:] {
		for _, h := range s.halves {
			if answers(h.ops) {
				return nil, nil // stands behind halves of a delete, whose number only its own coordinator knew
			}
		}
	}
	st := c.cfg.View()
	if st.Txn(w.id) == nil {
		var err error
		if st, err = c.cfg.Confirmed(ctx); err != nil {
			return nil, err
		}
	}
	t := st.Txn(w.id)
	if t == nil || !t.Committed {
		return nil, nil // the horizon has passed it
	}
	if !t.Completed { // results are asked of an attempt that has ended
		f := transport.Finish{TxnID: w.id, Attempt: attempt, Begin: t.Begin, Commit: true}
		if left := c.deliver(ctx, f, t.Shards); len(left) > 0 {
			return nil, fmt.Errorf("%v have not finished it", left)
		}
	}
	return c.gatherResults(ctx, w, attempt, first)
}

// gatherResults asks the shards of halves for what an attempt answered there.
func (c *Coordinator) gatherResults(ctx context.Context, w *work, attempt uint64, halves []half) ([]transport.OpResult, error) {
	var (
		all  = newResults(w.ops)
		wg   sync.WaitGroup
		mu   sync.Mutex
		miss error
	)
	for _, h := range halves {
		if !answers(h.ops) {
			continue
		}
		wg.Go(func() {
			kept, err := c.kept(ctx, h.shard, &transport.TxnResults{TxnID: w.id, Attempt: attempt})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				err = all.take(h, kept)
			}
			miss = keep(miss, err)
		})
	}
	wg.Wait()
	if miss != nil {
		return nil, miss
	}
	return all.list, all.excess()
}

// kept are the results that one shard keeps.
func (c *Coordinator) kept(ctx context.Context, shard event.ShardID, q *transport.TxnResults) ([]transport.OpResult, error) {
	reply, err := c.cfg.Shards.Shard(ctx, shard, client.ShardRequest{Request: q})
	if err != nil {
		return nil, err
	}
	ok, err := transport.As[transport.TxnResultsOk](reply.Reply.Value, nil)
	switch {
	case err != nil:
		return nil, err
	case ok.Omitted || len(ok.Results) == 0:
		return nil, fmt.Errorf("%s no longer keeps them", shard)
	}
	return ok.Results, nil
}
