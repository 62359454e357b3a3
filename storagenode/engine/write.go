package engine

import (
	"bytes"
	"fmt"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/transport"
)

// write applies a single-shard write: all of its ops or none.
func (a *applier) write(c *Command, body []byte) (Answer, error) {
	refusal := validate(c, a.meta.Dimension)
	if refusal == nil {
		refusal = levelRefuses(c, a.level)
	}
	if refusal != nil {
		return Answer{Err: refusal}, nil
	}
	hash := bodyHash(body)
	first, found, err := a.outcome(c.RequestID)
	if err != nil {
		return Answer{}, err
	}
	if found && !fault.Broken(fault.DoubleWrite) {
		return a.repeat(c, first, hash)
	}
	if refusal := a.admit(c); refusal != nil {
		return Answer{Err: refusal}, nil
	}
	record := outcome{State: writeDone, Issued: c.Issued, Seq: a.index, Body: hash}
	switch {
	case c.deletesAlone():
		return a.deleteAlone(c, record)
	case !plain(c.Write.Ops):
		return a.perform(c, record)
	}
	missing, err := a.checkOps(c.Write.Ops)
	if err != nil {
		return Answer{}, err
	}
	if missing != nil {
		return a.refuseWrite(c, record, missing)
	}
	a.adoptDimension(c.Write.Ops)
	if err := a.applyOps(c.Write.Ops); err != nil {
		return Answer{}, err
	}
	return Answer{Seq: a.index}, a.putOutcome(c.RequestID, record)
}

// refuseWrite keeps a refusal like a success: a late copy of the request must not succeed after its sender was told that it failed.
func (a *applier) refuseWrite(c *Command, record outcome, u *unmet) (Answer, error) {
	record.State, record.OpNumber, record.Concept = u.state, u.opNumber, u.id
	return Answer{Seq: a.index, Err: u.refusal("write")}, a.putOutcome(c.RequestID, record)
}

// perform executes a write whose ops must see each other.
func (a *applier) perform(c *Command, record outcome) (Answer, error) {
	if a.rewrote > maxRewriteEntry {
		return Answer{Err: a.rewroteEnough("write")}, nil
	}
	a.begin()
	x := execution{a: a}
	if err := x.run(c.Write.Ops); err != nil {
		return Answer{}, err
	}
	a.rewrote += x.rewritten + a.journal.bytes
	if x.failed() || len(x.far) > 0 {
		if err := a.undo(); err != nil {
			return Answer{}, err
		}
	}
	switch {
	case x.locked != nil:
		return Answer{Err: x.locked, Row: x.row}, nil
	case x.unmet.state != 0:
		return a.refuseWrite(c, record, &x.unmet)
	case len(x.far) > 0:
		return Answer{Err: needsTxn(&c.Write.Ops[x.farOp-1], x.farOp, x.absent)}, nil
	}
	a.keep()
	answer := Answer{Seq: a.index}
	if answers(c.Write.Ops) {
		answer.Results = x.results
		if err := a.keepResults(resultsID{id: c.RequestID, write: true}, x.results); err != nil {
			return Answer{}, err
		}
	}
	return answer, a.putOutcome(c.RequestID, record)
}

// maxRewriteEntry is how much one entry may write anew before it takes no further command that does. Commits are not counted
// against it: they were when they were prepared.
const maxRewriteEntry = 256 << 20

func (a *applier) rewroteEnough(op string) *event.Error {
	return &event.Error{Kind: event.KindBusy, Op: op, RetryAfterMillis: retryAfterMillis,
		Message: fmt.Sprintf("the commands beside it write more than %d MiB anew", maxRewriteEntry>>20)}
}

// repeat gives a request its first answer again.
func (a *applier) repeat(c *Command, first outcome, hash []byte) (Answer, error) {
	if first.State != txnDone && !bytes.Equal(first.Body, hash) {
		return Answer{Err: &event.Error{Kind: event.KindIDReused, Op: "write",
			Message: fmt.Sprintf("request id %s was used for another write; give every write its own", c.RequestID)}}, nil
	}
	if first.refused() {
		return Answer{Seq: first.Seq, Err: first.refusal("write")}, nil
	}
	answer := Answer{Seq: first.Seq, AlreadyDone: true, Nothing: first.State == deleteNothing}
	switch {
	case c.deletesAlone(): // Nothing is its result; how a transaction of this id found it is not in the outcome
		answer.ResultsOmitted = first.State == txnDone
		return answer, nil
	case !answers(c.Write.Ops):
		return answer, nil
	}
	var err error
	answer.Results, err = a.keptResults(resultsID{id: c.RequestID, write: true})
	answer.ResultsOmitted = answer.Results == nil
	return answer, err
}

