package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/pack"
	"github.com/sutra-grid/sutra-grid/storagenode/lock"
	"github.com/tidwall/btree"
)

// state is what Apply keeps in memory beside the store. All of it follows from the store and is rebuilt from it.
type state struct {
	meta     meta
	outcomes *btree.BTreeG[outcomeRef]    // the request table's rows, in the order in which they are evicted
	requests map[event.RequestID]struct{} // the same by id: most requests are new, and asking the store costs more
	attempts *btree.BTreeG[attemptRef]    // the ended attempts, in the order in which the horizon passes them

	kept kept // whose results are kept

	prepared map[event.TxnID]*Prepared // as the log has it
	doubt    doubt                     // the same as readers see it
}

// outcomeRef orders the request table for eviction: smallest issued first, then by id (safety S5).
type outcomeRef struct {
	issued int64
	id     event.RequestID
}

func (r outcomeRef) less(o outcomeRef) bool {
	if r.issued != o.issued {
		return r.issued < o.issued
	}
	return bytes.Compare(r.id[:], o.id[:]) < 0
}

// attemptRef orders attempts by their begin (safety S4).
type attemptRef struct {
	begin   event.Position
	txn     event.TxnID
	attempt uint64
}

func (r attemptRef) less(o attemptRef) bool {
	if r.begin != o.begin {
		return positionLess(r.begin, o.begin)
	}
	if c := bytes.Compare(r.txn[:], o.txn[:]); c != 0 {
		return c < 0
	}
	return r.attempt < o.attempt
}

// Prepared is a transaction in doubt at this shard.
type Prepared struct {
	TxnID        event.TxnID
	Attempt      uint64
	Begin        event.Position
	Start        int64 // unix µs of the transaction's first attempt
	Coordinator  event.MasterID
	Participants []event.ShardID
	Since        int64 // log time of the prepare, of the first part that came, unix µs
	Issued       int64 // of the transaction, unix µs
	Open         bool  // another part is to come: it cannot be committed as yet

	rows  []lock.Row // what it locks
	parts []uint32   // what has come, in that order
	plain bool       // its ops only learn
}

func newState() *state {
	options := btree.Options{NoLocks: true}
	return &state{
		outcomes: btree.NewBTreeGOptions(outcomeRef.less, options),
		attempts: btree.NewBTreeGOptions(attemptRef.less, options),
		requests: make(map[event.RequestID]struct{}),
		kept:     newKept(),
		prepared: make(map[event.TxnID]*Prepared),
		doubt:    doubt{prepared: make(map[event.TxnID]*Prepared)},
	}
}

// held lists the locks that the prepared transactions hold.
func (s *state) held() []lock.Held {
	held := make([]lock.Held, 0, len(s.prepared))
	for _, p := range s.prepared {
		held = append(held, p.held())
	}
	return held
}

func (p *Prepared) held() lock.Held {
	return lock.Held{Holder: lock.Holder{Txn: p.TxnID, Attempt: p.Attempt, Start: p.Start}, Rows: p.rows}
}

// doubt is the transactions in doubt for readers. Like a lock, one goes only when what it wrote can be read.
type doubt struct {
	mu       sync.Mutex
	prepared map[event.TxnID]*Prepared
	ended    []*Prepared // since the last settle; of the applying goroutine
}

func (d *doubt) add(p *Prepared) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.prepared[p.TxnID] = p
}

func (d *doubt) settle() {
	if len(d.ended) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.ended {
		if d.prepared[p.TxnID] == p {
			delete(d.prepared, p.TxnID)
		}
	}
	d.ended = d.ended[:0]
}

// Prepared lists the transactions in doubt, ordered by transaction id.
func (e *Engine) Prepared() []Prepared {
	e.mu.Lock()
	d := &e.state.doubt
	e.mu.Unlock()
	d.mu.Lock()
	list := make([]Prepared, 0, len(d.prepared))
	for _, p := range d.prepared {
		list = append(list, *p)
	}
	d.mu.Unlock()
	slices.SortFunc(list, func(a, b Prepared) int { return bytes.Compare(a.TxnID[:], b.TxnID[:]) })
	return list
}

func errorIsNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

