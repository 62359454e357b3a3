package lock

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

func txn(n byte) event.TxnID { return event.TxnID{n} }

func exclusive(ids ...string) (rows []Row) {
	for _, id := range ids {
		rows = append(rows, Row{id, Exclusive})
	}
	return rows
}

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
	table.Grant(Held{first, exclusive("a", "b")})
	for _, id := range []string{"a", "b"} {
		if h, ok := table.Holder(id); !ok || h != first {
			t.Fatalf("Holder(%q) = %v, %v; want the first transaction", id, h, ok)
		}
		if h, ok := table.Blocker(Row{id, Exclusive}, txn(99)); !ok || h != first {
			t.Fatalf("Blocker(%q) = %v, %v; want the first transaction", id, h, ok)
		}
	}
	if _, ok := table.Holder("c"); ok {
		t.Fatal("an id that nobody locked has a holder")
	}

	released := table.Released()
	table.Finish(txn(1))
	if _, ok := table.Blocker(Row{"a", Exclusive}, txn(99)); ok {
		t.Error("a finished holder still blocks in the log's order")
	}
	if _, ok := table.Holder("a"); !ok {
		t.Error("a reader saw the release before Settle")
	}
	second := Holder{Txn: txn(2), Attempt: 1}
	table.Grant(Held{second, exclusive("b")})
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
	table.Grant(Held{Holder{Txn: txn(1), Attempt: 1}, exclusive("a")})
	table.Finish(txn(1))
	table.Grant(Held{Holder{Txn: txn(1), Attempt: 2}, exclusive("a")})
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
	table.Grant(Held{Holder{Txn: txn(1)}, exclusive("a")})
	table.Finish(txn(1))
	released := table.Released()
	table.Replace([]Held{{Holder{Txn: txn(2)}, exclusive("b")}})
	if _, ok := table.Holder("a"); ok {
		t.Error("a lock of the former state is left")
	}
	if h, ok := table.Blocker(Row{"b", Exclusive}, txn(99)); !ok || h.Txn != txn(2) {
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

func TestSharedRows(t *testing.T) {
	table := NewTable()
	read := func(n byte, start int64) { table.Grant(Held{Holder{Txn: txn(n), Start: start}, []Row{{"a", Shared}}}) }
	read(1, 20)
	read(2, 10)
	if h, ok := table.Blocker(Row{"a", Shared}, txn(3)); ok {
		t.Errorf("a reader is kept away by %v", h)
	}
	if h, ok := table.Holder("a"); ok {
		t.Errorf("a plain read would wait for %v", h)
	}
	for _, self := range []byte{1, 3} { // the upgrade of a holder, too
		if h, ok := table.Blocker(Row{"a", Exclusive}, txn(self)); !ok || h.Txn != txn(2) {
			t.Errorf("transaction %d: blocked by %v, %v; want the oldest other one", self, h, ok)
		}
	}
	table.Finish(txn(2))
	if h, ok := table.Blocker(Row{"a", Exclusive}, txn(1)); ok {
		t.Errorf("the last holder's upgrade is kept away by %v", h)
	}
	table.Grant(Held{Holder{Txn: txn(1), Start: 20}, []Row{{"a", Exclusive}, {"b", Shared}}})
	if h, ok := table.Holder("a"); !ok || h.Txn != txn(1) {
		t.Errorf("holder %v, %v after the upgrade", h, ok)
	}
	table.Settle()
	if h, ok := table.Conflict(Row{"b", Exclusive}, txn(9)); !ok || h.Txn != txn(1) {
		t.Errorf("b: %v, %v", h, ok)
	}
	table.Finish(txn(1))
	table.Settle()
	if len(table.holders) != 0 {
		t.Errorf("%d rows are left over", len(table.holders))
	}
}

func TestMerge(t *testing.T) {
	got := Merge([]Row{{"b", Shared}, {"a", Shared}, {"b", Exclusive}, {"a", Shared}, {"b", Shared}})
	if want := []Row{{"a", Shared}, {"b", Exclusive}}; !slices.Equal(got, want) {
		t.Errorf("merged %v, want %v", got, want)
	}
}

// naive is the table's dumb second version: lists that are searched, for the log and for readers.
type naive struct {
	log, readers []naiveHold
}

type naiveHold struct {
	Holder
	Row
}

func (n *naive) conflict(list []naiveHold, row Row, self event.TxnID) (found Holder, ok bool) {
	for _, h := range list {
		if h.ID != row.ID || h.Txn == self || (h.Mode == Shared && row.Mode == Shared) {
			continue
		}
		if !ok || h.Start < found.Start || (h.Start == found.Start && string(h.Txn[:]) < string(found.Txn[:])) {
			found, ok = h.Holder, true
		}
	}
	return found, ok
}

func (n *naive) grant(h Held) {
	for _, list := range []*[]naiveHold{&n.log, &n.readers} {
		for _, row := range h.Rows {
			*list = slices.DeleteFunc(*list, func(old naiveHold) bool { return old.Holder == h.Holder && old.ID == row.ID })
			*list = append(*list, naiveHold{h.Holder, row})
		}
	}
}

func TestTableIsItsModel(t *testing.T) {
	ids := []string{"a", "b", "c"}
	rapid.Check(t, func(t *rapid.T) {
		table, model := NewTable(), &naive{}
		held, nonce := map[event.TxnID]Held{}, uint64(0)
		drawRow := rapid.Custom(func(t *rapid.T) Row {
			return Row{rapid.SampledFrom(ids).Draw(t, "id"), Mode(rapid.IntRange(0, 1).Draw(t, "mode"))}
		})
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				for _, id := range ids {
					for _, row := range []Row{{id, Shared}, {id, Exclusive}} {
						for self := range byte(5) {
							got, ok := table.Blocker(row, txn(self))
							if want, wantOK := model.conflict(model.log, row, txn(self)); got != want || ok != wantOK {
								t.Fatalf("blocker of %v for %d is %v, %v; the model says %v, %v", row, self, got, ok, want, wantOK)
							}
							got, ok = table.Conflict(row, txn(self))
							if want, wantOK := model.conflict(model.readers, row, txn(self)); got != want || ok != wantOK {
								t.Fatalf("conflict of %v for %d is %v, %v; the model says %v, %v", row, self, got, ok, want, wantOK)
							}
						}
					}
				}
			},
			"grant": func(t *rapid.T) {
				h := Holder{Txn: txn(byte(rapid.IntRange(1, 4).Draw(t, "txn")))}
				h.Start = int64(h.Txn[0]) % 3
				nonce++
				h.Attempt = nonce
				rows := rapid.SliceOfN(drawRow, 1, 3).Draw(t, "rows")
				if before, again := held[h.Txn]; again {
					h.Attempt = before.Attempt
					rows = append(rows, before.Rows...)
				}
				rows = Merge(rows)
				for _, row := range rows {
					if _, blocked := table.Blocker(row, h.Txn); blocked {
						return
					}
				}
				held[h.Txn] = Held{h, rows}
				model.grant(held[h.Txn])
				table.Grant(Held{h, slices.Clone(rows)})
			},
			"finish": func(t *rapid.T) {
				id := txn(byte(rapid.IntRange(1, 4).Draw(t, "txn")))
				delete(held, id)
				table.Finish(id)
				model.log = slices.DeleteFunc(model.log, func(h naiveHold) bool { return h.Txn == id })
			},
			"settle": func(*rapid.T) {
				before := fmt.Sprint(table.Released())
				changed := len(model.readers) != len(model.log)
				table.Settle()
				model.readers = slices.Clone(model.log)
				if changed && fmt.Sprint(table.Released()) == before {
					t.Fatal("a release was not signalled")
				}
			},
			"replace": func(*rapid.T) {
				var all []Held
				for _, h := range held { // in any order
					all = append(all, h)
				}
				table.Replace(all)
				model.readers = slices.Clone(model.log)
			},
		})
	})
}
