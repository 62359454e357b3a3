package raftgroup

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// join makes a replica that joins and starts it.
func (c *cluster) join(owner string) *node {
	c.t.Helper()
	n := c.made(owner, strings.Repeat("d", 32))
	n.start()
	return n
}

// made makes the stores of a replica that joins.
func (c *cluster) made(owner, store string) *node {
	c.t.Helper()
	root := filepath.Join(filepath.Dir(filepath.Dir(filepath.Dir(c.nodes[0].dir))), owner)
	n := &node{c: c, owner: owner, id: event.NewReplicaID(owner, store), dir: filepath.Join(root, "raft"), fsm: &journal{}, tune: c.nodes[0].tune}
	if err := os.MkdirAll(root, 0o755); err != nil {
		c.t.Fatal(err)
	}
	if err := Create(n.dir, CreateConfig{GroupID: testGroup, LocalID: n.id, Join: true, SegmentBytes: 1 << 20}); err != nil {
		c.t.Fatal(err)
	}
	c.nodes = append(c.nodes, n)
	return n
}

// added makes id a learner at the leader n and returns the configuration's index.
func (n *node) added(id event.ReplicaID) uint64 {
	n.c.t.Helper()
	prev, _ := n.group.Configuration()
	index, err := n.group.AddLearner(context.Background(), id, prev)
	if err != nil {
		n.c.t.Fatal(err)
	}
	if now, peers := n.group.Configuration(); now != index || find(peers, id).Suffrage != Learner {
		n.c.t.Fatalf("configuration %d %+v, want %s as a learner in %d", now, peers, id, index)
	}
	return index
}

func (n *node) wantSuffrage(id event.ReplicaID, want Suffrage) {
	n.c.t.Helper()
	if _, peers := n.group.Configuration(); find(peers, id).Suffrage != want {
		n.c.t.Fatalf("%s sees %+v, want %s as %q", n.owner, peers, id, want)
	}
}

// A replica is added, catches up by the log, gets a vote after five seconds, leads, and outlives the first three's loss of
// a member; every replica agrees about the configuration and its index, also after a restart.
func TestLearnerJoinsAndIsPromoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3).start()
		defer c.stop()
		l := c.leader()
		l.must("a", "b")
		d := c.join("node-4")
		at := l.added(d.id)
		r := l.must("c")
		d.wait(r.Index)
		d.wantLines("a", "b", "c")
		ctx := context.Background()
		if _, err := l.group.Promote(ctx, d.id, at); kindOf(err) != event.KindRefused || !strings.Contains(err.Error(), "within 100 entries for 5s, it has for") {
			t.Fatalf("promoted at once: %v", err)
		}
		time.Sleep(nearFor - 100*time.Millisecond)
		if _, err := l.group.Promote(ctx, d.id, at); kindOf(err) != event.KindRefused {
			t.Fatalf("promoted early: %v", err)
		}
		time.Sleep(200 * time.Millisecond)
		index, err := l.group.Promote(ctx, d.id, at)
		if err != nil {
			t.Fatal(err)
		}
		l.wantSuffrage(d.id, Voter)
		for _, n := range c.nodes {
			n.wait(index)
			if got, peers := n.group.Configuration(); got != index || len(peers) != 4 {
				t.Fatalf("%s: configuration %d %+v, want %d", n.owner, got, peers, index)
			}
		}
		for _, s := range l.group.raft.GetConfiguration().Configuration().Servers {
			if string(s.ID) != string(s.Address) {
				t.Fatalf("%+v: an address that is not the id", s)
			}
		}
		if err := l.group.TransferTo(ctx, d.id); err != nil {
			t.Fatal(err)
		}
		if got := c.leader(l); got != d {
			t.Fatalf("%s leads, want %s", got.owner, d.owner)
		}
		d.must("d")
		d.stop()
		d.start()
		d.wait(c.leader().must("e").Index)
		d.wantLines("a", "b", "c", "d", "e")
		if got, _ := d.group.Configuration(); got != index {
			t.Fatalf("after a restart the configuration is of %d, want %d", got, index)
		}
	})
}

// Over real connections, by a snapshot: the log that the learner would need is gone. It knows the configuration from the
// snapshot, now and after a restart.
func TestLearnerJoinsBySnapshot(t *testing.T) {
	c := newCluster(t, transport.TCP(), 3).start()
	defer c.stop()
	l := c.leader()
	d := c.made("node-4", strings.Repeat("d", 32))
	at := l.added(d.id)
	for i := range 100 {
		l.must(fmt.Sprint(i))
	}
	if err := l.group.Snapshot(); err != nil {
		t.Fatal(err)
	}
	d.start()
	r := l.must("end")
	d.wait(r.Index)
	if d.fsm.restores != 1 {
		t.Fatalf("%d restores, want 1", d.fsm.restores)
	}
	for range 2 {
		if got, peers := d.group.Configuration(); got != at || find(peers, d.id).Suffrage != Learner || len(peers) != 4 {
			t.Fatalf("configuration %d %+v, want %d", got, peers, at)
		}
		d.stop()
		d.start()
	}
}

