package txn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/transport"
)

// votes are the participants' answers to one attempt.
type votes struct {
	mu      sync.Mutex
	open    int             // participants that did not vote yes
	refused []event.ShardID // voted no: refused(attempt) is in their replicated state
	done    bool            // a participant has the transaction's result already
	lost    error           // the transaction's outcome is no longer remembered, or it is another one's
	no      error           // a no for good
	retry   error           // a no, or no answer, that another attempt may turn into a yes
}

func (v *votes) yes() bool { return v.open == 0 }

// prepare asks all participants at once. The first answer that is not yes ends the wait for the others: they may then have
// prepared or not, and get the attempt's end either way.
func (c *Coordinator) prepare(ctx context.Context, a *attempt) *votes {
	ctx, cancel := context.WithTimeout(ctx, c.limits.Attempt)
	defer cancel()
	ctx, stop := context.WithDeadline(ctx, a.until)
	defer stop()
	v := &votes{open: len(a.halves)}
	var wg sync.WaitGroup
	for _, h := range a.halves {
		wg.Go(func() {
			vote, err := c.ask(ctx, a, h)
			if !v.count(a, h, vote, err) {
				cancel()
			}
		})
	}
	wg.Wait()
	a.holds = slices.DeleteFunc(a.holds, func(id event.ShardID) bool { return slices.Contains(v.refused, id) })
	if len(v.refused) > 0 {
		a.settle()
	}
	return v
}

// settle notes that the attempt cannot be prepared everywhere any more, whatever becomes of the masters (safety S2, S3).
func (a *attempt) settle() {
	a.loose = slices.DeleteFunc(a.loose, func(b *attempt) bool { return a == b })
}

func (c *Coordinator) ask(ctx context.Context, a *attempt, h half) (*transport.PrepareOk, error) {
	c.cfg.Point(fault.TxnPrepareSend)
	reply, err := c.cfg.Shards.Shard(ctx, h.shard, client.ShardRequest{Request: &transport.Prepare{
		TxnID: a.id, Attempt: a.nonce, Begin: a.begin, Start: a.issued, Coordinator: c.cfg.Self, Participants: a.shards(),
		Issued: a.issued, Horizon: c.cfg.View().Horizon(), Ops: h.ops,
	}})
	if err != nil {
		return nil, err
	}
	return transport.As[transport.PrepareOk](reply.Reply.Value, nil)
}

// count takes one answer and tells whether it was a yes.
func (v *votes) count(a *attempt, h half, vote *transport.PrepareOk, err error) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case err != nil:
		v.failed(h, err)
	case vote.AlreadyDone:
		v.done = true
	case vote.Vote:
		a.alone = true
		v.open--
		return true
	default:
		a.alone = a.alone || !rival(vote)
		v.refused = append(v.refused, h.shard)
		v.refuse(h, vote)
	}
	return false
}

// rival tells whether a no says that another attempt of the same transaction is prepared there.
func rival(vote *transport.PrepareOk) bool {
	return vote.Reason != nil && vote.Reason.Kind == event.KindBusy
}

func (v *votes) refuse(h half, vote *transport.PrepareOk) {
	e := event.Error{Kind: event.KindAborted, Message: "refused without a reason"}
	if vote.Reason != nil {
		e = *vote.Reason
	}
	e.OpNumber = 0
	if vote.OpIndex >= 0 && int(vote.OpIndex) < len(h.index) {
		e.OpNumber = uint32(h.index[vote.OpIndex]) + 1
	}
	reason := fmt.Errorf("%s: %w", h.shard, &e)
	if vote.Retry {
		v.retry = keep(v.retry, reason)
	} else {
		v.no = keep(v.no, reason)
	}
}

// failed takes an answer that is no vote. Whether the attempt is prepared there is not known.
func (v *votes) failed(h half, err error) {
	var e *event.Error
	kind := event.KindUnknownOutcome
	if errors.As(err, &e) {
		kind = e.Kind
	}
	err = fmt.Errorf("prepare on %s: %w", h.shard, err)
	switch kind {
	case event.KindExpired, event.KindOldIncarnation, event.KindIDReused: // not ours to close
		v.lost = keep(v.lost, err)
	case event.KindInvalid, event.KindTooLarge, event.KindUnsupported, event.KindFromTheFuture, event.KindRefused, event.KindPrecondition:
		v.no = keep(v.no, err)
	default:
		v.retry = keep(v.retry, err)
	}
}

// keep keeps the first error.
func keep(first, next error) error {
	if first != nil {
		return first
	}
	return next
}
