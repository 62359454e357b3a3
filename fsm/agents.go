package fsm

import (
	"strings"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

const (
	maxAgents       = 1 << 17 // more than ten times what a grid is meant for
	maxNodesOfAgent = 1 << 10
	maxID           = 128 // bytes of any id from configuration
)

// reservedPrefixes begin ids of other things, which share one name space in event storage.
var reservedPrefixes = []string{"node-", "shard-", "txn-", "master-", "event-", "ts-", "grid-"}

// badID says what is wrong with an id from configuration; empty: nothing.
func badID(id string) string {
	if id == "" || len(id) > maxID {
		return "want 1 to 128 bytes"
	}
	for _, c := range []byte(id) {
		if c <= ' ' || c == 0x7f || c == '/' || c == '"' || c == '\\' {
			return "want no spaces, control characters, slashes or quotes"
		}
	}
	return ""
}

func badAgentID(id event.AgentID) string {
	for _, p := range reservedPrefixes {
		if strings.HasPrefix(string(id), p) {
			return "ids that begin with " + p + " belong to the grid"
		}
	}
	if id == "cluster" || id == "feed" {
		return "the id belongs to the grid"
	}
	return badID(string(id))
}

func decideAgentRegistered(s *State, c *event.Command, b event.AgentRegistered) verdict {
	const op = "register agent"
	if bad := badAgentID(b.AgentID); bad != "" {
		return refuse(event.KindInvalid, op, "agent id %q: %s", b.AgentID, bad)
	}
	if b.MaxStorageNodes > maxNodesOfAgent {
		return refuse(event.KindInvalid, op, "%s: max_storage_nodes is %d, want at most %d", b.AgentID, b.MaxStorageNodes, maxNodesOfAgent)
	}
	old := s.agents.get(b.AgentID)
	if old == nil && s.agents.len() >= maxAgents {
		return refuse(event.KindRefused, op, "%s: the grid has %d agents, its limit", b.AgentID, maxAgents)
	}
	if old != nil && old.StoreID != "" && b.StoreID != "" && old.StoreID != b.StoreID && old.Status != AgentOffline {
		return refuse(event.KindConflict, op, "%s runs already with the data directory of store %s (this one is %s): give one of them another id, or wait until it is offline", b.AgentID, old.StoreID, b.StoreID)
	}
	if b.StoreID == "" && old != nil {
		b.StoreID = old.StoreID // renewed over HTTP
	}
	return accept(b)
}

func evolveAgentRegistered(s *State, e *event.Envelope, b event.AgentRegistered) error {
	a := Agent{Status: AgentHealthy, Changed: e.Seq, Revision: e.Seq}
	if old := s.agents.get(b.AgentID); old != nil {
		a = *old
	}
	a.ID, a.Hostname, a.Platform, a.Endpoint = b.AgentID, b.Hostname, b.Platform, b.AgentEndpoint
	a.MaxStorageNodes, a.Version, a.Zone, a.Labels, a.StoreID = b.MaxStorageNodes, b.Version, b.Zone, b.Labels, b.StoreID
	a.Registered = e.Seq
	s.putAgent(a)
	p := Pulse{AgentID: b.AgentID}
	if old := s.pulses.get(b.AgentID); old != nil {
		p = *old
	}
	p.Last = e.Time
	s.pulses.set(b.AgentID, p)
	return nil
}

// unknownAgent is the answer that makes an agent register again.
func unknownAgent(op string, id event.AgentID) verdict {
	return refuse(event.KindUnknownAgent, op, "agent %q is not registered: register it first", id)
}

func decideAgentHeartbeat(s *State, _ *event.Command, b event.AgentHeartbeat) verdict {
	if s.agents.get(b.AgentID) == nil {
		return unknownAgent("take heartbeat", b.AgentID)
	}
	if len(b.Nodes) > maxNodesOfAgent {
		return refuse(event.KindInvalid, "take heartbeat", "%s reports %d nodes, want at most %d", b.AgentID, len(b.Nodes), maxNodesOfAgent)
	}
	return accept(b)
}

// evolveAgentHeartbeat changes local state only; a return from silence is derived behind it.
func evolveAgentHeartbeat(s *State, e *event.Envelope, b event.AgentHeartbeat) error {
	s.pulses.set(b.AgentID, Pulse{AgentID: b.AgentID, Last: e.Time, Nodes: b.StorageNodeCount, Load: b.Load, Reports: b.Nodes})
	return nil
}

func decideAgentDegraded(s *State, _ *event.Command, b event.AgentDegraded) verdict {
	const op = "declare agent degraded"
	a := s.agents.get(b.AgentID)
	switch {
	case a == nil:
		return unknownAgent(op, b.AgentID)
	case a.Status != AgentHealthy:
		return refuse(event.KindConflict, op, "%s is %s", a.ID, a.Status)
	case b.SecondsSinceHeartbeat < 0 || b.SecondsSinceHeartbeat > 1e9:
		return refuse(event.KindInvalid, op, "%s: %v seconds since the last heartbeat", a.ID, b.SecondsSinceHeartbeat)
	}
	// A heartbeat may have come while the proposal was on its way: half the silence is then already disproved.
	if p := s.pulses.get(a.ID); p != nil && float64(s.mark.Time-p.Last) < b.SecondsSinceHeartbeat*1e6/2 {
		return refuse(event.KindConflict, op, "%s has been heard of meanwhile", a.ID)
	}
	return accept(b)
}

func evolveAgentDegraded(s *State, e *event.Envelope, b event.AgentDegraded) error {
	return s.setAgentStatus(e, b.AgentID, AgentDegraded, e.Time-int64(b.SecondsSinceHeartbeat*1e6))
}

func decideAgentOffline(s *State, _ *event.Command, b event.AgentOffline) verdict {
	const op = "declare agent offline"
	a := s.agents.get(b.AgentID)
	switch {
	case a == nil:
		return unknownAgent(op, b.AgentID)
	case a.Status == AgentOffline:
		return refuse(event.KindConflict, op, "%s is offline", a.ID)
	}
	if p := s.pulses.get(a.ID); p != nil && p.Last > b.LastSeen {
		return refuse(event.KindConflict, op, "%s has been heard of meanwhile", a.ID)
	}
	cause := uint64(0)
	if a.Status == AgentDegraded {
		cause = a.Changed
	}
	return acceptFrom(cause, b)
}

func evolveAgentOffline(s *State, e *event.Envelope, b event.AgentOffline) error {
	return s.setAgentStatus(e, b.AgentID, AgentOffline, b.LastSeen)
}

func evolveAgentRecovered(s *State, e *event.Envelope, b event.AgentRecovered) error {
	return s.setAgentStatus(e, b.AgentID, AgentHealthy, 0)
}

func (s *State) setAgentStatus(e *event.Envelope, id event.AgentID, status string, lastSeen int64) error {
	old := s.agents.get(id)
	if old == nil {
		return unknown(e, "agent", id)
	}
	a := *old
	a.Status, a.Changed, a.LastSeen = status, e.Seq, lastSeen
	s.putAgent(a)
	for n := range s.NodesOf(id) {
		s.refreshShardsOf(n.ID)
	}
	return nil
}

func decideAgentUnregistered(s *State, _ *event.Command, b event.AgentUnregistered) verdict {
	const op = "unregister agent"
	if s.agents.get(b.AgentID) == nil {
		return unknownAgent(op, b.AgentID)
	}
	for n := range s.NodesOf(b.AgentID) {
		if n.Desired {
			return refuse(event.KindConflict, op, "%s still runs %s: stop its nodes first", b.AgentID, n.ID)
		}
	}
	return accept(b)
}

func evolveAgentUnregistered(s *State, _ *event.Envelope, b event.AgentUnregistered) error {
	var numbers []uint64
	for n := range s.NodesOf(b.AgentID) {
		numbers = append(numbers, n.Number)
	}
	for _, n := range numbers {
		s.dropNode(n)
	}
	s.dropAgent(b.AgentID)
	s.pulses.delete(b.AgentID)
	s.emitters.delete(b.AgentID)
	return nil
}
