package storagenode

import (
	"errors"
	"os"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
)

// TestOrphanIsKeptOnTheWordOfAMap: a map that does not name a replica is no reason to delete it while its group has it.
func TestOrphanIsKeptOnTheWordOfAMap(t *testing.T) {
	c := newCluster(t, 3, 1, nil)
	const shard = event.ShardID("shard-0")
	leader, _ := c.leader(shard, 0)
	victim := event.NodeID("node-1")
	if leader == victim {
		victim = "node-2"
	}
	var hidden shardmap.Replica
	c.master.change(func(m *shardmap.Map) { // as nobody may say it
		s := &m.Shards[0]
		for i, r := range s.Replicas {
			if r.NodeID == victim {
				hidden = r
				s.Replicas = append(s.Replicas[:i:i], s.Replicas[i+1:]...)
				break
			}
		}
	})
	n := c.nodes[victim]
	e, _ := n.replicas.made.lookup(shard)
	if err := n.confirmRemoved(t.Context(), e); err == nil {
		t.Fatal("a member of the group was taken for removed")
	}
	if there, err := datadir.Exists(n.shardDir(shard)); err != nil || !there {
		t.Errorf("its directory: %v, %v", there, err)
	}
	c.master.change(func(m *shardmap.Map) { m.Shards[0].Replicas = append(m.Shards[0].Replicas, hidden) })
	if err := n.confirmRemoved(t.Context(), e); err == nil || err.Error() != "the masters' map names it" {
		t.Errorf("named again: %v", err)
	}
}

// TestDropGoesOnAfterACrash: a crash between the steps of a deletion leaves nothing that is taken for a lost disk.
func TestDropGoesOnAfterACrash(t *testing.T) {
	for _, left := range []string{"all", "part", "nothing"} {
		t.Run(left, func(t *testing.T) {
			c := newCluster(t, 1, 2, nil)
			n := c.nodes["node-1"]
			e, _ := n.replicas.made.lookup("shard-1")
			dir, made := n.shardDir("shard-1"), n.replicas.made
			c.stop("node-1")
			e.Removed = true
			if err := made.with(e).save(c.config("node-1", false).Data); err != nil {
				t.Fatal(err)
			}
			remove := map[string]string{"part": dir + "/raft", "nothing": dir}[left]
			if remove != "" {
				if err := os.RemoveAll(remove); err != nil {
					t.Fatal(err)
				}
			}
			n = c.start("node-1", false)
			if kept, _ := n.replicas.made.lookup("shard-1"); !kept.Removed || kept.ReplicaID != e.ReplicaID {
				t.Errorf("the manifest has %+v", kept)
			}
			if err := n.reconcile(n.maps.current()); err != nil { // with the map of before
				t.Error(err)
			}
			if there, err := datadir.Exists(dir); err != nil || there {
				t.Errorf("its directory: %v, %v", there, err)
			}
			if len(n.replicas.all()) != 1 {
				t.Errorf("%d replicas are open, want shard-0's", len(n.replicas.all()))
			}
		})
	}
}

// TestAnotherReplicaOfADeletedOnesShard: a node that had a replica of a shard gets another. As long as that one's state is being fetched there
// is nothing to open, least of all what was deleted.
func TestAnotherReplicaOfADeletedOnesShard(t *testing.T) {
	c := newCatchUp(t)
	n := c.nodes["node-2"]
	gone := manifestEntry{ShardID: joinedShard, ReplicaID: replicaID("node-2", 76), Removed: true}
	if err := n.replicas.record(n.dir.Path(), n.replicas.made.with(gone)); err != nil {
		t.Fatal(err)
	}
	open := action{openReplica, c.a}
	if err := errors.Join(n.do(open), n.replicas.refusals()); err != nil || len(n.replicas.all()) > 0 {
		t.Fatalf("%d replicas are open before it is made; %v", len(n.replicas.all()), err)
	}
	if err := errors.Join(n.makeReplica(c.a), n.do(open), n.replicas.refusals()); err != nil {
		t.Fatal(err)
	}
	if all := n.replicas.all(); len(all) != 1 || all[0].id != c.a.replica {
		t.Errorf("%d replicas are open", len(all))
	}
}
