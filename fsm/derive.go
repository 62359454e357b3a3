package fsm

import (
	"fmt"
	"strings"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
)

// follow records what an event brings about: first its direct consequence, then quorums, then the cluster's level, each
// with the event before it in that order as its cause.
func (r *run) follow(e *event.Envelope) error {
	last := e.Seq
	touched := handlers[e.Type].health
	if body := r.s.consequence(e); body != nil {
		if err := r.derived(&last, body); err != nil {
			return err
		}
		touched = touched || handlers[body.Type()].health
	}
	touched = r.s.noteOutbox() || touched
	if !touched {
		return nil
	}
	quorum := last
	for _, body := range r.s.quorumChanges() {
		cause := last
		if err := r.derived(&cause, body); err != nil {
			return err
		}
		quorum = cause
	}
	if body := r.s.levelChange(); body != nil {
		return r.derived(&quorum, body)
	}
	return nil
}

// derived records an event whose cause is *cause, and sets that to its seq.
func (r *run) derived(cause *uint64, body event.Body) error {
	e := &event.Envelope{Cause: *cause, Actor: actorGrid, Body: body}
	if err := r.record(e); err != nil {
		return fmt.Errorf("derived %s: %w", body.Type(), err)
	}
	*cause = e.Seq
	return nil
}

// consequence is the one event that follows from e alone, or nil.
func (s *State) consequence(e *event.Envelope) event.Body {
	switch b := e.Body.(type) {
	case event.AgentHeartbeat:
		return s.recovery(b.AgentID, e.Time)
	case event.AgentRegistered:
		return s.recovery(b.AgentID, e.Time)
	case event.ShardLeaderChanged:
		if sh := s.Shard(b.ShardID); sh.State == shardmap.Forming {
			return event.ShardFormed{ShardID: b.ShardID, Term: b.Term}
		}
	case event.LeaderElected:
		if m := s.masters.get(b.MasterID); m != nil && m.Unreachable {
			return event.MasterRecovered{MasterID: b.MasterID, LastContact: e.Time}
		}
	}
	return nil
}

// recovery of an agent that was heard of at time now.
func (s *State) recovery(id event.AgentID, now int64) event.Body {
	a := s.agents.get(id)
	if a.Status == AgentHealthy {
		return nil
	}
	return event.AgentRecovered{AgentID: id, DowntimeSeconds: float64(max(0, now-a.LastSeen)) / 1e6}
}

// quorumChanges lists the quorums that were lost or restored since this was last asked, by shard.
func (s *State) quorumChanges() []event.Body {
	var changes []event.Body
	for sh := range s.shards.all() {
		switch {
		case !sh.Lost && sh.Live < sh.Needed() && s.quorumIsLost(sh):
			changes = append(changes, event.ShardQuorumLost{ShardID: sh.ID, Live: sh.Live, Needed: sh.Needed()})
		case sh.Lost && sh.Live >= sh.Needed():
			changes = append(changes, event.ShardQuorumRestored{ShardID: sh.ID, Live: sh.Live, Needed: sh.Needed()})
		}
	}
	return changes
}

// quorumIsLost for sure (safety S29): a majority of the nodes was reported down, or none is live. Silence of a majority of
// agents alone is not enough: the masters may be the ones that are cut off.
func (s *State) quorumIsLost(sh *Shard) bool {
	if sh.Live == 0 {
		return true
	}
	up := uint32(0)
	for _, v := range sh.Voters {
		if n := s.Node(v.NodeID); n != nil && n.Status == NodeRunning {
			up++
		}
	}
	return up < sh.Needed()
}

// levelChange is the event for the cluster's level, if that is not the one last recorded.
func (s *State) levelChange() event.Body {
	level := s.level()
	if level == s.head.Cluster.Level {
		return nil
	}
	total, healthy := uint32(s.agents.len()), s.counts.healthyAgents
	switch level {
	case Critical:
		return event.ClusterCritical{TotalAgents: total, HealthyAgents: healthy, Reason: strings.Join(s.criticalReasons(), "; ")}
	case Degraded:
		return event.ClusterDegraded{TotalAgents: total, HealthyAgents: healthy, Reason: strings.Join(s.degradedReasons(), "; ")}
	}
	return event.ClusterHealthy{TotalAgents: total, HealthyAgents: healthy, TotalNodes: s.counts.desiredNodes, RunningNodes: s.counts.runningNodes}
}

