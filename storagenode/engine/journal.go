package engine

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// journal is what a command's ops wrote over. Ops are executed for real, so that each sees those before it and there is one home
// for what an op does; what must not stay, a refused write's and every vote's, is undone.
//
// Invariant: behind undo the batch's rows, the rows that Apply looks up and the state are those of begin.
type journal struct {
	on     bool
	before map[string][]byte // by key: the value that the first change found; nil: none
	bytes  int               // of these values
	meta   meta
	place  uint32
	vector uint64
}

// begin starts to keep what is written over. The batch is one that can be read (readable).
func (a *applier) begin() {
	if len(a.journal.before) > maxKeptRows || a.journal.before == nil {
		a.journal.before = make(map[string][]byte)
	}
	clear(a.journal.before)
	a.journal.bytes = 0
	a.journal.on, a.journal.meta, a.journal.place, a.journal.vector = true, a.meta, a.position, a.vectorChanged
}

// keep lets everything stay that was written since begin.
func (a *applier) keep() { a.journal.on = false }

// note keeps what key holds before it is first changed.
func (a *applier) note(key []byte) error {
	if !a.journal.on {
		return nil
	}
	if _, noted := a.journal.before[string(key)]; noted {
		return nil
	}
	value, closer, err := a.batch.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		a.journal.before[string(key)] = nil
		return nil
	}
	if err != nil {
		return fmt.Errorf("read key %x: %w", key, err)
	}
	a.journal.bytes += len(value)
	a.journal.before[string(key)] = append([]byte{}, value...) // never nil: some rows are keys alone
	return closer.Close()
}

// undo takes back everything that was written since begin.
func (a *applier) undo() error {
	a.journal.on = false
	for key, value := range a.journal.before { // every key once: in any order
		if _, looked := a.rows[key]; looked {
			a.rows[key] = value
		}
		var err error
		if value == nil {
			err = a.batch.Delete([]byte(key), nil)
		} else {
			err = a.batch.Set([]byte(key), value, nil)
		}
		if err != nil {
			return fmt.Errorf("take back key %x: %w", key, err)
		}
	}
	clear(a.fresh) // one may be as it was before, with its associations
	a.meta, a.position, a.vectorChanged = a.journal.meta, a.journal.place, a.journal.vector
	return nil
}
