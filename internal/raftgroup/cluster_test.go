package raftgroup

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Three voters over real connections: what was acknowledged outlives the leader and a restart of all.
func TestAcknowledgedOutlivesTheLeaderAndRestarts(t *testing.T) {
	c := newCluster(t, transport.TCP(), 3).start()
	defer c.stop()
	first := c.leader()
	first.must("a", "b")
	old := first.group
	first.stop()
	if _, err := old.Propose(context.Background(), []byte("x")); kindOf(err) != event.KindUnavailable && kindOf(err) != event.KindNotLeader {
		t.Fatalf("a closed group answered %v", err)
	}
	second := c.leader(first)
	r := second.must("c")
	second.wantLines("a", "b", "c")
	if r.Answer != 3 || r.Term == 0 || r.Index == 0 {
		t.Fatalf("result %+v", r)
	}
	first.start()
	first.wait(r.Index)
	first.wantLines("a", "b", "c")
	c.stop()
	c.start()
	third := c.leader()
	r = third.must("d")
	for _, n := range c.nodes {
		n.wait(r.Index)
		n.wantLines("a", "b", "c", "d")
	}
}

func TestSingleVoterServesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 1).start()
		defer c.stop()
		n := c.leader()
		r := n.must("a")
		before := time.Now()
		index, term, err := n.group.ReadIndex(context.Background())
		if err != nil || index < r.Index || term != r.Term {
			t.Fatalf("read at %d in term %d: %v; want at least %d in %d", index, term, err, r.Index, r.Term)
		}
		if took := time.Since(before); took != 0 {
			t.Fatalf("a single voter asked somebody: %v", took)
		}
		if got := n.group.Peers(); len(got) != 1 || got[0].ID != n.id || got[0].Suffrage != Voter || got[0].MatchIndex < r.Index {
			t.Fatalf("peers %+v", got)
		}
		if err := n.group.TransferLeadership(context.Background()); kindOf(err) != event.KindUnavailable {
			t.Fatalf("handed over to nobody: %v", err)
		}
		n.must("b") // and leads on
	})
}

// A follower that was away gets a snapshot in place of the log it missed, and the entries behind it.
func TestCatchUpBySnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3).start()
		defer c.stop()
		l := c.leader()
		away := c.others(l)[0]
		l.must("begin")
		away.stop()
		var want []string
		for i := range 300 {
			l.must(fmt.Sprint(i))
			want = append(want, fmt.Sprint(i))
		}
		want = append([]string{"begin"}, want...)
		if err := l.group.Snapshot(); err != nil {
			t.Fatal(err)
		}
		if first, err := l.group.stores.log.FirstIndex(); err != nil || first < 200 {
			t.Fatalf("the log still begins at %d (%v)", first, err)
		}
		r := l.must("end")
		away.start()
		away.wait(r.Index)
		away.wantLines(append(want, "end")...)
		if away.fsm.restores == 0 {
			t.Fatal("it caught up without a snapshot: the test proves nothing")
		}
		// And it starts again from what it was sent; what a crash left of a snapshot goes.
		away.stop()
		torn := filepath.Join(away.dir, snapshotDir, "9-999-1.tmp")
		if err := os.MkdirAll(torn, 0o755); err != nil {
			t.Fatal(err)
		}
		away.start()
		if _, err := os.Stat(torn); !os.IsNotExist(err) {
			t.Errorf("an unfinished snapshot is still there: %v", err)
		}
		r = l.must("again")
		away.wait(r.Index)
		away.wantLines(append(want, "end", "again")...)
		// Peers tells how far each is, once their answers are in.
		synctest.Wait()
		for _, p := range l.group.Peers() {
			if p.MatchIndex < r.Index && p.ID == away.id {
				t.Errorf("match index of %s is %d, want %d", p.ID, p.MatchIndex, r.Index)
			}
			if p.ID != l.id && p.LastContact.IsZero() {
				t.Errorf("no contact with %s", p.ID)
			}
		}
	})
}

// An FSM that keeps its state on disk is handed no entry twice, whatever raft replays.
func TestStateOnDiskIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 1)
		n := c.nodes[0]
		n.fsm.durable = true
		c.start()
		defer c.stop()
		c.leader().must("a", "b")
		if err := n.group.Snapshot(); err != nil {
			t.Fatal(err)
		}
		c.leader().must("c")
		n.stop()
		n.start()
		r := c.leader().must("d")
		n.wait(r.Index)
		n.wantLines("a", "b", "c", "d")
		if n.fsm.restores != 0 {
			t.Fatal("a snapshot was restored over a newer state")
		}
		// A snapshot taken after a restart stands for what the state holds, also if it ends with a barrier, which the FSM is
		// not told of.
		n.stop()
		n.start()
		c.leader()
		if err := n.group.Snapshot(); err != nil {
			t.Fatal(err)
		}
		n.stop()
		n.start()
		c.leader()
		if n.fsm.restores != 0 {
			t.Fatal("a snapshot was restored over an equal state")
		}
		n.stop()
		// A crash between raft storing a snapshot and our restore: the state is behind the snapshot.
		n.fsm = &journal{durable: true}
		n.start()
		r = c.leader().must("e")
		n.wait(r.Index)
		n.wantLines("a", "b", "c", "d", "e")
		if n.fsm.restores != 1 {
			t.Fatalf("%d restores, want 1", n.fsm.restores)
		}
	})
}

