package transport

import "github.com/sutra-grid/sutra-grid/fsm/event"

// The members of shards' groups, spoken on a master's grid port.
type (
	// AssignReplica asks for one change of a shard's members (safety S14); answered when it is on record. The group's leader
	// brings it about.
	AssignReplica struct {
		ShardID   event.ShardID   `wire:"shard_id"`
		NodeID    event.NodeID    `wire:"node_id"`
		Role      string          `wire:"role"`              // event.RoleLearner: a new replica; RoleLeaving: it goes; RoleVoter: it was to go, and stays
		Replaces  event.NodeID    `wire:"replaces,optional"` // of a new replica: whose leaves once it votes
		RequestID event.RequestID `wire:"request_id,optional"`
		Issued    int64           `wire:"issued,optional"`
	}
	// AssignReplicaOk answers AssignReplica; also when the change was under way already.
	AssignReplicaOk struct {
		ReplicaID event.ReplicaID `wire:"replica_id" json:"replica_id"`
		Seq       uint64          `wire:"seq" json:"seq"` // of the event; 0: it is as was asked for
	}
)