// admit refuses a new write for its request id or for a lock. None of this is kept: the same request may be proposed again.
func (a *applier) admit(c *Command) *event.Error {
	if p := a.prepared[c.RequestID]; p != nil {
		return &event.Error{Kind: event.KindBusy, Op: "write", RetryAfterMillis: retryAfterMillis, Txn: p.TxnID,
			Message: fmt.Sprintf("an attempt of transaction %s is in doubt here; ask again", p.TxnID)}
	}
	if refusal := a.timely("write", c.RequestID, c.Issued); refusal != nil {
		return refusal
	}
	return a.blocked(c.Write.Ops, event.TxnID{})
}

// retryAfterMillis is about how long a prepared attempt takes to end.
const retryAfterMillis = 20

// timely refuses a request id that the table may have forgotten, and one from the future (safety S5).
func (a *applier) timely(op string, id event.RequestID, issued int64) *event.Error {
	switch {
	case issued <= a.meta.Forgotten:
		return &event.Error{Kind: event.KindExpired, Op: op,
			Message: fmt.Sprintf("request %s was issued %s, and requests up to %s are forgotten: it may have taken effect; look before asking again",
				id, formatMicros(issued), formatMicros(a.meta.Forgotten))}
	case issued > a.meta.LogTime+a.e.o.bounds.ahead:
		return &event.Error{Kind: event.KindFromTheFuture, Op: op,
			Message: fmt.Sprintf("request %s was issued %s, ahead of the shard's %s; set the sender's clock", id, formatMicros(issued), formatMicros(a.meta.LogTime))}
	}
	return nil
}

func formatMicros(t int64) string { return time.UnixMicro(t).UTC().Format(time.RFC3339Nano) }

// checkOps finds an association whose end is absent. Concepts that earlier ops of the same command learn are there.
func (a *applier) checkOps(ops []transport.Op) (*unmet, error) {
	clear(a.learned)
	for i := range ops {
		op := &ops[i]
		if op.Kind == transport.OpLearnConcept {
			if i+1 < len(ops) {
				a.learned[op.ID] = struct{}{}
			}
			continue
		}
		first, second := localEnds(op)
		for _, id := range [2]string{first, second} {
			if id == "" {
				continue
			}
			there, err := a.conceptThere(id)
			if err != nil {
				return nil, err
			}
			if !there {
				return &unmet{writeRefused, uint32(i) + 1, id}, nil
			}
		}
	}
	return nil, nil
}

func (a *applier) conceptThere(id string) (bool, error) {
	if _, ok := a.learned[id]; ok {
		return true, nil
	}
	a.key = conceptKey(a.key[:0], id)
	if _, ok := a.stored[id]; ok { // an entity, or a minute, of most events
		value, changed := a.rows[string(a.key)]
		return !changed || value != nil, nil
	}
	there, err := a.has(a.key)
	if _, changed := a.rows[string(a.key)]; there && !changed {
		a.stored[id] = struct{}{}
	}
	return there, err
}

// applyOps writes what checkOps found to be possible.
func (a *applier) applyOps(ops []transport.Op) error {
	for i := range ops {
		op := &ops[i]
		var err error
		switch op.Kind {
		case transport.OpLearnConcept:
			err = a.learn(op)
		case transport.OpLearnAssociation:
			if err = a.link(outgoing, op); err == nil {
				err = a.link(incoming, op)
			}
		case transport.OpLinkOut:
			err = a.link(outgoing, op)
		case transport.OpLinkIn:
			err = a.link(incoming, op)
		default:
			err = fmt.Errorf("no handler for op %q", op.Kind)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", opPhrase(op), err)
		}
		a.position++
	}
	return nil
}

// learn creates a concept or replaces its fields, and its vector and index rows with them.
func (a *applier) learn(op *transport.Op) error {
	before, err := a.head(op.ID)
	if err != nil {
		return err
	}
	record := conceptRecord{
		Version: 1, Created: a.created(op, before), Modified: a.now, Dimension: uint32(len(op.Embedding)),
		Strength: op.Strength, Confidence: op.Confidence, Content: op.Content,
	}
	if op.Metadata != nil {
		record.Attributes, record.Tags = op.Metadata.Attributes, op.Metadata.Tags
	}
	var was *indexed
	if before == nil {
		a.fresh[op.ID] = struct{}{}
		a.meta.Concepts++
	} else {
		record.Version, was = before.version+1, &before.indexed
	}
	a.meta.Written++
	a.key = conceptKey(a.key[:0], op.ID)
	if err := a.putRecord(a.key, &record); err != nil {
		return err
	}
	if err := a.reindex(op.ID, was, &indexed{record.Created, record.Attributes, record.Tags}); err != nil {
		return err
	}
	return a.learnVector(op, before != nil && before.dimension != 0)
}

