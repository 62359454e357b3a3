package lock

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// crowded is a table with so many prepared transactions, each with two rows of its own and one that all share.
func crowded(transactions int) *Table {
	t := NewTable()
	for n := range transactions {
		t.Grant(held(uint64(n)))
	}
	return t
}

func held(n uint64) Held {
	var id event.TxnID
	binary.BigEndian.PutUint64(id[:], n)
	return Held{Holder{Txn: id, Attempt: 1, Start: int64(n)}, []Row{{fmt.Sprintf("row-%d-a", n), Exclusive}, {fmt.Sprintf("row-%d-b", n), Exclusive}, {"hub", Shared}}}
}

// BenchmarkGrantAndFinish is what a transaction costs the table, from prepare to the release that readers see.
func BenchmarkGrantAndFinish(b *testing.B) {
	for _, others := range []int{0, 64} {
		b.Run(fmt.Sprint(others), func(b *testing.B) {
			t, h := crowded(others), held(1<<32)
			b.ReportAllocs()
			for b.Loop() {
				if by, held := t.Blocker(h.Rows[0], h.Txn); held {
					b.Fatal("blocked by", by)
				}
				t.Grant(h)
				t.Finish(h.Txn)
				t.Settle()
			}
		})
	}
}

// BenchmarkConflict is what a read asks of a row that nobody holds, and of one that 64 share.
func BenchmarkConflict(b *testing.B) {
	t := crowded(64)
	for _, row := range []Row{{"free", Shared}, {"hub", Shared}} {
		b.Run(row.ID, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if by, held := t.Conflict(row, event.TxnID{}); held {
					b.Fatal("in conflict with", by)
				}
			}
		})
	}
}