func (s *State) level() string {
	switch {
	case s.counts.healthyAgents == 0 || s.counts.lostShards > 0:
		return Critical
	case s.counts.healthyAgents < uint32(s.agents.len()), s.counts.unreachable > 0, s.counts.shortShards > 0,
		uint32(s.shards.len()) < s.head.Map.Shards, s.mark.OutboxFull:
		return Degraded
	}
	return Healthy
}

func (s *State) criticalReasons() []string {
	var reasons []string
	if s.counts.healthyAgents == 0 {
		reasons = append(reasons, "no agent is healthy")
	}
	var lost named
	for sh := range s.shards.all() {
		if sh.Lost {
			lost.add(string(sh.ID))
		}
	}
	return lost.reason(reasons, "has lost its quorum", "have lost their quorum")
}

func (s *State) degradedReasons() []string {
	var agents, masters, shards named
	for a := range s.agents.all() {
		if a.Status != AgentHealthy {
			agents.add(string(a.ID))
		}
	}
	for m := range s.masters.all() {
		if m.Unreachable {
			masters.add(string(m.ID))
		}
	}
	for sh := range s.shards.all() {
		if sh.Live < s.wanted(sh) {
			shards.add(string(sh.ID))
		}
	}
	reasons := agents.reason(nil, "is not healthy", "are not healthy")
	reasons = masters.reason(reasons, "is unreachable", "are unreachable")
	reasons = shards.reason(reasons, "runs below its replica count", "run below their replica count")
	if n := uint32(s.shards.len()); n < s.head.Map.Shards {
		reasons = append(reasons, fmt.Sprintf("%d of %d shards are created", n, s.head.Map.Shards))
	}
	if s.mark.OutboxFull {
		reasons = append(reasons, "the outbox is over 80 % full: a sink does not keep up")
	}
	return reasons
}

// named collects names for a sentence, the first three by name.
type named struct {
	first []string
	n     int
}

func (n *named) add(name string) {
	if n.n++; n.n <= 3 {
		n.first = append(n.first, name)
	}
}

func (n *named) reason(reasons []string, one, many string) []string {
	switch {
	case n.n == 0:
		return reasons
	case n.n == 1:
		return append(reasons, n.first[0]+" "+one)
	case n.n > len(n.first):
		return append(reasons, fmt.Sprintf("%s and %d more %s", strings.Join(n.first, ", "), n.n-len(n.first), many))
	}
	return append(reasons, strings.Join(n.first, ", ")+" "+many)
}

// refreshMap rebuilds the routing form when the map has changed.
func (s *State) refreshMap() {
	if s.shardMap.Epoch == s.head.Map.Epoch && s.shardMap.Base == s.head.Map.Shards {
		return
	}
	m := &shardmap.Map{Epoch: s.head.Map.Epoch, Strategy: s.head.Map.Strategy, Base: s.head.Map.Shards, Replicas: s.head.Map.Replicas}
	for sh := range s.shards.all() {
		members := s.Members(sh)
		route := shardmap.Shard{ID: sh.ID, State: sh.State, Leader: sh.Leader, Term: sh.Term, Configuration: members.Configuration}
		for _, v := range sh.Voters {
			route.Replicas = append(route.Replicas, s.route(v, shardmap.Voter, members.Leaving))
		}
		if members.Learner.ReplicaID != "" {
			route.Replicas = append(route.Replicas, s.route(members.Learner, shardmap.Learner, members.Leaving))
		}
		m.Shards = append(m.Shards, route)
	}
	s.shardMap = m
}

// route is a replica as routers and nodes see it.
func (s *State) route(v event.Voter, role string, leaving event.ReplicaID) shardmap.Replica {
	r := shardmap.Replica{ReplicaID: v.ReplicaID, NodeID: v.NodeID, Role: role, Leaving: v.ReplicaID == leaving}
	if n := s.Node(v.NodeID); n != nil {
		r.AgentID, r.Endpoint = n.AgentID, n.Endpoint
	}
	return r
}

func evolveClusterHealthy(s *State, e *event.Envelope, _ event.ClusterHealthy) error {
	return s.setLevel(e, Healthy, "")
}

func evolveClusterDegraded(s *State, e *event.Envelope, b event.ClusterDegraded) error {
	return s.setLevel(e, Degraded, b.Reason)
}

func evolveClusterCritical(s *State, e *event.Envelope, b event.ClusterCritical) error {
	return s.setLevel(e, Critical, b.Reason)
}

func (s *State) setLevel(e *event.Envelope, level, reason string) error {
	s.head.Cluster = levelHead{Level: level, Reason: reason, Since: e.Seq}
	return nil
}
