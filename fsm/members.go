package fsm

import (
	"fmt"
	"slices"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
)

// MembersLevel is the level from which the members of a shard's group change; below it they are those of its creation.
const MembersLevel = 4

// maxVoters of a group: five, and one more while one of them is replaced.
const maxVoters = 6

// Members is what became of a shard's members since its creation: history. A shard without changes has none.
//
// Invariants: Shard.Voters is what the group has committed, as its leaders reported; one change is under way at a time, a
// learner that is to vote, a replica that is to leave, or, in a replacement, first the one and then the other.
type Members struct {
	Number        uint64          `wire:"number"`        // of the shard
	Learner       event.Voter     `wire:"learner"`       // assigned, and no voter yet; empty: none
	Leaving       event.ReplicaID `wire:"leaving"`       // to be removed, a voter not before the learner votes; empty: nobody
	Configuration uint64          `wire:"configuration"` // the group's entry that the last report was of; 0: none has come
	Since         uint64          `wire:"since"`         // seq of the replica_assigned that is under way; 0: none is
}

// Members is what became of a shard's members; zero but for its number when nothing did.
func (s *State) Members(sh *Shard) Members {
	if m := s.members.get(sh.Number); m != nil {
		return *m
	}
	return Members{Number: sh.Number}
}

// Underway tells in words what change is not done; empty: none.
func (m *Members) Underway() string {
	switch {
	case m.Since == 0:
		return ""
	case m.Leaving != "" && m.Learner.ReplicaID == m.Leaving:
		return fmt.Sprintf("the learner on %s is leaving", m.Learner.NodeID)
	case m.Learner.ReplicaID != "" && m.Leaving != "":
		return fmt.Sprintf("%s is being replaced by %s", m.Leaving.Owner(), m.Learner.NodeID)
	case m.Learner.ReplicaID != "":
		return fmt.Sprintf("%s is being added", m.Learner.NodeID)
	}
	return fmt.Sprintf("%s is being removed", m.Leaving.Owner())
}

// ReplicaAt is a node's replica of a shard, voter or learner.
func (s *State) ReplicaAt(sh *Shard, node event.NodeID) (event.Voter, bool) {
	for _, v := range sh.Voters {
		if v.NodeID == node {
			return v, true
		}
	}
	if m := s.members.get(sh.Number); m != nil && m.Learner.NodeID == node && node != "" {
		return m.Learner, true
	}
	return event.Voter{}, false
}

// wanted is how many live voters a shard has when it is whole: one that has lost a voter for good still wants it.
func (s *State) wanted(sh *Shard) uint32 { return max(uint32(len(sh.Voters)), s.head.Map.Replicas) }

func indexOf(sh *Shard, id event.ReplicaID) int {
	return slices.IndexFunc(sh.Voters, func(v event.Voter) bool { return v.ReplicaID == id })
}

func decideReplicaAssigned(s *State, _ *event.Command, b event.ReplicaAssigned) verdict {
	sh := s.Shard(b.ShardID)
	if sh == nil {
		return refuse(event.KindNotFound, "assign replica", "shard %q is unknown", b.ShardID)
	}
	if b.Role == event.RoleLearner {
		return s.judgeLearner(sh, b)
	}
	const op = "assign replica"
	at, ok := s.ReplicaAt(sh, b.NodeID)
	switch {
	case b.Role != event.RoleLeaving && b.Role != event.RoleVoter:
		return refuse(event.KindInvalid, op, "role %q: want %s, %s or %s", b.Role, event.RoleLearner, event.RoleLeaving, event.RoleVoter)
	case b.Replaces != "":
		return refuse(event.KindInvalid, op, "only a learner replaces another replica")
	case !ok:
		return refuse(event.KindNotFound, op, "%q has no replica of %s", b.NodeID, sh.ID)
	case at.ReplicaID != b.ReplicaID:
		return refuse(event.KindConflict, op, "the replica of %s on %s is %s, not %s", sh.ID, b.NodeID, at.ReplicaID, b.ReplicaID)
	case b.Role == event.RoleLeaving:
		return s.judgeLeaving(sh, b)
	}
	return s.judgeStaying(sh, b)
}

