package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/sutra-grid/sutra-grid/internal/pack"
	"github.com/sutra-grid/sutra-grid/storagenode/lock"
)

// verifier holds every row of a stopped store against those that must go with it. It counts rows and asks for single ones,
// so its memory does not grow with the store: where every row of one table has its own row in another, and both have as
// many, no row is left over.
type verifier struct {
	x      *Stopped
	report func(error)

	rows    map[byte]uint64      // by table
	indexed uint64               // rows that the concepts must have in the tables of indexes
	locked  map[string]lock.Mode // ids that transactions in doubt hold
}

// The tables in the order of their keys, and what checks a row. Tables 12 to 1f are the vectors' own: what is in them is
// made again from the vectors.
var verified = []struct {
	table byte
	name  string
	row   func(v *verifier, key, value []byte) error
}{
	{tableConcept, "concepts", (*verifier).concept},
	{tableVector, "vectors", (*verifier).vector},
	{tableOut, "outgoing links", (*verifier).outgoing},
	{tableIn, "incoming links", (*verifier).incoming},
	{tableOutIndex, "places of outgoing links", (*verifier).place},
	{tableInIndex, "places of incoming links", (*verifier).place},
	{tableOutcome, "requests", (*verifier).outcome},
	{tablePrepared, "transactions in doubt", (*verifier).prepared},
	{tableAttempt, "ended attempts", (*verifier).attempt},
	{tableResults, "kept results", (*verifier).results},
	{tableByTime, "index by time", (*verifier).indexRow},
	{tableByAttribute, "index by attribute", (*verifier).indexRow},
	{tableByTag, "index by tag", (*verifier).indexRow},
}

// Verify reads everything and reports what is wrong: files whose checksums do not match, and rows that contradict each other.
// An error is a reason why it could not go on.
func (x *Stopped) Verify(ctx context.Context, report func(error)) error {
	files, err := x.DamagedFiles(ctx)
	if err != nil {
		return err
	}
	for _, f := range files {
		report(f)
	}
	v := &verifier{x: x, report: report, rows: map[byte]uint64{}, locked: map[string]lock.Mode{}}
	for _, t := range verified {
		err := x.rows(ctx, t.table, func(key, value []byte) error {
			v.rows[t.table]++
			if err := t.row(v, key, value); err != nil {
				report(fmt.Errorf("%s: key %x: %w", t.name, key, err))
			}
			return nil
		})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			report(fmt.Errorf("%s: not all could be read: %w", t.name, err))
		}
	}
	v.counts()
	return v.unknown()
}

// counts compares the tables' sizes with each other and with the store's own record.
func (v *verifier) counts() {
	m := &v.x.meta
	for _, c := range []struct {
		name      string
		got, want uint64
	}{
		{"concepts", v.rows[tableConcept], m.Concepts},
		{"associations", v.rows[tableOut], m.Edges},
		{"vectors", v.rows[tableVector], m.Vectors},
		{"places of outgoing links", v.rows[tableOutIndex], v.rows[tableOut]},
		{"places of incoming links", v.rows[tableInIndex], v.rows[tableIn]},
	} {
		if c.got != c.want {
			v.report(fmt.Errorf("%s: %d rows, must be %d", c.name, c.got, c.want))
		}
	}
	if got := v.rows[tableByTime] + v.rows[tableByAttribute] + v.rows[tableByTag]; m.Format >= indexedFormat && got != v.indexed {
		v.report(fmt.Errorf("indexes: %d rows, must be %d", got, v.indexed))
	}
}

// unknown reports keys of no table.
func (v *verifier) unknown() error {
	it, err := v.x.store.db.NewIter(nil)
	if err != nil {
		return err
	}
	known := map[byte]bool{tableMeta: true}
	for _, t := range verified {
		known[t.table] = true
	}
	for ok := it.First(); ok; {
		table := it.Key()[0]
		if vectors := table >= tableVector && table < tableOut; !known[table] && !vectors {
			v.report(fmt.Errorf("table %#x: there is no such table", table))
		}
		if table == 0xff {
			break
		}
		ok = it.SeekGE([]byte{table + 1})
	}
	return errors.Join(damaged(it.Error()), it.Close())
}

