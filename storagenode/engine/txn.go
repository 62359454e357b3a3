package engine

import (
	"fmt"
	"slices"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/transport"
)

// A transaction at one participant (safety S3, S4). Rows: outcome by transaction, prepared by transaction, attempt by
// transaction and attempt.
//
//	nothing ── prepare: yes ─> prepared ── finish: commit ─> outcome done, attempt committed
//	   │                          └─────── finish: abort ──> attempt refused
//	   ├────── prepare: no ─────────────────────────────────> attempt refused
//	   └────── finish: abort ───────────────────────────────> attempt refused
//
// An attempt may come in parts (parts.go), which are in doubt together.
//
// An attempt that ended keeps its row until the horizon passes its begin, so a late copy of any of its messages changes
// nothing; the outcome stays in the request table.

// prepare votes on an attempt. A yes holds the locks and keeps the intents; every no leaves the attempt refused.
func (a *applier) prepare(p *transport.Prepare) (Answer, error) {
	c := Command{Kind: Prepare, Prepare: p}
	if p.TxnID.IsZero() {
		return Answer{Err: validate(&c, 0)}, nil
	}
	if err := a.raiseHorizon(p.Horizon); err != nil {
		return Answer{}, err
	}
	first, found, err := a.outcome(p.TxnID)
	if err != nil {
		return Answer{}, err
	}
	if found && !first.refused() {
		return alreadyDone(first.Seq), nil
	}
	known, answer, err := a.knownAttempt(p)
	if known || err != nil {
		return answer, err
	}
	if !positionLess(a.meta.Horizon, p.Begin) {
		// Not kept: whatever begins there is refused for ever.
		return a.vote(no(tooOld(p.Begin, a.meta.Horizon), true)), nil
	}
	also := a.prepared[p.TxnID]
	if also != nil && also.Attempt != p.Attempt {
		also = nil
	}
	if also == nil && (len(a.prepared) >= a.e.o.bounds.prepared || a.attempts.Len() >= a.e.o.bounds.attempts) {
		// No vote, for a no leaves a row.
		return Answer{Err: busy(fmt.Sprintf("the shard has %d transactions in doubt and %d attempts above the horizon", len(a.prepared), a.attempts.Len()))}, nil
	}
	if found { // a single-shard write of this id was refused: that is the transaction's answer
		return a.refuse(p, first.refusal("prepare"), false)
	}
	if a.rewrote > maxRewriteEntry { // neither
		return Answer{Err: a.rewroteEnough("prepare")}, nil
	}
	var part part
	reason, retry, err := a.refusePrepare(&c, also, &part)
	if err != nil {
		return Answer{}, err
	}
	if reason != nil {
		return a.refuse(p, reason, retry)
	}
	return a.grant(p, also, &part)
}

// knownAttempt answers a prepare of an attempt that ended here, and of a part that is prepared.
func (a *applier) knownAttempt(p *transport.Prepare) (known bool, answer Answer, err error) {
	ended, found, err := a.attempt(p.TxnID, p.Attempt)
	switch prepared := a.prepared[p.TxnID]; {
	case err != nil:
		return false, answer, err
	case found && ended.Committed:
		return true, alreadyDone(ended.Seq), nil
	case found:
		return true, a.vote(no(ended.refusal(p), ended.Retry)), nil
	case prepared != nil && prepared.Attempt == p.Attempt && slices.Contains(prepared.parts, p.Part):
		answer, err = a.yesAgain(prepared, p.Part)
		return true, answer, err
	}
	return false, answer, nil
}

// refusal says again why an attempt was refused.
func (r *attemptRecord) refusal(p *transport.Prepare) *event.Error {
	return &event.Error{Kind: r.Kind, Op: "prepare", OpNumber: r.OpNumber, Txn: r.Holder,
		Message: fmt.Sprintf("attempt %d of transaction %s was refused here before (%s)", p.Attempt, p.TxnID, r.Kind)}
}

// refusePrepare finds what speaks against a new attempt, or against another part of one that is prepared, and whether another
// attempt may be luckier.
func (a *applier) refusePrepare(c *Command, also *Prepared, part *part) (reason *event.Error, retry bool, err error) {
	p := c.Prepare
	if other := a.prepared[p.TxnID]; other != also {
		return busy(fmt.Sprintf("attempt %d of transaction %s is prepared here; ask for its outcome", other.Attempt, p.TxnID)), true, nil
	}
	if reason = a.timely("prepare", p.TxnID, p.Issued); reason != nil {
		return reason, false, nil
	}
	if reason = validate(c, a.meta.Dimension); reason != nil {
		return reason, false, nil
	}
	if reason = levelRefuses(c, a.level); reason != nil {
		return reason, false, nil
	}
	if also != nil && len(also.parts) >= maxParts {
		return &event.Error{Kind: event.KindTooLarge, Op: "prepare", Message: fmt.Sprintf("an attempt has at most %d parts at a shard", maxParts)}, false, nil
	}
	if reason = a.blocked(p.Ops, p.TxnID); reason != nil {
		return reason, true, nil
	}
	if also == nil && plain(p.Ops) {
		missing, err := a.checkOps(p.Ops)
		if missing != nil {
			reason = missing.refusal("prepare")
		}
		return reason, false, err
	}
	return a.try(p, also, part)
}