func encodeMeta(m meta) ([]byte, error) { return pack.AppendArray(nil, m) }

// loadState reads the state of a store and refuses one that is not o's.
func loadState(db *pebble.DB, o *Options) (*state, error) {
	s := newState()
	value, closer, err := db.Get([]byte{tableMeta})
	if err != nil {
		return nil, fmt.Errorf("read the store's own record: %w", err)
	}
	err = errors.Join(pack.UnmarshalLoose(value, &s.meta), closer.Close())
	if err != nil {
		return nil, fmt.Errorf("read the store's own record: %w", err)
	}
	if err := s.meta.check(o); err != nil {
		return nil, err
	}
	return s, errors.Join(
		eachRow(db, tableOutcome, s.loadOutcome),
		eachRow(db, tablePrepared, s.loadPrepared),
		eachRow(db, tableAttempt, s.loadAttempt),
		eachRow(db, tableResults, s.loadResults),
	)
}

// check refuses a state that is not o's.
func (m *meta) check(o *Options) error {
	switch {
	case m.Format < oldestFormat || m.Format > formatVersion:
		return fmt.Errorf("the store has format %d, this version reads %d to %d", m.Format, oldestFormat, formatVersion)
	case m.ShardID != o.ShardID:
		return fmt.Errorf("the store holds shard %s, not %s", m.ShardID, o.ShardID)
	case m.Dimension != 0 && m.Dimension != o.Dimension:
		return fmt.Errorf("the store holds vectors of dimension %d, not %d; start with --dimension %d", m.Dimension, o.Dimension, m.Dimension)
	}
	return nil
}

// eachRow calls fn for every row of a table, in key order.
func eachRow(db *pebble.DB, table byte, fn func(key, value []byte) error) error {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{table}, UpperBound: []byte{table + 1}})
	if err != nil {
		return fmt.Errorf("read table %#x: %w", table, err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err == nil {
			err = fn(it.Key(), value)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("read table %#x, key %x: %w", table, it.Key(), err), it.Close())
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return fmt.Errorf("read table %#x: %w", table, err)
	}
	return nil
}

func (s *state) loadOutcome(key, value []byte) error {
	id, err := splitRequestKey(key)
	if err != nil {
		return err
	}
	var o outcome
	if err := pack.UnmarshalLoose(value, &o); err != nil {
		return err
	}
	s.outcomes.Set(outcomeRef{o.Issued, id})
	s.requests[id] = struct{}{}
	return nil
}

func (s *state) loadAttempt(key, value []byte) error {
	id, attempt, err := splitAttemptKey(key)
	if err != nil {
		return err
	}
	var a attemptRecord
	if err := pack.UnmarshalLoose(value, &a); err != nil {
		return err
	}
	s.attempts.Set(attemptRef{a.Begin, id, attempt})
	return nil
}

func (s *state) loadPrepared(key, value []byte) error {
	p, err := decodePrepared(key, value)
	if err != nil {
		return err
	}
	s.prepared[p.TxnID] = p
	s.doubt.add(p)
	return nil
}

func decodePrepared(key, value []byte) (*Prepared, error) {
	id, err := splitRequestKey(key)
	if err != nil {
		return nil, err
	}
	var r preparedRecord
	if err := pack.UnmarshalLoose(value, &r); err != nil {
		return nil, err
	}
	return r.prepared(id), nil
}

// prepared is what stays in memory of the record: everything but the intents.
func (r *preparedRecord) prepared(id event.TxnID) *Prepared {
	p := &Prepared{
		TxnID: id, Attempt: r.Attempt, Begin: r.Begin, Start: r.Start, Coordinator: r.Coordinator,
		Participants: r.Participants, Since: r.Since, Open: true, Issued: r.Issued, plain: true,
	}
	for _, part := range r.parts() {
		ops := opsOfForm(part.Ops)
		p.rows = append(p.rows, Locks(ops)...)
		p.parts = append(p.parts, part.Part)
		p.Open = p.Open && part.Open
		p.plain = p.plain && plain(ops)
	}
	for _, id := range r.Neighbors {
		p.rows = append(p.rows, lock.Row{ID: id, Mode: lock.Exclusive})
	}
	p.rows = lock.Merge(p.rows)
	return p
}
