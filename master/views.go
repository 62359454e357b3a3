package master

import (
	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// This file turns parts of the state into messages. Every function is pure.

func agentRecords(s *fsm.State) []transport.AgentRecord {
	records := []transport.AgentRecord{}
	for a := range s.Agents() {
		records = append(records, agentRecord(s, a))
	}
	return records
}

func agentRecord(s *fsm.State, a *fsm.Agent) transport.AgentRecord {
	r := transport.AgentRecord{AgentID: a.ID, Hostname: a.Hostname, Platform: a.Platform, AgentEndpoint: a.Endpoint, Status: a.Status,
		MaxStorageNodes: a.MaxStorageNodes, LastHeartbeat: lastSeen(s, a.ID) / 1e6, Version: a.Version, Zone: a.Zone, Labels: a.Labels,
		StorageNodes: []transport.NodeRecord{}}
	if r.Labels == nil {
		r.Labels = map[string]string{}
	}
	if p := s.Pulse(a.ID); p != nil {
		r.CurrentStorageNodes, r.Load = p.Nodes, p.Load
	}
	for n := range s.NodesOf(a.ID) {
		if n.Status == fsm.NodeStopped {
			continue
		}
		node := nodeRecord(s, n)
		node.AgentID = "" // it is the record's
		r.StorageNodes = append(r.StorageNodes, node)
	}
	return r
}

// lastSeen is the log time of an agent's last heartbeat or registration, unix µs.
func lastSeen(s *fsm.State, id event.AgentID) int64 {
	if p := s.Pulse(id); p != nil {
		return p.Last
	}
	if a := s.Agent(id); a != nil {
		return a.LastSeen
	}
	return 0
}

func nodeRecords(s *fsm.State) []transport.NodeRecord {
	records := []transport.NodeRecord{}
	for n := range s.Nodes() {
		records = append(records, nodeRecord(s, n))
	}
	return records
}

func nodeRecord(s *fsm.State, n *fsm.Node) transport.NodeRecord {
	r := transport.NodeRecord{NodeID: n.ID, AgentID: n.AgentID, Status: n.Status, PID: n.PID, Endpoint: n.Endpoint, Shards: s.ShardsOf(n.ID), RestartCount: n.RestartCount}
	if r.Shards == nil {
		r.Shards = []event.ShardID{}
	}
	return r
}

func shardHealth(s *fsm.State) []transport.ShardHealth {
	health := []transport.ShardHealth{}
	for sh := range s.Shards() {
		health = append(health, transport.ShardHealth{ShardID: sh.ID, State: sh.State, Leader: sh.Leader, Live: sh.Live, Want: uint32(len(sh.Voters))})
	}
	return health
}

func shardMapOk(s *fsm.State) *transport.ShardMapOk {
	return &transport.ShardMapOk{Map: *s.ShardMap(), GridID: s.GridID(), Incarnation: s.Incarnation(), Horizon: s.Horizon(), Seq: s.Seq()}
}

func assignmentsOf(s *fsm.State, id event.AgentID) *transport.Assignments {
	revision, nodes := s.Assignments(id)
	a := &transport.Assignments{Revision: revision, Nodes: make([]transport.NodeAssignment, len(nodes))}
	for i, n := range nodes {
		a.Nodes[i] = transport.NodeAssignment{NodeID: n.ID, Port: n.Port, StoragePath: n.StoragePath, MemoryLimitMB: n.MemoryLimitMB, Init: n.StoreID == ""}
	}
	return a
}

// pulsesOf is what the leader judges the agents' silence by; heard are those whose heartbeats a full outbox did not take.
func pulsesOf(s *fsm.State, heard map[event.AgentID]struct{}) []pulse {
	var pulses []pulse
	for a := range s.Agents() {
		_, unlogged := heard[a.ID]
		pulses = append(pulses, pulse{id: a.ID, beat: lastSeen(s, a.ID), unlogged: unlogged, degraded: a.Status == fsm.AgentDegraded, offline: a.Status == fsm.AgentOffline})
	}
	return pulses
}

// feedLag is how many events the slowest sink does not hold yet; 0 without sinks.
func feedLag(s *fsm.State) uint64 {
	through, some := ackedByAll(s)
	if !some {
		return 0
	}
	return s.Seq() - min(through, s.Seq())
}

// ackedByAll is the seq through which every sink holds the feed; false without sinks.
func ackedByAll(s *fsm.State) (through uint64, some bool) {
	for sink := range s.Sinks() {
		at := s.Cursor(sink.Name).Through
		if !some || at < through {
			through = at
		}
		some = true
	}
	return through, some
}

func firstSink(s *fsm.State) string {
	for sink := range s.Sinks() {
		return sink.Address
	}
	return ""
}