func busy(message string) *event.Error {
	return &event.Error{Kind: event.KindBusy, Op: "prepare", Message: message, RetryAfterMillis: retryAfterMillis}
}

func tooOld(begin, horizon event.Position) *event.Error {
	return &event.Error{Kind: event.KindTooOld, Op: "prepare",
		Message: fmt.Sprintf("it begins at %d/%d, and the transaction horizon is %d/%d; begin again", begin.N, begin.Seq, horizon.N, horizon.Seq)}
}

func no(reason *event.Error, retry bool) *transport.PrepareOk {
	return &transport.PrepareOk{Retry: retry, Reason: reason, OpIndex: int32(reason.OpNumber) - 1}
}

func (a *applier) vote(v *transport.PrepareOk) Answer { return Answer{Seq: a.index, Prepare: v} }

func alreadyDone(seq uint64) Answer {
	return Answer{Seq: seq, AlreadyDone: true, Prepare: &transport.PrepareOk{AlreadyDone: true, OpIndex: -1}}
}

// refuse votes no and keeps that the attempt is refused, with all of its parts.
func (a *applier) refuse(p *transport.Prepare, reason *event.Error, retry bool) (Answer, error) {
	record := attemptRecord{Begin: p.Begin, Seq: a.index, Retry: retry, Kind: reason.Kind, OpNumber: reason.OpNumber, Holder: reason.Txn}
	if also := a.prepared[p.TxnID]; also != nil && also.Attempt == p.Attempt {
		record.Begin = also.Begin
		return a.vote(no(reason, retry)), a.dropPrepared(also, &record)
	}
	if err := a.endAttempt(p.TxnID, p.Attempt, record); err != nil {
		return Answer{}, err
	}
	return a.vote(no(reason, retry)), nil
}

// grant votes yes: takes the locks and keeps the intents.
func (a *applier) grant(p *transport.Prepare, also *Prepared, part *part) (Answer, error) {
	a.adoptDimension(p.Ops)
	var record *preparedRecord
	var row any
	if also == nil {
		record = &preparedRecord{
			Attempt: p.Attempt, Begin: p.Begin, Start: p.Start, Issued: p.Issued, Since: a.meta.LogTime,
			Coordinator: p.Coordinator, Participants: p.Participants, Ops: formOfOps(p.Ops), Part: p.Part, Open: p.Open,
		}
	} else {
		var err error
		if record, err = a.intents(also); err != nil {
			return Answer{}, err
		}
		record.More = append(record.More, partRecord{p.Part, p.Open, formOfOps(p.Ops)})
		if len(p.Participants) > len(record.Participants) { // deletes have found more of them
			record.Participants = p.Participants
		}
	}
	record.Neighbors = union(record.Neighbors, part.neighbors)
	if row = record; also == nil {
		row = record.stored(p.Ops)
	}
	a.key = preparedKey(a.key[:0], p.TxnID)
	if err := a.putRecord(a.key, row); err != nil {
		return Answer{}, err
	}
	prepared := record.prepared(p.TxnID)
	a.prepared[p.TxnID] = prepared
	a.doubt.add(prepared)
	if !fault.Broken(fault.NoLockBetweenPrepareAndCommit) {
		a.e.locks.Grant(prepared.held())
	}
	return a.vote(part.yes()), nil
}

// finish brings the decision to an attempt. The decision comes first and the horizon second: an attempt that is decided
// must not be taken for one that cannot have been.
func (a *applier) finish(f *transport.Finish) (Answer, error) {
	if f.TxnID.IsZero() {
		return Answer{Err: validate(&Command{Kind: Finish, Finish: f}, 0)}, nil
	}
	answer, err := a.decide(f)
	if err != nil {
		return Answer{}, err
	}
	return answer, a.raiseHorizon(f.Horizon)
}

func (a *applier) decide(f *transport.Finish) (Answer, error) {
	if p := a.prepared[f.TxnID]; p != nil && p.Attempt == f.Attempt {
		if f.Commit && p.Open {
			return Answer{Err: &event.Error{Kind: event.KindConflict, Op: "finish transaction " + f.TxnID.String(),
				Message: fmt.Sprintf("attempt %d is committed, and another part of it was to come to shard %s; nothing was written", f.Attempt, a.meta.ShardID)}}, nil
		}
		if f.Commit {
			return a.commitPrepared(p)
		}
		record := attemptRecord{Begin: p.Begin, Seq: a.index, Retry: true, Kind: event.KindAborted}
		return Answer{Seq: a.index}, a.dropPrepared(p, &record)
	}
	ended, found, err := a.attempt(f.TxnID, f.Attempt)
	switch {
	case err != nil:
		return Answer{}, err
	case found && ended.Committed == f.Commit:
		return Answer{Seq: ended.Seq, AlreadyDone: true}, nil
	case found:
		return Answer{Err: a.contradiction(f, ended.Committed)}, nil
	case !positionLess(a.meta.Horizon, f.Begin):
		return Answer{Seq: a.index, AlreadyDone: true}, nil // its records went when the horizon passed
	case f.Commit:
		return Answer{Err: &event.Error{Kind: event.KindConflict, Op: "finish transaction " + f.TxnID.String(),
			Message: fmt.Sprintf("attempt %d is committed, and it was never prepared at shard %s; nothing was written", f.Attempt, a.meta.ShardID)}}, nil
	}
	record := attemptRecord{Begin: f.Begin, Seq: a.index, Retry: true, Kind: event.KindAborted}
	return Answer{Seq: a.index}, a.endAttempt(f.TxnID, f.Attempt, record)
}

