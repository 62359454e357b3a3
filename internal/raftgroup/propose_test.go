package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// What raft says about an entry, and what that means for its commands (safety S24).
func TestOutcomeOfAnEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 1).start()
		defer c.stop()
		g := c.leader().group
		for _, tc := range []struct {
			err  error
			want event.Kind
		}{
			{raft.ErrNotLeader, event.KindNotLeader},
			{raft.ErrEnqueueTimeout, event.KindUnavailable},
			{raft.ErrLeadershipTransferInProgress, event.KindUnavailable},
			{raft.ErrLeadershipLost, event.KindUnknownOutcome},
			{raft.ErrRaftShutdown, event.KindUnknownOutcome},
			{raft.ErrAbortedByRestore, event.KindUnknownOutcome},
			{errNotAnswered, event.KindUnknownOutcome},
			{errors.New("write wal: no space left on device"), event.KindUnknownOutcome},
		} {
			if got := g.notCommitted(tc.err); got.Kind != tc.want {
				t.Errorf("%v means %s, want %s", tc.err, got.Kind, tc.want)
			}
		}
	})
}

func TestFollowerNamesTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3).start()
		defer c.stop()
		l := c.leader()
		r := l.must("a")
		for _, f := range c.others(l) {
			f.wait(r.Index)
			_, err := f.group.Propose(context.Background(), []byte("x"))
			var e *event.Error
			if !errors.As(err, &e) || e.Kind != event.KindNotLeader || e.Leader != l.owner {
				t.Errorf("%s answers %v, want not_leader with %s", f.owner, err, l.owner)
			}
		}
		for _, n := range c.nodes {
			n.wait(r.Index)
			n.wantLines("a")
		}
	})
}

// Commands that wait together share entries, in their order, within the bounds.
func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 1).start()
		defer c.stop()
		n := c.leader()
		first := n.group.Applied()
		commands := make([][]byte, 3000)
		for i := range commands {
			commands[i] = fmt.Append(nil, i)
		}
		for i, p := range n.group.ProposeAll(context.Background(), commands) {
			if p.Err != nil || p.Result.Answer != i+1 {
				t.Fatalf("command %d: %+v", i, p)
			}
		}
		if entries := n.group.Applied() - first; entries != 3 {
			t.Fatalf("%d entries for 3,000 commands, want 3", entries)
		}
		if got := n.fsm.all(); got[0] != "0" || got[2999] != "2999" {
			t.Fatalf("out of order: %q … %q", got[0], got[2999])
		}
		// 1 MiB an entry, and a command that is larger than that alone.
		first = n.group.Applied()
		big := [][]byte{make([]byte, 600<<10), make([]byte, 600<<10), make([]byte, 3<<20), make([]byte, 1)}
		for i, p := range n.group.ProposeAll(context.Background(), big) {
			if p.Err != nil || p.Result.Index != first+1+uint64(i) {
				t.Fatalf("command %d: %+v, want entry %d", i, p, first+1+uint64(i))
			}
		}
		// Too large is refused alone.
		out := n.group.ProposeAll(context.Background(), [][]byte{[]byte("a"), make([]byte, MaxCommandBytes+1), []byte("b")})
		if out[0].Err != nil || kindOf(out[1].Err) != event.KindTooLarge || out[2].Err != nil {
			t.Fatalf("%v, %v, %v", out[0].Err, out[1].Err, out[2].Err)
		}
		if n.group.ProposeAll(context.Background(), nil) != nil {
			t.Fatal("something became of nothing")
		}
		if !n.group.intake.room.TryAcquire(queueBytes) {
			t.Fatal("room is lost")
		}
		n.group.intake.room.Release(queueBytes)
	})
}

// Telemetry waits for company, at most 100 ms.
func TestTelemetrySharesAnEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 1).start()
		defer c.stop()
		n := c.leader()
		begun := time.Now()
		r, err := n.group.ProposeTelemetry(context.Background(), []byte("alone"))
		if took := time.Since(begun); err != nil || took != telemetryDelay {
			t.Fatalf("alone: %v after %v", err, took)
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		indexes := map[uint64]int{}
		note := func(r Result, err error) {
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			indexes[r.Index]++
			mu.Unlock()
		}
		begun = time.Now()
		for range 10 {
			wg.Go(func() { note(n.group.ProposeTelemetry(context.Background(), []byte("t"))) })
		}
		synctest.Wait()
		time.Sleep(telemetryDelay / 2)
		wg.Go(func() { note(n.group.Propose(context.Background(), []byte("urgent"))) })
		wg.Wait()
		if took := time.Since(begun); took != telemetryDelay/2 || indexes[r.Index+1] != 11 {
			t.Fatalf("after %v in entries %v, want one", took, indexes)
		}
	})
}

