package fsm

import (
	"cmp"
	"iter"
	"slices"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
)

// Seq is the place of the last event; 0: none yet.
func (s *State) Seq() uint64 { return s.head.Seq }

// Chain is the hash chain behind the last event.
func (s *State) Chain() event.Chain { return s.head.Chain }

// Time is log time in unix µs: the greatest of all entries and events so far.
func (s *State) Time() int64 { return s.mark.Time }

// RaftIndex is the index of the last entry that is part of this state.
func (s *State) RaftIndex() uint64 { return s.mark.RaftIndex }

// GridID is the grid's id; empty before incarnation_started.
func (s *State) GridID() string { return s.head.GridID }

// Incarnation counts the histories of the grid; N is 0 before incarnation_started.
func (s *State) Incarnation() event.Incarnation { return s.head.Incarnation }

// Level is the level of rules that is in force (safety S13).
func (s *State) Level() uint32 { return s.head.Level }

// Position is the state's place in the grid's history.
func (s *State) Position() event.Position {
	return event.Position{N: s.head.Incarnation.N, Seq: s.head.Seq}
}

// Epoch is the position of the shard map's last change.
func (s *State) Epoch() event.Position { return s.head.Map.Epoch }

// ShardMap is the routing form of the shards. It is never nil and never changes; without a map its base is 0.
func (s *State) ShardMap() *shardmap.Map { return s.shardMap }

// Agents walks all agents by id.
func (s *State) Agents() iter.Seq[*Agent] { return s.agents.all() }

// Agent finds an agent; nil: unknown, or unregistered.
func (s *State) Agent(id event.AgentID) *Agent { return s.agents.get(id) }

// Pulse is what an agent last reported; nil for an unknown agent and for one whose reports were before a rebuild.
func (s *State) Pulse(id event.AgentID) *Pulse { return s.pulses.get(id) }

// Nodes walks all nodes by number.
func (s *State) Nodes() iter.Seq[*Node] { return s.nodes.all() }

// Node finds a node; nil: unknown.
func (s *State) Node(id event.NodeID) *Node {
	if n := nodeNumber(id); n > 0 {
		return s.nodes.get(n)
	}
	return nil
}

// NextNodeID is the only id that the next spawn_requested may have.
func (s *State) NextNodeID() event.NodeID { return nodeID(s.head.LastNode + 1) }

// NodesOf walks an agent's nodes by number, stopped ones included.
func (s *State) NodesOf(id event.AgentID) iter.Seq[*Node] {
	return func(yield func(*Node) bool) {
		for k := range s.index.nodesOf.from(agentNode{agent: id}) {
			if k.agent != id || !yield(s.nodes.get(k.number)) {
				return
			}
		}
	}
}

// Assignments is the set of nodes that an agent shall run, by number, and the seq of its last change.
func (s *State) Assignments(id event.AgentID) (revision uint64, nodes []*Node) {
	a := s.agents.get(id)
	if a == nil {
		return 0, nil
	}
	for n := range s.NodesOf(id) {
		if n.Desired {
			nodes = append(nodes, n)
		}
	}
	return a.Revision, nodes
}

// Shards walks all shards by number.
func (s *State) Shards() iter.Seq[*Shard] { return s.shards.all() }

// Shard finds a shard; nil: unknown.
func (s *State) Shard(id event.ShardID) *Shard {
	if n, ok := shardmap.Number(id); ok {
		return s.shards.get(n)
	}
	return nil
}

// ShardsOf lists the shards that have a replica on a node.
func (s *State) ShardsOf(id event.NodeID) []event.ShardID {
	var ids []event.ShardID
	for sh := range s.shards.all() {
		if s.holds(sh, id) {
			ids = append(ids, sh.ID)
		}
	}
	return ids
}

// MapConfig is what shard_map_created fixed; 0 shards: there is no map yet.
func (s *State) MapConfig() (strategy string, shards, replicas uint32) {
	return s.head.Map.Strategy, s.head.Map.Shards, s.head.Map.Replicas
}

