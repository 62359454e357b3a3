package storagenode

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/storagenode/lock"
)

// rowLocks is what the queue asks of the replicated lock table.
type rowLocks interface {
	// Conflict is the oldest prepared transaction other than self that keeps row from being held.
	Conflict(row lock.Row, self event.TxnID) (lock.Holder, bool)
	// LockReleased is closed at the next release of any lock; take it before looking at Conflict.
	LockReleased() <-chan struct{}
}

// waitQueue is where requests of a shard's leader wait for rows before they are proposed (safety S8): in arrival order
// row by row, in memory only. It grants nothing; Apply alone does, so a queue that is wrong costs time and never safety.
//
// A request stands in the line of each of its rows at once and enters when nobody before it in any of them is in its way, and no
// other transaction's lock is: those that share a row are in nobody's way but a writer's. Lines are ordered by ticket, so the oldest request is first everywhere and there is no deadlock
// among those that wait.
type waitQueue struct {
	locks rowLocks

	mu     sync.Mutex
	next   uint64
	lines  map[string][]*place // by row; ordered by ticket; never empty lines
	inLine int                 // places in at least one line
}

// place is one request's position, kept from its arrival to its answer.
type place struct {
	ticket uint64
	rows   []lock.Row  // of distinct ids, sorted by id
	txn    lock.Holder // who asks, for a prepare; zero: a request that holds no locks and never dies
	moved  chan struct{}
	queued bool // guarded by waitQueue.mu
}

// blocked is why a request may not enter.
type blocked struct {
	row    string
	holder event.TxnID // zero: an earlier request waits for the row
	first  bool        // the request is first in all its lines: only a release can help it
	dies   bool        // wait-die: it must not wait
}

func newWaitQueue(locks rowLocks) *waitQueue {
	return &waitQueue{locks: locks, lines: map[string][]*place{}}
}

// arrive takes a ticket for distinct rows. A zero txn is for requests that hold no locks elsewhere.
func (q *waitQueue) arrive(rows []lock.Row, txn lock.Holder) *place {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.next++
	return &place{ticket: q.next, rows: rows, txn: txn, moved: make(chan struct{}, 1)}
}

// wait returns nil when p may be proposed; p stays in line until leave, so that what came later waits behind it. It
// returns an error of kind locked when ctx ends first, and at once when p must die; p is then still in line.
func (q *waitQueue) wait(ctx context.Context, p *place) error {
	for {
		released := q.locks.LockReleased()
		b := q.enter(p)
		switch {
		case b == nil:
			return nil
		case b.dies:
			return b.err("a younger transaction does not wait")
		case !b.first:
			released = nil
		}
		select {
		case <-released:
		case <-p.moved:
		case <-ctx.Done():
			return b.err("its deadline passed while it waited")
		}
	}
}

// enter puts p in line and says what blocks it, nil: nothing.
func (q *waitQueue) enter(p *place) *blocked {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.line(p)
	var first *blocked
	for _, row := range p.rows {
		b := q.blocker(row, p)
		if b == nil {
			continue
		}
		if b.dies {
			return b
		}
		if first == nil || (first.first && !b.first) {
			first = b
		}
	}
	return first
}

// line inserts p by ticket into the lines of its rows.
func (q *waitQueue) line(p *place) {
	if p.queued {
		return
	}
	p.queued = true
	q.inLine++
	for _, row := range p.rows {
		l := q.lines[row.ID]
		i, _ := slices.BinarySearchFunc(l, p, func(a, b *place) int { return cmp.Compare(a.ticket, b.ticket) })
		q.lines[row.ID] = slices.Insert(l, i, p)
	}
}

// blocker is what keeps p from one row: those before it in line, then the lock's holder.
func (q *waitQueue) blocker(row lock.Row, p *place) *blocked {
	var b *blocked
	for _, other := range q.lines[row.ID] {
		if other == p {
			break
		}
		if !row.Conflicts(other.row(row.ID)) {
			continue
		}
		b = &blocked{row: row.ID, dies: p.dies(other.txn)}
		if b.dies {
			return b
		}
	}
	if b != nil {
		return b
	}
	holder, ok := q.locks.Conflict(row, p.txn.Txn) // another attempt of itself is none: Apply answers
	if !ok {
		return nil
	}
	return &blocked{row: row.ID, holder: holder.Txn, first: true, dies: p.dies(holder)}
}

// row is how p wants one of its rows.
func (p *place) row(id string) lock.Row {
	i, _ := slices.BinarySearchFunc(p.rows, id, func(r lock.Row, id string) int { return strings.Compare(r.ID, id) })
	return p.rows[i]
}

// dies tells whether p must not wait for other: both hold locks elsewhere and p is younger.
func (p *place) dies(other lock.Holder) bool {
	return !fault.Broken(fault.WaitDieOff) && !p.txn.Txn.IsZero() && !other.Txn.IsZero() && p.txn.Txn != other.Txn && other.OlderThan(p.txn)
}

// leave takes p out of its lines and lets those behind it look again. It keeps its ticket: p may wait again.
func (q *waitQueue) leave(p *place) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !p.queued {
		return
	}
	p.queued = false
	q.inLine--
	for _, row := range p.rows {
		l := slices.DeleteFunc(q.lines[row.ID], func(other *place) bool { return other == p })
		if len(l) == 0 {
			delete(q.lines, row.ID)
			continue
		}
		q.lines[row.ID] = l
		wakeFirst(row.ID, l)
	}
}

// wakeFirst wakes those that nobody in line is in the way of: the first, and, if it shares the row, those that share it with it.
func wakeFirst(id string, line []*place) {
	for i, p := range line {
		if exclusive := p.row(id).Mode == lock.Exclusive; exclusive && i > 0 {
			return
		} else if p.wake(); exclusive {
			return
		}
	}
}

// wake makes p look again; a wake that is not yet taken is enough.
func (p *place) wake() {
	select {
	case p.moved <- struct{}{}:
	default:
	}
}

// waiting is how many requests stand in line.
func (q *waitQueue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.inLine
}

// err is the refusal: it surely did not happen.
func (b *blocked) err(why string) *event.Error {
	if b.holder.IsZero() {
		return &event.Error{Kind: event.KindLocked, Message: fmt.Sprintf("row %q is waited for by an earlier request: %s", b.row, why)}
	}
	return &event.Error{Kind: event.KindLocked, Txn: b.holder, Message: fmt.Sprintf("row %q is held by transaction %s: %s", b.row, b.holder, why)}
}
