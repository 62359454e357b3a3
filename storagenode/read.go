package storagenode

import (
	"context"
	"fmt"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/storagenode/engine"
)

// rows reads some rows: linearizable, or stale from whatever this replica has applied.
func (r *replica) rows(ctx context.Context, stale bool, ids []string, look func() error) (uint64, error) {
	if stale {
		return r.engine.Applied(), look()
	}
	return r.read(ctx, ids, look)
}

// everything reads the whole shard, linearizable or stale.
func (r *replica) everything(ctx context.Context, stale bool, look func() error) (uint64, error) {
	if stale {
		return r.engine.Applied(), look()
	}
	return r.scan(ctx, look)
}

// read runs look at a linearizable point (safety S7, S8): behind a read index of the present term, and while no prepared
// transaction holds any of rows. A held row is waited for, then everything is read again; at ctx's end the answer is
// "in doubt". look may run more than once. The index is what the read stands for.
func (r *replica) read(ctx context.Context, rows []string, look func() error) (uint64, error) {
	for {
		index, err := r.readIndex(ctx)
		if err != nil {
			return 0, err
		}
		settled, err := r.readSettled(rows, look)
		if err != nil || settled == nil {
			return index, err
		}
		select {
		case <-settled.released:
		case <-ctx.Done():
			return 0, settled.inDoubt(r.shard)
		}
	}
}

// heldRow is a row that a prepared transaction holds, and the channel that is closed when it may be free.
type heldRow struct {
	row      string
	txn      event.TxnID
	released <-chan struct{}
}

// lookAgain bounds how often a read of several rows is repeated because a transaction ended meanwhile; a shard that
// finishes thousands a second would never let a long one through.
const lookAgain = 3

// readSettled runs look behind a look at the locks. One row needs no more: a transaction that takes it later ends later than
// the read began. Several rows are looked at between two looks at the locks: no release in between and no lock at the end
// mean that none of the rows was held while look ran, so that it saw all of a transaction or nothing.
func (r *replica) readSettled(rows []string, look func() error) (*heldRow, error) {
	for again := 0; ; again++ {
		released := r.engine.LockReleased()
		if held := r.held(rows, released); held != nil {
			return held, nil
		}
		if err := look(); err != nil || len(rows) <= 1 {
			return nil, err
		}
		if held := r.held(rows, released); held != nil {
			return held, nil
		}
		select {
		case <-released:
			if again < lookAgain {
				continue
			}
		default:
		}
		return nil, nil
	}
}

func (r *replica) held(rows []string, released <-chan struct{}) *heldRow {
	for _, row := range rows {
		if lock, ok := r.engine.Holder(row); ok && !fault.Broken(fault.OneShardCommitsLate) {
			return &heldRow{row: row, txn: lock.Txn, released: released}
		}
	}
	return nil
}

func (h *heldRow) inDoubt(shard event.ShardID) *event.Error {
	return &event.Error{Kind: event.KindInDoubt, Txn: h.txn,
		Message: fmt.Sprintf("row %q on %s is held by transaction %s, which was not decided before the deadline", h.row, shard, h.txn)}
}

// scan runs look over the whole shard: every transaction that was prepared when the read began has ended by then, so
// whatever was acknowledged before is seen. Those that come later are not waited for, or a busy shard would never answer.
func (r *replica) scan(ctx context.Context, look func() error) (uint64, error) {
	index, err := r.readIndex(ctx)
	if err != nil {
		return 0, err
	}
	before := map[attempt]bool{}
	for _, p := range r.engine.Prepared() {
		before[attempt{p.TxnID, p.Attempt}] = true
	}
	for len(before) > 0 {
		released := r.engine.LockReleased()
		open := stillPrepared(before, r.engine.Prepared())
		if open == nil {
			break
		}
		select {
		case <-released:
		case <-ctx.Done():
			return 0, &event.Error{Kind: event.KindInDoubt, Txn: open.TxnID,
				Message: fmt.Sprintf("transaction %s on %s was not decided before the deadline", open.TxnID, r.shard)}
		}
	}
	return index, look()
}

func stillPrepared(before map[attempt]bool, now []engine.Prepared) *engine.Prepared {
	for _, p := range now {
		if before[attempt{p.TxnID, p.Attempt}] {
			return &p
		}
	}
	return nil
}

// readIndex confirms leadership and waits until the state is there.
func (r *replica) readIndex(ctx context.Context) (uint64, error) {
	index, _, err := r.group.ReadIndex(ctx)
	if err != nil {
		return 0, r.elsewhere(err)
	}
	if err := r.group.Wait(ctx, index); err != nil {
		return 0, r.elsewhere(err)
	}
	return index, nil
}
