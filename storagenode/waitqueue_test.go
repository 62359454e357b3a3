package storagenode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/storagenode/lock"
)

// table is a lock table that tests fill by hand.
type table struct {
	mu       sync.Mutex
	holders  map[string]lock.Holder
	released chan struct{}
}

func newTable() *table {
	return &table{holders: map[string]lock.Holder{}, released: make(chan struct{})}
}

func (t *table) Holder(id string) (lock.Holder, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h, ok := t.holders[id]
	return h, ok
}

func (t *table) LockReleased() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.released
}

func (t *table) hold(h lock.Holder, rows ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, row := range rows {
		t.holders[row] = h
	}
}

func (t *table) release(rows ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, row := range rows {
		delete(t.holders, row)
	}
	close(t.released)
	t.released = make(chan struct{})
}

func txn(n byte, start int64) lock.Holder {
	return lock.Holder{Txn: event.TxnID{15: n}, Start: start}
}

var plainRequest = lock.Holder{}

// enter starts a wait and returns a channel with its end.
func enter(ctx context.Context, q *waitQueue, p *place) <-chan error {
	end := make(chan error, 1)
	go func() { end <- q.wait(ctx, p) }()
	return end
}

func waits(t *testing.T, end <-chan error, what string) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-end:
		t.Fatalf("%s: did not wait (%v)", what, err)
	default:
	}
}

func enters(t *testing.T, end <-chan error, what string) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-end:
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	default:
		t.Fatalf("%s: still waits", what)
	}
}

func TestQueueKeepsArrivalOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := newTable()
		q := newWaitQueue(locks)
		ctx := t.Context()
		locks.hold(txn(9, 1), "a")
		first := q.arrive([]string{"a", "b"}, plainRequest)
		firstEnd := enter(ctx, q, first)
		waits(t, firstEnd, "first, on a held row")
		second := q.arrive([]string{"b"}, plainRequest)
		secondEnd := enter(ctx, q, second)
		waits(t, secondEnd, "second, on a free row behind the first")
		other := q.arrive([]string{"c"}, plainRequest)
		enters(t, enter(ctx, q, other), "another row")
		locks.release("a")
		enters(t, firstEnd, "first, after the release")
		waits(t, secondEnd, "second, while the first is in line")
		q.leave(first)
		enters(t, secondEnd, "second, after the first left")
		q.leave(second)
		q.leave(other)
		if n := q.waiting(); n != 0 || len(q.lines) != 0 {
			t.Errorf("%d requests and %d lines are left over", n, len(q.lines))
		}
	})
}

func TestQueueKeepsThePlaceOfARefusedRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := newTable()
		q := newWaitQueue(locks)
		refused := q.arrive([]string{"a"}, plainRequest)
		later := q.arrive([]string{"a"}, plainRequest)
		enters(t, enter(t.Context(), q, refused), "the first")
		q.leave(refused)           // proposed …
		locks.hold(txn(9, 1), "a") // … and refused: a prepare came first
		laterEnd := enter(t.Context(), q, later)
		refusedEnd := enter(t.Context(), q, refused)
		waits(t, laterEnd, "the later one")
		waits(t, refusedEnd, "the refused one")
		locks.release("a")
		enters(t, refusedEnd, "the refused one, first again")
		waits(t, laterEnd, "the later one")
		q.leave(refused)
		enters(t, laterEnd, "the later one")
	})
}

func TestWaitDie(t *testing.T) {
	for _, c := range []struct {
		name          string
		holder, comes lock.Holder
		dies          bool
	}{
		{"an older one waits", txn(1, 200), txn(2, 100), false},
		{"a younger one dies", txn(1, 100), txn(2, 200), true},
		{"equal start, higher id: younger", txn(1, 100), txn(2, 100), true},
		{"equal start, lower id: older", txn(2, 100), txn(1, 100), false},
		{"what holds no locks never dies", txn(1, 100), plainRequest, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				locks := newTable()
				q := newWaitQueue(locks)
				locks.hold(c.holder, "a")
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				p := q.arrive([]string{"a"}, c.comes)
				defer q.leave(p)
				begin := time.Now()
				err := q.wait(ctx, p)
				var e *event.Error
				if !errors.As(err, &e) || e.Kind != event.KindLocked || e.Txn != c.holder.Txn {
					t.Fatalf("got %v, want locked by %s", err, c.holder.Txn)
				}
				if died := time.Since(begin) == 0; died != c.dies {
					t.Errorf("died: %t, want %t", died, c.dies)
				}
			})
		})
	}
}

func TestWaitDieInLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := newTable()
		q := newWaitQueue(locks)
		locks.hold(txn(9, 900), "a")
		older := q.arrive([]string{"a", "b"}, txn(1, 100))
		olderEnd := enter(t.Context(), q, older)
		waits(t, olderEnd, "the older one")
		// b is free, but an older prepare stands in its line: to wait for it would be the wrong way round.
		younger := q.arrive([]string{"b"}, txn(2, 200))
		if err := q.wait(t.Context(), younger); err == nil {
			t.Error("a younger prepare entered before an older one")
		}
		q.leave(younger)
		locks.release("a")
		enters(t, olderEnd, "the older one")
	})
}

func TestAnotherAttemptOfTheSameTransactionDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := newTable()
		q := newWaitQueue(locks)
		locks.hold(txn(1, 100), "a")
		enters(t, enter(t.Context(), q, q.arrive([]string{"a"}, txn(1, 100))), "the same transaction")
	})
}

// TestQueueAgainstNoQueue: whatever waits enters in the end, in ticket order row by row, and nothing is left in line.
func TestQueueDrains(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(rt, "requests")
		rows := make([][]string, n)
		for i := range rows {
			rows[i] = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 1, 3, rapid.ID[string]).Draw(rt, fmt.Sprintf("rows %d", i))
		}
		synctest.Test(t, func(t *testing.T) {
			locks := newTable()
			q := newWaitQueue(locks)
			locks.hold(txn(9, 1), "a", "b", "c", "d")
			var mu sync.Mutex
			entered := map[string][]int{}
			var all sync.WaitGroup
			for i := range rows {
				p := q.arrive(rows[i], plainRequest)
				all.Go(func() {
					if err := q.wait(t.Context(), p); err != nil {
						t.Error(err)
					}
					mu.Lock()
					for _, row := range rows[i] {
						entered[row] = append(entered[row], i)
					}
					mu.Unlock()
					q.leave(p)
				})
				synctest.Wait() // stands in line before the next one arrives
			}
			locks.release("a", "c")
			locks.release("b", "d")
			all.Wait()
			for row, order := range entered {
				if !slices.IsSorted(order) {
					t.Errorf("row %s was entered in the order %v", row, order)
				}
			}
			if q.waiting() != 0 || len(q.lines) != 0 {
				t.Errorf("%d requests and %d lines are left over", q.waiting(), len(q.lines))
			}
		})
	})
}
