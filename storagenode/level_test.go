package storagenode

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/transport"
)

// older are the nodes that run the version before.
type older struct {
	mu    sync.Mutex
	nodes map[event.NodeID]bool
}

func (o *older) set(id event.NodeID, is bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.nodes[id] = is
}

func (o *older) tune(cfg *Config) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.nodes[cfg.Grid.NodeID] {
		cfg.Level = releasedLevel
	}
}

// adds is a write that needs level 3, and that is a request of its own each time.
func (c *testCluster) adds() error {
	w := ask("shard-0", &transport.Write{Ops: []transport.Op{conceptOp("a"), {Kind: transport.OpAdd, ID: "a", Key: "n", Number: 1}}})
	rand.Read(w.RequestID[:])
	w.Issued, w.TimeoutMillis = time.Now().UnixMicro(), 5000
	return second(c.route(w))
}

func (c *testCluster) level(shard event.ShardID) uint32 {
	id, _ := c.leader(shard, 0)
	n := c.nodes[id]
	if n == nil {
		return 0 // stopped, and the next one has not said that it leads
	}
	return n.replicas.all()[0].engine.LogLevel()
}

// TestAMixedGroupStaysAtItsLevel: until the last member is new; then it is raised, and stays so, whoever leads.
func TestAMixedGroupStaysAtItsLevel(t *testing.T) {
	versions := &older{nodes: map[event.NodeID]bool{"node-3": true}}
	c := newCluster(t, 3, 1, versions.tune)
	must[transport.LearnConceptOk](t)(c.route(write("shard-0", concept("before"))))
	if e := wantKind(t, c.adds(), event.KindUnsupported); !strings.Contains(e.Message, "log is at level 2") {
		t.Errorf("the refusal is %q", e.Message)
	}
	wantKind(t, second(c.route(ask("shard-0", prepareOf2(transport.OpRead)))), event.KindUnsupported)
	if got := c.level("shard-0"); got != 2 {
		t.Fatalf("level %d with a member of the version before", got)
	}
	leader, term := c.leader("shard-0", 0)
	c.stop("node-3") // one that does not answer is no reason either
	if leader == "node-3" {
		c.leader("shard-0", term)
	}
	if err := c.adds(); err == nil {
		t.Error("taken while a member did not answer")
	}
	versions.set("node-3", false)
	c.start("node-3", false)
	c.until("the level to be raised", func() bool { return c.level("shard-0") == 3 })
	if err := c.adds(); err != nil {
		t.Fatal(err)
	}
	leader, term = c.leader("shard-0", 0)
	c.stop(leader)
	c.leader("shard-0", term) // and it asks in vain, for one is down
	if err := c.adds(); err != nil || c.level("shard-0") != 3 {
		t.Errorf("level %d, %v under the next leader", c.level("shard-0"), err)
	}
	c.start(leader, false)
	c.until("the restarted node to follow", func() bool { return c.nodes[leader].replicas.all()[0].engine.LogLevel() == 3 })
}

func prepareOf2(kind transport.OpKind) *transport.Prepare {
	p := prepareOf(7, 1)
	p.Ops = []transport.Op{{Kind: kind, ID: "a"}}
	return p
}

// TestAnOlderNodeGetsNoReplica of a shard whose log it would not understand.
func TestAnOlderNodeGetsNoReplica(t *testing.T) {
	versions := &older{nodes: map[event.NodeID]bool{"node-2": true}}
	c := newCluster(t, 1, 1, versions.tune)
	if err := c.adds(); err != nil {
		t.Fatal(err)
	}
	n := c.start("node-2", true)
	id := replicaID("node-2", 77)
	c.master.change(func(m *shardmap.Map) {
		s, _ := m.ByID("shard-0")
		s.State = shardmap.Formed
		s.Replicas = append(s.Replicas, shardmap.Replica{ReplicaID: id, NodeID: "node-2", Endpoint: n.Addr(), Role: shardmap.Learner})
	})
	r := c.nodes["node-1"].replicas.all()[0]
	c.until("the map", func() bool { _, err := r.maps.address(id); return err == nil })
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	defer cancel()
	index, peers, err := r.confirmed(ctx)
	if err != nil || len(peers) != 1 {
		t.Fatalf("members %v, %v", peers, err)
	}
	e := wantKind(t, r.take(ctx, memberStep{addLearner, id}, index), event.KindUnsupported)
	if !strings.Contains(e.Message, "is at level 3") || !strings.Contains(e.Message, "supports 2") {
		t.Errorf("the refusal is %q", e.Message)
	}
	if _, peers := r.group.Configuration(); len(peers) != 1 {
		t.Errorf("members %v", peers)
	}
	c.stop("node-2")
	versions.set("node-2", false)
	n = c.start("node-2", false)
	c.master.change(func(m *shardmap.Map) {
		s, _ := m.ByID("shard-0")
		s.Replicas[1].Endpoint = n.Addr()
	})
	c.until("the learner", func() bool { _, peers := r.group.Configuration(); return len(peers) == 2 })
}

func TestLowestLevel(t *testing.T) {
	peers := make([]raftgroup.PeerStatus, 3)
	for i := range peers {
		peers[i].ID = replicaID("node", i)
	}
	for _, c := range []struct {
		levels []uint32
		want   uint32
		blamed int
	}{{[]uint32{4, 4, 4}, 4, -1}, {[]uint32{4, 5, 4}, 4, -1}, {[]uint32{4, 3, 4}, 3, -1}, {[]uint32{4, 3, 2}, 2, 2}, {[]uint32{2, 3, 4}, 2, 0}} {
		got, err := lowest(4, peers, c.levels)
		if got != c.want || (err == nil) != (c.blamed < 0) || (err != nil && !strings.Contains(err.Error(), string(peers[c.blamed].ID))) {
			t.Errorf("%v: %d, %v", c.levels, got, err)
		}
	}
}
