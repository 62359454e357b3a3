package storagenode

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// batchReaders is how many reads of one batch run at once; they share their read index rounds.
const batchReaders = 64

// item is one request of a batch on its way to its reply.
type item struct {
	call
	replica *replica
	out     outcome
	err     error
}

// batch answers a plain batch. Its requests run as if one after the other, but neighbours of one nature run together: the
// writes of a run are one group commit per shard, the reads share their confirmation.
func (n *Node) batch(ctx context.Context, b *transport.Batch) (any, error) {
	items := make([]*item, len(b.Requests))
	for i, q := range b.Requests {
		it := &item{call: n.plain(q.Value)}
		if it.err = n.checkPlain(q.Value); it.err == nil {
			it.replica, it.err = n.local(q.Value)
		}
		items[i] = it
	}
	n.runBatch(ctx, items)
	return batchReply(items), nil
}

// routedBatch answers a batch for one shard. Each write gets a request id that follows from the batch's, so that a retry of
// the batch finds what was done. When a request fails in a way that another try elsewhere may mend, the whole batch does.
func (n *Node) routedBatch(ctx context.Context, r *replica, c call, b *transport.Batch) (outcome, error) {
	m := n.maps.current()
	items := make([]*item, len(b.Requests))
	for i, q := range b.Requests {
		it := &item{call: call{request: q.Value, issued: c.issued, stale: c.stale}, replica: r}
		if _, write := opsOf(q.Value); write && !c.id.IsZero() {
			it.id = itemID(c.id, i)
		}
		if it.err = n.checkPlain(q.Value); it.err == nil {
			it.err = n.admit(m, r, it.call)
		}
		items[i] = it
	}
	n.runBatch(ctx, items)
	out := outcome{reply: batchReply(items)}
	for _, it := range items {
		if retryWhole(it.err) {
			return outcome{}, it.err
		}
		out.index = max(out.index, it.out.index)
	}
	return out, nil
}

// itemID derives the request id of a batch's i-th request.
func itemID(batch event.RequestID, i int) event.RequestID {
	sum := sha256.Sum256(binary.BigEndian.AppendUint32(batch[:], uint32(i)))
	return event.RequestID(sum[:16])
}

// retryWhole tells whether the caller should send the batch again, perhaps elsewhere.
func retryWhole(err error) bool {
	var e *event.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Kind {
	case event.KindNotLeader, event.KindWrongShard, event.KindMoving, event.KindUnavailable, event.KindUnknownOutcome, event.KindBusy:
		return true
	}
	return false
}

// runBatch runs the items that have no error yet, in runs of one nature.
func (n *Node) runBatch(ctx context.Context, items []*item) {
	for len(items) > 0 {
		run := 1
		for run < len(items) && !learns(items[0].request) && !learns(items[run].request) && items[run].isWrite() == items[0].isWrite() {
			run++ // what is learnt is linked to what was learnt before it: one after the other
		}
		if items[0].isWrite() {
			writeItems(ctx, items[:run])
		} else {
			n.readItems(ctx, items[:run])
		}
		items = items[run:]
	}
}

func (it *item) isWrite() bool {
	_, write := opsOf(it.request)
	return write
}

// writeItems commits a run of writes: in order and together on each shard, the shards at the same time.
func writeItems(ctx context.Context, items []*item) {
	byShard := map[*replica][]*item{}
	for _, it := range items {
		if it.err == nil {
			byShard[it.replica] = append(byShard[it.replica], it)
		}
	}
	var g errgroup.Group
	for r, of := range byShard {
		g.Go(func() error { writeShard(ctx, r, of); return nil })
	}
	_ = g.Wait() // each item has its own error
}

// writeShard commits writes in their order. Those that share a command are settled before what comes behind them is proposed: when they are
// refused together, none took effect and each is tried for an answer of its own.
func writeShard(ctx context.Context, r *replica, items []*item) {
	for len(items) > 0 {
		n := sharing(items)
		if n > 1 && writeTogether(ctx, r, items[:n]) {
			items = items[n:]
			continue
		}
		for n < len(items) && sharing(items[n:]) == 1 {
			n++
		}
		writeEach(ctx, r, items[:n])
		items = items[n:]
	}
}

// writeEach commits writes in order, each with a command of its own.
func writeEach(ctx context.Context, r *replica, items []*item) {
	writes := make([]*writing, len(items))
	for i, it := range items {
		ops, _ := opsOf(it.request)
		writes[i] = &writing{id: it.id, issued: it.issued, ops: ops}
	}
	r.writeAll(ctx, writes)
	for i, it := range items {
		a, err := writes[i].result()
		it.out, it.err = written(it.request, a), err
	}
}

// writeTogether commits items with one command; false: it was refused, and nothing took effect.
func writeTogether(ctx context.Context, r *replica, items []*item) bool {
	w := &writing{id: newRequestID(), issued: items[0].issued} // their own ids are for writeEach
	for _, it := range items {
		ops, _ := opsOf(it.request)
		w.ops = append(w.ops, ops...)
	}
	a, err := r.write(ctx, w)
	if err != nil && w.err == nil {
		return false
	}
	for _, it := range items {
		it.out, it.err = written(it.request, a), err
	}
	return true
}

// togetherBytes bounds the contents that share a command, so that one of many concepts does not hold up the log.
const togetherBytes = 1 << 20

// sharing is how many items, from the first on, share a command: those that only learn and that nobody asks for again by an id of their own, as
// many as the bounds allow; at least 1. A command costs the log and the request table more than what most of them learn.
func sharing(items []*item) int {
	n, size := 0, 0
	for n < len(items) && n < transport.MaxOps && items[n].mayShare() {
		if c, ok := items[n].request.(*transport.LearnConcept); ok {
			size += len(c.Content)
		}
		if size > togetherBytes {
			break
		}
		n++
	}
	return max(n, 1)
}

// mayShare: vectors stay alone, because those of one command must all be of one dimension.
func (it *item) mayShare() bool {
	switch q := it.request.(type) {
	case *transport.LearnConcept:
		return it.once && len(q.Embedding) == 0
	case *transport.LearnAssociation:
		return it.once
	}
	return false
}

// readItems answers a run of everything that is no write.
func (n *Node) readItems(ctx context.Context, items []*item) {
	var g errgroup.Group
	g.SetLimit(batchReaders)
	for _, it := range items {
		if it.err == nil {
			g.Go(func() error { it.out, it.err = n.perform(ctx, it.replica, it.call); return nil })
		}
	}
	_ = g.Wait() // each item has its own error
}

// batchReply has one reply per request, in order; an Error in the place of one that failed.
func batchReply(items []*item) *transport.BatchOk {
	ok := &transport.BatchOk{Replies: make([]transport.Any, len(items))}
	for i, it := range items {
		ok.Replies[i].Value = it.out.reply
		if it.err != nil {
			ok.Replies[i].Value = asError(it.err)
		}
	}
	return ok
}

// asError is err as it goes over the wire inside a reply.
func asError(err error) *event.Error {
	var e *event.Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, context.DeadlineExceeded):
		return &event.Error{Kind: event.KindDeadline, Message: err.Error()}
	}
	return &event.Error{Kind: event.KindInternal, Message: err.Error()}
}