// A caller that leaves takes its command back if it can; else the outcome is open. The queue is bounded.
func TestLeavingAndBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3)
		for _, n := range c.nodes {
			n.tune = func(cfg *Config) { cfg.Timeouts.Lease = 200 * time.Millisecond }
		}
		c.start()
		defer c.stop()
		l := c.leader()
		l.must("a")
		c.wire.isolate(l.owner, true)
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond) // within the lease
		defer cancel()
		kinds := map[event.Kind]int{}
		var mu sync.Mutex
		var wg sync.WaitGroup
		note := func(err error) {
			mu.Lock()
			defer mu.Unlock()
			kinds[kindOf(err)]++
		}
		for range maxInFlight + 5 {
			synctest.Wait()
			wg.Go(func() {
				_, err := l.group.Propose(ctx, []byte("x"))
				note(err)
			})
		}
		synctest.Wait()
		// The rest of the room, and one more.
		left := queueBytes - (maxInFlight+5)*queueItem
		if !l.group.intake.room.TryAcquire(int64(left)) {
			t.Fatal("commands take more room than they should")
		}
		wg.Go(func() {
			_, err := l.group.Propose(ctx, []byte("no room"))
			note(err)
		})
		wg.Wait()
		l.group.intake.room.Release(int64(left))
		want := map[event.Kind]int{event.KindUnknownOutcome: maxInFlight, event.KindUnavailable: 6}
		if fmt.Sprint(kinds) != fmt.Sprint(want) {
			t.Fatalf("outcomes %v, want %v", kinds, want)
		}
		c.wire.isolate(l.owner, false)
		r := c.leader().must("b")
		l.wait(r.Index)
		for _, line := range l.fsm.all() {
			if line == "no room" {
				t.Fatal("a command that surely was not done was done")
			}
		}
		if !l.group.intake.room.TryAcquire(queueBytes) {
			t.Fatal("room is lost")
		}
		l.group.intake.room.Release(queueBytes)
	})
}

// The stamp never goes back, whatever the wall clocks of the leaders say.
func TestTimeNeverGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3)
		var mu sync.Mutex
		var stamps []int64
		for i, n := range c.nodes {
			n.tune = func(cfg *Config) {
				cfg.Now = func() time.Time { return time.Now().Add(-time.Duration(i) * time.Hour) }
				cfg.FSM = stamped{n.fsm, func(at int64) {
					mu.Lock()
					defer mu.Unlock()
					if i == 0 {
						stamps = append(stamps, at)
					}
				}}
			}
		}
		c.start()
		defer c.stop()
		for _, n := range []int{0, 1, 2, 1} {
			c.handTo(c.nodes[n])
			c.nodes[0].wait(c.nodes[n].must("x", "y").Index)
		}
		mu.Lock()
		defer mu.Unlock()
		for i := 1; i < len(stamps); i++ {
			if stamps[i] < stamps[i-1] {
				t.Fatalf("stamp %d is before %d", stamps[i], stamps[i-1])
			}
		}
		if len(stamps) < 8 {
			t.Fatalf("%d entries", len(stamps))
		}
	})
}

// stamped tells the time of each entry.
type stamped struct {
	*journal
	at func(int64)
}

func (s stamped) Apply(entries []Entry) [][]any {
	for _, e := range entries {
		s.at(e.Time)
	}
	return s.journal.Apply(entries)
}

// Lead runs once a term, after the barrier, under a context that ends with the term; two never overlap, and Close waits.
func TestLead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3)
		type span struct {
			term  uint64
			cause error
		}
		spans := make(chan span, 100)
		running := map[*node]*bool{}
		for _, n := range c.nodes {
			on := new(bool)
			running[n] = on
			n.tune = func(cfg *Config) {
				open := n.open
				cfg.Lead = func(ctx context.Context, term uint64) {
					<-open
					if *on {
						t.Error("two terms at once")
					}
					*on = true
					if !n.group.IsLeader() {
						t.Error("Lead runs and IsLeader is false")
					}
					// Leadership may be on its way to another already.
					if _, err := n.group.Propose(ctx, []byte("from within")); err != nil && kindOf(err) != event.KindUnavailable && kindOf(err) != event.KindNotLeader && kindOf(err) != event.KindUnknownOutcome {
						t.Errorf("propose in Lead: %v", err)
					}
					c.led <- n
					<-ctx.Done()
					time.Sleep(time.Second) // work that is slow to end
					*on = false
					spans <- span{term, context.Cause(ctx)}
				}
			}
		}
		c.start()
		defer c.stop()
		l := c.leader()
		_, term, _ := l.group.Leader()
		c.wire.isolate(l.owner, true)
		if s := <-spans; s.term != term || s.cause != ErrTermEnded {
			t.Fatalf("%+v, want term %d to end", s, term)
		}
		c.wire.isolate(l.owner, false)
		for i := range 6 { // leadership that comes and goes faster than the work ends
			c.handTo(c.nodes[i%3])
		}
		l = c.leader()
		_, term, _ = l.group.Leader()
		begun := time.Now()
		l.stop()
		if took := time.Since(begun); took < time.Second || *running[l] {
			t.Fatalf("Close did not wait for Lead: %v", took)
		}
		for s := range spans {
			if s.term == term {
				if s.cause != ErrClosed {
					t.Fatalf("%+v, want it ended by Close", s)
				}
				return
			}
		}
	})
}
