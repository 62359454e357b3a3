package storagenode

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/transport"
)

// TestFiveVoters: a group of five goes on without two, stops without three, and goes on when one of them is back, with all that
// was acknowledged.
func TestFiveVoters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 5, 1, unhurried)
		const shard = event.ShardID("shard-0")
		var ids []string
		store := func(id string) {
			t.Helper()
			must[transport.LearnConceptOk](t)(c.route(write(shard, concept(id))))
			ids = append(ids, id)
		}
		lose := func() (lost event.NodeID) {
			lost, _ = c.leader(shard, 0)
			c.stop(lost)
			return lost
		}
		store("of five")
		lost := []event.NodeID{lose()}
		time.Sleep(time.Minute)
		store("of four")
		lost = append(lost, lose())
		time.Sleep(time.Minute)
		store("of three")
		lost = append(lost, lose())
		time.Sleep(time.Minute)
		for id := range c.nodes {
			_, err := c.send(id, write(shard, concept("of two")))
			if !errors.Is(err, &event.Error{Kind: event.KindNotLeader}) {
				t.Errorf("%s without a quorum: %v", id, err)
			}
			_, err = c.send(id, ask(shard, &transport.GetAllConceptIds{}))
			if !errors.Is(err, &event.Error{Kind: event.KindNotLeader}) {
				t.Errorf("read at %s without a quorum: %v", id, err)
			}
		}
		_, term := c.leader(shard, 0)
		c.start(lost[0], false) // which has missed the most
		c.leader(shard, term)
		store("of three again")
		for _, id := range lost[1:] {
			c.start(id, false)
		}
		time.Sleep(time.Minute)
		store("of five again")
		time.Sleep(10 * time.Second)
		slices.Sort(ids)
		for id := range c.nodes {
			q := ask(shard, &transport.GetAllConceptIds{})
			q.Consistency = stale
			ok, err := c.send(id, q)
			if err != nil {
				t.Fatal(err)
			}
			if got := ok.Reply.Value.(*transport.GetAllConceptIdsOk).ConceptIDs; !slices.Equal(got, ids) {
				t.Errorf("%s has %q, want %q", id, got, ids)
			}
		}
	})
}

// TestAReplicaIsOpenedOnce: LOCK in a replica's own directory refuses who opens it a second time, also past the node's lock.
func TestAReplicaIsOpenedOnce(t *testing.T) {
	c := newCluster(t, 1, 1, nil)
	n := c.nodes["node-1"]
	e, _ := n.replicas.entry("shard-0")
	if r, err := n.openReplica(e); err == nil || !strings.Contains(err.Error(), "in use by process") || !strings.Contains(err.Error(), n.shardDir("shard-0")) {
		t.Errorf("opened again: %v, %v", r, err)
	}
	must[transport.LearnConceptOk](t)(c.route(write("shard-0", concept("a")))) // the first goes on
}

// TestAReplicaThatLeftAnswersNoStaleRead: it is kept while nobody confirms that it is out.
func TestAReplicaThatLeftAnswersNoStaleRead(t *testing.T) {
	c := newCluster(t, 3, 1, nil)
	const shard = event.ShardID("shard-0")
	must[transport.LearnConceptOk](t)(c.route(write(shard, concept("a"))))
	leader, _ := c.leader(shard, 0)
	var left event.NodeID
	c.master.change(func(m *shardmap.Map) {
		s := &m.Shards[0]
		s.Replicas = slices.DeleteFunc(s.Replicas, func(r shardmap.Replica) bool {
			if left == "" && r.NodeID != leader {
				left = r.NodeID
				return true
			}
			return false
		})
	})
	n, epoch := c.nodes[left], c.epoch()
	for limit := time.After(testLimit); n.maps.current().Epoch.Less(epoch); {
		changed := n.maps.Changed()
		if !n.maps.current().Epoch.Less(epoch) {
			break
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatal("the map did not come")
		}
	}
	q := ask(shard, &transport.QueryConcept{ConceptID: "a"})
	q.Consistency = stale
	wantKind(t, second(c.send(left, q)), event.KindWrongShard)
	q.Epoch = event.Position{N: epoch.N, Seq: epoch.Seq + 1000}
	wantKind(t, second(c.send(left, q)), event.KindUnavailable)
	q.Epoch = event.Position{}
	if ok, err := c.send(leader, q); err != nil || !ok.Reply.Value.(*transport.QueryConceptOk).Found {
		t.Error(fmt.Sprint(ok), err)
	}
	if len(n.replicas.all()) != 1 {
		t.Error("the replica is gone: the test shows nothing")
	}
}

func (c *testCluster) epoch() event.Position {
	c.master.mu.Lock()
	defer c.master.mu.Unlock()
	return c.master.state.Map.Epoch
}
