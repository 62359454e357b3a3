package main

import (
	"errors"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/transport"
)

// TestReplicaDone: what a map says of a change that was asked for.
func TestReplicaDone(t *testing.T) {
	old := shardmap.Replica{ReplicaID: "node-1.a", NodeID: "node-1", Role: shardmap.Voter}
	leaving := old
	leaving.Leaving = true
	learner := shardmap.Replica{ReplicaID: "node-4.b", NodeID: "node-4", Role: shardmap.Learner}
	voter := learner
	voter.Role = shardmap.Voter
	unwanted := learner
	unwanted.Leaving = true
	add := transport.AssignReplica{ShardID: "shard-0", NodeID: "node-4", Role: event.RoleLearner}
	replace, remove := add, transport.AssignReplica{ShardID: "shard-0", NodeID: "node-1", Role: event.RoleLeaving}
	replace.Replaces = "node-1"
	never := &event.Error{Kind: event.KindConflict}
	for name, c := range map[string]struct {
		req  transport.AssignReplica
		id   event.ReplicaID
		has  []shardmap.Replica
		want error
	}{
		"added, a learner yet":        {add, "node-4.b", []shardmap.Replica{old, learner}, nil},
		"added":                       {add, "node-4.b", []shardmap.Replica{old, voter}, errReplicaDone},
		"added, and taken back":       {add, "node-4.b", []shardmap.Replica{old, unwanted}, never},
		"added, and gone":             {add, "node-4.b", []shardmap.Replica{old}, never},
		"replaced, the old one there": {replace, "node-4.b", []shardmap.Replica{leaving, voter}, nil},
		"replaced":                    {replace, "node-4.b", []shardmap.Replica{voter}, errReplicaDone},
		"replaced, the old one stays": {replace, "node-4.b", []shardmap.Replica{old, voter}, errReplicaDone},
		"leaving":                     {remove, "node-1.a", []shardmap.Replica{leaving, voter}, nil},
		"removed":                     {remove, "node-1.a", []shardmap.Replica{voter}, errReplicaDone},
		"it stays":                    {remove, "node-1.a", []shardmap.Replica{old, voter}, never},
	} {
		m := &shardmap.Map{Base: 1, Shards: []shardmap.Shard{{ID: "shard-0", Replicas: c.has}}}
		if got := replicaDone(m, &c.req, c.id); !errors.Is(got, c.want) || (got == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
