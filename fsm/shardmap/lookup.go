package shardmap

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// prefix of every shard's id; the number behind it is dense from 0.
const prefix = "shard-"

// ID is the id of the n-th shard.
func ID(n uint64) event.ShardID { return event.ShardID(prefix + strconv.FormatUint(n, 10)) }

// Number is n of "shard-<n>"; false for anything that is not an id the masters give.
func Number(id event.ShardID) (n uint64, ok bool) {
	digits, ok := strings.CutPrefix(string(id), prefix)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil && ID(n) == id
}

// Slot is the hash slot of an id: its hash modulo the number of shards at creation. The map has a base.
func (m *Map) Slot(id string) uint32 { return Hash(id) % m.Base }

// Shard is the owner of an id. Without a map, or while the owner is not created yet, it is an Error of kind unavailable.
// The result is part of the map: do not change it.
func (m *Map) Shard(id string) (*Shard, error) {
	if m.Base == 0 {
		return nil, &event.Error{Kind: event.KindUnavailable, Op: "locate " + strconv.Quote(id), Message: "there is no shard map yet; retry when the grid is ready"}
	}
	slot := m.Slot(id)
	if int(slot) >= len(m.Shards) {
		return nil, &event.Error{Kind: event.KindUnavailable, Op: "locate " + strconv.Quote(id), Message: fmt.Sprintf("%s is not created yet; retry when the grid is ready", ID(uint64(slot)))}
	}
	return &m.Shards[slot], nil
}

// ByID finds a shard. The result is part of the map: do not change it.
func (m *Map) ByID(id event.ShardID) (*Shard, bool) {
	n, ok := Number(id)
	if !ok || n >= uint64(len(m.Shards)) || m.Shards[n].ID != id {
		return nil, false
	}
	return &m.Shards[n], true
}

// Replica finds the shard's replica on a node.
func (s *Shard) Replica(node event.NodeID) (*Replica, bool) {
	for i := range s.Replicas {
		if s.Replicas[i].NodeID == node {
			return &s.Replicas[i], true
		}
	}
	return nil, false
}

// ByReplica finds the shard's replica of an id.
func (s *Shard) ByReplica(id event.ReplicaID) (*Replica, bool) {
	for i := range s.Replicas {
		if s.Replicas[i].ReplicaID == id {
			return &s.Replicas[i], true
		}
	}
	return nil, false
}

// LeaderEndpoint is host:port of the shard's leader as last reported; false when none has reported yet.
func (s *Shard) LeaderEndpoint() (string, bool) {
	if s.Leader == "" {
		return "", false
	}
	r, ok := s.Replica(s.Leader)
	return endpointOf(r, ok)
}

func endpointOf(r *Replica, ok bool) (string, bool) {
	if !ok || r.Endpoint == "" {
		return "", false
	}
	return r.Endpoint, true
}

// Endpoint is where a replica was last reported; false when the replica is unknown or its node has not run yet.
func (m *Map) Endpoint(id event.ReplicaID) (string, bool) {
	for i := range m.Shards {
		for j := range m.Shards[i].Replicas {
			if r := &m.Shards[i].Replicas[j]; r.ReplicaID == id {
				return endpointOf(r, true)
			}
		}
	}
	return "", false
}
