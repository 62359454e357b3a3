package lock

import (
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

func txn(n byte) event.TxnID { return event.TxnID{n} }

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestReleaseIsVisibleToReadersOnlyAfterSettle(t *testing.T) {
	table := NewTable()
	first := Holder{Txn: txn(1), Attempt: 7, Start: 10}
	table.Grant(Held{first, []string{"a", "b"}})
	for _, id := range []string{"a", "b"} {
		if h, ok := table.Holder(id); !ok || h != first {
			t.Fatalf("Holder(%q) = %v, %v; want the first transaction", id, h, ok)
		}
		if h, ok := table.Blocker(id); !ok || h != first {
			t.Fatalf("Blocker(%q) = %v, %v; want the first transaction", id, h, ok)
		}
	}
	if _, ok := table.Holder("c"); ok {
		t.Fatal("an id that nobody locked has a holder")
	}

	released := table.Released()
	table.Finish(txn(1))
	if _, ok := table.Blocker("a"); ok {
		t.Error("a finished holder still blocks in the log's order")
	}
	if _, ok := table.Holder("a"); !ok {
		t.Error("a reader saw the release before Settle")
	}
	second := Holder{Txn: txn(2), Attempt: 1}
	table.Grant(Held{second, []string{"b"}})
	if closed(released) {
		t.Error("the release was signalled before Settle")
	}
	table.Settle()
	if !closed(released) {
		t.Error("Settle did not signal the release")
	}
	if _, ok := table.Holder("a"); ok {
		t.Error("a is still held after Settle")
	}
	if h, ok := table.Holder("b"); !ok || h != second {
		t.Errorf("Holder(b) = %v, %v; the release of the first took the second's lock", h, ok)
	}
	if closed(table.Released()) {
		t.Error("the next release is already signalled")
	}
}

func TestNextAttemptOfOneTransaction(t *testing.T) {
	table := NewTable()
	table.Grant(Held{Holder{Txn: txn(1), Attempt: 1}, []string{"a"}})
	table.Finish(txn(1))
	table.Grant(Held{Holder{Txn: txn(1), Attempt: 2}, []string{"a"}})
	table.Settle()
	if h, ok := table.Holder("a"); !ok || h.Attempt != 2 {
		t.Fatalf("Holder(a) = %v, %v; want attempt 2", h, ok)
	}
	table.Finish(txn(9)) // unknown: nothing to end
	table.Settle()
	if _, ok := table.Holder("a"); !ok {
		t.Fatal("finishing an unknown transaction released a lock")
	}
}

func TestReplace(t *testing.T) {
	table := NewTable()
	table.Grant(Held{Holder{Txn: txn(1)}, []string{"a"}})
	table.Finish(txn(1))
	released := table.Released()
	table.Replace([]Held{{Holder{Txn: txn(2)}, []string{"b"}}})
	if _, ok := table.Holder("a"); ok {
		t.Error("a lock of the former state is left")
	}
	if h, ok := table.Blocker("b"); !ok || h.Txn != txn(2) {
		t.Errorf("Blocker(b) = %v, %v; want the new state's holder", h, ok)
	}
	if !closed(released) {
		t.Error("waiters of the former state were not woken")
	}
}

func TestOlderThan(t *testing.T) {
	for _, c := range []struct {
		a, b Holder
		want bool
	}{
		{Holder{Start: 1, Txn: txn(9)}, Holder{Start: 2, Txn: txn(1)}, true},
		{Holder{Start: 2, Txn: txn(1)}, Holder{Start: 1, Txn: txn(9)}, false},
		{Holder{Start: 1, Txn: txn(1)}, Holder{Start: 1, Txn: txn(2)}, true},
		{Holder{Start: 1, Txn: txn(1)}, Holder{Start: 1, Txn: txn(1)}, false},
	} {
		if got := c.a.OlderThan(c.b); got != c.want {
			t.Errorf("%v.OlderThan(%v) = %v", c.a, c.b, got)
		}
	}
}