// there tells whether a row exists, and compares its value when want is not nil.
func (v *verifier) there(what string, key []byte, want []byte) error {
	found, err := row(v.x.store.db, key, func(value []byte) error {
		if want != nil && string(want) != string(value) {
			return fmt.Errorf("%s (%x) says %x, must be %x", what, key, value, want)
		}
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("%s (%x) is missing", what, key)
	}
	return damaged(err)
}

func (v *verifier) has(key []byte) (bool, error) {
	found, err := row(v.x.store.db, key, ignoreValue)
	return found, damaged(err)
}

func (v *verifier) concept(key, value []byte) error {
	var r conceptRecord
	if err := pack.UnmarshalLoose(value, &r); err != nil {
		return err
	}
	id := string(key[1:])
	var errs []error
	if r.Version == 0 {
		errs = append(errs, errors.New("version 0"))
	}
	vector, err := v.has(vectorKey(nil, id))
	if err == nil && vector != (r.Dimension > 0) {
		err = fmt.Errorf("it says dimension %d, and that there is a vector: %v", r.Dimension, vector)
	}
	errs = append(errs, err)
	if v.x.meta.Format >= indexedFormat {
		x := indexed{created: r.Created, attributes: r.Attributes, tags: r.Tags}
		for _, k := range x.keys(id) {
			v.indexed++
			errs = append(errs, v.there("its row in an index", k, nil))
		}
	}
	return errors.Join(errs...)
}

func (v *verifier) vector(key, value []byte) error {
	vector, err := decodeVector(value)
	if err != nil {
		return err
	}
	if n := uint32(len(vector)); n == 0 || n != v.x.meta.Dimension {
		return fmt.Errorf("dimension %d, must be %d", n, v.x.meta.Dimension)
	}
	for i, f := range vector {
		if f-f != 0 {
			return fmt.Errorf("component %d is %v", i, f)
		}
	}
	return v.there("its concept", conceptKey(nil, string(key[1:])), nil)
}

func (v *verifier) outgoing(key, value []byte) error { return v.link(outgoing, key, value) }
func (v *verifier) incoming(key, value []byte) error { return v.link(incoming, key, value) }

// link checks a link from one end: its concept, its place, and, when the other end is here too, the other half.
func (v *verifier) link(s side, key, value []byte) error {
	id, at, l, err := decodeLink(key, value)
	if err != nil {
		return err
	}
	if at.index > v.x.meta.Applied {
		return fmt.Errorf("of entry %d, behind the last applied one, %d", at.index, v.x.meta.Applied)
	}
	errs := []error{
		v.there("its concept", conceptKey(nil, id), nil),
		v.there("its place", indexKey(nil, s, id, l.Other, l.Type), at.append(nil)),
	}
	other, err := v.has(conceptKey(nil, l.Other))
	if err == nil && other {
		err = v.there("its other half", indexKey(nil, outgoing+incoming-s, l.Other, id, l.Type), nil)
	}
	return errors.Join(append(errs, err)...)
}

// place needs no more than its form: every link has named its own, and there are as many.
func (v *verifier) place(_, value []byte) error {
	_, err := decodeOrder(value)
	return err
}

func (v *verifier) indexRow(key, _ []byte) error {
	prefix := 1
	if key[0] != tableByTime {
		prefix += indexHashLen
	}
	if len(key) < prefix {
		return fmt.Errorf("key of %d bytes", len(key))
	}
	if _, _, ok := splitTimeKey(key[prefix:]); !ok {
		return fmt.Errorf("key of %d bytes", len(key))
	}
	return nil
}

func (v *verifier) outcome(key, value []byte) error {
	if _, err := splitRequestKey(key); err != nil {
		return err
	}
	var o outcome
	if err := pack.UnmarshalLoose(value, &o); err != nil {
		return err
	}
	if o.State < writeDone || o.State > lastState || o.Seq > v.x.meta.Applied {
		return fmt.Errorf("state %d of entry %d; the last applied one is %d", o.State, o.Seq, v.x.meta.Applied)
	}
	return nil
}

func (v *verifier) prepared(key, value []byte) error {
	p, err := decodePrepared(key, value)
	if err != nil {
		return err
	}
	for _, row := range p.rows {
		if held, also := v.locked[row.ID]; also && row.Conflicts(lock.Row{ID: row.ID, Mode: held}) {
			return fmt.Errorf("transaction %s holds %q, as another one does", p.TxnID, row.ID)
		}
		v.locked[row.ID] = row.Mode
	}
	return nil
}

func (v *verifier) results(key, value []byte) error {
	if _, err := splitResultsKey(key); err != nil {
		return err
	}
	return new(resultsRecord).read(value)
}

func (v *verifier) attempt(key, value []byte) error {
	if _, _, err := splitAttemptKey(key); err != nil {
		return err
	}
	var a attemptRecord
	return pack.UnmarshalLoose(value, &a)
}
