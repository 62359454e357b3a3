package engine

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// The record of changed vectors tells an index that is kept beside the store, and is complete to some applied index, which
// vectors changed since (table 12). It is this replica's own: each replica's index is stored when it suits it, and what a stored
// index has is forgotten. So it is in no digest and in no snapshot. A copy of the store's files has it (Checkpoint), which does no
// harm: what it says is so of every replica that applied the same entries.
//
// Two rows bound it. 13 moves when changes are forgotten. 14 is written with every batch, so it is the applied index unless a
// version that keeps no record has applied here; then, and in a store that was made from a snapshot, the record begins anew
// at the applied index, and an older index has to be compared with all vectors.

// openVectorRecord begins the record anew where it does not reach to the applied index.
func openVectorRecord(db *pebble.DB, applied uint64) error {
	_, behind, err := indexRow(db, tableChangesBehind)
	through, recorded, err2 := indexRow(db, tableChangesThrough)
	if err := errors.Join(err, err2); err != nil {
		return fmt.Errorf("read the record of changed vectors: %w", err)
	}
	if behind && recorded && through == applied {
		return nil
	}
	batch := db.NewBatch()
	defer func() { _ = batch.Close() }() // of memory only
	if err := errors.Join(
		batch.DeleteRange([]byte{tableVectorChange}, []byte{tableVectorChange + 1}, nil),
		batch.Set([]byte{tableChangesBehind}, indexValue(applied), nil),
		batch.Set([]byte{tableChangesThrough}, indexValue(applied), nil),
		batch.Commit(pebble.NoSync), // a crash that loses it finds it missing again
	); err != nil {
		return fmt.Errorf("begin the record of changed vectors: %w", err)
	}
	return nil
}

func indexValue(index uint64) []byte { return binary.BigEndian.AppendUint64(nil, index) }

// indexRow reads a row that is one log index.
func indexRow(r pebble.Reader, table byte) (index uint64, found bool, err error) {
	found, err = row(r, []byte{table}, func(value []byte) error {
		if len(value) != 8 {
			return fmt.Errorf("log index of %d bytes", len(value))
		}
		index = binary.BigEndian.Uint64(value)
		return nil
	})
	return index, found, err
}

// changeKey is the row of a changed vector; without an id, where an index begins.
func changeKey(b []byte, index uint64, id string) []byte {
	return append(binary.BigEndian.AppendUint64(append(b, tableVectorChange), index), id...)
}

// recordVector records that the entry in hand changes a vector.
func (a *applier) recordVector(id string) error {
	a.vectorChanged = a.index
	a.key = changeKey(a.key[:0], a.index, id)
	return a.put(a.key, nil)
}

// VectorsChanged is the index of the last entry that changed a vector, or, of a store that was just opened or restored, its
// applied index. It costs nothing.
func (e *Engine) VectorsChanged() uint64 { return e.vectorsChanged.Load() }

// Durable flushes, as Flush does, what was applied so far, before something that is derived from it is stored: then what is stored
// is never ahead of the store. An engine that has failed refuses.
func (e *Engine) Durable() error {
	if err := e.failed(); err != nil {
		return err
	}
	return e.Flush()
}

// ForgetVectorChanges drops the record up to an index that the stored vector index is complete to.
func (e *Engine) ForgetVectorChanges(through uint64) error {
	s, err := e.use()
	if err != nil {
		return err
	}
	defer s.release()
	behind, _, err := indexRow(s.db, tableChangesBehind)
	if err == nil && behind < through {
		batch := s.db.NewBatch()
		defer func() { _ = batch.Close() }() // of memory only
		err = errors.Join(
			batch.DeleteRange(changeKey(nil, 0, ""), changeKey(nil, through+1, ""), nil),
			batch.Set([]byte{tableChangesBehind}, indexValue(through), nil),
			batch.Commit(pebble.NoSync),
		)
	}
	if err != nil {
		return fmt.Errorf("forget changes of vectors through entry %d: %w", through, e.readError(err))
	}
	return nil
}
