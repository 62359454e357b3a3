package client

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

const (
	// maxParallel bounds the requests of one Batch that are sent on their own and are under way together.
	maxParallel = 64
	// maxWriteBytes bounds the concepts of one write: far below what a log entry may have (safety S23), and so little that
	// it does not hold up the others. A single concept may be larger and goes alone.
	maxWriteBytes = 4 << 20
)

// batch answers the requests of a Batch in their order. Neighbouring requests of one kind are worked on together: concepts
// as one write per shard, associations as one transaction, reads side by side. A request that fails has its error in
// place of its reply; the others are not affected.
func (c *Client) batch(ctx context.Context, b *transport.Batch) (any, error) {
	replies := make([]transport.Any, len(b.Requests))
	for at := 0; at < len(b.Requests); {
		end := at + 1
		for end < len(b.Requests) && sameWork(b.Requests[at].Value, b.Requests[end].Value) {
			end++
		}
		if err := c.run(ctx, b.Requests[at:end], replies[at:end]); err != nil {
			return nil, err
		}
		at = end
	}
	return &transport.BatchOk{Replies: replies}, nil
}

func sameWork(a, b any) bool {
	switch a.(type) {
	case *transport.LearnConcept:
		_, ok := b.(*transport.LearnConcept)
		return ok
	case *transport.LearnAssociation:
		_, ok := b.(*transport.LearnAssociation)
		return ok
	}
	return transport.ReadOnly(a) && transport.ReadOnly(b)
}

// run works on requests of one kind.
func (c *Client) run(ctx context.Context, reqs, replies []transport.Any) error {
	switch reqs[0].Value.(type) {
	case *transport.LearnConcept:
		return c.learnConcepts(ctx, reqs, replies)
	case *transport.LearnAssociation:
		c.learnAssociations(ctx, reqs, replies)
		return nil
	}
	all := make([]int, len(reqs))
	for i := range all {
		all[i] = i
	}
	c.each(ctx, all, reqs, replies)
	return nil
}

// learnConcepts writes the concepts with few atomic writes per shard.
func (c *Client) learnConcepts(ctx context.Context, reqs, replies []transport.Any) error {
	m, err := c.shardMap(ctx)
	if err != nil {
		return err
	}
	places := map[event.ShardID][]int{}
	for i, r := range reqs {
		learn := r.Value.(*transport.LearnConcept)
		if err := transport.Validate(learn, 0); err != nil {
			replies[i].Value = wireError(err)
			continue
		}
		shard, err := m.Shard(learn.ConceptID)
		if err != nil {
			return err
		}
		places[shard.ID] = append(places[shard.ID], i)
	}
	var wg sync.WaitGroup
	for shard, at := range places {
		wg.Go(func() {
			for len(at) > 0 { // one after the other: the same id may come twice
				n := fitting(reqs, at)
				c.writeConcepts(ctx, shard, at[:n], reqs, replies)
				at = at[n:]
			}
		})
	}
	wg.Wait()
	return nil
}

// fitting is how many of the concepts go into one write.
func fitting(reqs []transport.Any, at []int) int {
	size := 0
	for n, i := range at {
		learn := reqs[i].Value.(*transport.LearnConcept)
		size += len(learn.Content) + 5*len(learn.Embedding)
		if n == transport.MaxOps || n > 0 && size > maxWriteBytes {
			return n
		}
	}
	return len(at)
}

// writeConcepts writes some concepts of one shard atomically. When one of them is at fault, all are written on their own, so
// that only it is refused.
func (c *Client) writeConcepts(ctx context.Context, shard event.ShardID, at []int, reqs, replies []transport.Any) {
	w := &transport.Write{}
	for _, i := range at {
		w.Ops = append(w.Ops, conceptOp(reqs[i].Value.(*transport.LearnConcept)))
	}
	ok, err := ask[transport.WriteOk](ctx, c, shard, w)
	if err != nil && len(at) > 1 && blamesAnOp(err) {
		for _, i := range at {
			replies[i].Value = c.reply(ctx, reqs[i].Value)
		}
		return
	}
	for _, i := range at {
		if err != nil {
			replies[i].Value = wireError(err)
		} else {
			replies[i].Value = &transport.LearnConceptOk{Sequence: ok.Sequence}
		}
	}
}

// reply is Do with the error in place of the reply.
func (c *Client) reply(ctx context.Context, req any) any {
	reply, err := c.Do(ctx, req)
	if err != nil {
		return wireError(err)
	}
	return reply
}

// blamesAnOp tells whether an atomic write surely did not happen because of what one of its operations is.
func blamesAnOp(err error) bool {
	switch wireError(err).Kind {
	case event.KindInvalid, event.KindTooLarge, event.KindNotFound, event.KindPrecondition:
		return true
	}
	return false
}

// learnAssociations writes the associations in one transaction, which keeps them in order at every shard. When one of them
// is at fault it gets its error, and the rest is tried again without it: nothing of the refused transaction has happened.
func (c *Client) learnAssociations(ctx context.Context, reqs, replies []transport.Any) {
	var ops []transport.Op
	var places []int
	for i, r := range reqs {
		learn := r.Value.(*transport.LearnAssociation)
		if err := transport.Validate(learn, 0); err != nil {
			replies[i].Value = wireError(err)
			continue
		}
		ops, places = append(ops, associationOp(learn)), append(places, i)
	}
	for len(ops) > 0 {
		ok, err := c.runTxn(ctx, &transport.Txn{Ops: ops})
		if at := opAtFault(err, len(ops)); at >= 0 {
			replies[places[at]].Value = wireError(err)
			ops, places = append(ops[:at:at], ops[at+1:]...), append(places[:at:at], places[at+1:]...)
			continue
		}
		for _, i := range places {
			if err != nil {
				replies[i].Value = wireError(err)
			} else {
				replies[i].Value = &transport.LearnAssociationOk{Sequence: ok.Seq}
			}
		}
		return
	}
}

// opAtFault is the index of the operation an error blames, or -1.
func opAtFault(err error, ops int) int {
	if err == nil || !blamesAnOp(err) {
		return -1
	}
	if n := wireError(err).OpNumber; int(n) <= ops {
		return int(n) - 1 // 0, no operation, is -1
	}
	return -1
}

// each answers the requests at these places on their own, side by side.
func (c *Client) each(ctx context.Context, places []int, reqs, replies []transport.Any) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, maxParallel)
	for _, i := range places {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			replies[i].Value = c.reply(ctx, reqs[i].Value)
		})
	}
	wg.Wait()
}

// wireError is an error as it stands in the place of a reply.
func wireError(err error) *event.Error {
	var e *event.Error
	if errors.As(err, &e) {
		return e
	}
	return &event.Error{Kind: event.KindInternal, Message: fmt.Sprint(err)}
}
