package txn

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// TestHorizon: it follows at a minute's distance while there is something to let go of, stays below a commit that is not
// finished, and an idle grid becomes quiet.
func TestHorizon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrid(t)
		m := newMaster(g, "master-1")
		defer m.stop()
		ctx, cancel := context.WithCancel(t.Context())
		swept := make(chan error)
		go func() { swept <- m.Sweep(ctx) }()
		finishes := 0
		m.fate = func(message string) fate {
			if message == "Finish" && finishes < 1_000_000 {
				finishes++
				return lost // the participants are down
			}
			return arrives
		}
		stuck := link(1, g.rows()[0], g.rows()[1])
		if _, err := m.Run(t.Context(), stuck); err != nil {
			t.Fatal(err)
		}
		begin := g.machine.View().Txn(stuck.RequestID).Begin
		for range 100 {
			g.tick()
			time.Sleep(time.Second)
			if h := g.machine.View().Horizon(); !h.Less(begin) {
				t.Fatalf("the horizon is %v, a commit that began at %v is not completed", h, begin)
			}
		}
		synctest.Wait()
		if finishes < 50 {
			t.Errorf("the sweep tried %d times only", finishes)
		}
		m.mu.Lock()
		finishes = 1_000_000 // they are back
		m.mu.Unlock()
		time.Sleep(2 * time.Minute)
		g.settled(stuck)
		if h := g.machine.View().Horizon(); h.Less(begin) || g.machine.View().Txn(stuck.RequestID) != nil {
			t.Errorf("the horizon is %v: the record of a transaction that began at %v is kept", h, begin)
		}
		quiet := len(g.events)
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(g.events) != quiet {
			t.Errorf("%d events in an idle hour, the last a %s", len(g.events)-quiet, g.events[len(g.events)-1].Type)
		}
		again, err := m.Run(t.Context(), stuck)
		if err != nil || again.Seq == 0 {
			t.Errorf("sent again behind the horizon: %v, %v", again, err)
		}
		if m.refused > 0 {
			t.Errorf("Apply refused %d reports of the sweep", m.refused)
		}
		cancel()
		if err := <-swept; err != nil {
			t.Error(err)
		}
	})
}

// TestSweepGoesOnWhileAShardIsDown: transactions of the shards that answer do not wait for the one that does not.
func TestSweepGoesOnWhileAShardIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrid(t)
		for i := range 1000 {
			id := event.TxnID{1, byte(i >> 8), byte(i)}
			shards := []event.ShardID{"shard-0", "shard-1"}
			if i%2 == 0 {
				shards[1] = "shard-2" // down
			}
			for _, s := range shards {
				g.shards[s].done[id] = true
			}
			g.must(event.TxnCommitted{TxnID: id, Attempt: 1, Begin: g.machine.View().Position(), Issued: time.Now().UnixMicro(), Shards: shards})
		}
		m := newMaster(g, "master-1")
		defer m.stop()
		m.down = "shard-2"
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := m.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
		if n := g.machine.View().OpenTxnCount(); n != 500 {
			t.Errorf("%d of 1,000 transactions are open, want the 500 of the shard that is down", n)
		}
	})
}
