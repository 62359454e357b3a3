package fsm

import (
	"fmt"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// verdict is what decide says about a command.
type verdict struct {
	body      event.Body // the event it becomes; nil: it is refused, or has taken effect before
	cause     uint64     // seq of what brought it about, for a command that does not say
	seq       uint64     // where it took effect before
	value     uint64     // Answer.Value
	err       *event.Error
	transient bool // of err: a retry of the same request may be answered otherwise
}

func accept(b event.Body) verdict { return verdict{body: b} }

func acceptFrom(cause uint64, b event.Body) verdict { return verdict{body: b, cause: cause} }

// already: it took effect at seq, or what was asked for is so; nothing new is recorded.
func already(seq uint64) verdict { return verdict{seq: seq} }

func refuse(kind event.Kind, op, format string, args ...any) verdict {
	return verdict{err: &event.Error{Kind: kind, Op: op, Message: fmt.Sprintf(format, args...)}}
}

// unknown is evolve's error for an event that does not fit the state: this is not the history that the event is from.
func unknown[ID ~string](e *event.Envelope, what string, id ID) error {
	return fmt.Errorf("event %d (%s): %s %q is unknown", e.Seq, e.Type, what, id)
}

// handler is what the machine does with one type. Without decide the type is derived and cannot be proposed.
type handler struct {
	decide func(s *State, c *event.Command) verdict
	evolve func(s *State, e *event.Envelope) error
	health bool   // it may change the cluster's level or a shard's quorum
	level  uint32 // below it the type is refused (safety S13); 0: it was always there
}

// on makes a handler of functions over the body's own type. decide must not change the state.
func on[B event.Body](decide func(*State, *event.Command, B) verdict, evolve func(*State, *event.Envelope, B) error) handler {
	h := derivedOn(evolve)
	h.decide = func(s *State, c *event.Command) verdict { return decide(s, c, c.Body.(B)) }
	return h
}

func derivedOn[B event.Body](evolve func(*State, *event.Envelope, B) error) handler {
	return handler{evolve: func(s *State, e *event.Envelope) error { return evolve(s, e, e.Body.(B)) }}
}

// health marks a handler whose events may change the cluster's level or a shard's quorum.
func health(h handler) handler {
	h.health = true
	return h
}

// since marks a handler of a type that came with a level.
func since(level uint32, h handler) handler {
	h.level = level
	return h
}

// handlers has one entry per emitted type of the catalogue.
var handlers = map[event.Type]handler{
	event.TypeAgentRegistered:   health(on(decideAgentRegistered, evolveAgentRegistered)),
	event.TypeAgentHeartbeat:    on(decideAgentHeartbeat, evolveAgentHeartbeat),
	event.TypeAgentDegraded:     health(on(decideAgentDegraded, evolveAgentDegraded)),
	event.TypeAgentOffline:      health(on(decideAgentOffline, evolveAgentOffline)),
	event.TypeAgentRecovered:    health(derivedOn(evolveAgentRecovered)),
	event.TypeAgentUnregistered: health(on(decideAgentUnregistered, evolveAgentUnregistered)),

	event.TypeSpawnRequested: on(decideSpawnRequested, evolveSpawnRequested),
	event.TypeSpawnSucceeded: health(on(decideSpawnSucceeded, evolveSpawnSucceeded)),
	event.TypeSpawnFailed:    health(on(decideSpawnFailed, evolveSpawnFailed)),
	event.TypeStopRequested:  health(on(decideStopRequested, evolveStopRequested)),
	event.TypeStopSucceeded:  health(on(decideStopSucceeded, evolveStopSucceeded)),
	event.TypeStopFailed:     on(decideStopFailed, evolveStopFailed),
	event.TypeNodeCrashed:    health(on(decideNodeCrashed, evolveNodeCrashed)),
	event.TypeNodeRestarted:  health(on(decideNodeRestarted, evolveNodeRestarted)),

	event.TypeClusterHealthy:  derivedOn(evolveClusterHealthy),
	event.TypeClusterDegraded: derivedOn(evolveClusterDegraded),
	event.TypeClusterCritical: derivedOn(evolveClusterCritical),

	event.TypeShardMapCreated:    health(on(decideShardMapCreated, evolveShardMapCreated)),
	event.TypeShardCreated:       health(on(decideShardCreated, evolveShardCreated)),
	event.TypeReplicaAssigned:    since(MembersLevel, on(decideReplicaAssigned, evolveReplicaAssigned)),
	event.TypeReplicaPromoted:    since(MembersLevel, health(on(decideReplicaPromoted, evolveReplicaPromoted))),
	event.TypeReplicaRemoved:     since(MembersLevel, health(on(decideReplicaRemoved, evolveReplicaRemoved))),
	event.TypeShardFormed:        derivedOn(evolveShardFormed),
	event.TypeShardLeaderChanged: on(decideShardLeaderChanged, evolveShardLeaderChanged),
	event.TypeShardQuorumLost:    derivedOn(evolveShardQuorumLost),
	event.TypeShardQuorumBack:    derivedOn(evolveShardQuorumRestored),

	event.TypeTxnCommitted: on(decideTxnCommitted, evolveTxnCommitted),
	event.TypeTxnAborted:   on(decideTxnAborted, evolveTxnAborted),
	event.TypeTxnCompleted: on(decideTxnCompleted, evolveTxnCompleted),

	event.TypeMasterJoined:       on(decideMasterJoined, evolveMasterJoined),
	event.TypeMasterLeft:         health(on(decideMasterLeft, evolveMasterLeft)),
	event.TypeReplicaReaddressed: since(ReaddressLevel, on(decideReplicaReaddressed, evolveReplicaReaddressed)),
	event.TypeLeaderElected:      on(decideLeaderElected, evolveLeaderElected),
	event.TypeMasterUnreachable:  health(on(decideMasterUnreachable, evolveMasterUnreachable)),
	event.TypeMasterRecovered:    health(on(decideMasterRecovered, evolveMasterRecovered)),
	event.TypeIncarnationStarted: health(on(decideIncarnationStarted, evolveIncarnationStarted)),
	event.TypeStateChecked:       since(CheckLevel, on(decideStateChecked, evolveStateChecked)),
	event.TypeClockSkew:          since(CheckLevel, on(decideClockSkew, evolveClockSkew)),
	event.TypeLevelRaised:        on(decideLevelRaised, evolveLevelRaised),

	event.TypeFeedAcked:   on(decideFeedAcked, evolveFeedAcked),
	event.TypeFeedRewound: since(RewindLevel, on(decideFeedRewound, evolveFeedRewound)),
	event.TypeSinkAdded:   on(decideSinkAdded, evolveSinkAdded),
	event.TypeSinkRemoved: on(decideSinkRemoved, evolveSinkRemoved),

	event.TypeSettingChanged:       on(decideSettingChanged, evolveSettingChanged),
	event.TypeAssociationTypeAdded: on(decideAssociationTypeAdded, evolveAssociationTypeAdded),

	event.TypeStorageMetrics:           reading(storageMetricsNames),
	event.TypeQueryPerformance:         reading(queryPerformanceNames),
	event.TypeEmbeddingLatency:         reading(embeddingLatencyNames),
	event.TypeHNSWIndexBuilt:           reading(hnswIndexBuiltNames),
	event.TypeHNSWIndexLoaded:          reading(hnswIndexLoadedNames),
	event.TypePathfindingMetrics:       reading(pathfindingMetricsNames),
	event.TypeReconciliationComplete:   reading(reconciliationCompleteNames),
	event.TypeCrossShardQuery:          clusterReading(crossShardQueryNames),
	event.TypeEmbeddingServiceHealthy:  reading(embeddingServiceHealthyNames),
	event.TypeEmbeddingServiceDegraded: reading(embeddingServiceDegradedNames),
}
