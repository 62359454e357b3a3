package fsm

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
)

// check says which invariants of a state do not hold. Tests ask it behind every apply. It computes again, from the tables
// alone, everything that is kept incrementally.
func check(s *State) error {
	return errors.Join(checkSums(s), checkCounts(s), checkAgents(s), checkShards(s), checkTxns(s), checkIndexes(s), checkLocal(s), CheckLevels(s))
}

func sumOf[K, V any](t *table[K, V]) (sum lanes) {
	for v := range t.all() {
		h := sha256.Sum256(appendObject([]byte{byte(t.section)}, v))
		for i := range sum {
			sum[i] += binary.BigEndian.Uint64(h[8*i:])
		}
	}
	return sum
}

func checkSum[K, V any](t *table[K, V]) error {
	if got := sumOf(t); got != t.sum {
		return fmt.Errorf("section %d: the sum is %x, the objects' is %x", t.section, t.sum, got)
	}
	return nil
}

func checkSums(s *State) error {
	return errors.Join(checkSum(&s.agents), checkSum(&s.nodes), checkSum(&s.shards), checkSum(&s.txns), checkSum(&s.masters),
		checkSum(&s.settings), checkSum(&s.types), checkSum(&s.sinks), checkSum(&s.members), checkSum(&s.pulses), checkSum(&s.requests),
		checkSum(&s.emitters), checkSum(&s.cursors), checkSum(&s.backlog))
}

func checkCounts(s *State) error {
	var c counts
	for a := range s.agents.all() {
		if a.Status == AgentHealthy {
			c.healthyAgents++
		}
	}
	for n := range s.nodes.all() {
		if n.Desired {
			c.desiredNodes++
			if n.Status == NodeRunning {
				c.runningNodes++
			}
		}
	}
	for m := range s.masters.all() {
		if m.Unreachable {
			c.unreachable++
		}
	}
	for sh := range s.shards.all() {
		if sh.Lost {
			c.lostShards++
		}
		if sh.Live < max(uint32(len(sh.Voters)), s.head.Map.Replicas) {
			c.shortShards++
		}
	}
	var errs []error
	if c != s.counts {
		errs = append(errs, fmt.Errorf("counts are %+v, want %+v", s.counts, c))
	}
	if s.head.Seq > 0 && s.level() != s.head.Cluster.Level {
		errs = append(errs, fmt.Errorf("the cluster is %s, recorded is %s", s.level(), s.head.Cluster.Level))
	}
	if s.limits != limitsOf(s) {
		errs = append(errs, fmt.Errorf("limits are %+v, want %+v", s.limits, limitsOf(s)))
	}
	return errors.Join(errs...)
}

func checkAgents(s *State) error {
	var errs []error
	for n := range s.nodes.all() {
		switch {
		case n.ID != nodeID(n.Number) || n.Number == 0 || n.Number > s.head.LastNode:
			errs = append(errs, fmt.Errorf("node %s has number %d, the last given is %d", n.ID, n.Number, s.head.LastNode))
		case s.agents.get(n.AgentID) == nil:
			errs = append(errs, fmt.Errorf("%s belongs to %s, which is unknown", n.ID, n.AgentID))
		case n.Desired != (n.Status == NodeRequested || n.Status == NodeRunning || n.Status == NodeCrashed):
			errs = append(errs, fmt.Errorf("%s is desired: %v, and %s", n.ID, n.Desired, n.Status))
		case n.Status == NodeRunning && (n.StoreID == "" || n.Start == 0):
			errs = append(errs, fmt.Errorf("%s runs without store id or start", n.ID))
		case n.Changed > s.head.Seq || n.Requested > n.Changed:
			errs = append(errs, fmt.Errorf("%s changed at %d", n.ID, n.Changed))
		}
	}
	for a := range s.agents.all() {
		if (a.LastSeen == 0) != (a.Status == AgentHealthy) {
			errs = append(errs, fmt.Errorf("%s is %s, last seen %d", a.ID, a.Status, a.LastSeen))
		}
		if a.Revision > s.head.Seq || a.Changed > s.head.Seq {
			errs = append(errs, fmt.Errorf("%s changed in the future", a.ID))
		}
	}
	for p := range s.pulses.all() {
		if s.agents.get(p.AgentID) == nil {
			errs = append(errs, fmt.Errorf("a pulse of %s, which is unknown", p.AgentID))
		}
	}
	for m := range s.emitters.all() {
		if s.agents.get(m.AgentID) == nil {
			errs = append(errs, fmt.Errorf("a mark of %s, which is unknown", m.AgentID))
		}
	}
	return errors.Join(errs...)
}

