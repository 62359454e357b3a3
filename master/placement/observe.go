package placement

import (
	"strconv"
	"strings"

	"github.com/sutra-grid/sutra-grid/fsm"
)

// Observe reads from the masters' state what Plan needs.
func Observe(s *fsm.State) Input {
	var in Input
	_, in.Base, in.Replicas = s.MapConfig()
	for a := range s.Agents() {
		in.Agents = append(in.Agents, Agent{ID: a.ID, Healthy: a.Status == fsm.AgentHealthy, Streams: a.StoreID != "", Max: a.MaxStorageNodes})
	}
	for n := range s.Nodes() {
		if n.Desired {
			in.Nodes = append(in.Nodes, Node{ID: n.ID, Agent: n.AgentID, Running: n.Status == fsm.NodeRunning})
		}
	}
	for sh := range s.Shards() {
		in.Shards = append(in.Shards, sh.ID)
	}
	in.NextNode = nodeNumber(s)
	return in
}

func nodeNumber(s *fsm.State) uint64 {
	digits := strings.TrimPrefix(string(s.NextNodeID()), "node-")
	n, _ := strconv.ParseUint(digits, 10, 64) // the state gives only such ids; 0 would be refused by it
	return n
}
