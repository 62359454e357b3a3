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
	open    int                     // participants of this round that did not vote yes
	far     map[event.ShardID]*half // what the next round has to remove elsewhere
	refused []event.ShardID         // voted no: refused(attempt) is in their replicated state
	done    bool                    // a participant has the transaction's result already
	lost    error                   // the transaction's outcome is no longer remembered, or it is another one's
	no      error                   // a no for good
	retry   error                   // a no, or no answer, that another attempt may turn into a yes
}

func (v *votes) yes() bool { return v.open == 0 }

// prepare asks all participants, step by step. The first answer that is not yes ends the wait for the others: they may then have
// prepared or not, and get the attempt's end either way.
func (c *Coordinator) prepare(ctx context.Context, a *attempt) *votes {
	ctx, cancel := context.WithTimeout(ctx, c.limits.Attempt)
	defer cancel()
	ctx, stop := context.WithDeadline(ctx, a.until)
	defer stop()
	v := &votes{}
	for n := range a.plan.steps {
		pieces := a.round(n, v.far)
		v.far = nil
		c.ask(ctx, a, v, pieces)
		if !v.yes() {
			break
		}
	}
	if len(v.far) > 0 && v.yes() {
		v.open++
		v.no = &event.Error{Kind: event.KindInternal, Op: "prepare", Message: "a delete was voted on in the last round, where nothing may be deleted"}
	}
	a.holds = slices.DeleteFunc(a.holds, func(id event.ShardID) bool { return slices.Contains(v.refused, id) })
	if len(v.refused) > 0 {
		a.settle()
	}
	return v
}

// ask brings each participant its piece, all at once.
func (c *Coordinator) ask(ctx context.Context, a *attempt, v *votes, pieces []piece) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	v.open = len(pieces)
	first, most := a.parts, 0
	var wg sync.WaitGroup
	for _, p := range pieces {
		requests := c.prepares(a, p, first)
		most = max(most, len(requests))
		wg.Go(func() {
			if !c.askOne(ctx, a, v, p, requests) {
				cancel()
			}
		})
	}
	wg.Wait()
	a.parts += uint32(most)
}

// askOne brings one participant the parts of its piece, one after the other, and tells whether it voted yes to all.
func (c *Coordinator) askOne(ctx context.Context, a *attempt, v *votes, p piece, requests []*transport.Prepare) bool {
	rest := p.half
	for i, r := range requests {
		part := half{shard: p.shard, ops: r.Ops, index: rest.index[:len(r.Ops)], far: min(rest.far, len(r.Ops))}
		rest.index, rest.far = rest.index[len(r.Ops):], rest.far-part.far
		c.cfg.Point(fault.TxnPrepareSend)
		reply, err := c.cfg.Shards.Shard(ctx, p.shard, client.ShardRequest{Request: r})
		var vote *transport.PrepareOk
		if err == nil {
			vote, err = transport.As[transport.PrepareOk](reply.Reply.Value, nil)
		}
		if !v.count(a, part, vote, err) {
			return false
		}
		if i == len(requests)-1 {
			v.voted()
		}
	}
	return true
}

// voted notes that a participant has voted yes to all it got in this round.
func (v *votes) voted() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.open--
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
		return v.take(a, h, vote)
	default:
		a.alone = a.alone || !rival(vote)
		v.refused = append(v.refused, h.shard)
		v.refuse(h, vote)
	}
	return false
}

// take keeps what a yes brings.
func (v *votes) take(a *attempt, h half, vote *transport.PrepareOk) bool {
	if err := a.results.take(h, vote.Results); err != nil {
		v.no = keep(v.no, &event.Error{Kind: event.KindInternal, Op: "prepare", Message: err.Error()})
		return false
	}
	if len(vote.Far) == 0 {
		return true
	}
	if v.far == nil {
		v.far = map[event.ShardID]*half{}
	}
	if err := a.plan.farHalves(h, vote.Far, v.far); err != nil {
		v.retry = keep(v.retry, err)
		return false
	}
	return true
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