func checkShards(s *State) error {
	var errs []error
	next := uint64(0)
	seen := map[event.ReplicaID]bool{}
	for sh := range s.shards.all() {
		if sh.Number != next || sh.ID != shardmap.ID(next) {
			errs = append(errs, fmt.Errorf("shard %s has number %d, want %d", sh.ID, sh.Number, next))
		}
		next++
		if live := s.live(sh); live != sh.Live {
			errs = append(errs, fmt.Errorf("%s has %d live voters, recorded are %d", sh.ID, live, sh.Live))
		}
		if s.Members(sh).Configuration == 0 && uint32(len(sh.Voters)) != s.head.Map.Replicas || len(sh.Voters) == 0 || len(sh.Voters) > maxVoters {
			errs = append(errs, fmt.Errorf("%s has %d voters, created were %d", sh.ID, len(sh.Voters), s.head.Map.Replicas))
		}
		if (sh.State == shardmap.Formed) != (sh.Term > 0) {
			errs = append(errs, fmt.Errorf("%s is %s in term %d", sh.ID, sh.State, sh.Term))
		}
		if sh.Lost && sh.Live >= sh.Needed() || !sh.Lost && s.quorumIsLost(sh) {
			errs = append(errs, fmt.Errorf("%s has %d of %d live, lost: %v", sh.ID, sh.Live, sh.Needed(), sh.Lost))
		}
		for _, v := range sh.Voters {
			if n := s.Node(v.NodeID); n == nil || !n.Desired || seen[v.ReplicaID] {
				errs = append(errs, fmt.Errorf("%s: voter %+v is unknown, stopped or in two groups", sh.ID, v))
			}
			seen[v.ReplicaID] = true
		}
	}
	return errors.Join(append(errs, checkMembers(s), checkMap(s))...)
}

// checkMembers: a change that is under way is one, of replicas of its shard, and says since when.
func checkMembers(s *State) error {
	var errs []error
	for m := range s.members.all() {
		sh := s.shards.get(m.Number)
		if sh == nil || m.Since > s.head.Seq || (m.Since > 0) != (m.Learner.ReplicaID != "" || m.Leaving != "") {
			errs = append(errs, fmt.Errorf("members %+v of %v", m, sh))
			continue
		}
		if l := m.Learner; l.ReplicaID != "" {
			n := s.Node(l.NodeID)
			if n == nil || !n.Desired || slices.ContainsFunc(sh.Voters, func(v event.Voter) bool { return v.NodeID == l.NodeID || v.ReplicaID == l.ReplicaID }) {
				errs = append(errs, fmt.Errorf("learner %+v of %s: %+v", l, sh.ID, n))
			}
		}
		if m.Leaving != "" && m.Leaving != m.Learner.ReplicaID && !slices.ContainsFunc(sh.Voters, func(v event.Voter) bool { return v.ReplicaID == m.Leaving }) {
			errs = append(errs, fmt.Errorf("%s, which leaves %s, is no replica of it", m.Leaving, sh.ID))
		}
	}
	return errors.Join(errs...)
}

// checkMap compares a published state's routing form with the shards.
func checkMap(s *State) error {
	m := s.shardMap
	if m.Epoch != s.head.Map.Epoch || m.Base != s.head.Map.Shards || len(m.Shards) != s.shards.len() {
		return fmt.Errorf("the map is of epoch %v with %d shards, want %v with %d", m.Epoch, len(m.Shards), s.head.Map.Epoch, s.shards.len())
	}
	if s.head.Map.Epoch.Seq > s.head.Seq || s.head.Map.Shards < uint32(s.shards.len()) {
		return fmt.Errorf("epoch %v at event %d, %d of %d shards", m.Epoch, s.head.Seq, s.shards.len(), s.head.Map.Shards)
	}
	for i := range m.Shards {
		r := &m.Shards[i]
		sh := s.Shard(r.ID)
		if sh == nil || sh.Leader != r.Leader || sh.Term != r.Term || sh.State != r.State {
			return fmt.Errorf("the map has %+v, the state %+v", r, sh)
		}
		if want := len(sh.Voters) + min(1, len(s.Members(sh).Learner.NodeID)); len(r.Replicas) != want || r.Configuration != s.Members(sh).Configuration {
			return fmt.Errorf("the map has %+v, the state %+v and %+v", r, sh, s.Members(sh))
		}
		for _, rep := range r.Replicas {
			if rep.Leaving != (rep.ReplicaID == s.Members(sh).Leaving) {
				return fmt.Errorf("the map has %+v, the state %+v", rep, s.Members(sh))
			}
			if n := s.Node(rep.NodeID); n.Endpoint != rep.Endpoint || n.AgentID != rep.AgentID {
				return fmt.Errorf("the map has %+v, the state %+v", rep, n)
			}
		}
	}
	return nil
}

