package fsm

import (
	"fmt"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
)

// touchMap moves the epoch: routers see something that they did not before.
func (s *State) touchMap(e *event.Envelope) {
	s.head.Map.Epoch = event.Position{N: s.head.Incarnation.N, Seq: e.Seq}
}

// holds tells whether a node has a replica of a shard, voter or learner.
func (s *State) holds(sh *Shard, node event.NodeID) bool {
	_, ok := s.ReplicaAt(sh, node)
	return ok
}

// refreshShardsOf recounts the live voters of every shard with a replica on a node, and tells whether there is one.
func (s *State) refreshShardsOf(node event.NodeID) bool {
	var hit []uint64
	for sh := range s.shards.all() {
		if s.holds(sh, node) {
			hit = append(hit, sh.Number)
		}
	}
	for _, number := range hit {
		sh := *s.shards.get(number)
		if live := s.live(&sh); live != sh.Live {
			sh.Live = live
			s.putShard(sh)
		}
	}
	return len(hit) > 0
}

// live counts the voters whose node runs according to its agent and whose agent is not offline.
func (s *State) live(sh *Shard) uint32 {
	live := uint32(0)
	for _, v := range sh.Voters {
		if s.lives(v.NodeID) {
			live++
		}
	}
	return live
}

// lives tells whether a node runs according to its agent, and its agent is not offline.
func (s *State) lives(id event.NodeID) bool {
	n := s.Node(id)
	if n == nil || n.Status != NodeRunning {
		return false
	}
	a := s.agents.get(n.AgentID)
	return a != nil && a.Status != AgentOffline
}

func decideShardMapCreated(s *State, _ *event.Command, b event.ShardMapCreated) verdict {
	const op = "create shard map"
	if m := s.head.Map; m.Shards > 0 {
		if m.Strategy == b.Strategy && m.Shards == b.Shards && m.Replicas == b.Replicas {
			return already(0)
		}
		return refuse(event.KindConflict, op, "there is one of %d shards with %d replicas; the number of shards at creation is for ever", m.Shards, m.Replicas)
	}
	switch {
	case b.Strategy != shardmap.StrategyHash:
		return refuse(event.KindInvalid, op, "strategy %q: want %s", b.Strategy, shardmap.StrategyHash)
	case b.Shards < 1 || b.Shards > shardmap.MaxShards:
		return refuse(event.KindInvalid, op, "%d shards: want 1 to %d", b.Shards, shardmap.MaxShards)
	case b.Replicas != 1 && b.Replicas != 3 && b.Replicas != 5:
		return refuse(event.KindInvalid, op, "%d replicas: want 1, 3 or 5", b.Replicas)
	case len(b.Boundaries) > 0:
		return refuse(event.KindInvalid, op, "boundaries: a hash map has none")
	}
	return accept(b)
}

func evolveShardMapCreated(s *State, e *event.Envelope, b event.ShardMapCreated) error {
	s.head.Map.Strategy, s.head.Map.Shards, s.head.Map.Replicas = b.Strategy, b.Shards, b.Replicas
	s.touchMap(e)
	return nil
}

func decideShardCreated(s *State, _ *event.Command, b event.ShardCreated) verdict {
	const op = "create shard"
	next := uint64(s.shards.len())
	switch {
	case s.head.Map.Shards == 0:
		return refuse(event.KindConflict, op, "there is no shard map")
	case next >= uint64(s.head.Map.Shards):
		return refuse(event.KindConflict, op, "%s: all %d shards exist", b.ShardID, next)
	case b.ShardID != shardmap.ID(next):
		return refuse(event.KindConflict, op, "shard id %q: the next one is %s", b.ShardID, shardmap.ID(next))
	case uint32(len(b.Voters)) != s.head.Map.Replicas:
		return refuse(event.KindInvalid, op, "%s: %d voters, want %d", b.ShardID, len(b.Voters), s.head.Map.Replicas)
	}
	if fault := s.badVoters(b.Voters); fault != "" {
		return refuse(event.KindConflict, op, "%s: %s", b.ShardID, fault)
	}
	return accept(b)
}

// badVoters says what is wrong with a group's first voters; empty: nothing. No node holds two replicas of a shard, no
// replica id was ever used, and the replicas are on as many agents as there are to choose from.
func (s *State) badVoters(voters []event.Voter) string {
	for i, v := range voters {
		n := s.Node(v.NodeID)
		if n == nil || !n.Desired {
			return fmt.Sprintf("node %q is unknown or is being stopped", v.NodeID)
		}
		for _, other := range voters[:i] {
			if other.NodeID == v.NodeID {
				return fmt.Sprintf("%s is named twice", v.NodeID)
			}
		}
		if fault := s.badReplicaID(v); fault != "" {
			return fault
		}
	}
	return s.badSpread(voters)
}

