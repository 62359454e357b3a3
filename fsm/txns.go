package fsm

import (
	"slices"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

const (
	maxOpenTxns    = 100_000   // decided and not completed (safety S18)
	maxTxns        = 1_000_000 // records above the horizon; at 60 s of horizon that is 16,000 transactions a second
	reservedAborts = 100_000   // on top of maxTxns: ending an attempt is always admitted
	maxAttempts    = 64        // aborted attempts of one transaction above the horizon
	maxCompleted   = 1_000     // transactions in one txn_completed
)

// TxnOutcome is what is known of one attempt (safety S3, S4). Any replica may answer from it when it is Decided; "not decided"
// is no answer: whoever needs one proposes txn_aborted for the attempt and takes what Apply keeps.
func (s *State) TxnOutcome(id event.TxnID, attempt uint64, begin event.Position) Outcome {
	if t := s.txns.get(id); t != nil {
		if o, ok := t.outcome(attempt); ok {
			return o
		}
	}
	if q := s.requests.get(id); q != nil {
		switch q.Outcome {
		case outcomeCommitted:
			return committedUnder(q.Value, attempt, q.Seq)
		case outcomeAborted:
			return Outcome{Decided: true, Final: true, Seq: q.Seq}
		}
	}
	if begin.Compare(s.head.Horizon) <= 0 {
		return Outcome{Decided: true}
	}
	return Outcome{}
}

// TxnEnd is what is known of a transaction as a whole, also when the horizon has passed its record: Committed tells whether
// any attempt is, Final that none ever will be.
func (s *State) TxnEnd(id event.TxnID) Outcome {
	o := s.TxnOutcome(id, 0, s.beyondHorizon())
	if o.Other != 0 {
		o.Committed = true
	}
	return o
}

// IsRequest tells whether an id is remembered for a command that is no transaction (safety S30).
func (s *State) IsRequest(id event.RequestID) bool {
	q := s.requests.get(id)
	return q != nil && q.Outcome == outcomeNone
}

// beyondHorizon is a position that the horizon has not reached.
func (s *State) beyondHorizon() event.Position {
	return event.Position{N: s.head.Horizon.N, Seq: s.head.Horizon.Seq + 1}
}

func (t *Txn) outcome(attempt uint64) (Outcome, bool) {
	switch {
	case t.Committed:
		return committedUnder(t.Attempt, attempt, t.Seq), true
	case t.Final:
		return Outcome{Decided: true, Final: true, Seq: t.Seq}, true
	}
	for _, a := range t.Aborted {
		if a.Attempt == attempt {
			return Outcome{Decided: true, Seq: a.Seq}, true
		}
	}
	return Outcome{}, false
}

func committedUnder(winner, asked, seq uint64) Outcome {
	if winner == asked {
		return Outcome{Decided: true, Committed: true, Seq: seq}
	}
	return Outcome{Decided: true, Seq: seq, Other: winner}
}

// badTxn refuses what no decision about a transaction may say.
func (s *State) badTxn(op string, c *event.Command, id event.TxnID, begin event.Position) (verdict, bool) {
	switch {
	case id.IsZero():
		return refuse(event.KindInvalid, op, "the transaction id is missing"), true
	case !c.RequestID.IsZero() && c.RequestID != id:
		return refuse(event.KindInvalid, op, "request id %s: want that of the transaction, %s", c.RequestID, id), true
	case begin.Compare(s.Position()) > 0:
		return refuse(event.KindInvalid, op, "transaction %s begins at (%d, %d), behind the last event", id, begin.N, begin.Seq), true
	}
	return verdict{}, false
}

// badShards says whether the list of participants is not one: in order, without repetition, all known.
func (s *State) badShards(ids []event.ShardID) bool {
	for i, id := range ids {
		if s.Shard(id) == nil || slices.Contains(ids[:i], id) {
			return true
		}
	}
	return false
}

func decideTxnCommitted(s *State, c *event.Command, b event.TxnCommitted) verdict {
	const op = "commit transaction"
	if v, bad := s.badTxn(op, c, b.TxnID, b.Begin); bad {
		return v
	}
	if b.Attempt == 0 || len(b.Shards) == 0 || s.badShards(b.Shards) {
		return refuse(event.KindInvalid, op, "%s: want an attempt that is not 0 and known shards, each once", b.TxnID)
	}
	if o := s.TxnOutcome(b.TxnID, b.Attempt, b.Begin); o.Decided {
		return commitOfDecided(op, b, o)
	}
	if err := s.outOfTime(b.TxnID, b.Issued); err != nil {
		err.Op = op
		return verdict{err: err}
	}
	if s.OpenTxnCount() >= s.limits.openTxns || s.txns.len() >= maxTxns {
		v := refuse(event.KindBusy, op, "%d transactions wait to be finished: retry", s.OpenTxnCount())
		v.err.RetryAfterMillis, v.transient = 1000, true
		return v
	}
	v := accept(b)
	v.value = b.Attempt
	return v
}

// commitOfDecided answers a commit of an attempt that has its outcome. Answer.Value is the attempt that is committed.
func commitOfDecided(op string, b event.TxnCommitted, o Outcome) verdict {
	id := b.TxnID
	switch {
	case o.Committed:
		return verdict{seq: o.Seq, value: b.Attempt}
	case o.Other != 0:
		v := refuse(event.KindConflict, op, "%s is committed under another attempt", id)
		v.seq, v.value = o.Seq, o.Other
		return v
	case o.Final || o.Seq != 0:
		v := refuse(event.KindAborted, op, "%s: the attempt was aborted", id)
		v.seq = o.Seq
		return v
	}
	return refuse(event.KindTooOld, op, "%s begins at or below the transaction horizon: begin a new attempt", id)
}

func evolveTxnCommitted(s *State, e *event.Envelope, b event.TxnCommitted) error {
	s.putTxn(Txn{
		ID: b.TxnID, Committed: true, Attempt: b.Attempt, Begin: b.Begin, Issued: b.Issued,
		Seq: e.Seq, Time: e.Time, Shards: b.Shards,
	})
	return nil
}

func decideTxnAborted(s *State, c *event.Command, b event.TxnAborted) verdict {
	const op = "abort transaction"
	if v, bad := s.badTxn(op, c, b.TxnID, b.Begin); bad {
		return v
	}
	if b.Attempt == 0 && !b.Final || s.badShards(b.Shards) {
		return refuse(event.KindInvalid, op, "%s: want an attempt that is not 0, or final, and known shards, each once", b.TxnID)
	}
	if b.Final {
		return s.decideFinal(op, c, b)
	}
	switch o := s.TxnOutcome(b.TxnID, b.Attempt, b.Begin); {
	case o.Committed:
		return abortOfCommitted(op, b.TxnID, o.Seq, b.Attempt)
	case o.Decided:
		return already(o.Seq)
	}
	t := s.txns.get(b.TxnID)
	if s.txns.len() >= maxTxns+reservedAborts || t != nil && len(t.Aborted) >= maxAttempts {
		v := refuse(event.KindBusy, op, "%s: too many decisions are kept: retry when the horizon has moved", b.TxnID)
		v.err.RetryAfterMillis, v.transient = 1000, true
		return v
	}
	return accept(b)
}

// decideFinal closes a transaction for every attempt, unless one is committed.
func (s *State) decideFinal(op string, c *event.Command, b event.TxnAborted) verdict {
	if t := s.txns.get(b.TxnID); t != nil {
		if t.Committed {
			return abortOfCommitted(op, b.TxnID, t.Seq, t.Attempt)
		}
		if t.Final {
			return already(t.Seq)
		}
	}
	if q := s.requests.get(b.TxnID); q != nil {
		switch q.Outcome {
		case outcomeCommitted:
			return abortOfCommitted(op, b.TxnID, q.Seq, q.Value)
		case outcomeAborted:
			return already(q.Seq)
		}
	}
	if err := s.outOfTime(b.TxnID, c.Issued); err != nil {
		err.Op = op
		return verdict{err: err}
	}
	if s.txns.len() >= maxTxns+reservedAborts {
		v := refuse(event.KindBusy, op, "%s: too many decisions are kept: retry when the horizon has moved", b.TxnID)
		v.err.RetryAfterMillis, v.transient = 1000, true
		return v
	}
	return accept(b)
}

// abortOfCommitted is the refusal from which an inquirer reads "committed": Answer.Value is the attempt.
func abortOfCommitted(op string, id event.TxnID, seq, attempt uint64) verdict {
	v := refuse(event.KindConflict, op, "%s is committed", id)
	v.seq, v.value = seq, attempt
	return v
}

func evolveTxnAborted(s *State, e *event.Envelope, b event.TxnAborted) error {
	t := Txn{ID: b.TxnID}
	if old := s.txns.get(b.TxnID); old != nil {
		t = *old
	}
	if b.Begin.Compare(t.Begin) > 0 {
		t.Begin = b.Begin
	}
	t.Seq, t.Time, t.Completed = e.Seq, e.Time, false
	t.Shards = union(t.Shards, b.Shards)
	if b.Final {
		t.Final, t.Attempt, t.Aborted = true, b.Attempt, nil
	} else {
		t.Aborted = append(slices.Clip(t.Aborted), Attempt{Attempt: b.Attempt, Begin: b.Begin, Seq: e.Seq})
	}
	if t.Begin.Compare(s.head.Horizon) <= 0 { // the horizon says the same; the request table keeps the outcome
		s.dropTxn(t.ID)
		return nil
	}
	s.putTxn(t)
	return nil
}

// union is a with those of b that it does not have, in order of appearance.
func union(a, b []event.ShardID) []event.ShardID {
	all := slices.Clip(a)
	for _, id := range b {
		if !slices.Contains(all, id) {
			all = append(all, id)
		}
	}
	return all
}

func decideTxnCompleted(s *State, _ *event.Command, b event.TxnCompleted) verdict {
	const op = "complete transactions"
	if len(b.TxnIDs) > maxCompleted {
		return refuse(event.KindInvalid, op, "%d transactions, want at most %d", len(b.TxnIDs), maxCompleted)
	}
	done := event.TxnCompleted{TxnIDs: s.openOf(b.TxnIDs), Horizon: s.head.Horizon}
	if b.Horizon.Compare(s.head.Horizon) > 0 {
		if b.Horizon.Compare(s.Position()) > 0 {
			return refuse(event.KindInvalid, op, "horizon (%d, %d) is behind the last event", b.Horizon.N, b.Horizon.Seq)
		}
		if id, held := s.holdsHorizon(b.Horizon, done.TxnIDs); held {
			return refuse(event.KindConflict, op, "horizon (%d, %d): %s began at or below it and is not completed", b.Horizon.N, b.Horizon.Seq, id)
		}
		done.Horizon = b.Horizon
	}
	if len(done.TxnIDs) == 0 && done.Horizon == s.head.Horizon {
		return already(0)
	}
	return accept(done)
}

// openOf sorts out those of ids that are decided and not completed, in order, each once.
func (s *State) openOf(ids []event.TxnID) []event.TxnID {
	var open []event.TxnID
	for _, id := range ids {
		if t := s.txns.get(id); t != nil && !t.Completed {
			open = append(open, id)
		}
	}
	slices.SortFunc(open, compareRequests)
	return slices.Compact(open)
}

// holdsHorizon finds a committed attempt that forbids raising the horizon to h: one that began at or below it and is not
// completed, nor among done (sorted).
func (s *State) holdsHorizon(h event.Position, done []event.TxnID) (event.TxnID, bool) {
	for k := range s.index.byBegin.from(txnBegin{}) {
		if k.begin.Compare(h) > 0 {
			break
		}
		if t := s.txns.get(k.id); !t.Committed || t.Completed {
			continue
		}
		if _, ok := slices.BinarySearchFunc(done, k.id, compareRequests); !ok {
			return k.id, true
		}
	}
	return event.TxnID{}, false
}

func evolveTxnCompleted(s *State, _ *event.Envelope, b event.TxnCompleted) error {
	for _, id := range b.TxnIDs {
		if old := s.txns.get(id); old != nil {
			t := *old
			t.Completed = true
			s.putTxn(t)
		}
	}
	if b.Horizon.Compare(s.head.Horizon) <= 0 {
		return nil
	}
	s.head.Horizon = b.Horizon
	var passed []event.TxnID
	for k := range s.index.byBegin.from(txnBegin{}) {
		if k.begin.Compare(b.Horizon) > 0 {
			break
		}
		passed = append(passed, k.id)
	}
	for _, id := range passed {
		s.dropTxn(id)
	}
	return nil
}
