package txn

import (
	"context"
	"fmt"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Outcome answers a participant that holds an attempt prepared and has not heard how it ended (safety S4). The answer is
// final: an attempt that is not decided yet is aborted first. Any master may be asked: what its own state says of a
// decided attempt never changes, and the rest is decided in the log. An error means: ask again.
func (c *Coordinator) Outcome(ctx context.Context, q *transport.TxnOutcome) (*transport.TxnOutcomeOk, error) {
	ok, how, err := c.outcome(ctx, q)
	c.cfg.Metrics.inquired.WithLabelValues(how).Inc()
	return ok, err
}

// outcome also says how it came about, for the counter.
func (c *Coordinator) outcome(ctx context.Context, q *transport.TxnOutcome) (ok *transport.TxnOutcomeOk, how string, err error) {
	how = "failed"
	st := c.cfg.View()
	if q.Begin.N != st.Incarnation().N {
		return nil, how, &event.Error{Kind: event.KindOldIncarnation, Op: "settle transaction " + q.TxnID.String(),
			Message: fmt.Sprintf("attempt %d began in incarnation %d; this one is %d", q.Attempt, q.Begin.N, st.Incarnation().N)}
	}
	known := st.TxnOutcome(q.TxnID, q.Attempt, q.Begin)
	if known.Decided {
		return &transport.TxnOutcomeOk{Committed: known.Committed, Seq: known.Seq, Horizon: st.Horizon()}, decided(known.Committed), nil
	}
	c.cfg.Point(fault.TxnOutcomeBefore)
	answer, err := c.cfg.Propose(ctx, *event.NewCommand(string(c.cfg.Self), event.TxnAborted{
		TxnID: q.TxnID, Attempt: q.Attempt, Shards: q.Shards, Reason: "in doubt", Begin: q.Begin,
	}))
	c.cfg.Point(fault.TxnOutcomeAfter)
	if err != nil {
		return nil, how, fmt.Errorf("settle transaction %s: %w", q.TxnID, err)
	}
	switch {
	case answer.Err == nil:
		return &transport.TxnOutcomeOk{Seq: answer.Seq, Horizon: st.Horizon()}, "stopped", nil
	case answer.Err.Kind == event.KindConflict && answer.Value == q.Attempt: // the commit was first
		return &transport.TxnOutcomeOk{Committed: true, Seq: answer.Seq, Horizon: st.Horizon()}, decided(true), nil
	}
	return nil, how, answer.Err
}

func decided(committed bool) string {
	if committed {
		return "committed"
	}
	return "aborted"
}