// A replica that joins waits: it stands for no election and votes for nobody before it has a configuration, and as often
// as it is restarted. Once it held an entry, an empty log is a disk that was emptied.
func TestJoiningReplicaWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3).start()
		defer c.stop()
		l := c.leader()
		d := c.join("node-4")
		for range 2 {
			time.Sleep(time.Minute) // virtual
			if _, term, ok := d.group.Leader(); ok || term != 0 {
				t.Fatalf("it is in term %d", term)
			}
			if index, peers := d.group.Configuration(); index != 0 || peers != nil {
				t.Fatalf("configuration %d %+v", index, peers)
			}
			d.refusesElections(l)
			d.stop()
			d.start()
		}
		l.added(d.id)
		r := l.must("a")
		d.wait(r.Index)
		if d.group.stores.stable.joining.Load() {
			t.Fatal("it still may start with an empty log")
		}
		time.Sleep(time.Minute)
		if err := l.sendTimeoutNow(d); err == nil || !strings.Contains(err.Error(), "no voter") {
			t.Fatalf("a learner stood for election: %v", err)
		}
		d.stop()
		emptyLog(t, d)
		if err := d.tryStart(); err == nil || !strings.Contains(err.Error(), "the disk was emptied") {
			t.Fatalf("a replica that lost its log started: %v", err)
		}
	})
}

// refusesElections asks for a vote, a pre-vote and a candidacy, as another replica could.
func (n *node) refusesElections(from *node) {
	n.c.t.Helper()
	p := from.group.peers
	id, addr := raft.ServerID(n.id), raft.ServerAddress(n.id)
	header := raft.RPCHeader{ProtocolVersion: 3, ID: []byte(from.id), Addr: []byte(from.id)}
	var vote raft.RequestVoteResponse
	if err := p.RequestVote(id, addr, &raft.RequestVoteRequest{RPCHeader: header, Term: 9, LastLogIndex: 9, LastLogTerm: 9}, &vote); err == nil || vote.Granted {
		n.c.t.Fatalf("it voted: %v %+v", err, vote)
	}
	var pre raft.RequestPreVoteResponse
	if err := p.RequestPreVote(id, addr, &raft.RequestPreVoteRequest{RPCHeader: header, Term: 9, LastLogIndex: 9, LastLogTerm: 9}, &pre); err == nil || pre.Granted {
		n.c.t.Fatalf("it would vote: %v %+v", err, pre)
	}
	if err := from.sendTimeoutNow(n); err == nil {
		n.c.t.Fatal("it stands for election")
	}
}

func (n *node) sendTimeoutNow(to *node) error {
	header := raft.RPCHeader{ProtocolVersion: 3, ID: []byte(n.id), Addr: []byte(n.id)}
	return n.group.peers.TimeoutNow(raft.ServerID(to.id), raft.ServerAddress(to.id), &raft.TimeoutNowRequest{RPCHeader: header}, &raft.TimeoutNowResponse{})
}

// emptyLog replaces a replica's log by a fresh one, as a file system that lost it might.
func emptyLog(t *testing.T, n *node) {
	t.Helper()
	other := filepath.Join(t.TempDir(), "other")
	if err := Create(other, CreateConfig{GroupID: testGroup, LocalID: n.id, Join: true, SegmentBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(n.dir, walDir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(other, walDir), filepath.Join(n.dir, walDir)); err != nil {
		t.Fatal(err)
	}
}

// The leave to begin with an empty log ends when the first entry is durable and before it is acknowledged; a crash in
// between leaves it to the next start.
func TestJoiningEndsWithTheFirstEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 1).start()
		defer c.stop()
		c.leader()
		d := c.made("node-2", strings.Repeat("e", 32))
		open := func() *stores {
			s, err := openStores(d.dir, storeConfig{group: testGroup, segmentBytes: 1 << 20, latch: newLatch(nil), log: newRaftLog(discard())})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		s := open()
		s.log.began = func() error { return os.ErrClosed } // the crash
		if err := s.log.StoreLog(&raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(raft.Configuration{})}); err == nil {
			t.Fatal("acknowledged before the mark was durable")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s = open(); !s.stable.joining.Load() {
			t.Fatal("the mark is gone: the test proves nothing")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		d.start()
		if d.group.stores.stable.joining.Load() {
			t.Fatal("the next start did not end it")
		}
	})
}

