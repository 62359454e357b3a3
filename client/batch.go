package client

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// maxParallelReads bounds the reads of one Batch that are under way together.
const maxParallelReads = 64

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
	case *transport.Batch:
		return &event.Error{Kind: event.KindInvalid, Op: "Batch", Message: "a Batch inside a Batch is not allowed"}
	}
	c.readAll(ctx, reqs, replies)
	return nil
}

// learnConcepts writes the concepts with one atomic write per shard.
func (c *Client) learnConcepts(ctx context.Context, reqs, replies []transport.Any) error {
	m, err := c.shardMap(ctx)
	if err != nil {
		return err
	}
	ops, places := map[event.ShardID][]transport.Op{}, map[event.ShardID][]int{}
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
		ops[shard.ID] = append(ops[shard.ID], conceptOp(learn))
		places[shard.ID] = append(places[shard.ID], i)
	}
	var wg sync.WaitGroup
	for shard, list := range ops {
		wg.Go(func() {
			ok, err := ask[transport.WriteOk](ctx, c, shard, &transport.Write{Ops: list})
			for _, i := range places[shard] {
				if err != nil {
					replies[i].Value = wireError(err)
				} else {
					replies[i].Value = &transport.LearnConceptOk{Sequence: ok.Sequence}
				}
			}
		})
	}
	wg.Wait()
	return nil
}

// learnAssociations writes the associations in one transaction. When one of them is at fault it gets its error, and the
// rest is tried again without it.
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
	var e *event.Error
	if !errors.As(err, &e) || e.OpNumber == 0 || int(e.OpNumber) > ops {
		return -1
	}
	return int(e.OpNumber) - 1
}

func (c *Client) readAll(ctx context.Context, reqs, replies []transport.Any) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, maxParallelReads)
	for i, r := range reqs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			reply, err := c.Do(ctx, r.Value)
			if err != nil {
				reply = wireError(err)
			}
			replies[i].Value = reply
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