func TestStartRules(t *testing.T) {
	build := func(t *testing.T) (*cluster, *node) {
		c := newCluster(t, transport.NewMemory(), 1)
		c.nodes[0].tune = func(c *Config) { c.TrailingLogs = maxOutstanding + 1 }
		c.start()
		n := c.leader()
		for range 2 {
			for range 3 * maxOutstanding {
				n.must("x")
			}
			if err := n.group.Snapshot(); err != nil {
				t.Fatal(err)
			}
		}
		c.stop()
		return c, n
	}
	remove := func(parts ...string) func(*testing.T, *node) {
		return func(t *testing.T, n *node) {
			for _, p := range parts {
				if err := os.RemoveAll(filepath.Join(n.dir, p)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for name, tc := range map[string]struct {
		break_ func(*testing.T, *node)
		want   string
	}{
		"directory gone":    {remove("."), "is missing"},
		"stable store gone": {remove(stableFile), "stable.db is missing"},
		"log gone":          {remove(walDir), "wal-meta.db is missing"},
		"log's meta gone":   {remove(filepath.Join(walDir, "wal-meta.db")), "wal-meta.db is missing"},
		"snapshots gone":    {remove(snapshotDir), "snapshots is missing"},
		"newest snapshot gone": {func(t *testing.T, n *node) {
			all := snapshotsOf(t, n)
			if err := os.RemoveAll(all[len(all)-1]); err != nil {
				t.Fatal(err)
			}
		}, "entries between are lost"},
		"newest snapshot gone, state on disk behind it": {func(t *testing.T, n *node) {
			all := snapshotsOf(t, n)
			if err := os.RemoveAll(all[len(all)-1]); err != nil {
				t.Fatal(err)
			}
			index, err := strconv.ParseUint(strings.Split(filepath.Base(all[0]), "-")[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			n.tune = func(c *Config) { c.Applied = func() uint64 { return index } }
		}, "entries between are lost"},
		"newest snapshot damaged": {func(t *testing.T, n *node) {
			all := snapshotsOf(t, n)
			flip(t, filepath.Join(all[len(all)-1], "state.bin"), 1000)
		}, "entries between are lost"},
		"all snapshots damaged": {func(t *testing.T, n *node) {
			for _, s := range snapshotsOf(t, n) {
				flip(t, filepath.Join(s, "state.bin"), 1000)
			}
		}, "failed to load any existing snapshots"},
		"state ahead of log": {func(t *testing.T, n *node) {
			n.tune = func(c *Config) { c.Applied = func() uint64 { return 1 << 40 } }
		}, "the log was lost or replaced"},
		"another group's log": {func(t *testing.T, n *node) { n.tune = func(c *Config) { c.GroupID = "shard-1" } }, "checksum"},
		"configuration": {func(t *testing.T, n *node) {
			n.tune = func(c *Config) { c.TrailingLogs, c.Timeouts.Lease = maxOutstanding, time.Hour }
		}, "TrailingLogs is 11"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, n := build(t)
				tc.break_(t, n)
				err := n.tryStart()
				if err == nil {
					n.stop()
					t.Fatal("it started")
				}
				if !strings.Contains(err.Error(), tc.want) {
					t.Fatalf("%v, want %q", err, tc.want)
				}
				if strings.HasSuffix(tc.want, "missing") {
					if err := n.tryStart(); err == nil {
						n.stop()
						t.Fatal("the refused start made what was missing")
					}
				}
			})
		})
	}
}

// snapshotsOf is the replica's snapshots, the newest last.
func snapshotsOf(t *testing.T, n *node) []string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(n.dir, snapshotDir, "*"))
	if err != nil || len(dirs) != 2 {
		t.Fatalf("%d snapshots (%v), want 2", len(dirs), err)
	}
	return dirs
}

// flip changes one bit of a file.
func flip(t *testing.T, path string, at int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 4
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Safety S1: A and B acknowledged a write, B's disk is wiped, A is gone. C, which lacks the write, must not lead: B cannot
// come back under its id, and what runs in its place has another.
func TestWipedReplicaVotesForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3).start()
		defer c.stop()
		a := c.leader()
		b, cc := c.others(a)[0], c.others(a)[1]
		cc.stop()
		a.must("acknowledged")
		b.stop()
		a.stop()
		if err := os.RemoveAll(b.dir); err != nil {
			t.Fatal(err)
		}
		if err := b.tryStart(); err == nil || !strings.Contains(err.Error(), "is missing") {
			t.Fatalf("a wiped replica started: %v", err)
		}
		// What an operator would start in its place: a new replica at the same address.
		b.id = event.NewReplicaID(b.owner, strings.Repeat("b", 32))
		if err := Create(b.dir, CreateConfig{GroupID: testGroup, LocalID: b.id, Voters: []event.ReplicaID{a.id, b.id, cc.id}}); err != nil {
			t.Fatal(err)
		}
		b.start()
		cc.start()
		time.Sleep(time.Minute) // virtual: a hundred elections
		if cc.group.IsLeader() || b.group.IsLeader() {
			t.Fatal("a replica without the acknowledged write leads")
		}
		if _, _, ok := cc.group.Leader(); ok {
			t.Fatal("somebody was elected")
		}
	})
}

