package engine

import (
	"bytes"
	"fmt"

	"github.com/sutra-grid/sutra-grid/internal/pack"
	"github.com/sutra-grid/sutra-grid/transport"
	"github.com/tidwall/btree"
)

// maxKeptResults is how large the results of one command may be to be kept (safety S3). Larger ones are answered once.
const maxKeptResults = 64 << 10

// kept is whose results the store keeps: of an attempt until the horizon passes it, of a write for a time, of both as long as
// there is room, oldest first out.
type kept struct {
	writes, attempts *btree.BTreeG[resultsRef]
	of               map[resultsID]resultsRef
	bytes            int
}

// resultsRef orders kept results by their age.
type resultsRef struct {
	resultsID
	since int64
	bytes int // of the row's value
}

func (r resultsRef) less(o resultsRef) bool {
	if r.since != o.since {
		return r.since < o.since
	}
	if c := bytes.Compare(r.id[:], o.id[:]); c != 0 {
		return c < 0
	}
	return r.attempt < o.attempt
}

func newKept() kept {
	options := btree.Options{NoLocks: true}
	return kept{writes: btree.NewBTreeGOptions(resultsRef.less, options), attempts: btree.NewBTreeGOptions(resultsRef.less, options),
		of: map[resultsID]resultsRef{}}
}

func (k *kept) tree(r resultsID) *btree.BTreeG[resultsRef] {
	if r.write {
		return k.writes
	}
	return k.attempts
}

func (k *kept) add(r resultsRef) {
	k.tree(r.resultsID).Set(r)
	k.bytes += r.bytes
	k.of[r.resultsID] = r
}

func (k *kept) drop(r resultsRef) {
	k.tree(r.resultsID).Delete(r)
	k.bytes -= r.bytes
	delete(k.of, r.resultsID)
}

func (k *kept) len() int { return k.writes.Len() + k.attempts.Len() }

// oldest is the first to go for want of room.
func (k *kept) oldest() (resultsRef, bool) {
	w, isWrite := k.writes.Min()
	a, isAttempt := k.attempts.Min()
	if isAttempt && (!isWrite || a.less(w)) {
		return a, true
	}
	return w, isWrite
}

// keepResults keeps what a command answered, if it is not too large for that. It takes the place of what the same id answered before, in a
// request that was forgotten since: there is one row of both.
func (a *applier) keepResults(r resultsID, results []transport.OpResult) error {
	value, err := pack.AppendArray(nil, &resultsRecord{a.meta.LogTime, uint32(len(results)), formOfResults(results)})
	if err != nil || len(value) > maxKeptResults {
		return err
	}
	if before, ok := a.kept.of[r]; ok {
		a.kept.drop(before)
	}
	a.kept.add(resultsRef{r, a.meta.LogTime, len(value)})
	return a.putRow(r.key(nil), value)
}

// read decodes a record, and refuses one that would make more of little.
func (r *resultsRecord) read(b []byte) error {
	if err := pack.UnmarshalLoose(b, r); err != nil {
		return err
	}
	if most := uint32(transport.MaxOps * maxParts); r.Ops > most {
		return fmt.Errorf("results of %d ops, at most %d", r.Ops, most)
	}
	for _, f := range r.Results {
		if f.Op >= r.Ops {
			return fmt.Errorf("the result of op %d of %d", f.Op, r.Ops)
		}
	}
	return nil
}

// keptResults reads what a command answered; nil: it is not kept.
func (a *applier) keptResults(r resultsID) ([]transport.OpResult, error) {
	var record resultsRecord
	value, err := a.get(r.key(nil))
	if err != nil || value == nil {
		return nil, err
	}
	if err := record.read(value); err != nil {
		return nil, fmt.Errorf("decode results of request %s: %w", r.id, err)
	}
	return record.results(), nil
}

func (a *applier) dropResults(r resultsRef) error {
	a.kept.drop(r)
	return a.deleteRow(r.key(nil))
}

// evictResults drops the results of writes that are too old, and the oldest of all while there are too many.
func (a *applier) evictResults() error {
	b := &a.e.o.bounds
	for r, ok := a.kept.writes.Min(); ok && r.since < a.meta.LogTime-b.resultsWindow; r, ok = a.kept.writes.Min() {
		if err := a.dropResults(r); err != nil {
			return err
		}
	}
	for a.kept.len() > b.results || a.kept.bytes > b.resultsBytes {
		r, ok := a.kept.oldest()
		if !ok {
			return fmt.Errorf("%d bytes of results are kept of nobody", a.kept.bytes)
		}
		if err := a.dropResults(r); err != nil {
			return err
		}
	}
	return nil
}

func (s *state) loadResults(key, value []byte) error {
	r, err := splitResultsKey(key)
	if err != nil {
		return err
	}
	var record resultsRecord
	if err := record.read(value); err != nil {
		return err
	}
	s.kept.add(resultsRef{r, record.Kept, len(value)})
	return nil
}

// Results reads what a committed attempt answered here. They are omitted when the horizon has passed it, when they were too
// large to be kept, and when none of its ops has one.
func (e *Engine) Results(q *transport.TxnResults) (*transport.TxnResultsOk, error) {
	ok := &transport.TxnResultsOk{Omitted: true}
	_, err := e.point(resultsID{id: q.TxnID, attempt: q.Attempt}.key(nil), func(value []byte) error {
		var record resultsRecord
		if err := record.read(value); err != nil {
			return fmt.Errorf("decode results of transaction %s: %w", q.TxnID, err)
		}
		ok.Results, ok.Omitted = record.results(), false
		return nil
	})
	return ok, err
}
