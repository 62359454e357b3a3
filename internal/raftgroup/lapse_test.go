package raftgroup

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/sutra-grid/sutra-grid/transport"
)

// TestFailOverTime: a leader that is cut off, with one follower an entry behind the other, has a successor within 650 ms
// (virtual time), half of the time within 500.
func TestFailOverTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3).start()
		defer c.stop()
		var took []time.Duration
		for round := range 20 {
			l := c.leader()
			behind, ahead := c.others(l)[round%2], c.others(l)[1-round%2]
			for _, n := range c.others(l) {
				n.wait(l.must("even").Index)
			}
			time.Sleep(time.Duration(round) * 37 * time.Millisecond) // somewhere in the followers' random time-outs
			c.wire.link(l.owner, behind.owner, true)
			ahead.wait(l.must("ahead").Index)
			cut := time.Now()
			c.wire.isolate(l.owner, true)
			c.leader(l)
			took = append(took, time.Since(cut))
			c.wire.isolate(l.owner, false)
			c.leader(l).must("next") // who was cut off follows again
			for l.group.IsLeader() {
				<-l.group.LeaderChanged()
			}
		}
		slices.Sort(took)
		t.Logf("%v", took)
		if median, worst := took[len(took)/2], took[len(took)-1]; median > 500*time.Millisecond || worst > 650*time.Millisecond {
			t.Errorf("median %v, worst %v; want at most 500 and 650 ms", median, worst)
		}
	})
}

// TestShortSilence: a leader that is not heard for a moment stays the leader.
func TestShortSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3).start()
		defer c.stop()
		l := c.leader()
		l.wait(l.must("a").Index)
		term := l.group.raft.CurrentTerm()
		for range 50 {
			c.wire.isolate(l.owner, true)
			time.Sleep(90 * time.Millisecond)
			c.wire.isolate(l.owner, false)
			time.Sleep(100 * time.Millisecond)
		}
		if now := l.group.raft.CurrentTerm(); !l.group.IsLeader() || now != term {
			t.Errorf("term %d, leading %v; it led in term %d and was never silent for 200 ms", now, l.group.IsLeader(), term)
		}
	})
}

// TestLeaderIsProtected: a follower that hears its leader lets nobody else be elected.
func TestLeaderIsProtected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3).start()
		defer c.stop()
		l := c.leader()
		from, to := c.others(l)[0], c.others(l)[1]
		last := l.must("a").Index
		to.wait(last)
		from.wait(last)
		term := l.group.raft.CurrentTerm()
		for range 50 {
			time.Sleep(7 * time.Millisecond)
			var resp raft.RequestPreVoteResponse
			if err := from.group.peers.RequestPreVote(raft.ServerID(to.id), raft.ServerAddress(to.id), &raft.RequestPreVoteRequest{
				RPCHeader: header(from), Term: term + 1, LastLogIndex: last + 10, LastLogTerm: term}, &resp); err != nil {
				t.Fatal(err)
			}
			if resp.Granted {
				t.Fatal("it would vote for another one")
			}
		}
	})
}

// link cuts both directions between two owners, or lets them in again.
func (w *wire) link(a, b string, off bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cutLocked(a+">"+b, off)
	w.cutLocked(b+">"+a, off)
}