// Masters walks the masters by id.
func (s *State) Masters() iter.Seq[*Master] { return s.masters.all() }

// Master finds a master; nil: not part of the configuration.
func (s *State) Master(id event.MasterID) *Master { return s.masters.get(id) }

// Leader is the master that was last recorded as leader, with its term.
func (s *State) Leader() (id event.MasterID, term uint64) { return s.head.Leader, s.head.LeaderTerm }

// Sinks walks the sinks by name.
func (s *State) Sinks() iter.Seq[*Sink] { return s.sinks.all() }

// Sink finds a sink; nil: unknown.
func (s *State) Sink(name string) *Sink { return s.sinks.get(name) }

// Cursor is how far a sink holds the feed; Through is 0 for one that has not acknowledged anything.
func (s *State) Cursor(sink string) Cursor {
	if c := s.cursors.get(sink); c != nil {
		return *c
	}
	return Cursor{Sink: sink}
}

// Settings walks the settings that were ever set, by key.
func (s *State) Settings() iter.Seq[*Setting] { return s.settings.all() }

// Setting is a setting's value and version; version 0: it was never set.
func (s *State) Setting(key string) (value string, version uint64) {
	if v := s.settings.get(key); v != nil {
		return v.Value, v.Version
	}
	return "", 0
}

// AssociationType is the number of a name; false: it has none yet.
func (s *State) AssociationType(name string) (uint32, bool) {
	if n, ok := protocolTypes[name]; ok {
		return n, true
	}
	if t := s.types.get(name); t != nil {
		return t.Number, true
	}
	return 0, false
}

// AssociationTypes lists all names by number, the five of the Sutra protocol included.
func (s *State) AssociationTypes() []AssociationType {
	all := []AssociationType{{"semantic", 0}, {"causal", 1}, {"temporal", 2}, {"hierarchical", 3}, {"compositional", 4}}
	for t := range s.types.all() {
		all = append(all, *t)
	}
	slices.SortFunc(all, func(a, b AssociationType) int { return cmp.Compare(a.Number, b.Number) })
	return all
}

// Txn is the record of a transaction; nil: nothing is decided, or the horizon has passed it.
func (s *State) Txn(id event.TxnID) *Txn { return s.txns.get(id) }

// OpenTxns walks the transactions that are decided and not completed, oldest decision first.
func (s *State) OpenTxns() iter.Seq[*Txn] {
	return func(yield func(*Txn) bool) {
		for k := range s.index.open.from(txnSeq{}) {
			if !yield(s.txns.get(k.id)) {
				return
			}
		}
	}
}

// OpenTxnCount is how many transactions OpenTxns walks.
func (s *State) OpenTxnCount() int { return s.index.open.tree.Len() }

// Horizon is H of safety S4: no attempt that began at or below it can be committed any more.
func (s *State) Horizon() event.Position { return s.head.Horizon }

// Cluster is the grid's level as last recorded.
func (s *State) Cluster() Cluster {
	return Cluster{
		Level: s.head.Cluster.Level, Reason: s.head.Cluster.Reason, Since: s.head.Cluster.Since,
		TotalAgents: uint32(s.agents.len()), HealthyAgents: s.counts.healthyAgents,
		TotalNodes: s.counts.desiredNodes, RunningNodes: s.counts.runningNodes,
	}
}

// Emitter is the high-water mark of an emitter "<agent id>.<store id>": every event up to it is taken.
func (s *State) Emitter(name string) uint64 {
	agent, store := splitEmitter(name)
	if m := s.emitters.get(agent); m != nil && m.StoreID == store {
		return m.Through
	}
	return 0
}

// Answered tells whether a command with this request id would be given its first answer, without a new event.
func (s *State) Answered(id event.RequestID) bool { return s.requests.get(id) != nil }

// Forgotten is the greatest issued of all request ids that are no longer remembered, unix µs (safety S5).
func (s *State) Forgotten() int64 { return s.mark.Forgotten }
