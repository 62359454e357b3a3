// Package lock is the table of row locks that prepared transactions hold in one shard.
//
//	prepare -> Grant -> Holder sees it        finish -> Finish -> (data can be read) -> Settle -> Holder sees it gone
//
// Locks are on ids, whether or not a concept has the id, and they are exclusive. They are replicated state: which locks
// are held follows from the prepared transactions, and the table mirrors that in memory. Nobody waits here.
//
// Invariants: an id has at most one holder; all ids of a transaction are granted and released together; a release is
// visible to readers only after Settle, that is after what the holder wrote can be read.
//
// It must not import the engine, the transport or a clock.
package lock

import (
	"bytes"
	"sync"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

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

// Held is what one attempt holds.
type Held struct {
	Holder
	IDs []string
}

// Table is one shard's locks. One goroutine, the one that applies the log, calls Blocker, Grant, Finish, Settle and
// Replace; Holder and Released may be called by any.
type Table struct {
	finished []*grant // released in the log, not yet for readers; of the applying goroutine

	mu       sync.RWMutex
	holders  map[string]*grant      // written under mu, by the applying goroutine alone
	grants   map[event.TxnID]*grant // of the applying goroutine
	released chan struct{}          // closed at the next release
}

// grant is one Held in the table.
type grant struct {
	Held
	done bool // of the applying goroutine
}

// NewTable returns a table in which nothing is held.
func NewTable() *Table {
	return &Table{
		holders:  make(map[string]*grant),
		grants:   make(map[event.TxnID]*grant),
		released: make(chan struct{}),
	}
}

// Blocker tells who holds id in the log's order: a finished holder holds nothing any more.
func (t *Table) Blocker(id string) (Holder, bool) {
	if len(t.grants) == 0 {
		return Holder{}, false
	}
	g := t.holders[id]
	if g == nil || g.done {
		return Holder{}, false
	}
	return g.Holder, true
}

// Grant gives an attempt locks that nobody may hold. It keeps the slice.
func (t *Table) Grant(h Held) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.grantLocked(h)
}

func (t *Table) grantLocked(h Held) {
	g := &grant{Held: h}
	t.grants[h.Txn] = g
	for _, id := range h.IDs {
		t.holders[id] = g
	}
}

// Finish ends what txn holds, for Blocker at once and for Holder with the next Settle.
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
		for _, id := range g.IDs {
			if t.holders[id] == g {
				delete(t.holders, id)
			}
		}
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

// Holder tells who holds id, for readers.
func (t *Table) Holder(id string) (Holder, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	g := t.holders[id]
	if g == nil {
		return Holder{}, false
	}
	return g.Holder, true
}

// Released is closed at the next release. Take it before asking Holder, or a release in between is missed.
func (t *Table) Released() <-chan struct{} {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.released
}
