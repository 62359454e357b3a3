package fsm

import (
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

const (
	maxPort      = 65535
	maxPath      = 4096
	maxEndpoint  = 512
	maxSpawnList = 1 << 10
)

func decideSpawnRequested(s *State, _ *event.Command, b event.SpawnRequested) verdict {
	const op = "request spawn"
	a := s.agents.get(b.AgentID)
	if a == nil {
		return unknownAgent(op, b.AgentID)
	}
	if next := s.NextNodeID(); b.NodeID != next {
		return refuse(event.KindConflict, op, "node id %q: the next one is %s", b.NodeID, next)
	}
	if b.Port > maxPort || len(b.StoragePath) > maxPath || len(b.Shards) > maxSpawnList {
		return refuse(event.KindInvalid, op, "%s: port %d, storage path of %d bytes or %d shards is out of bounds", b.NodeID, b.Port, len(b.StoragePath), len(b.Shards))
	}
	desired := uint32(0)
	for n := range s.NodesOf(a.ID) {
		if n.Desired {
			desired++
		}
	}
	if desired >= a.MaxStorageNodes {
		return refuse(event.KindRefused, op, "%s has %d of at most %d nodes", a.ID, desired, a.MaxStorageNodes)
	}
	return accept(b)
}

func evolveSpawnRequested(s *State, e *event.Envelope, b event.SpawnRequested) error {
	number := nodeNumber(b.NodeID)
	if number <= s.head.LastNode {
		return unknown(e, "node", b.NodeID)
	}
	s.head.LastNode = number
	s.putNode(Node{
		Number: number, ID: b.NodeID, AgentID: b.AgentID, Desired: true, Status: NodeRequested,
		Port: b.Port, StoragePath: b.StoragePath, MemoryLimitMB: b.MemoryLimitMB, Requested: e.Seq, Changed: e.Seq,
	})
	s.reviseAssignment(b.AgentID, e.Seq)
	return nil
}

// reviseAssignment notes that what an agent shall run has changed.
func (s *State) reviseAssignment(id event.AgentID, seq uint64) {
	if old := s.agents.get(id); old != nil {
		a := *old
		a.Revision = seq
		s.putAgent(a)
	}
}

// nodeOf finds the node that an event changes.
func (s *State) nodeOf(e *event.Envelope, id event.NodeID) (Node, error) {
	n := s.Node(id)
	if n == nil {
		return Node{}, unknown(e, "node", id)
	}
	return *n, nil
}

// reported finds the node that an agent's report is about, or refuses the report.
func (s *State) reported(op string, id event.NodeID, agent event.AgentID) (*Node, verdict) {
	n := s.Node(id)
	switch {
	case n == nil:
		return nil, refuse(event.KindNotFound, op, "node %q is unknown", id)
	case n.AgentID != agent:
		return nil, refuse(event.KindConflict, op, "%s belongs to %s, not to %s", id, n.AgentID, agent)
	}
	return n, verdict{}
}

func stale(op string, n *Node, start uint64) verdict {
	return refuse(event.KindConflict, op, "%s: a report of start %d is older than what is known of start %d", n.ID, start, n.Start)
}

// judgeStart is what decideSpawnSucceeded and decideNodeRestarted have in common (safety S29): of two reports the one with
// the higher start counter holds.
func judgeStart(op string, n *Node, start uint64) (verdict, bool) {
	switch {
	case start == 0:
		return refuse(event.KindInvalid, op, "%s: the start counter is missing", n.ID), false
	case start == n.Start && (n.Status == NodeRunning || n.Status == NodeStopping):
		return already(n.Changed), false
	case start <= n.Start:
		return stale(op, n, start), false
	case n.Status == NodeStopped:
		return refuse(event.KindConflict, op, "%s was stopped on request", n.ID), false
	}
	return verdict{}, true
}

func decideSpawnSucceeded(s *State, _ *event.Command, b event.SpawnSucceeded) verdict {
	const op = "report spawn"
	n, refused := s.reported(op, b.NodeID, b.AgentID)
	if n == nil {
		return refused
	}
	if b.StoreID == "" || len(b.StoreID) > maxID || len(b.Endpoint) > maxEndpoint {
		return refuse(event.KindInvalid, op, "%s: store id or endpoint is missing or too long", n.ID)
	}
	if n.StoreID != "" && n.StoreID != b.StoreID {
		return refuse(event.KindConflict, op, "%s has the data directory of store %s, the report is of %s: a directory that was lost must not come back under the same node id", n.ID, n.StoreID, b.StoreID)
	}
	if v, ok := judgeStart(op, n, b.Start); !ok {
		return v
	}
	return acceptFrom(n.Changed, b)
}

func evolveSpawnSucceeded(s *State, e *event.Envelope, b event.SpawnSucceeded) error {
	n, err := s.nodeOf(e, b.NodeID)
	if err != nil {
		return err
	}
	first := n.StoreID == ""
	n.PID, n.StoreID, n.Start = b.PID, b.StoreID, b.Start
	s.nodeRuns(n, e, b.Endpoint)
	if first { // from now on its directory must exist: the assignment says so
		s.reviseAssignment(b.AgentID, e.Seq)
	}
	return nil
}

// nodeRuns stores a node that listens at endpoint; one that is being stopped stays so.
func (s *State) nodeRuns(n Node, e *event.Envelope, endpoint string) {
	moved := n.Endpoint != endpoint
	n.Endpoint, n.Changed, n.LastError = endpoint, e.Seq, ""
	if n.Desired {
		n.Status = NodeRunning
	}
	s.putNode(n)
	if s.refreshShardsOf(n.ID) && moved {
		s.touchMap(e)
	}
}

func decideSpawnFailed(s *State, _ *event.Command, b event.SpawnFailed) verdict {
	const op = "report failed spawn"
	n, refused := s.reported(op, b.NodeID, b.AgentID)
	if n == nil {
		return refused
	}
	if n.Status == NodeStopped {
		return refuse(event.KindConflict, op, "%s was stopped on request", n.ID)
	}
	return acceptFrom(n.Changed, b)
}

// evolveSpawnFailed: an agent that has lost its records, and cannot start a node that it ran before, says so with this.
func evolveSpawnFailed(s *State, e *event.Envelope, b event.SpawnFailed) error {
	n, err := s.nodeOf(e, b.NodeID)
	if err != nil {
		return err
	}
	n.LastError = b.Error
	if n.Status != NodeRunning {
		s.putNode(n)
		return nil
	}
	n.Status, n.PID, n.Changed = NodeCrashed, 0, e.Seq
	s.putNode(n)
	s.refreshShardsOf(n.ID)
	return nil
}

func decideNodeCrashed(s *State, _ *event.Command, b event.NodeCrashed) verdict {
	const op = "report crash"
	n, refused := s.reported(op, b.NodeID, b.AgentID)
	switch {
	case n == nil:
		return refused
	case b.Start < n.Start:
		return stale(op, n, b.Start)
	case n.Status == NodeStopped:
		return refuse(event.KindConflict, op, "%s was stopped on request", n.ID)
	case b.Start == n.Start && n.Status == NodeCrashed:
		return already(n.Changed)
	}
	return accept(b)
}

func evolveNodeCrashed(s *State, e *event.Envelope, b event.NodeCrashed) error {
	n, err := s.nodeOf(e, b.NodeID)
	if err != nil {
		return err
	}
	n.PID, n.Start, n.Changed = 0, b.Start, e.Seq
	if n.Desired {
		n.Status = NodeCrashed
	}
	s.putNode(n)
	s.refreshShardsOf(n.ID)
	return nil
}

func decideNodeRestarted(s *State, _ *event.Command, b event.NodeRestarted) verdict {
	const op = "report restart"
	n, refused := s.reported(op, b.NodeID, b.AgentID)
	if n == nil {
		return refused
	}
	if len(b.Endpoint) > maxEndpoint {
		return refuse(event.KindInvalid, op, "%s: the endpoint is too long", n.ID)
	}
	if n.StoreID == "" {
		return refuse(event.KindConflict, op, "%s has never run: its first start is a spawn_succeeded", n.ID)
	}
	if v, ok := judgeStart(op, n, b.Start); !ok {
		return v
	}
	return acceptFrom(n.Changed, b)
}

func evolveNodeRestarted(s *State, e *event.Envelope, b event.NodeRestarted) error {
	n, err := s.nodeOf(e, b.NodeID)
	if err != nil {
		return err
	}
	n.PID, n.Start, n.RestartCount = b.NewPID, b.Start, b.RestartCount
	s.nodeRuns(n, e, b.Endpoint)
	return nil
}

func decideStopRequested(s *State, _ *event.Command, b event.StopRequested) verdict {
	const op = "request stop"
	n, refused := s.reported(op, b.NodeID, b.AgentID)
	if n == nil {
		return refused
	}
	if !n.Desired {
		return already(n.Changed)
	}
	if shards := s.ShardsOf(n.ID); len(shards) > 0 {
		return refuse(event.KindConflict, op, "%s has a replica of %s (%d in all): they have to be moved first", n.ID, shards[0], len(shards))
	}
	return accept(b)
}

func evolveStopRequested(s *State, e *event.Envelope, b event.StopRequested) error {
	n, err := s.nodeOf(e, b.NodeID)
	if err != nil {
		return err
	}
	n.Desired, n.Status, n.Changed = false, NodeStopping, e.Seq
	s.putNode(n)
	s.reviseAssignment(b.AgentID, e.Seq)
	return nil
}

func decideStopSucceeded(s *State, _ *event.Command, b event.StopSucceeded) verdict {
	const op = "report stop"
	n, refused := s.reported(op, b.NodeID, b.AgentID)
	switch {
	case n == nil:
		return refused
	case n.Status == NodeStopped:
		return already(n.Changed)
	case n.Desired:
		return refuse(event.KindConflict, op, "%s was not asked to stop", n.ID)
	}
	return acceptFrom(n.Changed, b)
}

func evolveStopSucceeded(s *State, e *event.Envelope, b event.StopSucceeded) error {
	n, err := s.nodeOf(e, b.NodeID)
	if err != nil {
		return err
	}
	n.Status, n.PID, n.Endpoint, n.Changed = NodeStopped, 0, "", e.Seq
	s.putNode(n)
	return nil
}

func decideStopFailed(s *State, _ *event.Command, b event.StopFailed) verdict {
	const op = "report failed stop"
	n, refused := s.reported(op, b.NodeID, b.AgentID)
	switch {
	case n == nil:
		return refused
	case n.Status != NodeStopping:
		return refuse(event.KindConflict, op, "%s is %s", n.ID, n.Status)
	}
	return acceptFrom(n.Changed, b)
}

func evolveStopFailed(s *State, e *event.Envelope, b event.StopFailed) error {
	n, err := s.nodeOf(e, b.NodeID)
	if err != nil {
		return err
	}
	n.LastError = b.Error
	s.putNode(n)
	return nil
}