// What the caller saw must be what is there; what is there already is success; nothing is done at another's or for nobody.
func TestMembershipIsCheckedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3).start()
		defer c.stop()
		l := c.leader()
		f := c.others(l)[0]
		prev, _ := l.group.Configuration()
		stranger := event.NewReplicaID("node-9", strings.Repeat("9", 32))
		ctx := context.Background()
		type call = func(context.Context, event.ReplicaID, uint64) (uint64, error)
		for name, tc := range map[string]struct {
			call call
			id   event.ReplicaID
			prev uint64
			kind event.Kind // "": success
		}{
			"no configuration given": {l.group.AddLearner, stranger, 0, event.KindInvalid},
			"promote, none given":    {l.group.Promote, f.id, 0, event.KindInvalid},
			"remove, none given":     {l.group.Remove, f.id, 0, event.KindInvalid},
			"nobody":                 {l.group.AddLearner, "", prev, event.KindInvalid},
			"stale":                  {l.group.AddLearner, stranger, prev + 1, event.KindConflict},
			"stale removal":          {l.group.Remove, f.id, prev + 7, event.KindConflict},
			"at a follower":          {f.group.AddLearner, stranger, prev, event.KindNotLeader},
			"already a member":       {l.group.AddLearner, f.id, prev, ""},
			"already, though stale":  {l.group.AddLearner, f.id, prev + 3, ""},
			"already a voter":        {l.group.Promote, f.id, prev, ""},
			"removed already":        {l.group.Remove, stranger, prev, ""},
			"promote a stranger":     {l.group.Promote, stranger, prev, event.KindNotFound},
			"remove the leader":      {l.group.Remove, l.id, prev, event.KindRefused},
		} {
			index, err := tc.call(ctx, tc.id, tc.prev)
			if kindOf(err) != tc.kind || tc.kind == "" && (err != nil || index != prev) {
				t.Errorf("%s: %d, %v; want kind %q", name, index, err, tc.kind)
			}
			if tc.kind == event.KindConflict && !strings.Contains(err.Error(), fmt.Sprintf("entry %d", prev)) {
				t.Errorf("%s: %v does not name the present index %d", name, err, prev)
			}
		}
		if now, peers := l.group.Configuration(); now != prev || len(peers) != 3 {
			t.Fatalf("something was changed: %d %+v", now, peers)
		}
		for _, id := range []event.ReplicaID{stranger, ""} {
			if err := l.group.TransferTo(ctx, id); kindOf(err) != event.KindRefused {
				t.Errorf("handed over to %q: %v", id, err)
			}
		}
		l.added(stranger)
		if err := l.group.TransferTo(ctx, stranger); kindOf(err) != event.KindRefused || !strings.Contains(err.Error(), "learner") {
			t.Errorf("handed over to a learner: %v", err)
		}
		if err := f.group.TransferTo(ctx, f.id); kindOf(err) != event.KindNotLeader {
			t.Errorf("a follower handed over: %v", err)
		}
		if err := l.group.TransferTo(ctx, l.id); err != nil || !l.group.IsLeader() {
			t.Errorf("to itself: %v", err)
		}
	})
}

// Two callers that saw the same configuration: one change is made.
func TestOneChangeAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3).start()
		defer c.stop()
		l := c.leader()
		prev, _ := l.group.Configuration()
		errs := make(chan error, 2)
		for _, owner := range []string{"node-8", "node-9"} {
			go func() {
				_, err := l.group.AddLearner(context.Background(), event.NewReplicaID(owner, strings.Repeat("9", 32)), prev)
				errs <- err
			}()
		}
		a, b := <-errs, <-errs
		if a != nil {
			a, b = b, a
		}
		if a != nil || kindOf(b) != event.KindConflict {
			t.Fatalf("%v and %v, want one success and one conflict", a, b)
		}
	})
}

// A change without a quorum has no outcome its caller could know; until it has one, no other is taken. What the next leader
// says goes.
func TestChangeWithoutAQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3).start()
		defer c.stop()
		l := c.leader()
		prev, _ := l.group.Configuration()
		x, y := event.NewReplicaID("node-8", strings.Repeat("8", 32)), event.NewReplicaID("node-9", strings.Repeat("9", 32))
		c.wire.isolate(l.owner, true)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		if _, err := l.group.AddLearner(ctx, x, prev); kindOf(err) != event.KindUnknownOutcome {
			t.Fatalf("got %v", err)
		}
		if index, _ := l.group.Configuration(); index != prev {
			t.Fatalf("an uncommitted configuration is shown as %d", index)
		}
		if _, err := l.group.AddLearner(context.Background(), y, prev); kindOf(err) != event.KindNotLeader && kindOf(err) != event.KindUnavailable {
			t.Fatalf("a second change: %v", err)
		}
		next := c.leader(l)
		index := next.added(y)
		c.wire.isolate(l.owner, false)
		l.wait(index)
		l.wantSuffrage(x, "")
		l.wantSuffrage(y, Learner)
	})
}

