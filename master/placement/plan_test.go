package placement

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

func agent(n int, max uint32) Agent {
	return Agent{ID: event.AgentID(fmt.Sprintf("agent-%d", n)), Healthy: true, Streams: true, Max: max}
}

func running(n, onAgent int) Node {
	return Node{ID: event.NodeID(fmt.Sprintf("node-%d", n)), Agent: event.AgentID(fmt.Sprintf("agent-%d", onAgent)), Running: true}
}

func TestPlan(t *testing.T) {
	offline := agent(2, 2)
	offline.Healthy = false
	overHTTP := agent(2, 2)
	overHTTP.Streams = false
	crashed := running(2, 2)
	crashed.Running = false
	three := []Agent{agent(1, 2), agent(2, 2), agent(3, 2)}
	for _, tt := range []struct {
		name string
		in   Input
		want string
	}{
		{"nothing known", Input{}, ""},
		{"every agent gets a node, numbered by the state", Input{Agents: three, NextNode: 4},
			"spawn node-4 on agent-1\nspawn node-5 on agent-2\nspawn node-6 on agent-3"},
		{"an agent that takes none gets none", Input{Agents: []Agent{agent(1, 0), agent(2, 1)}, NextNode: 1}, "spawn node-1 on agent-2"},
		{"an offline agent gets none", Input{Agents: []Agent{agent(1, 1), offline}, NextNode: 1}, "spawn node-1 on agent-1"},
		{"an agent without a stream gets none", Input{Agents: []Agent{agent(1, 1), overHTTP}, NextNode: 1}, "spawn node-1 on agent-1"},
		{"a crashed node is the agent's to restart", Input{Agents: three[:2], Nodes: []Node{running(1, 1), crashed}, NextNode: 3}, ""},
		{"shards wait for enough agents", Input{Agents: three, Nodes: []Node{running(1, 1), crashed, running(3, 3)}, Base: 4, Replicas: 3, NextNode: 4}, ""},
		{"two nodes of one agent are one host", Input{Agents: three[:1], Nodes: []Node{running(1, 1), running(2, 1), running(3, 1)}, Base: 1, Replicas: 3, NextNode: 4}, ""},
		{"shards go round", Input{Agents: three, Nodes: []Node{running(1, 3), running(2, 1), running(3, 2)}, Base: 4, Replicas: 3, NextNode: 4},
			"create shard-0 on [node-2 node-3 node-1]\ncreate shard-1 on [node-3 node-1 node-2]\n" +
				"create shard-2 on [node-1 node-2 node-3]\ncreate shard-3 on [node-2 node-3 node-1]"},
		{"a plan that was cut short is finished", Input{Agents: three, Nodes: []Node{running(1, 1), running(2, 2), running(3, 3)}, Base: 3, Replicas: 1,
			Shards: []event.ShardID{"shard-0", "shard-1"}, NextNode: 4}, "create shard-2 on [node-3]"},
		{"no map, no shards", Input{Agents: three[:1], Nodes: []Node{running(1, 1)}, NextNode: 2}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, a := range Plan(tt.in) {
				got = append(got, a.String())
			}
			if strings.Join(got, "\n") != tt.want {
				t.Errorf("plan:\n%s\nwant:\n%s", strings.Join(got, "\n"), tt.want)
			}
		})
	}
}

// TestPlanConverges carries out any prefix of each plan, in any grid, and plans again: placement reaches a state in which
// nothing is left to do, in which every shard stands on distinct agents and no agent runs what it does not take.
func TestPlanConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := Input{Base: rapid.Uint32Range(0, 8).Draw(t, "base"), Replicas: rapid.SampledFrom([]uint32{1, 3, 5}).Draw(t, "replicas"), NextNode: 1}
		for i := range rapid.IntRange(0, 7).Draw(t, "agents") {
			a := agent(i+1, rapid.Uint32Range(0, 2).Draw(t, "max"))
			a.Healthy, a.Streams = rapid.Bool().Draw(t, "healthy"), rapid.Bool().Draw(t, "streams")
			in.Agents = append(in.Agents, a)
		}
		placed := map[event.ShardID][]event.NodeID{}
		for rounds := 0; ; rounds++ {
			plan := Plan(in)
			if len(plan) == 0 {
				break
			}
			if rounds > 100 {
				t.Fatalf("after %d rounds still %v", rounds, plan)
			}
			for _, a := range plan[:rapid.IntRange(1, len(plan)).Draw(t, "done")] {
				carryOut(&in, placed, a)
			}
		}
		checkPlacement(t, in, placed)
	})
}

func carryOut(in *Input, placed map[event.ShardID][]event.NodeID, a Action) {
	if a.Spawn != nil {
		in.Nodes = append(in.Nodes, Node{ID: a.Spawn.Node, Agent: a.Spawn.Agent, Running: true})
		in.NextNode++
		return
	}
	in.Shards = append(in.Shards, a.Shard.ID)
	placed[a.Shard.ID] = a.Shard.Nodes
}

func checkPlacement(t *rapid.T, in Input, placed map[event.ShardID][]event.NodeID) {
	hosts := 0
	owner := map[event.NodeID]event.AgentID{}
	for _, n := range in.Nodes {
		i := slices.IndexFunc(in.Agents, func(a Agent) bool { return a.ID == n.Agent })
		if a := in.Agents[i]; a.Max == 0 || !a.Healthy || !a.Streams {
			t.Fatalf("%s was put on %+v", n.ID, a)
		}
		if _, twice := owner[n.ID]; twice {
			t.Fatalf("%s was given twice", n.ID)
		}
		owner[n.ID] = n.Agent
		hosts++
	}
	if hosts >= int(in.Replicas) && len(placed) != int(in.Base) {
		t.Fatalf("%d hosts, %d of %d shards placed", hosts, len(placed), in.Base)
	}
	for id, nodes := range placed {
		agents := map[event.AgentID]bool{}
		for _, n := range nodes {
			agents[owner[n]] = true
		}
		if len(agents) != int(in.Replicas) {
			t.Fatalf("%s stands on %d agents, want %d", id, len(agents), in.Replicas)
		}
	}
}
