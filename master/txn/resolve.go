package txn

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// inspectLimit bounds the question to one shard.
const inspectLimit = 2 * time.Second

// abandoned is how long an attempt must have been prepared before an operator may commit it: its coordinator, which would drop it without an
// event, has given it up long ago.
const abandoned = MaxTimeout

// Held lists what shards hold prepared, by transaction and shard, and the shards that did not say. Each shard's part is linearizable.
func (c *Coordinator) Held(ctx context.Context, shards []event.ShardID) (held []transport.HeldTxn, missing []transport.MissingShard) {
	ctx, cancel := context.WithTimeout(ctx, inspectLimit)
	defer cancel()
	var (
		wg sync.WaitGroup
		mu sync.Mutex
	)
	for _, id := range shards {
		wg.Go(func() {
			reply, err := c.cfg.Shards.Shard(ctx, id, client.ShardRequest{Request: &transport.PreparedTxns{}})
			var ok *transport.PreparedTxnsOk
			if err == nil {
				ok, err = transport.As[transport.PreparedTxnsOk](reply.Reply.Value, nil)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				missing = append(missing, missingShard(id, err))
				return
			}
			for _, p := range ok.Txns {
				held = append(held, transport.HeldTxn{ShardID: id, PreparedTxn: p})
			}
		})
	}
	wg.Wait()
	slices.SortFunc(held, func(a, b transport.HeldTxn) int {
		return cmp.Or(bytes.Compare(a.TxnID[:], b.TxnID[:]), cmp.Compare(a.ShardID, b.ShardID))
	})
	slices.SortFunc(missing, func(a, b transport.MissingShard) int { return cmp.Compare(a.ShardID, b.ShardID) })
	return held, missing
}

// Resolve ends a prepared attempt by an operator's word: an ordinary decision, of which the first one wins (safety S18).
func (c *Coordinator) Resolve(ctx context.Context, q *transport.ResolveTxn) (*transport.ResolveTxnOk, error) {
	op := "resolve transaction " + q.TxnID.String()
	st, err := c.cfg.Confirmed(ctx)
	if err != nil {
		return nil, err
	}
	if ok := resolved(st, q); ok != nil {
		return ok, nil
	}
	held, missing := c.Held(ctx, shardIDs(st))
	held = slices.DeleteFunc(held, func(h transport.HeldTxn) bool { return h.TxnID != q.TxnID })
	if len(held) == 0 {
		message := "no shard holds it prepared, and no decision about it is known"
		if len(missing) > 0 {
			return nil, &event.Error{Kind: event.KindUnavailable, Op: op, Message: message + "; these shards do not answer: " + names(missing)}
		}
		return nil, &event.Error{Kind: event.KindNotFound, Op: op, Message: message}
	}
	var ok *transport.ResolveTxnOk
	for len(held) > 0 { // attempts; of one that is committed there is one
		body, err := resolution(op, q.Commit, held)
		if err != nil {
			return nil, err
		}
		this := held[0]
		if ok, err = c.resolve(ctx, op, this, body); err != nil {
			return nil, err
		}
		held = slices.DeleteFunc(held, func(h transport.HeldTxn) bool { return h.Attempt == this.Attempt })
	}
	return ok, nil
}

// resolved is the answer when the transaction has its outcome.
func resolved(st *fsm.State, q *transport.ResolveTxn) *transport.ResolveTxnOk {
	switch end := st.TxnEnd(q.TxnID); {
	case end.Committed:
		return &transport.ResolveTxnOk{Outcome: "committed", Seq: end.Seq, Attempt: end.Other}
	case end.Final:
		return &transport.ResolveTxnOk{Outcome: "aborted", Seq: end.Seq}
	}
	return nil
}