// head reads what is known of a concept; nil when there is none.
func (a *applier) head(id string) (*head, error) {
	a.key = conceptKey(a.key[:0], id)
	value, err := a.get(a.key)
	if err != nil || value == nil {
		return nil, err
	}
	return decodeHead(value)
}

// adoptDimension lets the first vector that a shard accepts set the dimension of all. The rule is in the state, so replicas
// that were configured differently still decide alike.
func (a *applier) adoptDimension(ops []transport.Op) {
	for i := 0; a.meta.Dimension == 0 && i < len(ops); i++ {
		a.meta.Dimension = uint32(len(ops[i].Embedding))
	}
}

// learnVector makes op's embedding the concept's.
func (a *applier) learnVector(op *transport.Op, had bool) error {
	a.key = vectorKey(a.key[:0], op.ID)
	if len(op.Embedding) == 0 {
		if !had {
			return nil
		}
		a.meta.Vectors--
		if err := a.remove(a.key); err != nil {
			return err
		}
		return a.recordVector(op.ID)
	}
	if !had {
		a.meta.Vectors++
	}
	a.value = appendVector(a.value[:0], op.Embedding)
	if err := a.put(a.key, a.value); err != nil {
		return err
	}
	return a.recordVector(op.ID)
}

// link writes one half of an association: a new one behind all others of its concept, a known one in its place.
func (a *applier) link(s side, op *transport.Op) error {
	id, other := op.ID, op.Target
	if s == incoming {
		id, other = other, id
	}
	a.key = indexKey(a.key[:0], s, id, other, op.AssocType)
	value, err := a.linkThere(id)
	if err != nil {
		return err
	}
	at := order{a.index, a.position}
	if value != nil {
		if at, err = decodeOrder(value); err != nil {
			return err
		}
	} else {
		a.value = at.append(a.value[:0])
		if err := a.putRow(a.key, a.value); err != nil {
			return err
		}
		if s == outgoing {
			a.meta.Edges++
		}
	}
	if s == outgoing {
		a.meta.Written++
	}
	l := link{Type: op.AssocType, Confidence: op.Confidence, Other: other}
	a.value = l.append(a.value[:0])
	a.key = linkKey(a.key[:0], s, id, at)
	return a.put(a.key, a.value)
}

// linkThere looks up the index row whose key is in hand. One of a concept that the batch made can be in the batch alone: with a concept all
// its own rows go. Those of others with it need not: half an association is there before the concept at its other end.
func (a *applier) linkThere(id string) ([]byte, error) {
	if _, fresh := a.fresh[id]; fresh {
		return a.rows[string(a.key)], nil
	}
	return a.get(a.key)
}

// outcome looks up how a request ended.
func (a *applier) outcome(id event.RequestID) (o outcome, found bool, err error) {
	if _, known := a.requests[id]; !known {
		return o, false, nil
	}
	a.key = outcomeKey(a.key[:0], id)
	found, err = a.getRecord(a.key, &o)
	return o, found, err
}

// putOutcome keeps how a request ended.
func (a *applier) putOutcome(id event.RequestID, o outcome) error {
	a.outcomes.Set(outcomeRef{o.Issued, id})
	a.requests[id] = struct{}{}
	a.key = outcomeKey(a.key[:0], id)
	return a.putRecord(a.key, &o)
}

// evict forgets the oldest outcomes beyond the table's bounds, smallest issued first, and remembers up to where.
func (a *applier) evict() error {
	oldest := a.meta.LogTime - a.e.o.bounds.window
	for {
		ref, ok := a.outcomes.Min()
		if !ok || (a.outcomes.Len() <= a.e.o.bounds.requests && ref.issued >= oldest) {
			return nil
		}
		a.outcomes.PopMin()
		delete(a.requests, ref.id)
		a.meta.Forgotten = max(a.meta.Forgotten, ref.issued)
		a.key = outcomeKey(a.key[:0], ref.id)
		if err := a.deleteRow(a.key); err != nil {
			return err
		}
	}
}
