package engine

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/pack"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Answer is what one command gets.
type Answer struct {
	Seq         uint64               // log index at which the command took effect
	Err         *event.Error         // a refusal: nothing was written. Locked is to be proposed again (safety S8)
	AlreadyDone bool                 // it had taken effect before, at Seq
	Prepare     *transport.PrepareOk // of a Prepare: the vote
	Nothing     bool                 // of a delete: there was nothing to delete
	Row         string               // of a Locked delete: the row to wait for when the ops do not name it

	Results        []transport.OpResult // of a Write: one per op, if an op has one
	ResultsOmitted bool                 // they are no longer kept
}

// Apply applies entries in the order of the log and returns an Answer per command. Entries at or below Applied are skipped.
// What it cannot decode or store goes to Options.Fatal; from then on it changes nothing and answers KindInternal.
func (e *Engine) Apply(entries []raftgroup.Entry) [][]any {
	answers := make([][]any, len(entries))
	s, err := e.use()
	if err == nil {
		defer s.release()
		err = e.failed()
	}
	if err == nil {
		err = e.applyTo(s.db, entries, answers)
		if err != nil {
			e.fail(damaged(err))
		}
	}
	if err != nil {
		e.answerFailure(entries, answers, err)
	}
	return answers
}

// answerFailure answers every command that has none.
func (e *Engine) answerFailure(entries []raftgroup.Entry, answers [][]any, err error) {
	refusal := &event.Error{Kind: event.KindInternal, Op: "apply to shard " + string(e.o.ShardID), Message: err.Error()}
	for i := range entries {
		if answers[i] != nil {
			continue
		}
		answers[i] = make([]any, len(entries[i].Commands))
		for j := range answers[i] {
			answers[i][j] = Answer{Err: refusal}
		}
	}
}

// applyTo answers an entry only when its batch is in the store.
func (e *Engine) applyTo(db *pebble.DB, entries []raftgroup.Entry, answers [][]any) error {
	a := applier{state: e.state, e: e, db: db, batch: db.NewBatch(), scratch: &e.scratch}
	a.scratch.reset()
	defer func() { _ = a.batch.Close() }() // of memory only
	pending := make([][]any, len(entries))
	answered := 0
	for i := range entries {
		var err error
		if pending[i], err = a.entry(&entries[i]); err != nil {
			return fmt.Errorf("apply entry %d: %w", entries[i].Index, err)
		}
		if a.batch.Len() < e.o.bounds.batchBytes && i+1 < len(entries) {
			continue
		}
		if err := a.commit(); err != nil {
			return fmt.Errorf("write through entry %d: %w", entries[i].Index, err)
		}
		answered += copy(answers[answered:], pending[answered:i+1])
	}
	return nil
}

// scratch is memory that one Apply leaves for the next.
type scratch struct {
	rows    map[string][]byte   // by key: what the batch holds in the tables that Apply looks up; nil: deleted
	learned map[string]struct{} // concepts that the command in hand creates
	fresh   map[string]struct{} // concepts that were absent when the batch learned them
	stored  map[string]struct{} // concepts that were looked for and found in the store, before this batch
	key     []byte
	value   []byte
	read    []byte
}

// What the scratch keeps at most: a larger map is slow to clear, larger buffers are for a rare concept.
const (
	maxKeptRows  = 1 << 14
	maxKeptBytes = 1 << 20
)

func (s *scratch) reset() {
	if s.rows == nil || len(s.rows) > maxKeptRows {
		s.rows = make(map[string][]byte)
	}
	if s.learned == nil {
		s.learned = make(map[string]struct{})
	}
	for _, m := range []*map[string]struct{}{&s.fresh, &s.stored} {
		if *m == nil || len(*m) > maxKeptRows {
			*m = make(map[string]struct{})
		}
		clear(*m)
	}
	clear(s.rows)
	if cap(s.value)+cap(s.read) > maxKeptBytes {
		s.value, s.read = nil, nil
	}
}

// applier applies entries to one batch after the other. An error of its methods is a defect or a failing store and ends
// the replica; a refusal is an answer.
type applier struct {
	*state
	*scratch
	e     *Engine
	db    *pebble.DB
	batch *pebble.Batch

	iterable bool   // batch is an indexed one
	index    uint64 // of the entry in hand
	level    uint32 // of the entry in hand: the rules that it was written under (safety S13)
	now      int64  // what ops are stamped with, unix µs
	rewrote  int    // bytes of concepts that the entry in hand wrote anew
	position uint32 // of the op in hand in the entry

	vectorChanged uint64 // the last entry that changed a vector; 0: none did

	journal journal // what ops wrote over, while they may have to be undone
}

