package master

import (
	"context"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// maxListedTxns bounds the decided transactions of one answer; an idle grid has none, a busy one thousands for a second each.
const maxListedTxns = 10_000

// listTxns tells what is under way: decided and not known to every participant, and prepared; or what is known of one transaction.
func (c *core) listTxns(ctx context.Context, r *transport.ListTxns) (*transport.ListTxnsOk, error) {
	s, err := c.reads.At(ctx, r.Reading)
	if err != nil {
		return nil, err
	}
	ok := &transport.ListTxnsOk{Decided: decidedTxns(s.State, r.TxnID), Horizon: s.Horizon(), Read: s.read}
	var shards []event.ShardID
	for _, shard := range s.ShardMap().Shards {
		shards = append(shards, shard.ID)
	}
	held, missing := c.txns.Held(ctx, shards)
	ok.Missing = missing
	for _, h := range held {
		if r.TxnID.IsZero() || h.TxnID == r.TxnID {
			ok.Prepared = append(ok.Prepared, h)
		}
	}
	if !r.TxnID.IsZero() {
		end := s.TxnEnd(r.TxnID)
		ok.Outcome, ok.Seq = outcomeName(end.Committed, end.Final), end.Seq
	}
	return ok, nil
}

// decidedTxns are the open ones, oldest decision first, or the record of one.
func decidedTxns(s *fsm.State, id event.TxnID) []transport.DecidedTxn {
	list := []transport.DecidedTxn{}
	if !id.IsZero() {
		if t := s.Txn(id); t != nil {
			list = append(list, decidedTxn(t))
		}
		return list
	}
	for t := range s.OpenTxns() {
		if len(list) == maxListedTxns {
			break
		}
		list = append(list, decidedTxn(t))
	}
	return list
}

func decidedTxn(t *fsm.Txn) transport.DecidedTxn {
	d := transport.DecidedTxn{TxnID: t.ID, Outcome: outcomeName(t.Committed, t.Final), Attempt: t.Attempt, Begin: t.Begin, Seq: t.Seq, Time: t.Time,
		Shards: t.Shards, Completed: t.Completed}
	for _, a := range t.Aborted {
		d.Aborted = append(d.Aborted, a.Attempt)
	}
	if d.Outcome == "" {
		d.Outcome = "open"
	}
	return d
}

func outcomeName(committed, final bool) string {
	switch {
	case committed:
		return "committed"
	case final:
		return "aborted"
	}
	return ""
}
