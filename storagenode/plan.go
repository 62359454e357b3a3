package storagenode

import (
	"fmt"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
)

// assignment is a replica that the map gives this node.
type assignment struct {
	shard   event.ShardID
	replica event.ReplicaID
	// voters is the group's first configuration, the same on all of them. A first voter that comes late, when the others
	// have formed the group, begins with it too: that is entry 1 of everybody's log, and its id, given for this one
	// directory and not in the manifest, has never voted (safety S1, S15). Empty for a learner.
	voters []event.ReplicaID
}

// holding is what the node knows of one replica: made (in the manifest), and open or refused.
type holding struct {
	replica event.ReplicaID
	open    bool
	refused error
}

// verb is what to do with a replica.
type verb int

const (
	makeReplica verb = iota // its directory, then the manifest
	openReplica             // its stores, then its raft
)

// action is one idempotent step towards the map.
type action struct {
	verb       verb
	assignment assignment
}

// assignments lists what m gives to node, in the map's order.
func assignments(m *shardmap.Map, node event.NodeID) []assignment {
	var out []assignment
	for _, s := range m.Shards {
		r, ok := s.Replica(node)
		if !ok {
			continue
		}
		a := assignment{shard: s.ID, replica: r.ReplicaID}
		if r.Role == shardmap.Voter {
			a.voters = voters(&s)
		}
		out = append(out, a)
	}
	return out
}

func voters(s *shardmap.Shard) []event.ReplicaID {
	var out []event.ReplicaID
	for _, r := range s.Replicas {
		if r.Role == shardmap.Voter {
			out = append(out, r.ReplicaID)
		}
	}
	return out
}

// plan says what brings the node from what it holds to what the map gives it, and what stands in the way. A replica that
// the map does not name is opened all the same: its group's own configuration says whether it belongs (safety S14).
func plan(m *shardmap.Map, node event.NodeID, held map[event.ShardID]holding, made *manifest) ([]action, []error) {
	var actions []action
	var faults []error
	for _, e := range made.Replicas {
		if h := held[e.ShardID]; !h.open && h.refused == nil {
			actions = append(actions, action{openReplica, assignment{shard: e.ShardID, replica: e.ReplicaID}})
		}
	}
	for _, a := range assignments(m, node) {
		e, ok := made.lookup(a.shard)
		switch {
		case ok && e.ReplicaID == a.replica:
		case ok:
			faults = append(faults, fmt.Errorf("the map gives this node %s of %s, the directory holds %s", a.replica, a.shard, e.ReplicaID))
		case checkShardID(a.shard) != nil:
			faults = append(faults, checkShardID(a.shard))
		case len(a.voters) == 0:
			faults = append(faults, fmt.Errorf("the map makes %s a learner of %s: this version only makes first voters", a.replica, a.shard))
		case checkReplicaID(a.replica) != nil:
			faults = append(faults, checkReplicaID(a.replica))
		default:
			actions = append(actions, action{makeReplica, a}, action{openReplica, a})
		}
	}
	return actions, faults
}
