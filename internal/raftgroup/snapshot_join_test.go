package raftgroup

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/sutra-grid/sutra-grid/transport"
)

// A leader is cut off with an uncommitted tail. The others go on, and snapshot at an index within the tail, at its last
// entry, or behind it; slowly, so that their log begins right behind the snapshot when the old leader comes back. It has to
// give up its tail, take the snapshot once and go on with the log (raft #697).
func TestSnapshotWithinADeposedLeadersTail(t *testing.T) {
	for extra := range maxInFlight {
		t.Run(fmt.Sprint(extra), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { snapshotWithinTail(t, extra) })
		})
	}
}

func snapshotWithinTail(t *testing.T, extra int) {
	c := newCluster(t, transport.NewMemory(), 3)
	for _, n := range c.nodes {
		n.tune = func(c *Config) { c.TrailingLogs = maxOutstanding + 1 }
	}
	c.start()
	defer c.stop()
	old := c.leader()
	committed := old.must("a").Index
	tail := leaveTail(c, old)
	if n := tail - committed; n > maxOutstanding {
		t.Fatalf("a leader without a quorum holds %d entries, more than %d", n, maxOutstanding)
	}
	l := c.leader(old)
	want := []string{"a"}
	add := func(n int) {
		for range n {
			line := fmt.Sprint(len(want))
			l.must(line)
			want = append(want, line)
		}
	}
	add(1 + extra)
	at := l.group.Applied()
	t.Logf("committed %d, tail to %d, snapshot at %d", committed, tail, at)
	l.fsm.gate = make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := l.group.Snapshot(); err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	add(40)
	close(l.fsm.gate)
	wg.Wait()
	if first, err := l.group.stores.log.FirstIndex(); err != nil || first != at+1 {
		t.Fatalf("the leader's log begins at %d (%v), want %d", first, err, at+1)
	}
	c.wire.isolate(old.owner, false)
	r := c.leader(old).must("z")
	old.wait(r.Index)
	old.wantLines(append(want, "z")...)
	if old.fsm.restores != 1 {
		t.Fatalf("%d snapshots installed, want 1", old.fsm.restores)
	}
	sameLogs(t, old, l)
}

// sameLogs checks that two replicas have the same entry wherever both have one: what a deposed leader wrote is gone, also
// from below the snapshot, where it could be sent to others one day.
func sameLogs(t *testing.T, a, b *node) {
	t.Helper()
	index := func(f func() (uint64, error)) uint64 {
		i, err := f()
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	x, y := a.group.stores.log, b.group.stores.log
	for i := index(x.FirstIndex); i <= index(x.LastIndex); i++ {
		var l, m raft.Log
		if err := x.GetLog(i, &l); err != nil {
			t.Fatalf("%s: entry %d: %v", a.owner, i, err)
		}
		if err := y.GetLog(i, &m); err != nil || m.Term != l.Term {
			t.Fatalf("entry %d is of term %d at %s, of term %d at %s (%v)", i, l.Term, a.owner, m.Term, b.owner, err)
		}
	}
}

// leaveTail isolates a leader with as many uncommitted entries as it can have, and returns the last one's index.
func leaveTail(c *cluster, old *node) uint64 {
	c.t.Helper()
	c.wire.isolate(old.owner, true)
	var wg sync.WaitGroup
	for range 3 * maxInFlight {
		synctest.Wait() // an entry each, as long as there may be another
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			if _, err := old.group.Propose(ctx, []byte("lost")); err == nil {
				c.t.Error("a leader without a quorum acknowledged")
			}
		})
	}
	wg.Wait()
	return old.group.raft.LastIndex()
}

// A follower whose log begins right behind a snapshot takes what follows the snapshot, also when it is sent again because
// an answer was lost, and after a restart; and nothing that follows something else.
func TestFollowerComparesWithItsSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3).start()
		defer c.stop()
		l := c.leader()
		f := c.others(l)[0]
		f.stop()
		for i := range 200 {
			l.must(fmt.Sprint(i))
		}
		if err := l.group.Snapshot(); err != nil {
			t.Fatal(err)
		}
		f.start()
		f.wait(l.group.Applied())
		f.wait(l.must("behind").Index)
		synctest.Wait()
		for _, n := range c.others(f) {
			n.stop()
		}
		for range 2 {
			end := f.group.stores.log.covered
			first, err := f.group.stores.log.FirstIndex()
			if err != nil || first != end.index+1 {
				t.Fatalf("the log begins at %d (%v), the snapshot ends at %d: the test proves nothing", first, err, end.index)
			}
			if !f.asked(l, position{end.index, end.term}) {
				t.Fatal("refused what follows its snapshot")
			}
			if f.asked(l, position{end.index, end.term + 1}) || f.asked(l, position{end.index - 1, end.term}) {
				t.Fatal("took what does not follow its snapshot")
			}
			f.stop()
			f.start()
		}
	})
}

// asked sends a follower an AppendEntries of a leader, with nothing in it, and returns whether it agrees about p.
func (n *node) asked(leader *node, p position) bool {
	n.c.t.Helper()
	answer := make(chan raft.RPCResponse, 1)
	header := raft.RPCHeader{ProtocolVersion: 3, ID: []byte(leader.id), Addr: []byte(leader.id)}
	rpc := raft.RPC{RespChan: answer, Command: &raft.AppendEntriesRequest{
		RPCHeader: header, Term: n.group.raft.CurrentTerm(), PrevLogEntry: p.index, PrevLogTerm: p.term,
	}}
	n.group.peers.toMainLoop(n.group.peers.joinedToSnapshot(rpc))
	r := <-answer
	if r.Error != nil {
		n.c.t.Fatal(r.Error)
	}
	return r.Response.(*raft.AppendEntriesResponse).Success
}

// A follower's own snapshot is still being written while the leader's, of a later entry, is installed. The older one is
// given up: raft would take it for the newest, and the log has a gap that only the newer one covers.
func TestOwnSnapshotBehindAnInstalledOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3).start()
		defer c.stop()
		l := c.leader()
		f := c.others(l)[0]
		f.wait(l.must("a").Index)
		f.fsm.gate = make(chan struct{})
		own := make(chan error, 1)
		go func() { own <- f.group.Snapshot() }()
		synctest.Wait()

		c.wire.isolate(f.owner, true)
		l = c.leader(f)
		for i := range 200 {
			l.must(fmt.Sprint(i))
		}
		if err := l.group.Snapshot(); err != nil {
			t.Fatal(err)
		}
		c.wire.isolate(f.owner, false)
		f.wait(l.group.Applied())
		if f.fsm.restores != 1 {
			t.Fatalf("%d snapshots installed, want 1: the test proves nothing", f.fsm.restores)
		}
		installed := f.group.stores.log.covered
		close(f.fsm.gate)
		if err := <-own; err == nil || !strings.Contains(err.Error(), errSuperseded.Error()) {
			t.Errorf("the older snapshot ended with %v", err)
		}
		if now := f.group.stores.log.covered; now != installed {
			t.Errorf("the log is covered up to %v, and was up to %v", now, installed)
		}
		r := l.must("z")
		f.wait(r.Index)
		sameLogs(t, f, l)
	})
}