// badReplicaID: the id names the node and a store, and no replica has it (safety S1).
func (s *State) badReplicaID(v event.Voter) string {
	if v.ReplicaID.Owner() != string(v.NodeID) || !isStoreID(v.ReplicaID.StoreID()) {
		return fmt.Sprintf("replica id %q: want %s.<32 hexadecimal digits>", v.ReplicaID, v.NodeID)
	}
	if s.replicaExists(v.ReplicaID) {
		return fmt.Sprintf("replica id %s is taken", v.ReplicaID)
	}
	return ""
}

// badSpread: the voters, whose nodes are known, are on as many agents as there are to choose from.
func (s *State) badSpread(voters []event.Voter) string {
	agents := make([]event.AgentID, 0, len(voters))
	for _, v := range voters {
		agents = appendNew(agents, s.Node(v.NodeID).AgentID)
	}
	if want := min(len(voters), s.agentsWithNodes(len(voters))); len(agents) < want {
		return fmt.Sprintf("the voters are on %d agents, %d are possible", len(agents), want)
	}
	return ""
}

func appendNew(ids []event.AgentID, id event.AgentID) []event.AgentID {
	for _, known := range ids {
		if known == id {
			return ids
		}
	}
	return append(ids, id)
}

func isStoreID(id string) bool {
	if len(id) != 32 {
		return false
	}
	for _, c := range []byte(id) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func (s *State) replicaExists(id event.ReplicaID) bool {
	for sh := range s.shards.all() {
		for _, v := range sh.Voters {
			if v.ReplicaID == id {
				return true
			}
		}
		if s.Members(sh).Learner.ReplicaID == id {
			return true
		}
	}
	return false
}

// agentsWithNodes counts the agents that run a node now and are not offline, up to limit.
func (s *State) agentsWithNodes(limit int) int {
	count := 0
	for a := range s.agents.all() {
		if a.Status == AgentOffline {
			continue
		}
		for n := range s.NodesOf(a.ID) {
			if n.Desired && n.Status == NodeRunning {
				count++
				break
			}
		}
		if count >= limit {
			break
		}
	}
	return count
}

func evolveShardCreated(s *State, e *event.Envelope, b event.ShardCreated) error {
	number, ok := shardmap.Number(b.ShardID)
	if !ok || number != uint64(s.shards.len()) {
		return unknown(e, "shard", b.ShardID)
	}
	sh := Shard{Number: number, ID: b.ShardID, State: shardmap.Forming, Voters: b.Voters, Created: e.Seq}
	sh.Live = s.live(&sh)
	s.putShard(sh)
	s.touchMap(e)
	return nil
}

func decideShardLeaderChanged(s *State, _ *event.Command, b event.ShardLeaderChanged) verdict {
	const op = "report shard leader"
	sh := s.Shard(b.ShardID)
	switch {
	case sh == nil:
		return refuse(event.KindNotFound, op, "shard %q is unknown", b.ShardID)
	case !s.holds(sh, b.NodeID):
		return refuse(event.KindConflict, op, "%s has no replica of %s", b.NodeID, sh.ID)
	case b.Term == sh.Term && b.NodeID == sh.Leader:
		return already(0)
	case b.Term <= sh.Term:
		return refuse(event.KindConflict, op, "%s has had a leader in term %d; a report of term %d is older", sh.ID, sh.Term, b.Term)
	}
	return acceptFrom(s.whyLeft(sh.Leader), b)
}

// whyLeft is the event that took a node out of service, if it is.
func (s *State) whyLeft(id event.NodeID) uint64 {
	n := s.Node(id)
	if n == nil {
		return 0
	}
	if n.Status != NodeRunning {
		return n.Changed
	}
	if a := s.agents.get(n.AgentID); a != nil && a.Status != AgentHealthy {
		return a.Changed
	}
	return 0
}

func evolveShardLeaderChanged(s *State, e *event.Envelope, b event.ShardLeaderChanged) error {
	sh, err := s.shardOf(e, b.ShardID)
	if err != nil {
		return err
	}
	sh.Leader, sh.Term = b.NodeID, b.Term
	s.putShard(sh)
	s.touchMap(e)
	return nil
}

func evolveShardFormed(s *State, e *event.Envelope, b event.ShardFormed) error {
	sh, err := s.shardOf(e, b.ShardID)
	if err != nil {
		return err
	}
	sh.State = shardmap.Formed
	s.putShard(sh)
	s.touchMap(e)
	return nil
}

func evolveShardQuorumLost(s *State, e *event.Envelope, b event.ShardQuorumLost) error {
	return s.setLost(e, b.ShardID, true)
}

func evolveShardQuorumRestored(s *State, e *event.Envelope, b event.ShardQuorumRestored) error {
	return s.setLost(e, b.ShardID, false)
}

func (s *State) setLost(e *event.Envelope, id event.ShardID, lost bool) error {
	sh, err := s.shardOf(e, id)
	if err != nil {
		return err
	}
	sh.Lost = lost
	s.putShard(sh)
	return nil
}

// shardOf finds the shard that an event changes.
func (s *State) shardOf(e *event.Envelope, id event.ShardID) (Shard, error) {
	sh := s.Shard(id)
	if sh == nil {
		return Shard{}, unknown(e, "shard", id)
	}
	return *sh, nil
}
