package txn

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// An attempt's nonce begins with a mark of the transaction's operations, and the rest of it is random. So whoever knows under
// which attempt a transaction is committed knows what was committed, and a client that uses its id for something else is told so
// instead of getting the other transaction's result (safety S30). Nothing else is kept for it: docs/adr/0005.
const randomBits = 40

// markOf is the mark of operations, in the upper bits of a nonce and never 0. A transaction over the limit of its frame is refused.
func markOf(ops []transport.Op) (uint64, error) {
	form, err := formOf(ops)
	if err != nil {
		return 0, err
	}
	if len(form) > transport.MaxTxnBytes {
		return 0, &event.Error{Kind: event.KindTooLarge, Op: "txn", Message: fmt.Sprintf("the operations have %d bytes: at most %d are allowed", len(form), transport.MaxTxnBytes)}
	}
	sum := sha256.Sum256(form)
	const marks = 1<<(64-randomBits) - 1
	return (1 + binary.BigEndian.Uint64(sum[:])%marks) << randomBits, nil
}

// nonce draws one for an attempt of this work.
func (w *work) nonce() uint64 {
	var random [8]byte
	rand.Read(random[:]) // never fails (crypto/rand)
	return w.mark | binary.BigEndian.Uint64(random[:])>>(64-randomBits)
}

// made tells whether an attempt was one at the same operations.
func (w *work) made(attempt uint64) bool { return attempt>>randomBits == w.mark>>randomBits }

func reused(w *work, what string) *event.Error {
	return &event.Error{Kind: event.KindIDReused, Op: "txn", Txn: w.id,
		Message: fmt.Sprintf("request id %s was used for %s: make a new one", w.id, what)}
}

// otherOps is the answer to an id whose transaction is committed with other operations.
func otherOps(w *work, seq uint64) *event.Error {
	return reused(w, fmt.Sprintf("a transaction of other operations (event %d)", seq))
}

// done answers a transaction of which a participant has a result already, in words of the masters.
func (c *Coordinator) done(ctx context.Context, w *work) ending {
	st, err := c.cfg.Confirmed(ctx)
	if err != nil {
		return ending{what: unknown, err: unknownOutcome(w, "a shard has its result, and the decision cannot be read: "+err.Error())}
	}
	end := st.TxnEnd(w.id)
	switch {
	case end.Committed && w.made(end.Other):
		return ending{what: committed, ok: c.committedAs(ctx, w, end.Other, end.Seq)}
	case end.Committed:
		return ending{what: unknown, err: otherOps(w, end.Seq)}
	case w.plan.single(): // a copy of the write was not late but in time
		ok, err := c.written(ctx, w)
		if err != nil {
			return ending{what: unknown, err: err}
		}
		return ending{what: committed, ok: ok}
	case w.issued <= st.Forgotten():
		return ending{what: unknown, err: expired(w)}
	}
	return ending{what: unknown, err: reused(w, "a write of one shard")}
}

// remembered answers what this master's state knows of the id; nil, nil: nothing.
func (c *Coordinator) remembered(ctx context.Context, st *fsm.State, w *work) (*transport.TxnOk, error) {
	switch end := st.TxnEnd(w.id); {
	case end.Committed && !w.made(end.Other):
		return nil, otherOps(w, end.Seq)
	case end.Committed:
		return c.committedAs(ctx, w, end.Other, end.Seq), nil
	case end.Final:
		return nil, c.ended(ctx, st, w, end)
	case st.IsRequest(w.id):
		return nil, reused(w, "another command")
	}
	return nil, nil
}

// ended tells of a transaction that is aborted for good, when at least one participant knows it as well.
func (c *Coordinator) ended(ctx context.Context, st *fsm.State, w *work, end fsm.Outcome) error {
	// Whoever closed it may not have lived to have it dropped anywhere. Without a record the horizon has passed it, and
	// then every participant has let go of it.
	if t := st.Txn(w.id); t != nil && !t.Completed {
		left := c.deliver(ctx, transport.Finish{TxnID: t.ID, Attempt: t.Attempt, Begin: t.Begin}, t.Shards)
		if len(left) == len(t.Shards) {
			return unknownOutcome(w, "it is aborted, but no participant has confirmed it")
		}
	}
	return &event.Error{Kind: event.KindAborted, Op: "txn", Txn: w.id, Message: fmt.Sprintf("transaction %s was aborted for good (event %d)", w.id, end.Seq)}
}