// judgeLearner: a replica comes to a node that has none, on an agent that is there, one change at a time.
func (s *State) judgeLearner(sh *Shard, b event.ReplicaAssigned) verdict {
	const op = "add replica"
	m := s.Members(sh)
	if m.Since > 0 && m.Learner.NodeID == b.NodeID && m.Leaving == b.Replaces {
		return already(m.Since)
	}
	n := s.Node(b.NodeID)
	switch {
	case sh.State != shardmap.Formed:
		return refuse(event.KindRefused, op, "%s has not formed yet", sh.ID)
	case m.Since > 0:
		return refuse(event.KindRefused, op, "one change of %s at a time: %s", sh.ID, m.Underway())
	case n == nil:
		return refuse(event.KindNotFound, op, "node %q is unknown", b.NodeID)
	case !n.Desired || n.Status != NodeRunning:
		return refuse(event.KindRefused, op, "%s is %s: a new replica needs a node that runs", n.ID, n.Status)
	case s.holds(sh, n.ID):
		return refuse(event.KindRefused, op, "%s has a replica of %s already", n.ID, sh.ID)
	case s.agents.get(n.AgentID).Status == AgentOffline:
		return refuse(event.KindRefused, op, "%s, the agent of %s, is offline", n.AgentID, n.ID)
	case len(sh.Voters) >= maxVoters:
		return refuse(event.KindRefused, op, "%s has %d voters, the limit: five, and one more while one is replaced; remove one first", sh.ID, maxVoters)
	case b.Replaces != "" && indexOf(sh, b.Replaces) < 0:
		return refuse(event.KindNotFound, op, "%s is no voter of %s", b.Replaces, sh.ID)
	}
	if fault := s.badReplicaID(event.Voter{NodeID: b.NodeID, ReplicaID: b.ReplicaID}); fault != "" {
		return refuse(event.KindInvalid, op, "%s: %s", sh.ID, fault)
	}
	after := slices.DeleteFunc(slices.Clone(sh.Voters), func(v event.Voter) bool { return v.ReplicaID == b.Replaces })
	if fault := s.badSpread(append(after, event.Voter{NodeID: b.NodeID})); fault != "" {
		return refuse(event.KindRefused, op, "%s: %s; choose a node of another agent", sh.ID, fault)
	}
	return accept(b)
}

// judgeLeaving: a learner may go at any time. A voter goes only where the others are a quorum without it; and one that is
// well only where enough are left, for removing first is never right when it can be replaced (safety S14).
func (s *State) judgeLeaving(sh *Shard, b event.ReplicaAssigned) verdict {
	const op = "remove replica"
	m := s.Members(sh)
	switch {
	case m.Leaving == b.ReplicaID:
		return already(m.Since)
	case m.Learner.ReplicaID == b.ReplicaID:
		return acceptFrom(m.Since, b)
	case sh.State != shardmap.Formed:
		return refuse(event.KindRefused, op, "%s has not formed yet", sh.ID)
	case m.Since > 0:
		return refuse(event.KindRefused, op, "one change of %s at a time: %s", sh.ID, m.Underway())
	}
	left, alive := uint32(len(sh.Voters)-1), sh.Live
	well := s.lives(b.NodeID)
	if well {
		alive--
	}
	switch {
	case left == 0:
		return refuse(event.KindRefused, op, "%s is the only voter of %s; replace it", b.NodeID, sh.ID)
	case alive < left/2+1:
		return refuse(event.KindRefused, op, "%d of the other %d voters of %s run, which is no quorum", alive, left, sh.ID)
	case left < s.head.Map.Replicas && well:
		return refuse(event.KindRefused, op, "%s is well, and %s would have %d voters, fewer than %d; replace it by a node that takes its place", b.NodeID, sh.ID, left, s.head.Map.Replicas)
	case left < s.head.Map.Replicas && alive < left:
		return refuse(event.KindRefused, op, "%s would have %d voters, and only %d of them run; bring back the others or replace it", sh.ID, left, alive)
	}
	return acceptFrom(s.whyLeft(b.NodeID), b)
}

// judgeStaying takes back that a voter is to leave. Its group may have removed it meanwhile, and then says so.
func (s *State) judgeStaying(sh *Shard, b event.ReplicaAssigned) verdict {
	const op = "keep replica"
	m := s.Members(sh)
	switch {
	case m.Learner.ReplicaID == b.ReplicaID:
		return refuse(event.KindRefused, op, "%s is a learner of %s: it votes when it has caught up, or leaves", b.NodeID, sh.ID)
	case m.Leaving != b.ReplicaID:
		return already(0)
	}
	return acceptFrom(m.Since, b)
}

func evolveReplicaAssigned(s *State, e *event.Envelope, b event.ReplicaAssigned) error {
	sh, err := s.shardOf(e, b.ShardID)
	if err != nil {
		return err
	}
	m := s.Members(&sh)
	switch b.Role {
	case event.RoleLearner:
		m.Learner, m.Leaving = event.Voter{ReplicaID: b.ReplicaID, NodeID: b.NodeID}, b.Replaces
	case event.RoleLeaving:
		m.Leaving = b.ReplicaID
	default:
		m.Leaving = ""
	}
	m.Since = e.Seq
	s.putMembers(m)
	s.touchMap(e)
	return nil
}