// resolution is the event that ends an attempt as the operator wants, if that may be.
func resolution(op string, commit bool, held []transport.HeldTxn) (event.Body, error) {
	all := participantsOf(held)
	first := held[0]
	if !commit {
		all = participantsOf(slices.DeleteFunc(slices.Clone(held), func(h transport.HeldTxn) bool { return h.Attempt != first.Attempt }))
		return event.TxnAborted{TxnID: first.TxnID, Attempt: first.Attempt, Shards: all, Reason: "an operator's word", Begin: first.Begin}, nil
	}
	against := ""
	for _, id := range all {
		i := slices.IndexFunc(held, func(h transport.HeldTxn) bool { return h.ShardID == id })
		switch {
		case i < 0:
			against = fmt.Sprintf("%s does not hold it prepared, or does not answer", id)
		case held[i].Attempt != first.Attempt:
			against = fmt.Sprintf("%s holds attempt %d of it, %s attempt %d", id, held[i].Attempt, first.ShardID, first.Attempt)
		case held[i].Open:
			against = fmt.Sprintf("%s waits for another part of it", id)
		case time.Duration(held[i].AgeMillis)*time.Millisecond < abandoned:
			against = fmt.Sprintf("%s holds it for %d ms, and its coordinator may be at it for %v", id, held[i].AgeMillis, abandoned)
		default:
			continue
		}
		return nil, &event.Error{Kind: event.KindRefused, Op: op, Message: against + ": it cannot be committed; without --commit it is aborted"}
	}
	return event.TxnCommitted{TxnID: first.TxnID, Attempt: first.Attempt, Begin: first.Begin, Issued: first.Issued, Shards: all, Coordinator: first.Coordinator}, nil
}

// participantsOf are all shards that any of the held attempts names.
func participantsOf(held []transport.HeldTxn) []event.ShardID {
	var ids []event.ShardID
	for _, h := range held {
		ids = append(append(ids, h.ShardID), h.Participants...)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// resolve proposes the event and brings what Apply kept to the participants.
func (c *Coordinator) resolve(ctx context.Context, op string, h transport.HeldTxn, body event.Body) (*transport.ResolveTxnOk, error) {
	command := event.NewCommand(string(c.cfg.Self), body)
	if _, commit := body.(event.TxnCommitted); commit {
		command.RequestID, command.Issued = h.TxnID, h.Issued
	}
	answer, err := c.cfg.Propose(ctx, *command)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	_, commit := body.(event.TxnCommitted)
	ok := &transport.ResolveTxnOk{Outcome: "aborted", Seq: answer.Seq, Attempt: h.Attempt}
	switch {
	case answer.Err == nil && commit, answer.Err != nil && answer.Err.Kind == event.KindConflict && answer.Value == h.Attempt:
		ok.Outcome = "committed"
	case answer.Err == nil, answer.Err.Kind == event.KindAborted:
	default:
		return nil, answer.Err
	}
	c.finishHeld(ctx, h, ok.Outcome == "committed")
	return ok, nil
}

// finishHeld brings an outcome to the participants; what it does not reach asks by itself.
func (c *Coordinator) finishHeld(ctx context.Context, h transport.HeldTxn, commit bool) {
	left := c.deliver(ctx, transport.Finish{TxnID: h.TxnID, Attempt: h.Attempt, Begin: h.Begin, Commit: commit}, participantsOf([]transport.HeldTxn{h}))
	if len(left) > 0 {
		c.cfg.Log.Info("resolved transaction not finished everywhere yet", "txn", h.TxnID.String(), "commit", commit, "shards", left)
	}
}

func missingShard(id event.ShardID, err error) transport.MissingShard {
	m := transport.MissingShard{ShardID: id, Kind: event.KindInternal, Message: err.Error()}
	if e := new(event.Error); errors.As(err, &e) {
		m.Kind = e.Kind
	}
	return m
}

func shardIDs(st *fsm.State) []event.ShardID {
	var ids []event.ShardID
	for _, s := range st.ShardMap().Shards {
		ids = append(ids, s.ID)
	}
	return ids
}

func names(missing []transport.MissingShard) string {
	var b bytes.Buffer
	for i, m := range missing {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(m.ShardID))
	}
	return b.String()
}
