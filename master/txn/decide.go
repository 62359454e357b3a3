package txn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/transport"
)

// commit proposes the commit point of an attempt that every participant has prepared. From here on the attempt may be
// committed whatever happens to this coordinator, so it is dropped only when Apply has said that it never will be.
func (c *Coordinator) commit(ctx context.Context, a *attempt) ending {
	c.cfg.Point(fault.TxnDecideBefore)
	if fault.Broken(fault.DecisionNotLogged) {
		return c.committed(ctx, a, c.cfg.View().Seq())
	}
	begin := time.Now()
	answer, sent, err := c.propose(ctx, a.work, event.TxnCommitted{
		TxnID: a.id, Attempt: a.nonce, Begin: a.begin, Issued: a.issued, Shards: a.shards, OpCount: uint32(len(a.ops)), Coordinator: c.cfg.Self,
	})
	c.cfg.Metrics.phase("decide", begin)
	c.cfg.Point(fault.TxnDecideAfter)
	switch {
	case err != nil && !sent: // it is not in the log and never will be
		c.background(ctx, func(ctx context.Context) { c.drop(ctx, a) })
		return ending{what: unknown, err: err}
	case err != nil:
		return ending{what: unknown, err: err}
	case answer.Err == nil:
		return c.committed(ctx, a, answer.Seq)
	}
	return c.denied(ctx, a, answer)
}

// committed answers the client, and finishes behind its back.
func (c *Coordinator) committed(ctx context.Context, a *attempt, seq uint64) ending {
	c.finish(ctx, a, true)
	return ending{what: committed, ok: &transport.TxnOk{TxnID: a.id, Seq: seq, Results: a.results.list}}
}

// denied ends an attempt whose commit Apply has refused. A refusal that could turn into an acceptance, should a copy of
// the proposal still be on its way, is made final by an event first.
func (c *Coordinator) denied(ctx context.Context, a *attempt, answer fsm.Answer) ending {
	switch answer.Err.Kind {
	case event.KindConflict: // committed under another attempt
		c.drop(ctx, a)
		if !a.made(answer.Value) {
			return ending{what: unknown, err: otherOps(a.work, answer.Seq)}
		}
		return ending{what: committed, ok: c.committedAs(ctx, a.work, answer.Value, answer.Seq)}
	case event.KindAborted, event.KindTooOld: // for ever
		c.drop(ctx, a)
		if c.cfg.View().TxnEnd(a.id).Final {
			return ending{what: refused, err: answer.Err}
		}
		return ending{what: again, err: answer.Err}
	case event.KindExpired:
		c.drop(ctx, a)
		return ending{what: unknown, err: answer.Err}
	}
	reason := answer.Err
	answer, _, err := c.propose(ctx, a.work, event.TxnAborted{
		TxnID: a.id, Attempt: a.nonce, Shards: a.shards, Reason: "its commit was refused", Begin: a.begin,
	})
	switch {
	case err != nil:
		return ending{what: unknown, err: err}
	case answer.Err != nil && answer.Value == a.nonce: // a copy of the proposal was first
		return c.committed(ctx, a, answer.Seq)
	case answer.Err != nil:
		return ending{what: unknown, err: answer.Err}
	}
	c.drop(ctx, a)
	if reason.Kind == event.KindBusy {
		return ending{what: again, err: reason}
	}
	return ending{what: refused, err: reason}
}

// abort closes the transaction for every attempt and answers "aborted" when that is surely so: Apply has recorded it, and
// each attempt is refused or dropped somewhere, so that not even the loss of all masters can bring it back (safety S2).
func (c *Coordinator) abort(ctx context.Context, a *attempt, reason error) (*transport.TxnOk, error) {
	if ok, err := c.close(ctx, a.work); ok != nil || err != nil {
		return ok, err
	}
	c.cfg.Point(fault.TxnAbortBefore)
	answer, _, err := c.propose(ctx, a.work, event.TxnAborted{
		TxnID: a.id, Attempt: a.nonce, Final: true, Shards: a.shards, Reason: shorten(reason.Error()), Begin: a.begin,
	})
	c.cfg.Point(fault.TxnAbortAfter)
	if err != nil {
		return nil, err
	}
	switch {
	case answer.Err == nil:
	case answer.Err.Kind == event.KindConflict && !a.made(answer.Value):
		return nil, otherOps(a.work, answer.Seq)
	case answer.Err.Kind == event.KindConflict: // committed, by another attempt
		return c.committedAs(ctx, a.work, answer.Value, answer.Seq), nil
	default: // not recorded, so it is not told
		return nil, unknownOutcome(a.work, "its end could not be recorded: "+answer.Err.Error())
	}
	if !c.confirm(ctx, a.work) {
		return nil, unknownOutcome(a.work, "it is aborted, but no participant has confirmed it")
	}
	c.finish(ctx, a, false)
	if !a.alone {
		return nil, unknownOutcome(a.work, "it is aborted, but another attempt of it may still be prepared")
	}
	return nil, reason
}

// confirm waits until every attempt is durably refused or dropped by one participant at least.
func (c *Coordinator) confirm(ctx context.Context, w *work) bool {
	var backoff transport.Backoff
	for {
		for _, a := range slices.Clone(w.loose) {
			c.drop(ctx, a)
		}
		if len(w.loose) == 0 {
			return true
		}
		if backoff.Wait(ctx, 0) != nil {
			return false
		}
	}
}

// propose asks for a decision until Apply has answered or ctx ends: the same command again and again, which Apply answers
// as it did the first time. sent tells whether it may be in the log without an answer.
func (c *Coordinator) propose(ctx context.Context, w *work, body event.Body) (answer fsm.Answer, sent bool, err error) {
	command := event.NewCommand(string(c.cfg.Self), body)
	command.RequestID, command.Issued = w.id, w.issued
	var backoff transport.Backoff
	for {
		answer, err = c.cfg.Propose(ctx, *command)
		if err == nil {
			return answer, true, nil
		}
		if malformed(err) {
			return answer, sent, err
		}
		if full := new(event.Error); errors.As(err, &full) && full.Kind == event.KindFeedFull {
			return fsm.Answer{Err: full}, sent, nil // like a refusal that may become an acceptance: an event makes it final
		}
		sent = sent || !surelyNot(err)
		if backoff.Wait(ctx, 0) != nil {
			return answer, sent, unknownOutcome(w, fmt.Sprintf("no answer to %s: %v", command.Type, err))
		}
	}
}

// surelyNot tells whether an error of Propose means that the command is not in the log and will not be.
func surelyNot(err error) bool {
	return errors.Is(err, &event.Error{Kind: event.KindNotLeader}) || errors.Is(err, &event.Error{Kind: event.KindUnavailable}) ||
		errors.Is(err, &event.Error{Kind: event.KindBusy})
}

// malformed tells whether an error means that the command can never be proposed.
func malformed(err error) bool {
	return errors.Is(err, &event.Error{Kind: event.KindInvalid}) || errors.Is(err, &event.Error{Kind: event.KindTooLarge})
}

func unknownOutcome(w *work, why string) *event.Error {
	return &event.Error{Kind: event.KindUnknownOutcome, Op: "txn", Txn: w.id,
		Message: fmt.Sprintf("transaction %s: %s; send it again with the same request id", w.id, why)}
}

// shorten keeps a reason within what an event should hold.
func shorten(s string) string {
	const limit = 500
	if len(s) <= limit {
		return s
	}
	return s[:limit]
}
