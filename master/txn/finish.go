package txn

import (
	"context"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/transport"
)

// completeTimeout bounds one proposal of txn_completed; a lost one is made again by the next look of the sweep.
const completeTimeout = 5 * time.Second

// maxCompleted is how many transactions one txn_completed names.
const maxCompleted = 1000

// deliver brings a decision to participants, all at once, and returns those that did not acknowledge it in time.
func (c *Coordinator) deliver(ctx context.Context, f transport.Finish, shards []event.ShardID) []event.ShardID {
	ctx, cancel := context.WithTimeout(ctx, c.limits.Finish)
	defer cancel()
	f.Horizon = c.cfg.View().Horizon()
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		left []event.ShardID
	)
	for _, id := range shards {
		wg.Go(func() {
			c.cfg.Point(fault.TxnFinishSend)
			_, err := c.cfg.Shards.Shard(ctx, id, client.ShardRequest{Request: &f})
			c.cfg.Point(fault.TxnFinishAcknowledged)
			if err == nil {
				return
			}
			c.cfg.Log.Debug("finish transaction", "txn", f.TxnID.String(), "shard", string(id), "commit", f.Commit, "error", err)
			mu.Lock()
			defer mu.Unlock()
			left = append(left, id)
		})
	}
	wg.Wait()
	return left
}

// drop ends an attempt that will never be committed, where it may be prepared. It must not be called once the attempt's
// commit was proposed and Apply has not refused it for ever.
func (c *Coordinator) drop(ctx context.Context, a *attempt) {
	before := len(a.holds)
	if before > 0 && !a.dropped {
		a.dropped = true
		c.cfg.Metrics.undone.Inc()
	}
	a.holds = c.deliver(ctx, transport.Finish{TxnID: a.id, Attempt: a.nonce, Begin: a.begin}, a.holds)
	if len(a.holds) < before {
		a.settle()
	}
}

// finish brings a decision to every participant in the background: the client is answered already. What it does not
// reach, the leader's sweep does.
func (c *Coordinator) finish(ctx context.Context, a *attempt, commit bool) {
	f := transport.Finish{TxnID: a.id, Attempt: a.nonce, Begin: a.begin, Commit: commit}
	shards := a.shards
	c.background(ctx, func(ctx context.Context) {
		c.cfg.Point(fault.TxnFinishBefore)
		begin := time.Now()
		left := c.deliver(ctx, f, shards)
		c.cfg.Metrics.phase("finish", begin)
		c.cfg.Point(fault.TxnFinishAfter)
		if len(left) > 0 {
			return
		}
		select {
		case c.settled <- f.TxnID:
		default:
		}
	})
}

// background runs fn on a goroutine that Close awaits, with a context that Close ends. When too many run already, the caller
// runs it itself, under its own context: that slows down whoever brings the work.
func (c *Coordinator) background(ctx context.Context, fn func(ctx context.Context)) {
	select {
	case c.slots <- struct{}{}:
	default:
		fn(ctx)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		<-c.slots
		return
	}
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		defer func() { <-c.slots }()
		fn(c.ctx)
	}()
}

// report gathers transactions that every participant has finished and proposes txn_completed for many at once. It leaves
// the horizon where it is: only the leader knows what it may pass. A report that is lost costs nothing: the sweep makes it
// again.
func (c *Coordinator) report(ctx context.Context) {
	for {
		var ids []event.TxnID
		select {
		case id := <-c.settled:
			ids = append(ids, id)
		case <-ctx.Done():
			return
		}
		ids = c.gather(ctx, ids)
		if err := c.complete(ctx, ids, c.cfg.View().Horizon()); err != nil && ctx.Err() == nil {
			c.cfg.Log.Debug("report finished transactions", "count", len(ids), "error", err)
		}
	}
}

// gather waits for more, up to what one event holds.
func (c *Coordinator) gather(ctx context.Context, ids []event.TxnID) []event.TxnID {
	t := time.NewTimer(c.limits.Complete)
	defer t.Stop()
	for len(ids) < maxCompleted {
		select {
		case id := <-c.settled:
			ids = append(ids, id)
		case <-t.C:
			return ids
		case <-ctx.Done():
			return ids
		}
	}
	return ids
}

// complete proposes txn_completed.
func (c *Coordinator) complete(ctx context.Context, ids []event.TxnID, horizon event.Position) error {
	ctx, cancel := context.WithTimeout(ctx, completeTimeout)
	defer cancel()
	c.cfg.Point(fault.TxnCompleteBefore)
	answer, err := c.cfg.Propose(ctx, *event.NewCommand(string(c.cfg.Self), event.TxnCompleted{TxnIDs: ids, Horizon: horizon}))
	c.cfg.Point(fault.TxnCompleteAfter)
	if err == nil && answer.Err != nil {
		return answer.Err
	}
	return err
}
