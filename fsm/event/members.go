package event

import "fmt"

// The roles that ReplicaAssigned gives.
const (
	RoleLearner = "learner" // a new replica: it joins the group, and votes when it has caught up
	RoleLeaving = "leaving" // it leaves the group
	RoleVoter   = "voter"   // it was to leave, and stays
)

// ReplicaAssigned asks for one change of a shard's group (safety S14). The group's leader brings it about and reports each
// step with ReplicaPromoted and ReplicaRemoved.
type ReplicaAssigned struct {
	ShardID   ShardID   `wire:"shard_id"`
	NodeID    NodeID    `wire:"node_id"`
	Role      string    `wire:"role"`       // RoleLearner, RoleLeaving or RoleVoter
	ReplicaID ReplicaID `wire:"replica_id"` // with its store id (safety S1); of a learner one that was never used
	Replaces  ReplicaID `wire:"replaces"`   // of a learner: the voter that leaves once the learner votes; empty: nobody
}

// Type is TypeReplicaAssigned.
func (ReplicaAssigned) Type() Type { return TypeReplicaAssigned }

func describeReplicaAssigned(e ReplicaAssigned) string {
	switch {
	case e.Role == RoleLearner && e.Replaces != "":
		return fmt.Sprintf("%s gets a replica of %s, which replaces that of %s", e.NodeID, e.ShardID, e.Replaces.Owner())
	case e.Role == RoleLearner:
		return fmt.Sprintf("%s gets a replica of %s", e.NodeID, e.ShardID)
	case e.Role == RoleLeaving:
		return fmt.Sprintf("the replica of %s on %s is to leave", e.ShardID, e.NodeID)
	}
	return fmt.Sprintf("the replica of %s on %s is to stay", e.ShardID, e.NodeID)
}

// ReplicaPromoted: the group has committed a configuration in which the replica votes.
type ReplicaPromoted struct {
	ShardID       ShardID   `wire:"shard_id"`
	NodeID        NodeID    `wire:"node_id"`
	ReplicaID     ReplicaID `wire:"replica_id"`
	Configuration uint64    `wire:"configuration"` // the group's entry that holds it
}

// Type is TypeReplicaPromoted.
func (ReplicaPromoted) Type() Type { return TypeReplicaPromoted }

func describeReplicaPromoted(e ReplicaPromoted) string {
	return fmt.Sprintf("the replica of %s on %s votes", e.ShardID, e.NodeID)
}

// ReplicaRemoved: the group has committed a configuration without the replica.
type ReplicaRemoved struct {
	ShardID       ShardID   `wire:"shard_id"`
	NodeID        NodeID    `wire:"node_id"`
	Reason        string    `wire:"reason"`
	ReplicaID     ReplicaID `wire:"replica_id"`
	Configuration uint64    `wire:"configuration"` // the group's entry that no longer holds it
}

// Type is TypeReplicaRemoved.
func (ReplicaRemoved) Type() Type { return TypeReplicaRemoved }

func describeReplicaRemoved(e ReplicaRemoved) string {
	return fmt.Sprintf("the replica of %s on %s is removed: %s", e.ShardID, e.NodeID, e.Reason)
}
