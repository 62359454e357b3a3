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
	shared   map[string]bool
	released chan struct{}
}

func newTable() *table {
	return &table{holders: map[string]lock.Holder{}, shared: map[string]bool{}, released: make(chan struct{})}
}

func (t *table) Conflict(row lock.Row, self event.TxnID) (lock.Holder, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h, ok := t.holders[row.ID]
	return h, ok && h.Txn != self && (row.Mode == lock.Exclusive || !t.shared[row.ID])
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

func exclusive(ids ...string) []lock.Row { return rowsIn(lock.Exclusive, ids) }
func shared(ids ...string) []lock.Row    { return rowsIn(lock.Shared, ids) }

func rowsIn(mode lock.Mode, ids []string) (rows []lock.Row) {
	for _, id := range ids {
		rows = append(rows, lock.Row{ID: id, Mode: mode})
	}
	return lock.Merge(rows)
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
		first := q.arrive(exclusive("a", "b"), plainRequest)
		firstEnd := enter(ctx, q, first)
		waits(t, firstEnd, "first, on a held row")
		second := q.arrive(exclusive("b"), plainRequest)
		secondEnd := enter(ctx, q, second)
		waits(t, secondEnd, "second, on a free row behind the first")
		other := q.arrive(exclusive("c"), plainRequest)
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
		refused := q.arrive(exclusive("a"), plainRequest)
		later := q.arrive(exclusive("a"), plainRequest)
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
				p := q.arrive(exclusive("a"), c.comes)
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
		older := q.arrive(exclusive("a", "b"), txn(1, 100))
		olderEnd := enter(t.Context(), q, older)
		waits(t, olderEnd, "the older one")
		// b is free, but an older prepare stands in its line: to wait for it would be the wrong way round.
		younger := q.arrive(exclusive("b"), txn(2, 200))
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
		enters(t, enter(t.Context(), q, q.arrive(exclusive("a"), txn(1, 100))), "the same transaction")
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
				p := q.arrive(exclusive(rows[i]...), plainRequest)
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

func TestSharedRowsInLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := newTable()
		q := newWaitQueue(locks)
		ctx := t.Context()
		locks.hold(txn(9, 1), "a")
		locks.shared["a"] = true
		reader := q.arrive(shared("a"), plainRequest)
		enters(t, enter(ctx, q, reader), "a reader of a row that is shared")
		other := q.arrive(shared("a"), plainRequest)
		enters(t, enter(ctx, q, other), "a reader behind a reader")
		writer := q.arrive(exclusive("a"), plainRequest)
		writerEnd := enter(ctx, q, writer)
		waits(t, writerEnd, "a writer of a row that is shared")
		var late []*place
		var lateEnds []<-chan error
		for range 3 {
			p := q.arrive(shared("a"), plainRequest)
			late, lateEnds = append(late, p), append(lateEnds, enter(ctx, q, p))
			waits(t, lateEnds[len(lateEnds)-1], "a reader behind a writer")
		}
		q.leave(other)
		q.leave(reader)
		waits(t, writerEnd, "the writer, while the row is held")
		locks.release("a")
		enters(t, writerEnd, "the writer, when nobody shares the row")
		q.leave(writer)
		for i, end := range lateEnds {
			enters(t, end, "a reader, when the writer left")
			q.leave(late[i])
		}
		if q.waiting() != 0 || len(q.lines) != 0 {
			t.Errorf("%d requests and %d lines are left over", q.waiting(), len(q.lines))
		}
	})
}

// TestSharedRowsDoNotDie: wait-die is between those that are in each other's way.
func TestSharedRowsDoNotDie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := newTable()
		q := newWaitQueue(locks)
		locks.hold(txn(9, 1), "a")
		locks.shared["a"] = true
		older := q.arrive(shared("a"), txn(1, 100))
		enters(t, enter(t.Context(), q, older), "an older reader")
		younger := q.arrive(shared("a"), txn(2, 200))
		enters(t, enter(t.Context(), q, younger), "a younger reader")
		writer := q.arrive(exclusive("a"), txn(3, 300))
		if err := q.wait(t.Context(), writer); err == nil {
			t.Error("a young writer waited for older readers")
		}
		for _, p := range []*place{older, younger, writer} {
			q.leave(p)
		}
	})
}

// mayEnter tells by looking at everybody who may enter.
func mayEnter(p *place, before []*place, locks *table) bool {
	for _, row := range p.rows {
		if _, held := locks.Conflict(row, p.txn.Txn); held {
			return false
		}
		for _, other := range before {
			for _, theirs := range other.rows {
				if theirs.ID == row.ID && (theirs.Mode == lock.Exclusive || row.Mode == lock.Exclusive) {
					return false
				}
			}
		}
	}
	return true
}

// TestQueueIsItsModel: after every step exactly those have entered that the naive look allows, and nobody sleeps who may.
func TestQueueIsItsModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type step struct {
			rows  []lock.Row
			leave int
			free  bool
		}
		steps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
			row := rapid.Custom(func(t *rapid.T) lock.Row {
				return lock.Row{ID: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "id"), Mode: lock.Mode(rapid.IntRange(0, 1).Draw(t, "mode"))}
			})
			return step{lock.Merge(rapid.SliceOfN(row, 1, 3).Draw(t, "rows")), rapid.IntRange(0, 5).Draw(t, "leave"), rapid.IntRange(0, 3).Draw(t, "free") == 0}
		}), 1, 14).Draw(rt, "steps")
		synctest.Test(t, func(t *testing.T) {
			locks := newTable()
			q := newWaitQueue(locks)
			locks.hold(txn(9, 1), "a")
			locks.shared["a"] = true
			locks.hold(txn(8, 1), "b")
			ctx, cancel := context.WithCancel(t.Context())
			var present []*place
			in := map[*place]<-chan error{}
			entered := map[*place]bool{}
			for _, s := range steps {
				p := q.arrive(s.rows, plainRequest)
				present, in[p] = append(present, p), enter(ctx, q, p)
				synctest.Wait()
				if s.free {
					locks.release("a", "b")
				}
				if s.leave < len(present) && entered[present[s.leave]] {
					q.leave(present[s.leave])
					present = slices.Delete(present, s.leave, s.leave+1)
				}
				synctest.Wait()
				for i, p := range present {
					select {
					case err := <-in[p]:
						if err != nil {
							t.Fatal(err)
						}
						entered[p] = true
					default:
					}
					if want := mayEnter(p, present[:i], locks); entered[p] != want {
						t.Fatalf("%v behind %d others: entered %t, want %t", p.rows, i, entered[p], want)
					}
				}
			}
			cancel()
			for _, p := range present {
				if !entered[p] {
					<-in[p]
				}
				q.leave(p)
			}
			if q.waiting() != 0 || len(q.lines) != 0 {
				t.Errorf("%d requests and %d lines are left over", q.waiting(), len(q.lines))
			}
		})
	})
}
