// Package lock is the table of row locks that prepared transactions hold in one shard.
//
//	prepare -> Grant -> Holder sees it        finish -> Finish -> (data can be read) -> Settle -> Holder sees it gone
//
// Locks are on ids, whether or not a concept has the id. They are replicated state: which locks are held follows from the
// prepared transactions, and the table mirrors that in memory. Nobody waits here.
//
// Invariants: an id has one exclusive holder or any number of shared ones; what a transaction holds is released together; a
// release is visible to readers only after Settle, that is after what the holder wrote can be read. What the table answers
// follows from what is held, not from the order in which it was granted: a replica that was restored answers alike.
//
// It must not import the engine, the transport or a clock.
package lock

import (
	"bytes"
	"slices"
	"strings"
	"sync"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
)

// Mode is how a row is held.
type Mode uint8

// The modes (safety S8).
const (
	Shared    Mode = iota // with others that share it: reads and preconditions
	Exclusive             // alone: writes
)

// conflicts tells whether two transactions cannot hold one row in these modes.
func (m Mode) conflicts(other Mode) bool {
	switch {
	case fault.Broken(fault.SharedLocksOff):
		return m == Exclusive && other == Exclusive
	case fault.Broken(fault.ExclusiveLocksShared):
		return m != other
	}
	return m == Exclusive || other == Exclusive
}

// Row is an id and how it is held or wanted.
type Row struct {
	ID   string
	Mode Mode
}

// Conflicts tells whether two requests of one row exclude each other.
func (r Row) Conflicts(other Row) bool { return r.ID == other.ID && r.Mode.conflicts(other.Mode) }

// Merge sorts rows by id and joins those of one id into one of the stronger mode. It reuses the slice.
func Merge(rows []Row) []Row {
	slices.SortFunc(rows, func(a, b Row) int {
		if c := strings.Compare(a.ID, b.ID); c != 0 {
			return c
		}
		return int(b.Mode) - int(a.Mode)
	})
	return slices.CompactFunc(rows, func(a, b Row) bool { return a.ID == b.ID })
}

// Holder is the prepared attempt that holds a lock.
type Holder struct {
	Txn     event.TxnID
	Attempt uint64
	Start   int64 // unix µs of the transaction's first attempt: its age
}

// OlderThan orders transactions for wait-die: by start, then by id (safety S8). Of two that meet, the older waits and the
// younger gives way.
func (h Holder) OlderThan(other Holder) bool {
	if h.Start != other.Start {
		return h.Start < other.Start
	}
	return bytes.Compare(h.Txn[:], other.Txn[:]) < 0
}

// Held is what one attempt holds: rows of distinct ids.
type Held struct {
	Holder
	Rows []Row
}

// Table is one shard's locks. One goroutine, the one that applies the log, calls Blocker, Grant, Finish, Settle and
// Replace; the others may be called by any.
type Table struct {
	finished []*grant // released in the log, not yet for readers; of the applying goroutine

	mu       sync.RWMutex
	holders  map[string][]hold      // written under mu, by the applying goroutine alone; never empty lists
	grants   map[event.TxnID]*grant // of the applying goroutine
	released chan struct{}          // closed at the next release
}

// grant is one Held in the table.
type grant struct {
	Held
	done bool // of the applying goroutine
}

// hold is one holder of one row.
type hold struct {
	*grant
	mode Mode
}

// NewTable returns a table in which nothing is held.
func NewTable() *Table {
	return &Table{
		holders:  make(map[string][]hold),
		grants:   make(map[event.TxnID]*grant),
		released: make(chan struct{}),
	}
}

// Blocker tells who keeps a transaction, or nobody's write, from row in the log's order: a finished holder holds nothing any
// more. Of several it is the oldest.
func (t *Table) Blocker(row Row, self event.TxnID) (Holder, bool) {
	if len(t.grants) == 0 {
		return Holder{}, false
	}
	return oldest(t.holders[row.ID], func(h hold) bool { return !h.done && h.Txn != self && h.mode.conflicts(row.Mode) })
}

func oldest(holds []hold, counts func(hold) bool) (found Holder, ok bool) {
	for _, h := range holds {
		if counts(h) && (!ok || h.OlderThan(found)) {
			found, ok = h.Holder, true
		}
	}
	return found, ok
}

// Grant gives an attempt locks that Blocker allows. What the same attempt holds already it replaces, and must be among the rows
// in no weaker mode. It keeps the slice.
func (t *Table) Grant(h Held) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if before := t.grants[h.Txn]; before != nil {
		t.dropLocked(before)
	}
	t.grantLocked(h)
}

func (t *Table) grantLocked(h Held) {
	g := &grant{Held: h}
	t.grants[h.Txn] = g
	for _, row := range h.Rows {
		t.holders[row.ID] = append(t.holders[row.ID], hold{g, row.Mode})
	}
}

func (t *Table) dropLocked(g *grant) {
	for _, row := range g.Rows {
		left := slices.DeleteFunc(t.holders[row.ID], func(h hold) bool { return h.grant == g })
		if len(left) == 0 {
			delete(t.holders, row.ID)
			continue
		}
		t.holders[row.ID] = left
	}
}

// Finish ends what txn holds, for Blocker at once and for readers with the next Settle.
func (t *Table) Finish(txn event.TxnID) {
	g := t.grants[txn]
	if g == nil {
		return
	}
	g.done = true
	delete(t.grants, txn)
	t.finished = append(t.finished, g)
}

// Settle makes every Finish so far visible. Call it when what the finished transactions wrote can be read.
func (t *Table) Settle() {
	if len(t.finished) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, g := range t.finished {
		t.dropLocked(g)
	}
	t.finished = t.finished[:0]
	t.signalLocked()
}

// Replace makes held all there is, in one step for readers. It keeps the slices.
func (t *Table) Replace(held []Held) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.finished = nil
	clear(t.holders)
	clear(t.grants)
	for _, h := range held {
		t.grantLocked(h)
	}
	t.signalLocked()
}

func (t *Table) signalLocked() {
	close(t.released)
	t.released = make(chan struct{})
}

// Holder tells who holds id exclusively, for readers: what is shared can be read.
func (t *Table) Holder(id string) (Holder, bool) { return t.Conflict(Row{id, Shared}, event.TxnID{}) }

// Conflict is Blocker as readers see it, for those who wait to be proposed.
func (t *Table) Conflict(row Row, self event.TxnID) (Holder, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return oldest(t.holders[row.ID], func(h hold) bool { return h.Txn != self && h.mode.conflicts(row.Mode) })
}

// Released is closed at the next release. Take it before asking Holder or Conflict, or a release in between is missed.
func (t *Table) Released() <-chan struct{} {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.released
}