func (a *applier) entry(en *raftgroup.Entry) ([]any, error) {
	answers := make([]any, len(en.Commands))
	if en.Index <= a.meta.Applied {
		for i := range answers {
			answers[i] = Answer{Err: &event.Error{Kind: event.KindUnknownOutcome, Op: "apply", Message: "the entry was applied before"}}
		}
		return answers, nil
	}
	if en.Level > a.e.o.Level {
		return nil, fmt.Errorf("it was written at level %d, this version supports %d", en.Level, a.e.o.Level)
	}
	decoded := make([]decodedCommand, len(en.Commands))
	for i, b := range en.Commands {
		var err error
		if decoded[i].Command, decoded[i].body, err = decodeCommand(b); err != nil {
			return nil, fmt.Errorf("command %d: %w", i, err)
		}
	}
	if slices.ContainsFunc(decoded, a.looks) {
		if err := a.readable(); err != nil {
			return nil, err
		}
	}
	a.index, a.level, a.position, a.rewrote = en.Index, en.Level, 0, 0
	a.meta.LogTime = max(a.meta.LogTime, en.Time)
	a.now = a.meta.LogTime
	a.meta.Format = max(a.meta.Format, formatOf(a.level))
	for i := range decoded {
		var err error
		if answers[i], err = a.command(&decoded[i]); err != nil {
			return nil, fmt.Errorf("command %d: %w", i, err)
		}
	}
	if err := errors.Join(a.evict(), a.evictResults()); err != nil {
		return nil, err
	}
	a.meta.Applied = en.Index
	return answers, nil
}

// decodedCommand is a command and the bytes of its message.
type decodedCommand struct {
	Command
	body []byte
}

func (a *applier) command(c *decodedCommand) (Answer, error) {
	switch c.Kind {
	case Write:
		return a.write(&c.Command, c.body)
	case Prepare:
		return a.prepare(c.Prepare)
	case Finish:
		return a.finish(c.Finish)
	case Raise:
		return a.raise(c.Raise)
	}
	return Answer{}, fmt.Errorf("no handler for %s", c.Kind)
}

// commit writes the batch and shows it to readers.
func (a *applier) commit() error {
	value, err := encodeMeta(a.meta)
	if err != nil {
		return err
	}
	if err := a.batch.Set([]byte{tableMeta}, value, nil); err != nil {
		return err
	}
	if err := a.batch.Set([]byte{tableChangesThrough}, indexValue(a.meta.Applied), nil); err != nil {
		return err
	}
	if err := a.batch.Commit(pebble.NoSync); err != nil {
		return err
	}
	shared := a.meta
	a.e.shared.Store(&shared)
	if a.vectorChanged > 0 {
		a.e.vectorsChanged.Store(a.vectorChanged)
	}
	a.doubt.settle() // before the locks: their release wakes those who then ask Prepared
	a.e.locks.Settle()
	if err := a.batch.Close(); err != nil {
		return err
	}
	a.batch, a.iterable = a.db.NewBatch(), false
	a.scratch.reset()
	return nil
}

// put writes a row that Apply never looks up by its key.
func (a *applier) put(key, value []byte) error {
	if err := a.note(key); err != nil {
		return err
	}
	return a.batch.Set(key, value, nil)
}

// remove deletes what put wrote.
func (a *applier) remove(key []byte) error {
	if err := a.note(key); err != nil {
		return err
	}
	return a.batch.Delete(key, nil)
}

// putRow writes a row that get finds, in this batch too.
func (a *applier) putRow(key, value []byte) error {
	if err := a.note(key); err != nil {
		return err
	}
	a.rows[string(key)] = bytes.Clone(value)
	return a.batch.Set(key, value, nil)
}

// putRecord is putRow of a record's array form.
func (a *applier) putRecord(key []byte, record any) error {
	value, err := pack.AppendArray(a.value[:0], record)
	if err != nil {
		return err
	}
	a.value = value
	return a.putRow(key, value)
}

// deleteRow deletes what putRow wrote.
func (a *applier) deleteRow(key []byte) error {
	if err := a.note(key); err != nil {
		return err
	}
	a.rows[string(key)] = nil
	return a.batch.Delete(key, nil)
}

// get looks a row up as this entry must see it. The value is valid until the next get; nil when there is none.
func (a *applier) get(key []byte) ([]byte, error) {
	if value, ok := a.rows[string(key)]; ok {
		return value, nil
	}
	value, closer, err := a.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read key %x: %w", key, err)
	}
	a.read = append(a.read[:0], value...)
	return a.read, closer.Close()
}

// has tells whether a row is there.
func (a *applier) has(key []byte) (bool, error) {
	if value, ok := a.rows[string(key)]; ok {
		return value != nil, nil
	}
	_, closer, err := a.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read key %x: %w", key, err)
	}
	return true, closer.Close()
}

// getRecord looks a record up.
func (a *applier) getRecord(key []byte, record any) (bool, error) {
	value, err := a.get(key)
	if err != nil || value == nil {
		return false, err
	}
	if err := pack.UnmarshalLoose(value, record); err != nil {
		return false, fmt.Errorf("decode key %x: %w", key, err)
	}
	return true, nil
}