// putMembers stores m; nothing is under way when nobody comes or goes.
func (s *State) putMembers(m Members) {
	if m.Learner.ReplicaID == "" && m.Leaving == "" {
		m.Since = 0
	}
	s.members.set(m.Number, m)
}

// judgeReport is what the reports of a group's leaders have in common (safety S29): one of an older configuration is refused.
func (s *State) judgeReport(op string, id event.ShardID, configuration uint64) (*Shard, verdict) {
	sh := s.Shard(id)
	switch {
	case sh == nil:
		return nil, refuse(event.KindNotFound, op, "shard %q is unknown", id)
	case configuration == 0:
		return nil, refuse(event.KindInvalid, op, "%s: the index of its configuration is missing", id)
	}
	if m := s.Members(sh); configuration < m.Configuration {
		return nil, refuse(event.KindConflict, op, "%s: a report of the configuration of entry %d is older than what is known of entry %d", id, configuration, m.Configuration)
	}
	return sh, verdict{}
}

func decideReplicaPromoted(s *State, _ *event.Command, b event.ReplicaPromoted) verdict {
	const op = "report promotion"
	sh, refused := s.judgeReport(op, b.ShardID, b.Configuration)
	if sh == nil {
		return refused
	}
	if i := indexOf(sh, b.ReplicaID); i >= 0 && sh.Voters[i].NodeID == b.NodeID {
		return already(0)
	}
	m := s.Members(sh)
	if m.Learner.ReplicaID != b.ReplicaID || m.Learner.NodeID != b.NodeID || b.ReplicaID == "" {
		return refuse(event.KindConflict, op, "%s of %s is no learner of %s", b.ReplicaID, b.NodeID, sh.ID)
	}
	return acceptFrom(m.Since, b)
}

// evolveReplicaPromoted: a replica that replaces another one comes next to it in the order of voters, and so inherits its
// part in the spread of leaders.
func evolveReplicaPromoted(s *State, e *event.Envelope, b event.ReplicaPromoted) error {
	sh, err := s.shardOf(e, b.ShardID)
	if err != nil {
		return err
	}
	m := s.Members(&sh)
	if m.Learner.ReplicaID != b.ReplicaID {
		return unknown(e, "learner", b.ReplicaID)
	}
	at := len(sh.Voters)
	if i := indexOf(&sh, m.Leaving); i >= 0 {
		at = i + 1
	}
	sh.Voters = slices.Insert(slices.Clone(sh.Voters), at, m.Learner)
	m.Learner, m.Configuration = event.Voter{}, b.Configuration
	s.putMembers(m)
	s.regroup(e, sh)
	return nil
}

func decideReplicaRemoved(s *State, _ *event.Command, b event.ReplicaRemoved) verdict {
	const op = "report removal"
	sh, refused := s.judgeReport(op, b.ShardID, b.Configuration)
	if sh == nil {
		return refused
	}
	at, ok := s.ReplicaAt(sh, b.NodeID)
	switch {
	case !ok || at.ReplicaID != b.ReplicaID: // ids are never used again: it was removed
		return already(0)
	case len(sh.Voters) == 1 && sh.Voters[0].ReplicaID == b.ReplicaID:
		return refuse(event.KindConflict, op, "%s is the only voter of %s", b.ReplicaID, sh.ID)
	}
	return acceptFrom(s.Members(sh).Since, b)
}

func evolveReplicaRemoved(s *State, e *event.Envelope, b event.ReplicaRemoved) error {
	sh, err := s.shardOf(e, b.ShardID)
	if err != nil {
		return err
	}
	m := s.Members(&sh)
	switch i := indexOf(&sh, b.ReplicaID); {
	case m.Learner.ReplicaID == b.ReplicaID && b.ReplicaID != "":
		m.Learner = event.Voter{}
	case i >= 0 && len(sh.Voters) > 1:
		sh.Voters = slices.Delete(slices.Clone(sh.Voters), i, i+1)
	default:
		return unknown(e, "replica", b.ReplicaID)
	}
	if m.Leaving == b.ReplicaID {
		m.Leaving = ""
	}
	if sh.Leader == b.NodeID {
		sh.Leader = "" // the next one reports itself
	}
	m.Configuration = b.Configuration
	s.putMembers(m)
	s.regroup(e, sh)
	return nil
}

// regroup stores a shard whose voters have changed.
func (s *State) regroup(e *event.Envelope, sh Shard) {
	sh.Live = s.live(&sh)
	s.putShard(sh)
	s.touchMap(e)
}
