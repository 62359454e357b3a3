package txn

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/transport"
)

// A transaction of one shard is a write of several operations there, under the transaction's id, and needs no decision event. A delete
// whose far ends lie elsewhere is refused as a write (KindNeedsTxn), which the shard does not keep, and then runs over several shards under the
// same id. A copy of the write may still be on its way then. It finds the transaction prepared or done, and changes nothing; but where
// all attempts are dropped it would take effect behind an "aborted". So such a transaction is closed at its shard first (close).

// single runs a transaction of one shard.
func (c *Coordinator) single(ctx context.Context, w *work) (*transport.TxnOk, error) {
	begin := time.Now()
	ok, err := c.written(ctx, w)
	c.cfg.Metrics.wrote(begin, err)
	switch {
	case errors.Is(err, &event.Error{Kind: event.KindIDReused}):
		return c.usedUp(ctx, w, err)
	case err == nil && ok.ResultsOmitted: // perhaps it was committed over several shards
		if st, err := c.cfg.Confirmed(ctx); err == nil {
			if known, _ := c.remembered(ctx, st, w); known != nil {
				return known, nil
			}
		}
	}
	return ok, err
}

// usedUp answers when the shard knows the id from another write: that may be the one that closed it.
func (c *Coordinator) usedUp(ctx context.Context, w *work, reused error) (*transport.TxnOk, error) {
	st, err := c.cfg.Confirmed(ctx)
	if err != nil {
		return nil, unknownOutcome(w, "a shard knows its id, and the decision cannot be read: "+err.Error())
	}
	if ok, err := c.remembered(ctx, st, w); ok != nil || err != nil {
		return ok, err
	}
	if _, err = c.writeNothing(ctx, w); !errors.Is(err, &event.Error{Kind: event.KindPrecondition}) {
		return nil, reused
	}
	w.alone = true
	return c.abort(ctx, c.newAttempt(w), aborted(w, nil, "it was closed before it could be decided"))
}

// written sends the write; sent again it has the first answer.
func (c *Coordinator) written(ctx context.Context, w *work) (*transport.TxnOk, error) {
	h := w.plan.steps[0].halves[0]
	c.cfg.Point(fault.TxnSingleBefore)
	reply, err := c.write(ctx, w, h.shard, h.ops)
	c.cfg.Point(fault.TxnSingleAfter)
	if err != nil {
		return nil, fmt.Errorf("write transaction %s on %s: %w", w.id, h.shard, err)
	}
	ok := &transport.TxnOk{TxnID: w.id, Results: reply.Results, ResultsOmitted: reply.ResultsOmitted}
	r := newResults(w.ops)
	if len(ok.Results) > 0 && (r.take(h, ok.Results) != nil || r.excess() != nil) {
		ok.Results, ok.ResultsOmitted = nil, true // it took effect all the same
	}
	return ok, nil
}

func (c *Coordinator) write(ctx context.Context, w *work, shard event.ShardID, ops []transport.Op) (*transport.WriteOk, error) {
	reply, err := c.cfg.Shards.Shard(ctx, shard, client.ShardRequest{RequestID: w.id, Issued: w.issued, Request: &transport.Write{Ops: ops}})
	if err != nil {
		return nil, err
	}
	return transport.As[transport.WriteOk](reply.Reply.Value, nil)
}

// close sees to it that no copy of the write that this transaction may have been at first takes effect any more: the shard refuses another
// write under the id, for a concept that is not there, and keeps that for the id's only answer. ok or err: the transaction's end was known.
func (c *Coordinator) close(ctx context.Context, w *work) (ok *transport.TxnOk, err error) {
	if !w.plan.single() {
		return nil, nil
	}
	c.release(ctx, w, w.plan.steps[0].halves[0].shard)
	_, err = c.writeNothing(ctx, w)
	switch {
	case err == nil: // it is committed there, as the masters know
		return nil, nil
	case errors.Is(err, &event.Error{Kind: event.KindPrecondition}):
		w.alone = true // no attempt is prepared there, nor can be
		return nil, nil
	case !errors.Is(err, &event.Error{Kind: event.KindIDReused}):
		return nil, unknownOutcome(w, "its id could not be closed: "+err.Error())
	}
	ok, err = c.written(ctx, w) // the first write's answer
	if err == nil || errors.Is(err, &event.Error{Kind: event.KindIDReused}) {
		return ok, err
	}
	if errors.Is(err, &event.Error{Kind: event.KindPrecondition}) || errors.Is(err, &event.Error{Kind: event.KindTooLarge}) {
		w.alone = true
		return nil, nil
	}
	return nil, unknownOutcome(w, "its id could not be closed: "+err.Error())
}

// release drops the attempts that a shard may still hold prepared, for want of time before: they would keep it from answering.
func (c *Coordinator) release(ctx context.Context, w *work, shard event.ShardID) {
	for _, a := range w.left {
		if !slices.Contains(a.holds, shard) {
			continue
		}
		if left := c.deliver(ctx, transport.Finish{TxnID: a.id, Attempt: a.nonce, Begin: a.begin}, []event.ShardID{shard}); len(left) == 0 {
			a.holds = slices.DeleteFunc(a.holds, func(id event.ShardID) bool { return id == shard })
			a.settle()
		}
	}
}

// writeNothing sends the write that closes an id.
func (c *Coordinator) writeNothing(ctx context.Context, w *work) (*transport.WriteOk, error) {
	h := w.plan.steps[0].halves[0]
	nobody := w.unused(h)
	return c.write(ctx, w, h.shard, []transport.Op{{Kind: transport.OpLearnAssociation, ID: nobody, Target: nobody}})
}

// unused is an id of a half's shard that nobody has: nobody holds it, and there is no such concept.
func (w *work) unused(h half) string {
	const tries = 1 << 14 // of at most 1,024 shards one is missed so often once in 10^6
	stem := h.ops[0].ID
	stem = strings.ToValidUTF8(stem[:min(len(stem), transport.MaxID/2)], "") + "\x01" + hex.EncodeToString(w.id[:])
	for i := range tries {
		id := fmt.Sprintf("%s-%d", stem, i)
		if s, err := w.plan.shards.Shard(id); err == nil && s.ID == h.shard {
			return id
		}
	}
	return stem
}
