package engine

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// An attempt comes to a participant in one prepare or in several, its parts: what a delete of a concept removes elsewhere is known
// only from its vote (safety S19). Each part is checked on what those before it leave, and all are committed in the order in which
// they came. Only the intents are kept. What they leave is found by executing them again, which is right because the locks keep
// everything that they read and write as it was; then a vote that is asked for again is the same, and so is the commit.

// maxParts is how many parts an attempt may have here. The last of the coordinator's removes the far ends of at most maxRemoved
// associations, a thousand a part.
const maxParts = 16

// part is what a prepare has found.
type part struct {
	results   []transport.OpResult // nil: no op of the part has one
	far       []transport.AssociationID
	neighbors []string // the rows that the attempt's deletes lock besides those that ops name
}

func (p *part) yes() *transport.PrepareOk {
	return &transport.PrepareOk{Vote: true, OpIndex: -1, Results: p.results, Far: p.far}
}

// intents reads what an attempt in doubt is to write.
func (a *applier) intents(p *Prepared) (*preparedRecord, error) {
	var record preparedRecord
	a.key = preparedKey(a.key[:0], p.TxnID)
	found, err := a.getRecord(a.key, &record)
	if err == nil && !found {
		err = fmt.Errorf("transaction %s is prepared and has no intents", p.TxnID)
	}
	return &record, err
}

// try finds what speaks against a part, and otherwise what it answers. Nothing that it executes stays.
func (a *applier) try(p *transport.Prepare, also *Prepared, part *part) (reason *event.Error, retry bool, err error) {
	var before []partRecord
	if also != nil {
		record, err := a.intents(also)
		if err != nil {
			return nil, false, err
		}
		before = record.parts()
	}
	x, err := a.executed(p.TxnID, before, p.Ops, also)
	switch {
	case err != nil:
		return nil, false, err
	case x.locked != nil:
		return x.locked, true, nil
	case x.unmet.state != 0:
		return x.unmet.refusal("prepare"), false, nil
	}
	part.take(x, p.Ops)
	return nil, false, nil
}

func (p *part) take(x *execution, ops []transport.Op) {
	p.far, p.neighbors = x.far, x.neighbors
	if answers(ops) {
		p.results = x.results
	}
}

// yesAgain is the vote for a part that an attempt has.
func (a *applier) yesAgain(also *Prepared, number uint32) (Answer, error) {
	var again part
	record, err := a.intents(also)
	if err != nil || also.plain {
		return a.vote(again.yes()), err
	}
	parts := record.parts()
	i := slices.IndexFunc(parts, func(r partRecord) bool { return r.Part == number })
	ops := opsOfForm(parts[i].Ops)
	x, err := a.executed(also.TxnID, parts[:i], ops, also)
	if err == nil {
		err = x.must()
	}
	if err != nil {
		return Answer{}, fmt.Errorf("vote again for part %d of transaction %s: %w", number, also.TxnID, err)
	}
	again.take(x, ops)
	return a.vote(again.yes()), nil
}

// executed executes ops on what the parts before leave, and takes everything back. What it has found is of ops alone.
func (a *applier) executed(txn event.TxnID, before []partRecord, ops []transport.Op, also *Prepared) (*execution, error) {
	if also != nil {
		a.now = also.Since
	}
	a.begin()
	x := &execution{a: a, self: txn, sure: true}
	err := x.runParts(before)
	if err == nil {
		err = x.must()
	}
	if err == nil {
		*x = execution{a: a, self: txn}
		err = x.run(ops)
	}
	a.rewrote += x.rewritten + a.journal.bytes
	a.now = a.meta.LogTime
	return x, errors.Join(err, a.undo())
}

// runParts executes parts that were executed before.
func (x *execution) runParts(parts []partRecord) error {
	for _, part := range parts {
		x.size, x.scanned = 0, 0 // a read that ended at a bound ends there again
		if err := x.run(opsOfForm(part.Ops)); err != nil || x.failed() {
			return err
		}
	}
	return nil
}

// commitParts executes all parts, and keeps what they answer.
func (a *applier) commitParts(p *Prepared, record *preparedRecord) error {
	x := &execution{a: a, self: p.TxnID, sure: true}
	parts := record.parts()
	if err := x.runParts(parts); err != nil {
		return err
	}
	if err := x.must(); err != nil {
		return err
	}
	if !slices.ContainsFunc(parts, func(r partRecord) bool { return answers(opsOfForm(r.Ops)) }) {
		return nil
	}
	return a.keepResults(resultsID{id: p.TxnID, attempt: p.Attempt}, x.results)
}

// union is the distinct strings of two lists, sorted.
func union(a, b []string) []string {
	if len(b) == 0 {
		return a
	}
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}
