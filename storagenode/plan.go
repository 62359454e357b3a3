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
	// directory and not in the manifest, has never voted (safety S1, S15). Empty for a learner, and for everybody once the
	// members have changed, when the map no longer says what the first configuration was: they begin with nothing, and
	// the leader sends them the log.
	voters []event.ReplicaID
}

// holding is what the node knows of one replica: made (in the manifest), and open or refused, or gone: its group has removed
// it for certain.
type holding struct {
	replica event.ReplicaID
	open    bool
	refused error
	gone    bool
	deleted bool // by this process, so that nothing is left to do
}

// verb is what to do with a replica.
type verb int

const (
	makeReplica verb = iota // its directory, then the manifest
	openReplica             // its stores, then its raft
	dropReplica             // close it and delete its directory
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
		if r.Role == shardmap.Learner && r.Leaving {
			continue // nobody adds it any more; its group says when it can go
		}
		a := assignment{shard: s.ID, replica: r.ReplicaID}
		if r.Role == shardmap.Voter && s.Configuration == 0 {
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
		h, a := held[e.ShardID], assignment{shard: e.ShardID, replica: e.ReplicaID}
		switch {
		case h.deleted:
		case e.Removed || h.gone:
			actions = append(actions, action{dropReplica, a})
		case !h.open && h.refused == nil:
			actions = append(actions, action{openReplica, a})
		}
	}
	for _, a := range assignments(m, node) {
		e, ok := made.lookup(a.shard)
		switch {
		case ok && e.ReplicaID == a.replica: // also a removed one: an old map may still name it, and it never comes back
		case ok && !e.Removed && !held[a.shard].gone:
			faults = append(faults, fmt.Errorf("the map gives this node %s of %s, the directory holds %s", a.replica, a.shard, e.ReplicaID))
		case checkShardID(a.shard) != nil:
			faults = append(faults, checkShardID(a.shard))
		case checkReplicaID(a.replica) != nil:
			faults = append(faults, checkReplicaID(a.replica))
		default:
			actions = append(actions, action{makeReplica, a}, action{openReplica, a})
		}
	}
	return actions, faults
}

// orphans are the replicas that the node holds and the map, which knows their shards, gives to nobody: their groups have
// removed them, or this map is older than they are.
func orphans(m *shardmap.Map, made *manifest) []manifestEntry {
	var out []manifestEntry
	for _, e := range made.Replicas {
		s, ok := m.ByID(e.ShardID)
		if !ok || e.Removed {
			continue
		}
		if _, ok := s.ByReplica(e.ReplicaID); !ok {
			out = append(out, e)
		}
	}
	return out
}