func checkTxns(s *State) error {
	var errs []error
	open := 0
	for t := range s.txns.all() {
		if !t.Completed {
			open++
		}
		switch {
		case t.Committed && (t.Final || len(t.Aborted) > 0):
			errs = append(errs, fmt.Errorf("%s is committed and aborted: %+v", t.ID, t))
		case !t.Committed && !t.Final && len(t.Aborted) == 0:
			errs = append(errs, fmt.Errorf("%s has no decision", t.ID))
		case t.Begin.Compare(s.head.Horizon) <= 0:
			errs = append(errs, fmt.Errorf("%s began at %v, the horizon is %v", t.ID, t.Begin, s.head.Horizon))
		case len(t.Aborted) > maxAttempts || t.Seq > s.head.Seq:
			errs = append(errs, fmt.Errorf("%s has %d attempts, decided at %d", t.ID, len(t.Aborted), t.Seq))
		}
	}
	if open != s.OpenTxnCount() || s.index.byBegin.tree.Len() != s.txns.len() {
		errs = append(errs, fmt.Errorf("%d open transactions, indexed are %d; %d records, indexed are %d", open, s.OpenTxnCount(), s.txns.len(), s.index.byBegin.tree.Len()))
	}
	if s.head.Horizon.Compare(s.Position()) > 0 {
		errs = append(errs, fmt.Errorf("the horizon %v is ahead of %v", s.head.Horizon, s.Position()))
	}
	return errors.Join(errs...)
}

func checkIndexes(s *State) error {
	var errs []error
	for _, k := range s.index.nodesOf.keys() {
		if n := s.nodes.get(k.number); n == nil || n.AgentID != k.agent {
			errs = append(errs, fmt.Errorf("index of nodes: %+v", k))
		}
	}
	if n := s.index.nodesOf.tree.Len(); n != s.nodes.len() {
		errs = append(errs, fmt.Errorf("index of nodes: %d for %d", n, s.nodes.len()))
	}
	for _, k := range s.index.byBegin.keys() {
		if t := s.txns.get(k.id); t == nil || t.Begin != k.begin {
			errs = append(errs, fmt.Errorf("index of begins: %+v", k))
		}
	}
	for _, k := range s.index.open.keys() {
		if t := s.txns.get(k.id); t == nil || t.Seq != k.seq || t.Completed {
			errs = append(errs, fmt.Errorf("index of open transactions: %+v", k))
		}
	}
	for _, k := range s.index.byIssued.keys() {
		if q := s.requests.get(k.id); q == nil || q.Issued != k.issued || k.issued <= s.mark.Forgotten && k.issued < s.mark.Time-s.limits.keep {
			errs = append(errs, fmt.Errorf("index of requests: %+v, forgotten %d", k, s.mark.Forgotten))
		}
	}
	if n := s.index.byIssued.tree.Len(); n != s.requests.len() {
		errs = append(errs, fmt.Errorf("index of requests: %d for %d", n, s.requests.len()))
	}
	return errors.Join(errs...)
}

func checkLocal(s *State) error {
	var errs []error
	if s.mark.Time < s.head.Time {
		errs = append(errs, fmt.Errorf("log time %d is before the last event's %d", s.mark.Time, s.head.Time))
	}
	for c := range s.cursors.all() {
		if s.sinks.get(c.Sink) == nil || c.Through > s.head.Seq {
			errs = append(errs, fmt.Errorf("cursor %+v at event %d", c, s.head.Seq))
		}
	}
	o := s.Outbox()
	if o.Bytes > s.head.FeedBytes || o.Events > s.head.Seq || o.Events == 0 && o.Bytes > 0 {
		errs = append(errs, fmt.Errorf("outbox %+v of %d bytes", o, s.head.FeedBytes))
	}
	if uint64(s.backlog.len()) > o.Events/backlogStride+1 {
		errs = append(errs, fmt.Errorf("%d backlog marks for %d events", s.backlog.len(), o.Events))
	}
	return errors.Join(errs...)
}

// CheckLevels: what came with a level is not there below it, and nobody who could not know its rules is in its grid.
func CheckLevels(s *State) error {
	var errs []error
	c := s.check
	if s.head.Level < CheckLevel && (c.Index != 0 || c.Seq != 0 || len(c.Differ) > 0) {
		errs = append(errs, fmt.Errorf("level %d and a check %+v", s.head.Level, c))
	}
	if s.head.Level < MembersLevel && s.members.len() > 0 {
		errs = append(errs, fmt.Errorf("level %d and members of %d shards", s.head.Level, s.members.len()))
	}
	if c.Index%CheckStride != 0 || c.Seq > s.head.Seq || c.Index > s.mark.RaftIndex && s.mark.RaftIndex > 0 || (c.Index == 0) != (c.Seq == 0) {
		errs = append(errs, fmt.Errorf("check %+v at entry %d, event %d", c, s.mark.RaftIndex, s.head.Seq))
	}
	if s.head.Level > s.supports {
		errs = append(errs, fmt.Errorf("level %d, supported are %d", s.head.Level, s.supports))
	}
	return errors.Join(errs...)
}
