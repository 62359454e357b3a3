// Package placement decides what should run where: which agents get a storage node, and which nodes hold the replicas of
// which shard.
//
//	fsm.State --Observe--> Input --Plan--> []Action   (the leader proposes them; a state that is as desired gives none)
//
// Invariants: Plan is pure, reads no clock and no randomness, and depends on its Input alone, so any leader plans the same;
// each action is right by itself, so a plan may be cut short after any of them and planned again; no two replicas of a shard
// are put on one agent. It must not import the network, files, or anything of master.
package placement

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// Input is what placement looks at: the reported state.
type Input struct {
	Agents   []Agent // ordered by id
	Nodes    []Node  // ordered by number
	Base     uint32  // shards of the grid; 0: there is no map yet
	Replicas uint32  // per shard
	Shards   []event.ShardID
	NextNode uint64 // number of the next node's id
}

// Agent is an agent as placement sees it.
type Agent struct {
	ID      event.AgentID
	Healthy bool
	Streams bool   // it is a grid agent that takes assignments, not a record made over HTTP
	Max     uint32 // nodes it may run
}

// Node is a storage node as placement sees it; a stopped one is not listed.
type Node struct {
	ID      event.NodeID
	Agent   event.AgentID
	Running bool
}

// Action is one step: exactly one of its fields is set.
type Action struct {
	Spawn *Spawn
	Shard *Shard
}

// Spawn asks for a new node on an agent.
type Spawn struct {
	Node  event.NodeID
	Agent event.AgentID
}

// Shard asks for a new replica group; Nodes hold its first voters, each on an agent of its own.
type Shard struct {
	ID    event.ShardID
	Nodes []event.NodeID
}

// String names the step for logs.
func (a Action) String() string {
	if a.Spawn != nil {
		return fmt.Sprintf("spawn %s on %s", a.Spawn.Node, a.Spawn.Agent)
	}
	return fmt.Sprintf("create %s on %v", a.Shard.ID, a.Shard.Nodes)
}

// Plan lists the steps from the reported state to the desired one: a node on every agent that takes one, then every shard of
// the map on running nodes.
func Plan(in Input) []Action {
	return append(planNodes(in), planShards(in)...)
}

// planNodes gives each healthy agent its first node. An agent that has one, in whatever condition, keeps it: the agent
// restarts it, and its replicas are bound to its data.
func planNodes(in Input) []Action {
	has := map[event.AgentID]bool{}
	for _, n := range in.Nodes {
		has[n.Agent] = true
	}
	var actions []Action
	next := in.NextNode
	for _, a := range in.Agents {
		if !a.Healthy || !a.Streams || a.Max == 0 || has[a.ID] {
			continue
		}
		actions = append(actions, Action{Spawn: &Spawn{Node: event.NodeID(fmt.Sprintf("node-%d", next)), Agent: a.ID}})
		next++
	}
	return actions
}

// planShards creates the shards that the map should have and has not. Shard i begins on the i-th host and takes the following
// ones, so replicas, and with them leaders, spread evenly.
func planShards(in Input) []Action {
	hosts := runningHosts(in)
	if in.Replicas == 0 || len(hosts) < int(in.Replicas) {
		return nil
	}
	var actions []Action
	for i := range int(in.Base) {
		id := event.ShardID(fmt.Sprintf("shard-%d", i))
		if slices.Contains(in.Shards, id) {
			continue
		}
		nodes := make([]event.NodeID, in.Replicas)
		for r := range nodes {
			nodes[r] = hosts[(i+r)%len(hosts)]
		}
		actions = append(actions, Action{Shard: &Shard{ID: id, Nodes: nodes}})
	}
	return actions
}

// runningHosts is one running node of each healthy agent, ordered by agent.
func runningHosts(in Input) []event.NodeID {
	healthy := map[event.AgentID]bool{}
	for _, a := range in.Agents {
		healthy[a.ID] = a.Healthy
	}
	var hosts []Node
	seen := map[event.AgentID]bool{}
	for _, n := range in.Nodes {
		if n.Running && healthy[n.Agent] && !seen[n.Agent] {
			seen[n.Agent] = true
			hosts = append(hosts, n)
		}
	}
	slices.SortStableFunc(hosts, func(a, b Node) int { return cmp.Compare(a.Agent, b.Agent) })
	ids := make([]event.NodeID, len(hosts))
	for i, h := range hosts {
		ids[i] = h.ID
	}
	return ids
}
