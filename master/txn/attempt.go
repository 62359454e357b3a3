package txn

import (
	"slices"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// attempt is one execution of a multi-shard transaction.
type attempt struct {
	*work
	nonce   uint64
	begin   event.Position
	shards  []event.ShardID // its participants, as far as they are known, in order
	holds   []event.ShardID // those that may hold it prepared
	parts   uint32          // how many parts were sent, at any participant
	open    []event.ShardID // those that were told that another part follows
	results *results
	dropped bool // counted as undone
}

// newAttempt draws a nonce. The nonce is never used again, whatever becomes of the attempt.
func (c *Coordinator) newAttempt(w *work) *attempt {
	shards := w.plan.participants()
	a := &attempt{work: w, nonce: w.nonce(), begin: c.cfg.View().Position(), shards: shards, holds: slices.Clone(shards), results: newResults(w.ops)}
	w.loose = append(w.loose, a)
	return a
}

// settle notes that the attempt cannot be prepared everywhere any more, whatever becomes of the masters (safety S2, S3).
func (a *attempt) settle() {
	a.loose = slices.DeleteFunc(a.loose, func(b *attempt) bool { return a == b })
}

// piece is what one participant gets in one round: its halves of what deletes removed, then its operations.
type piece struct {
	half
	closes bool // nothing follows it
}

// round is what the participants get of a step: the halves that the votes on the one before brought, and its own operations. The last
// step closes the attempt at every participant that was told to expect more, also where there is nothing left to do.
func (a *attempt) round(n int, far map[event.ShardID]*half) []piece {
	byShard := far
	if byShard == nil {
		byShard = map[event.ShardID]*half{}
	}
	at := func(shard event.ShardID) *half {
		h := byShard[shard]
		if h == nil {
			h = &half{shard: shard}
			byShard[shard] = h
		}
		return h
	}
	for _, h := range a.plan.steps[n].halves {
		to := at(h.shard)
		to.ops, to.index = append(to.ops, h.ops...), append(to.index, h.index...)
	}
	last := n == len(a.plan.steps)-1
	if last {
		for _, shard := range a.open {
			at(shard)
		}
	}
	var pieces []piece
	for _, h := range inOrder(byShard) {
		pieces = append(pieces, piece{h, last})
		a.join(h.shard)
		if !last && !slices.Contains(a.open, h.shard) {
			a.open = append(a.open, h.shard)
		}
	}
	return pieces
}

// join makes a shard a participant.
func (a *attempt) join(shard event.ShardID) {
	if !slices.Contains(a.shards, shard) {
		a.shards = append(slices.Clip(a.shards), shard)
		slices.Sort(a.shards)
		a.holds = append(a.holds, shard)
	}
}

// prepares are a piece as requests: one for each 1,000 operations, and one if there are none. number is that of the first part.
func (c *Coordinator) prepares(a *attempt, p piece, number uint32) []*transport.Prepare {
	var list []*transport.Prepare
	horizon := c.cfg.View().Horizon()
	for rest := p.ops; len(rest) > 0 || len(list) == 0; {
		n := min(len(rest), transport.MaxOps)
		list = append(list, &transport.Prepare{
			TxnID: a.id, Attempt: a.nonce, Begin: a.begin, Start: a.start, Coordinator: c.cfg.Self, Participants: a.shards,
			Issued: a.issued, Horizon: horizon, Ops: rest[:n], Part: number + uint32(len(list)), Open: true,
		})
		rest = rest[n:]
	}
	list[len(list)-1].Open = !p.closes
	return list
}
