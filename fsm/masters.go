package fsm

import (
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

const maxMasters = 64 // voters, learners and those about to leave

// ReaddressLevel is the level from which a master's move is an event of its own; below it, the master joins again.
const ReaddressLevel = 2

// SettingMastersDead is how long a master may be out of reach before the leader removes it, as Go writes durations ("24h");
// not set, or 0: for ever. The state machine does not obey it, the leader does.
const SettingMastersDead = "masters.dead_after"

func decideIncarnationStarted(s *State, _ *event.Command, b event.IncarnationStarted) verdict {
	const op = "start incarnation"
	switch {
	case s.head.GridID == b.GridID && s.head.Incarnation == b.Incarnation && b.GridID != "":
		return already(b.BaseSeq + 1)
	case s.head.GridID != "":
		return refuse(event.KindConflict, op, "grid %s is in incarnation %d", s.head.GridID, s.head.Incarnation.N)
	case b.GridID == "" || len(b.GridID) > maxID || b.Incarnation.N == 0:
		return refuse(event.KindInvalid, op, "grid id %q, incarnation %d: want an id and a number from 1", b.GridID, b.Incarnation.N)
	case b.BaseSeq != s.head.Seq || b.BaseChain != s.head.Chain:
		return refuse(event.KindInvalid, op, "base seq %d: this history ends at %d", b.BaseSeq, s.head.Seq)
	case b.Level < 1 || b.Level > SupportedLevel:
		return refuse(event.KindInvalid, op, "level %d: want 1 to %d", b.Level, SupportedLevel)
	}
	return accept(b)
}

func evolveIncarnationStarted(s *State, e *event.Envelope, b event.IncarnationStarted) error {
	if err := s.supported(e, b.Level); err != nil {
		return err
	}
	s.head.GridID, s.head.Incarnation, s.head.Level = b.GridID, b.Incarnation, b.Level
	s.touchMap(e)
	return nil
}

func decideMasterJoined(s *State, _ *event.Command, b event.MasterJoined) verdict {
	const op = "join master"
	if bad := badID(string(b.MasterID)); bad != "" {
		return refuse(event.KindInvalid, op, "master id %q: %s", b.MasterID, bad)
	}
	if b.Suffrage != "voter" && b.Suffrage != "nonvoter" {
		return refuse(event.KindInvalid, op, "%s: suffrage %q, want voter or nonvoter", b.MasterID, b.Suffrage)
	}
	old := s.masters.get(b.MasterID)
	switch {
	case old == nil && s.masters.len() >= maxMasters:
		return refuse(event.KindRefused, op, "%s: there are %d masters, the limit", b.MasterID, maxMasters)
	case old != nil && *old == joined(b, *old):
		return already(0)
	}
	return accept(b)
}

// joined is old with what the event says.
func joined(b event.MasterJoined, old Master) Master {
	old.ID, old.Address, old.Suffrage = b.MasterID, b.Address, b.Suffrage
	old.HTTP, old.Grid, old.Level, old.ReplicaID = b.HTTP, b.Grid, b.Level, b.ReplicaID
	return old
}

func evolveMasterJoined(s *State, _ *event.Envelope, b event.MasterJoined) error {
	m := Master{}
	if old := s.masters.get(b.MasterID); old != nil {
		m = *old
	}
	s.putMaster(joined(b, m))
	return nil
}

// knownMaster refuses an event about a master that is not in the configuration.
func (s *State) knownMaster(op string, id event.MasterID) (*Master, verdict) {
	m := s.masters.get(id)
	if m == nil {
		return nil, refuse(event.KindNotFound, op, "master %q is not in the configuration", id)
	}
	return m, verdict{}
}

func decideMasterLeft(s *State, _ *event.Command, b event.MasterLeft) verdict {
	m, refused := s.knownMaster("remove master", b.MasterID)
	if m == nil {
		return refused
	}
	return accept(b)
}

func evolveMasterLeft(s *State, _ *event.Envelope, b event.MasterLeft) error {
	s.dropMaster(b.MasterID)
	return nil
}

func decideReplicaReaddressed(s *State, _ *event.Command, b event.ReplicaReaddressed) verdict {
	const op = "record address"
	if b.ShardID != event.MastersGroup {
		return refuse(event.KindInvalid, op, "%s of %s: storage nodes' addresses are in their nodes' records", b.ReplicaID, b.ShardID)
	}
	m, refused := s.knownMaster(op, event.MasterID(b.ReplicaID.Owner()))
	switch {
	case m == nil:
		return refused
	case m.ReplicaID != b.ReplicaID:
		return refuse(event.KindConflict, op, "%s is replica %s, not %s", m.ID, m.ReplicaID, b.ReplicaID)
	case b.Address == "" || b.HTTP == "" || b.Grid == "":
		return refuse(event.KindInvalid, op, "%s: addresses %q, %q, %q: want all three", m.ID, b.Address, b.HTTP, b.Grid)
	case m.Address == b.Address && m.HTTP == b.HTTP && m.Grid == b.Grid:
		return already(0)
	case m.Address != b.OldAddress:
		return refuse(event.KindConflict, op, "%s is at %s, not at %s", m.ID, m.Address, b.OldAddress)
	}
	return accept(b)
}

func evolveReplicaReaddressed(s *State, e *event.Envelope, b event.ReplicaReaddressed) error {
	old := s.masters.get(event.MasterID(b.ReplicaID.Owner()))
	if old == nil {
		return unknown(e, "master", b.ReplicaID)
	}
	m := *old
	m.Address, m.HTTP, m.Grid = b.Address, b.HTTP, b.Grid
	s.putMaster(m)
	return nil
}

func decideLeaderElected(s *State, _ *event.Command, b event.LeaderElected) verdict {
	const op = "record leader"
	switch {
	case b.MasterID == "":
		return refuse(event.KindInvalid, op, "the master id is missing")
	case b.Term == s.head.LeaderTerm && b.MasterID == s.head.Leader:
		return already(0)
	case b.Term <= s.head.LeaderTerm:
		return refuse(event.KindConflict, op, "term %d: %s has led in term %d", b.Term, s.head.Leader, s.head.LeaderTerm)
	}
	b.Previous = s.head.Leader
	cause := uint64(0)
	if m := s.masters.get(b.Previous); m != nil && m.Unreachable {
		cause = m.Changed
	}
	return acceptFrom(cause, b)
}

func evolveLeaderElected(s *State, _ *event.Envelope, b event.LeaderElected) error {
	s.head.Leader, s.head.LeaderTerm = b.MasterID, b.Term
	return nil
}

func decideMasterUnreachable(s *State, _ *event.Command, b event.MasterUnreachable) verdict {
	const op = "declare master unreachable"
	m, refused := s.knownMaster(op, b.MasterID)
	switch {
	case m == nil:
		return refused
	case m.Unreachable:
		return refuse(event.KindConflict, op, "%s is unreachable already", m.ID)
	case m.ID == s.head.Leader:
		return refuse(event.KindConflict, op, "%s leads", m.ID)
	}
	return accept(b)
}

func evolveMasterUnreachable(s *State, e *event.Envelope, b event.MasterUnreachable) error {
	return s.setReachable(e, b.MasterID, false)
}

func decideMasterRecovered(s *State, _ *event.Command, b event.MasterRecovered) verdict {
	const op = "declare master reachable"
	m, refused := s.knownMaster(op, b.MasterID)
	switch {
	case m == nil:
		return refused
	case !m.Unreachable:
		return refuse(event.KindConflict, op, "%s is reachable already", m.ID)
	}
	return acceptFrom(m.Changed, b)
}

func evolveMasterRecovered(s *State, e *event.Envelope, b event.MasterRecovered) error {
	return s.setReachable(e, b.MasterID, true)
}

func (s *State) setReachable(e *event.Envelope, id event.MasterID, reachable bool) error {
	old := s.masters.get(id)
	if old == nil {
		return unknown(e, "master", id)
	}
	m := *old
	m.Unreachable, m.Changed = !reachable, e.Seq
	s.putMaster(m)
	return nil
}
