package feed

import (
	"fmt"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// Admission says what the leader does with a command of a type while the outbox fills (safety S16). Apply never refuses for
// space: the log would have the command already.
type Admission uint8

// The classes, in the order in which they stop.
const (
	Droppable Admission = iota + 1 // telemetry: from 80 % of the quota on it is counted and dropped
	Ordinary                       // clients' work: from 90 % on it is refused with KindFeedFull
	Repairing                      // what a grid in trouble needs, what ends what has begun, and what clears the outbox: always admitted
	Derived                        // not proposed: it follows from an event that was admitted
)

// refusePct is the share of the quota from which on clients' work is refused. Not more, because commands on their way when it
// is reached still come, and repairs need room; not less, because a grid that refuses work is down for its clients.
const refusePct = 90

// admissions has an entry for each type of the catalogue, those with a reserved code included.
var admissions = map[event.Type]Admission{
	event.TypeAgentRegistered:   Ordinary, // only of an agent that is new
	event.TypeAgentHeartbeat:    Droppable,
	event.TypeAgentDegraded:     Repairing,
	event.TypeAgentOffline:      Repairing,
	event.TypeAgentRecovered:    Derived,
	event.TypeAgentUnregistered: Repairing,

	event.TypeSpawnRequested: Repairing,
	event.TypeSpawnSucceeded: Repairing,
	event.TypeSpawnFailed:    Repairing,
	event.TypeStopRequested:  Repairing,
	event.TypeStopSucceeded:  Repairing,
	event.TypeStopFailed:     Repairing,
	event.TypeNodeCrashed:    Repairing,
	event.TypeNodeRestarted:  Repairing,

	event.TypeClusterHealthy:  Derived,
	event.TypeClusterDegraded: Derived,
	event.TypeClusterCritical: Derived,

	event.TypeStorageMetrics:           Droppable,
	event.TypeQueryPerformance:         Droppable,
	event.TypeEmbeddingLatency:         Droppable,
	event.TypeHNSWIndexBuilt:           Droppable,
	event.TypeHNSWIndexLoaded:          Droppable,
	event.TypePathfindingMetrics:       Droppable,
	event.TypeReconciliationComplete:   Droppable,
	event.TypeCrossShardQuery:          Droppable,
	event.TypeRebalanceProgress:        Droppable,
	event.TypeEmbeddingServiceHealthy:  Droppable,
	event.TypeEmbeddingServiceDegraded: Droppable,

	event.TypeShardMapCreated:    Repairing,
	event.TypeReplicaAssigned:    Repairing,
	event.TypeReplicaPromoted:    Repairing,
	event.TypeReplicaRemoved:     Repairing,
	event.TypeShardLeaderChanged: Repairing,
	event.TypeShardMoveStarted:   Repairing,
	event.TypeShardMoveFinished:  Repairing,
	event.TypeShardMoveAborted:   Repairing,
	event.TypeShardSplitStarted:  Ordinary, // a split can wait, its end cannot
	event.TypeShardSplitFinished: Repairing,
	event.TypeShardSplitAborted:  Repairing,
	event.TypeShardQuorumLost:    Derived,
	event.TypeShardQuorumBack:    Derived,
	event.TypeShardFormed:        Derived,
	event.TypeReplicaReaddressed: Repairing,
	event.TypeShardLost:          Repairing,
	event.TypeShardCreated:       Repairing,

	event.TypeTxnCommitted: Ordinary, // only of a transaction without a decision
	event.TypeTxnAborted:   Repairing,
	event.TypeTxnCompleted: Repairing,

	event.TypeMasterJoined:       Repairing,
	event.TypeMasterLeft:         Repairing,
	event.TypeLeaderElected:      Repairing,
	event.TypeStateChecked:       Repairing,
	event.TypeMasterUnreachable:  Repairing,
	event.TypeMasterRecovered:    Repairing,
	event.TypeLevelRaised:        Repairing,
	event.TypeIncarnationStarted: Repairing,
	event.TypeClockSkew:          Repairing,

	event.TypeFeedAcked:    Repairing,
	event.TypeFeedRewound:  Repairing,
	event.TypeFeedGap:      Repairing,
	event.TypeSinkAdded:    Repairing,
	event.TypeSinkRemoved:  Repairing,
	event.TypeEventsFolded: Repairing,

	event.TypeAgentDrainStarted:   Repairing,
	event.TypeAgentDrainFinished:  Repairing,
	event.TypeAgentDrainCancelled: Repairing,
	event.TypeBinaryPublished:     Ordinary,
	event.TypeBinaryRetired:       Ordinary,
	event.TypeTokenCreated:        Ordinary,
	event.TypeTokenRevoked:        Repairing, // a key in wrong hands cannot wait

	event.TypeSettingChanged:       Repairing, // feed.quota_mb is one
	event.TypeAssociationTypeAdded: Ordinary,
	event.TypeBackupCut:            Ordinary,
}

// AdmissionOf is the class of a type. One that is not in the catalogue is Repairing: the state machine, not this, refuses it.
func AdmissionOf(t event.Type) Admission {
	if a, listed := admissions[t]; listed {
		return a
	}
	return Repairing
}

// Admit judges a command by the leader's applied state. dropped: it shall not enter the log, and its sender is told that it is
// done, for nobody retries telemetry usefully. refused is of KindFeedFull. Neither: propose it.
func Admit(s *fsm.State, c *event.Command) (dropped bool, refused *event.Error) {
	out := s.Outbox()
	switch AdmissionOf(c.Type) {
	case Droppable:
		return out.Full && expendable(s, c), nil
	case Ordinary:
		if out.Bytes >= out.Quota/100*refusePct && fresh(s, c) {
			return false, feedFull(s, c.Type, out)
		}
	}
	return false, nil
}

// expendable tells whether nothing but a sample is lost with a telemetry command. A heartbeat that ends an agent's silence is a
// fact, and one of an unknown agent has to be answered "register".
func expendable(s *fsm.State, c *event.Command) bool {
	beat, is := c.Body.(event.AgentHeartbeat)
	if !is {
		return true
	}
	a := s.Agent(beat.AgentID)
	return a != nil && a.Status == fsm.AgentHealthy
}

// fresh tells whether a command asks for something new: a retry gets its first answer, and what is known may change.
func fresh(s *fsm.State, c *event.Command) bool {
	switch b := c.Body.(type) {
	case event.AgentRegistered:
		if s.Agent(b.AgentID) != nil {
			return false
		}
	case event.TxnCommitted:
		end := s.TxnEnd(b.TxnID)
		return !end.Committed && !end.Final
	case event.AssociationTypeAdded:
		if _, known := s.AssociationType(b.Name); known {
			return false
		}
	}
	return !s.Answered(c.RequestID)
}

func feedFull(s *fsm.State, t event.Type, out fsm.Outbox) *event.Error {
	behind := "no sink takes the feed: add one with `gridctl feed sinks add`"
	worst, lag := "", uint64(0)
	for sink := range s.Sinks() {
		if n := s.Seq() - s.Cursor(sink.Name).Through; worst == "" || n > lag {
			worst, lag = sink.Name+" ("+sink.Address+")", n
		}
	}
	if worst != "" {
		behind = fmt.Sprintf("sink %s is %d events behind: bring it back or remove it", worst, lag)
	}
	return &event.Error{Kind: event.KindFeedFull, Op: "propose " + t.String(), Message: fmt.Sprintf(
		"the outbox holds %.1f of %d MiB (%d %%) that no sink has taken, and from %d %% on nothing new is accepted; %s, or raise the setting %s",
		float64(out.Bytes)/(1<<20), out.Quota>>20, out.Bytes*100/out.Quota, refusePct, behind, fsm.SettingFeedQuota)}
}