// contradiction is a decision against the one that was applied: a defect somewhere, reported and never applied.
func (a *applier) contradiction(f *transport.Finish, committed bool) *event.Error {
	was, is := "refused", "committed"
	if committed {
		was, is = "committed", "aborted"
	}
	return &event.Error{Kind: event.KindConflict, Op: "finish transaction " + f.TxnID.String(),
		Message: fmt.Sprintf("attempt %d is %s, and shard %s had it %s; nothing was changed", f.Attempt, is, a.meta.ShardID, was)}
}

// commitPrepared writes an attempt's intents. They were checked when it was prepared and its locks kept them possible.
func (a *applier) commitPrepared(p *Prepared) (Answer, error) {
	record, err := a.intents(p)
	if err != nil {
		return Answer{}, err
	}
	if a.level >= txnLevel {
		a.now = p.Since // so that what its reads answered of its own writes is so
	}
	if p.plain {
		err = a.applyOps(opsOfForm(record.Ops))
		for i := 0; err == nil && i < len(record.More); i++ {
			err = a.applyOps(opsOfForm(record.More[i].Ops))
		}
	} else {
		err = a.commitParts(p, record)
	}
	a.now = a.meta.LogTime
	if err != nil {
		return Answer{}, fmt.Errorf("commit transaction %s: %w", p.TxnID, err)
	}
	done := outcome{State: txnDone, Issued: p.Issued, Seq: a.index}
	if err := a.putOutcome(p.TxnID, done); err != nil {
		return Answer{}, err
	}
	ended := attemptRecord{Committed: true, Begin: p.Begin, Seq: a.index}
	return Answer{Seq: a.index}, a.dropPrepared(p, &ended)
}

// dropPrepared ends an attempt in doubt and its locks; ended is kept of it, nil: nothing.
func (a *applier) dropPrepared(p *Prepared, ended *attemptRecord) error {
	a.key = preparedKey(a.key[:0], p.TxnID)
	if err := a.deleteRow(a.key); err != nil {
		return err
	}
	delete(a.prepared, p.TxnID)
	a.doubt.ended = append(a.doubt.ended, p)
	a.e.locks.Finish(p.TxnID)
	if ended == nil {
		return nil
	}
	return a.endAttempt(p.TxnID, p.Attempt, *ended)
}

func (a *applier) attempt(txn event.TxnID, attempt uint64) (r attemptRecord, found bool, err error) {
	a.key = attemptKey(a.key[:0], txn, attempt)
	found, err = a.getRecord(a.key, &r)
	return r, found, err
}

func (a *applier) endAttempt(txn event.TxnID, attempt uint64, r attemptRecord) error {
	a.attempts.Set(attemptRef{r.Begin, txn, attempt})
	a.key = attemptKey(a.key[:0], txn, attempt)
	return a.putRecord(a.key, &r)
}

// raiseHorizon takes over a higher horizon and drops what it passes: records of ended attempts, and attempts in doubt of
// its own incarnation, which cannot have been committed (safety S4; those of an older one are settled by S2).
func (a *applier) raiseHorizon(h event.Position) error {
	if !positionLess(a.meta.Horizon, h) {
		return nil
	}
	a.meta.Horizon = h
	for ref, ok := a.attempts.Min(); ok && !positionLess(h, ref.begin); ref, ok = a.attempts.Min() {
		a.attempts.PopMin()
		if kept, ok := a.kept.of[resultsID{id: ref.txn, attempt: ref.attempt}]; ok {
			if err := a.dropResults(kept); err != nil {
				return err
			}
		}
		a.key = attemptKey(a.key[:0], ref.txn, ref.attempt)
		if err := a.deleteRow(a.key); err != nil {
			return err
		}
	}
	for _, p := range a.passed(h) {
		if err := a.dropPrepared(p, nil); err != nil {
			return err
		}
	}
	return nil
}

// passed are the attempts in doubt that h shows to be uncommitted.
func (a *applier) passed(h event.Position) []*Prepared {
	var list []*Prepared
	for _, p := range a.prepared {
		if p.Begin.N == h.N && !positionLess(h, p.Begin) {
			list = append(list, p)
		}
	}
	return list
}