// A follower that takes 2 s to install a snapshot answers its leader's heartbeats meanwhile: with the third voter dead the
// leader stays (safety S24).
func TestHeartbeatsPassASlowRestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3).start()
		defer c.stop()
		l := c.leader()
		behind, dead := c.others(l)[0], c.others(l)[1]
		behind.stop()
		for i := range 200 {
			l.must(fmt.Sprint(i))
		}
		if err := l.group.Snapshot(); err != nil {
			t.Fatal(err)
		}
		_, term, _ := l.group.Leader()
		behind.fsm.slow = 2 * time.Second
		behind.start()
		dead.stop()
		begun := time.Now()
		r := l.must("after") // needs the follower that is behind
		if took := time.Since(begun); took < time.Second {
			t.Fatalf("committed within %v: the restore was not slow", took)
		}
		behind.wait(r.Index)
		if _, now, _ := l.group.Leader(); now != term || !l.group.IsLeader() {
			t.Fatalf("an election happened: term %d, then %d", term, now)
		}
		if behind.fsm.restores != 1 {
			t.Fatalf("%d restores, want 1", behind.fsm.restores)
		}
	})
}

// A deposed leader whose uncommitted tail is as long as it can be comes back to one that has snapshotted, and catches up.
func TestDeposedLeaderWithATailCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3)
		for _, n := range c.nodes {
			n.tune = func(c *Config) { c.TrailingLogs = maxOutstanding + 1 }
		}
		c.start()
		defer c.stop()
		old := c.leader()
		old.must("a")
		c.wire.isolate(old.owner, true)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				if _, err := old.group.Propose(ctx, []byte("lost")); err == nil {
					t.Error("a leader without a quorum acknowledged")
				}
			})
		}
		l := c.leader(old)
		wg.Wait()
		want := []string{"a"}
		for i := range 60 {
			l.must(fmt.Sprint(i))
			want = append(want, fmt.Sprint(i))
		}
		for _, n := range c.others(old) {
			if err := n.group.Snapshot(); err != nil {
				t.Fatal(err)
			}
		}
		c.wire.isolate(old.owner, false)
		r := c.leader(old).must("z")
		old.wait(r.Index)
		old.wantLines(append(want, "z")...)
		// Its log was cut at the tail; it must be readable after a restart (raft-wal before 0.4.1 was not).
		old.stop()
		old.start()
		r = c.leader().must("y")
		old.wait(r.Index)
		old.wantLines(append(want, "z", "y")...)
	})
}

func TestTransferLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3).start()
		defer c.stop()
		l := c.leader()
		l.must("a")
		changed := l.group.LeaderChanged()
		if err := l.group.TransferLeadership(context.Background()); err != nil {
			t.Fatal(err)
		}
		<-changed
		next := c.leader(l)
		next.must("b")
		if err := l.group.TransferLeadership(context.Background()); kindOf(err) != event.KindNotLeader {
			t.Fatalf("a follower handed over: %v", err)
		}
	})
}

// Commands that come while leadership is handed over, again and again, are done once or surely not: none is of unknown outcome,
// and a leader that nobody takes over from goes on with what waited.
func TestHandOverLosesNobodysCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3).start()
		defer c.stop()
		c.leader().must("first")
		ctx, stop := context.WithCancel(context.Background())
		var writers sync.WaitGroup
		acknowledged := make([]int, 4)
		for w := range acknowledged {
			writers.Go(func() {
				for i := 0; ctx.Err() == nil; {
					switch _, err := c.leader().group.Propose(context.Background(), fmt.Appendf(nil, "%d-%d", w, i)); kindOf(err) {
					case "":
						i++
						acknowledged[w] = i
						time.Sleep(time.Millisecond)
					case event.KindNotLeader:
						time.Sleep(time.Millisecond)
					default:
						t.Errorf("%d-%d: %v", w, i, err)
						return
					}
				}
			})
		}
		for range 5 {
			time.Sleep(100 * time.Millisecond)
			l := c.leader()
			if err := l.group.TransferLeadership(context.Background()); err != nil {
				t.Error(err)
			}
		}
		stop()
		writers.Wait()
		total := 1
		for w, n := range acknowledged {
			total += n
			if n < 10 {
				t.Errorf("writer %d: %d acknowledged: the test shows nothing", w, n)
			}
		}
		l := c.leader()
		l.must("last")
		if got := len(l.fsm.all()); got != total+1 {
			t.Errorf("%d lines, %d were acknowledged", got, total+1)
		}
	})
}
