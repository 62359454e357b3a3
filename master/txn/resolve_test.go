package txn

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/transport"
)

// preparedTxns is what a shard says of itself.
func (p *participant) preparedTxns() *transport.PreparedTxnsOk {
	ok := &transport.PreparedTxnsOk{}
	for _, held := range p.prepared {
		ok.Txns = append(ok.Txns, transport.PreparedTxn{TxnID: held.TxnID, Attempt: held.Attempt, Begin: held.Begin, Start: held.Start, Issued: held.Issued,
			Coordinator: held.Coordinator, Participants: held.Participants, Open: held.open, AgeMillis: uint64(time.Since(held.since).Milliseconds())})
	}
	return ok
}

// TestResolve: an operator's word is an ordinary decision; commit wants every participant to hold the attempt wholly, and for long.
func TestResolve(t *testing.T) {
	for name, tc := range map[string]struct {
		commit  bool
		wait    time.Duration
		change  func(g *grid) // between the prepares and the operator
		want    string        // outcome, or
		refused event.Kind
	}{
		"abort":                        {want: "aborted"},
		"commit":                       {commit: true, wait: 2 * time.Minute, want: "committed"},
		"commit too early":             {commit: true, wait: 30 * time.Second, refused: event.KindRefused},
		"commit of what is half there": {commit: true, wait: 2 * time.Minute, refused: event.KindRefused, change: func(g *grid) { g.shards["shard-1"].release(event.TxnID{1}) }},
		"commit of what is not whole":  {commit: true, wait: 2 * time.Minute, refused: event.KindRefused, change: func(g *grid) { g.shards["shard-1"].prepared[event.TxnID{1}].open = true }},
		"abort of what is half there":  {want: "aborted", change: func(g *grid) { g.shards["shard-1"].release(event.TxnID{1}) }},
		"a transaction that is nowhere": {refused: event.KindNotFound, change: func(g *grid) {
			g.shards["shard-0"].release(event.TxnID{1})
			g.shards["shard-1"].release(event.TxnID{1})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGrid(t)
				dead, m := newMaster(g, "master-1"), newMaster(g, "master-2")
				defer dead.stop()
				defer m.stop()
				dead.kill = func(l fault.Label, _ int) bool { return l == fault.TxnPrepareAfter }
				txn := link(1, g.rows()[0], g.rows()[1])
				if _, err := dead.Run(t.Context(), txn); err == nil {
					t.Fatal("the coordinator lived")
				}
				time.Sleep(tc.wait)
				synctest.Wait()
				if tc.change != nil {
					tc.change(g)
				}
				ok, err := m.Resolve(t.Context(), &transport.ResolveTxn{TxnID: txn.RequestID, Commit: tc.commit})
				if tc.refused != "" {
					if !errors.Is(err, &event.Error{Kind: tc.refused}) || g.count(event.TypeTxnCommitted)+g.count(event.TypeTxnAborted) > 0 {
						t.Errorf("got %+v, %v; want %s and no decision", ok, err, tc.refused)
					}
					return
				}
				if err != nil || ok.Outcome != tc.want || ok.Seq == 0 {
					t.Fatalf("got %+v, %v; want %s", ok, err, tc.want)
				}
				synctest.Wait()
				for id, p := range g.shards {
					if len(p.prepared) > 0 || p.done[txn.RequestID] != (tc.commit && len(p.data.out)+len(p.data.in) > 0) {
						t.Errorf("%s holds %d, done %v", id, len(p.prepared), p.done[txn.RequestID])
					}
				}
				other, err := m.Resolve(t.Context(), &transport.ResolveTxn{TxnID: txn.RequestID, Commit: !tc.commit})
				if tc.commit && (err != nil || other.Outcome != "committed") {
					t.Errorf("the other word afterwards: %+v, %v", other, err)
				}
			})
		})
	}
}

// TestReasons: an abort says in one word why.
func TestReasons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrid(t)
		rows := g.rows()
		m := newMaster(g, "master-1")
		defer m.stop()
		g.shards["shard-1"].hold(rows[1], event.TxnID{9})
		m.down = "shard-3"
		for want, txn := range map[string]*transport.Txn{
			"conflict": link(1, rows[0], rows[1]), "deadline": link(2, rows[0], rows[3]), "precondition": link(3, rows[0], g.absentRow(2)),
		} {
			_, err := m.Run(t.Context(), txn)
			if got := Reason(err); got != want {
				t.Errorf("%s: %v", got, err)
			}
		}
		g.shards["shard-1"].letGo(rows[1])
		if _, err := m.Run(t.Context(), link(1, rows[0], rows[1])); Reason(err) != "aborted" {
			t.Errorf("sent again: %v", err)
		}
	})
}
