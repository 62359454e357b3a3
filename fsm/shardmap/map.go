// Package shardmap holds the shard map and all shard arithmetic: which shard owns an id, and who holds a shard.
//
//	id -> murmur3 -> slot -> shard -> replicas -> leader's endpoint
//
// A Map is a value that is replaced, never changed, so readers need no lock. A map is a hint: the owner of an id is a fact
// in its group's state, and who asks the wrong one is refused with WrongShard (safety S6).
//
// Invariants: the route of an id depends on the map alone; shards are ordered by number; base never changes.
// It imports nothing of ours but event, and neither clock, network nor file packages.
package shardmap

import "github.com/sutra-grid/sutra-grid/fsm/event"

// Replica states and shard states as they appear in the map.
const (
	Forming = "forming" // voters fixed, no leader has reported yet
	Formed  = "formed"  // from now on an empty replica joins as a learner only

	Voter   = "voter"
	Learner = "learner"
)

// StrategyHash places an id by murmur3 of its bytes.
const StrategyHash = "hash"

// MaxShards bounds the number of shards: their ids have to fit one answer, and one event each.
const MaxShards = 1023

// Map is the placement of all shards at one epoch.
type Map struct {
	Epoch    event.Position `wire:"epoch"` // seq of its last change
	Strategy string         `wire:"strategy"`
	Base     uint32         `wire:"base"` // number of shards at creation, for ever (safety S21); 0: no map yet
	Replicas uint32         `wire:"replicas"`
	Shards   []Shard        `wire:"shards"` // ordered by number: shard-0, shard-1, …
}

// Shard is one replica group.
type Shard struct {
	ID       event.ShardID `wire:"shard_id"`
	State    string        `wire:"state"`  // Forming or Formed
	Leader   event.NodeID  `wire:"leader"` // empty: none reported yet
	Term     uint64        `wire:"term"`
	Replicas []Replica     `wire:"replicas"` // voters, the preferred leader first, then the learner
	// Configuration is the entry of the group's log whose membership was last reported; 0: it is still that of its creation.
	Configuration uint64 `wire:"configuration,optional"`
}

// Replica is one member of a group.
type Replica struct {
	ReplicaID event.ReplicaID `wire:"replica_id"`
	NodeID    event.NodeID    `wire:"node_id"`
	AgentID   event.AgentID   `wire:"agent_id"`
	Endpoint  string          `wire:"endpoint"`         // host:port of the node, as last reported
	Role      string          `wire:"role"`             // Voter or Learner
	Leaving   bool            `wire:"leaving,optional"` // its group is asked to remove it
}
