package storagenode

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
)

func replicaID(node string, n int) event.ReplicaID {
	return event.NewReplicaID(node, fmt.Sprintf("%032x", n))
}

// testMap gives each of shards one replica on every node; replica ids are numbered from shard and node.
func testMap(state string, shards int, nodes ...string) *shardmap.Map {
	m := &shardmap.Map{Epoch: event.Position{N: 1, Seq: 7}, Strategy: "hash", Base: uint32(shards), Replicas: uint32(len(nodes))}
	for s := range shards {
		shard := shardmap.Shard{ID: shardmap.ID(uint64(s)), State: state}
		for i, node := range nodes {
			shard.Replicas = append(shard.Replicas, shardmap.Replica{
				ReplicaID: replicaID(node, 100*s+i), NodeID: event.NodeID(node), Role: shardmap.Voter,
			})
		}
		m.Shards = append(m.Shards, shard)
	}
	return m
}

func describe(actions []action, faults []error) string {
	var b strings.Builder
	for _, a := range actions {
		verb := "open"
		switch a.verb {
		case makeReplica:
			verb = fmt.Sprintf("make(%d voters)", len(a.assignment.voters))
		case dropReplica:
			verb = "drop"
		}
		fmt.Fprintf(&b, "%s %s %s\n", verb, a.assignment.shard, a.assignment.replica.StoreID()[29:])
	}
	for _, err := range faults {
		fmt.Fprintf(&b, "fault: %s\n", err)
	}
	return b.String()
}

func TestPlan(t *testing.T) {
	made := func(numbers ...int) *manifest {
		m := &manifest{}
		for _, n := range numbers {
			m = m.with(manifestEntry{ShardID: shardmap.ID(uint64(n / 100)), ReplicaID: replicaID("node-2", n)})
		}
		return m
	}
	open := func(ids ...event.ShardID) map[event.ShardID]holding {
		h := map[event.ShardID]holding{}
		for _, id := range ids {
			h[id] = holding{open: true}
		}
		return h
	}
	nodes := []string{"node-1", "node-2", "node-3"}
	elsewhere := testMap(shardmap.Formed, 1, "node-1")
	evil := testMap(shardmap.Forming, 1, "node-2")
	evil.Shards[0].ID = "../shard-0"
	learner := testMap(shardmap.Formed, 1, "node-2")
	learner.Shards[0].Replicas[0].Role = shardmap.Learner
	unwanted := testMap(shardmap.Formed, 1, "node-2")
	unwanted.Shards[0].Replicas[0].Role, unwanted.Shards[0].Replicas[0].Leaving = shardmap.Learner, true
	changed := testMap(shardmap.Formed, 1, nodes...)
	changed.Shards[0].Configuration = 17
	removed := made(2)
	removed.Replicas[0].Removed = true
	short := testMap(shardmap.Forming, 1, "node-2")
	short.Shards[0].Replicas[0].ReplicaID = "node-2.abc"
	for _, c := range []struct {
		name string
		m    *shardmap.Map
		held map[event.ShardID]holding
		made *manifest
		want string
	}{
		{"nothing yet", &shardmap.Map{}, nil, made(), ""},
		{"a new group", testMap(shardmap.Forming, 2, nodes...), nil, made(),
			"make(3 voters) shard-0 001\nopen shard-0 001\nmake(3 voters) shard-1 065\nopen shard-1 065\n"},
		{"a first voter that comes late", testMap(shardmap.Formed, 1, nodes...), nil, made(), "make(3 voters) shard-0 001\nopen shard-0 001\n"},
		{"a learner", learner, nil, made(), "make(0 voters) shard-0 000\nopen shard-0 000\n"},
		{"a learner that is not wanted any more", unwanted, nil, made(), ""},
		{"a first voter that comes when the members have changed", changed, nil, made(), "make(0 voters) shard-0 001\nopen shard-0 001\n"},
		{"removed for certain", elsewhere, map[event.ShardID]holding{"shard-0": {open: true, gone: true}}, made(1), "drop shard-0 001\n"},
		{"refused, and removed for certain", elsewhere, map[event.ShardID]holding{"shard-0": {refused: errors.New("gone"), gone: true}}, made(1), "drop shard-0 001\n"},
		{"deleted", elsewhere, map[event.ShardID]holding{"shard-0": {gone: true, deleted: true}}, removed, ""},
		{"deleted, and an old map names it", testMap(shardmap.Formed, 1, nodes...), map[event.ShardID]holding{"shard-0": {gone: true, deleted: true}}, func() *manifest {
			m := made(1)
			m.Replicas[0].Removed = true
			return m
		}(), ""},
		{"deleted in part", elsewhere, nil, removed, "drop shard-0 002\n"},
		{"removed, and here again as another", changed, nil, removed, "drop shard-0 002\nmake(0 voters) shard-0 001\nopen shard-0 001\n"},
		{"made, to be opened", testMap(shardmap.Formed, 1, nodes...), nil, made(1), "open shard-0 001\n"},
		{"all open", testMap(shardmap.Formed, 2, nodes...), open("shard-0", "shard-1"), made(1, 101), ""},
		{"refused stays refused", testMap(shardmap.Formed, 1, nodes...), map[event.ShardID]holding{"shard-0": {refused: errors.New("gone")}}, made(1), ""},
		{"not in the map, opened all the same", elsewhere, nil, made(1), "open shard-0 001\n"},
		{"another replica id than the one held", testMap(shardmap.Forming, 1, nodes...), open("shard-0"), made(2),
			"fault: the map gives this node node-2.00000000000000000000000000000001 of shard-0, the directory holds node-2.00000000000000000000000000000002\n"},
		{"a shard id that leaves the directory", evil, nil, made(), "fault: shard id \"../shard-0\": not a name for a directory\n"},
		{"a replica id without a store", short, nil, made(), "fault: replica id \"node-2.abc\": want <node>.<32 hexadecimal digits>\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := describe(plan(c.m, "node-2", c.held, c.made)); got != c.want {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
		})
	}
}

func TestManifest(t *testing.T) {
	dir := t.TempDir()
	if _, err := loadManifest(dir); err == nil || !strings.Contains(err.Error(), "is missing") {
		t.Errorf("a missing manifest: %v", err)
	}
	m := (&manifest{}).with(manifestEntry{ShardID: "shard-1", ReplicaID: replicaID("node-1", 1)}).with(manifestEntry{ShardID: "shard-0", ReplicaID: replicaID("node-1", 0)})
	if err := m.save(dir); err != nil {
		t.Fatal(err)
	}
	got, err := loadManifest(dir)
	if err != nil || len(got.Replicas) != 2 || got.Replicas[0].ShardID != "shard-0" {
		t.Fatalf("read back %v, %v", got, err)
	}
	for name, text := range map[string]string{
		"cut":       `{"replicas":[`,
		"no list":   `{}`,
		"twice":     `{"replicas":[{"shard_id":"shard-0","replica_id":"n.00000000000000000000000000000000"},{"shard_id":"shard-0","replica_id":"n.00000000000000000000000000000000"}]}`,
		"bad id":    `{"replicas":[{"shard_id":"shard-0","replica_id":"n"}]}`,
		"bad shard": `{"replicas":[{"shard_id":"..","replica_id":"n.00000000000000000000000000000000"}]}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, manifestFile), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := loadManifest(dir); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