// A learner that is far behind, or was away within the last five seconds, gets no vote.
func TestPromotionNeedsFiveGoodSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3).start()
		defer c.stop()
		l := c.leader()
		d := c.join("node-4")
		at := l.added(d.id)
		d.wait(l.must("a").Index)
		time.Sleep(nearFor)
		c.wire.isolate(d.owner, true)
		time.Sleep(l.group.cfg.contactWindow() + time.Second)
		refused := func(want string) {
			t.Helper()
			if _, err := l.group.Promote(context.Background(), d.id, at); kindOf(err) != event.KindRefused || !strings.Contains(err.Error(), want) {
				t.Fatalf("got %v, want %q", err, want)
			}
		}
		refused("it has for 0s")
		back := time.Now()
		c.wire.isolate(d.owner, false)
		time.Sleep(time.Second)
		if near := find(l.group.Peers(), d.id).NearSince; near.Before(back) {
			t.Fatalf("its break of %v is not seen: %v", time.Second, near)
		}
		c.wire.isolate(d.owner, true)
		for i := range 2 * nearEntries {
			l.must(fmt.Sprint(i))
		}
		c.wire.isolate(d.owner, false)
		d.wait(l.must("b").Index)
		time.Sleep(nearFor - 500*time.Millisecond)
		refused("it has for 4.")
		time.Sleep(time.Second)
		if _, err := l.group.Promote(context.Background(), d.id, at); err != nil {
			t.Fatal(err)
		}
	})
}

// A voter leaves only if the rest can go on at once: with one of three dead that one may leave, and no other.
func TestRemovalKeepsAQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3).start()
		defer c.stop()
		l := c.leader()
		dead, well := c.others(l)[0], c.others(l)[1]
		dead.stop()
		r := l.must("a")
		well.wait(r.Index)
		time.Sleep(time.Second)
		ctx := context.Background()
		prev, _ := l.group.Configuration()
		_, err := l.group.Remove(ctx, well.id, prev)
		if kindOf(err) != event.KindRefused || !strings.Contains(err.Error(), "of the 2 voters that remain 1 are connected and within 100 entries, 2 are needed") || !strings.Contains(err.Error(), string(dead.id)) {
			t.Fatalf("got %v", err)
		}
		if err := l.group.TransferTo(ctx, dead.id); kindOf(err) != event.KindRefused {
			t.Fatalf("handed over to a dead voter: %v", err)
		}
		index, err := l.group.Remove(ctx, dead.id, prev)
		if err != nil {
			t.Fatal(err)
		}
		l.wantSuffrage(dead.id, "")
		// The one that left comes back: it is silent and disturbs nobody.
		_, term, _ := l.group.Leader()
		dead.start()
		time.Sleep(time.Minute)
		if _, now, _ := l.group.Leader(); now != term || !l.group.IsLeader() || dead.group.IsLeader() {
			t.Fatalf("a removed replica brought term %d, was %d", now, term)
		}
		// Two voters: the other one may go, as the leader can go on alone.
		if index, err = l.group.Remove(ctx, well.id, index); err != nil {
			t.Fatal(err)
		}
		l.must("b")
		if _, err := l.group.Remove(ctx, l.id, index); kindOf(err) != event.KindRefused {
			t.Fatalf("the last voter left: %v", err)
		}
	})
}

// A replica that is removed and added again has to show anew that it is up to date: its disk may be another.
func TestPromotionForgetsAnEarlierMembership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 4).start()
		defer c.stop()
		l := c.leader()
		f := c.others(l)[0]
		ctx := context.Background()
		f.wait(l.must("a").Index)
		time.Sleep(2 * nearFor)
		index, _ := l.group.Configuration()
		index, err := l.group.Remove(ctx, f.id, index)
		if err != nil {
			t.Fatal(err)
		}
		if index, err = l.group.AddLearner(ctx, f.id, index); err != nil {
			t.Fatal(err)
		}
		if _, err := l.group.Promote(ctx, f.id, index); kindOf(err) != "refused" {
			t.Fatalf("promoted by what it held before: %v", err)
		}
		f.wait(l.must("b").Index)
		time.Sleep(nearFor + time.Second)
		if _, err := l.group.Promote(ctx, f.id, index); err != nil {
			t.Fatal(err)
		}
	})
}
