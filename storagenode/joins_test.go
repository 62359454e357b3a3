package storagenode

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
)

// learner puts the joining node's replica into the map.
func (c *catchUpCluster) learner() {
	c.master.change(func(m *shardmap.Map) {
		s, _ := m.ByID(joinedShard)
		s.Replicas = append(s.Replicas, shardmap.Replica{ReplicaID: c.a.replica, NodeID: "node-2", Endpoint: c.nodes["node-2"].Addr(), Role: shardmap.Learner})
	})
}

// until asks until ok; each time is a look at a running node.
func (c *testCluster) until(what string, ok func() bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), testLimit)
	defer cancel()
	for !ok() {
		if pause(ctx, 10*time.Millisecond) != nil {
			c.t.Fatalf("waited %s for %s", testLimit, what)
		}
	}
}

// A learner opens with the state of another replica, which came as files; meanwhile its node is healthy and says what it does.
func TestALearnerBeginsWithFiles(t *testing.T) {
	c := newCatchUp(t)
	n := c.nodes["node-2"]
	c.limit.Store(c.read.Load() + 5<<19) // the first tries end on the way
	c.learner()
	c.until("the first try to be cut off", func() bool { return c.read.Load() > c.limit.Load() })
	if h := n.health(); !h.Healthy || h.Status != catchingUp+string(joinedShard) {
		t.Errorf("meanwhile the node's health is %+v", h)
	}
	c.limit.Store(0)
	c.until("the replica", func() bool { return len(n.replicas.all()) == 1 })
	r := n.replicas.all()[0]
	want, at, err := c.nodes["node-1"].replicas.all()[0].engine.Digest(t.Context())
	got, applied, err2 := r.engine.Digest(t.Context())
	if err != nil || err2 != nil || got != want || applied != at {
		t.Errorf("it opens at entry %d, the source is at %d; equal: %v (%v, %v)", applied, at, got == want, err, err2)
	}
	if _, err := os.Stat(n.fetchDir(joinedShard)); !os.IsNotExist(err) {
		t.Errorf("what was fetched is still there: %v", err)
	}
	if left := n.replicas.joins.shards(); len(left) > 0 {
		t.Errorf("%q are still fetched", left)
	}
}

// A learner that the map takes back while its state is on the way leaves nothing behind.
func TestALearnerThatIsTakenBack(t *testing.T) {
	c := newCatchUp(t)
	n := c.nodes["node-2"]
	c.limit.Store(c.read.Load() + 5<<19)
	c.learner()
	c.until("files", func() bool { _, err := os.Stat(n.fetchDir(joinedShard)); return err == nil })
	c.master.change(func(m *shardmap.Map) {
		s, _ := m.ByID(joinedShard)
		s.Replicas = s.Replicas[:1]
	})
	c.until("the end of it", func() bool {
		_, err := os.Stat(n.fetchDir(joinedShard))
		return os.IsNotExist(err) && len(n.replicas.joins.shards()) == 0
	})
	if len(n.replicas.all()) > 0 {
		t.Error("the replica was made")
	}
}

func TestSources(t *testing.T) {
	m := testMap(shardmap.Formed, 1, "node-1", "node-2", "node-3", "node-4", "node-5")
	s := &m.Shards[0]
	s.Leader = "node-1"
	for i := range s.Replicas {
		s.Replicas[i].Endpoint = fmt.Sprintf("host-%d:1", i+1)
	}
	s.Replicas[3].Role = shardmap.Learner
	s.Replicas[4].Endpoint = "" // not running
	var got []string
	for _, from := range sources(m, assignment{shard: s.ID, replica: s.Replicas[1].ReplicaID}) {
		got = append(got, from.address)
	}
	if want := "host-3:1 host-1:1"; strings.Join(got, " ") != want {
		t.Errorf("sources %q, want %q", got, want)
	}
	if none := sources(m, assignment{shard: event.ShardID("shard-9")}); none != nil {
		t.Errorf("sources of a shard that is not in the map: %v", none)
	}
}
