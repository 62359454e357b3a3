package event

import (
	"fmt"
	"slices"
)

// MaxFilter bounds the values of each field of a Filter: an event is compared with all of them.
const MaxFilter = 100

// maxEntity is how many bytes an entity's id may have.
const maxEntity = 512

// The kinds of entities that events are about.
const (
	EntityAgent   = "agent"
	EntityNode    = "node"
	EntityShard   = "shard"
	EntityMaster  = "master"
	EntityTxn     = "txn"
	EntityCluster = "cluster"
	EntityFeed    = "feed"
	EntityEmbed   = "embedding"
)

// Filter chooses events: one must match every field that is given, and of a field any of its values. The zero value chooses
// all. It is a part of messages.
type Filter struct {
	Types    []Type   `wire:"types,optional"`
	Classes  string   `wire:"classes,optional"`  // class letters, for example "LD"
	Kinds    []string `wire:"kinds,optional"`    // of the entity, for example "node"
	Entities []string `wire:"entities,optional"` // ids as TypeInfo.Entity gives them, for example "node-7"
}

// All tells whether the filter chooses every event.
func (f *Filter) All() bool {
	return len(f.Types) == 0 && f.Classes == "" && len(f.Kinds) == 0 && len(f.Entities) == 0
}

// Validate refuses, with an *Error, what is too long and what cannot match. A type that is not in the catalogue may be one of
// a later version: it matches nothing here.
func (f *Filter) Validate() error {
	refuse := func(k Kind, format string, args ...any) error {
		return &Error{Kind: k, Op: "filter events", Message: fmt.Sprintf(format, args...)}
	}
	if n := max(len(f.Types), len(f.Classes), len(f.Kinds), len(f.Entities)); n > MaxFilter {
		return refuse(KindTooLarge, "%d values of one field: at most %d are allowed", n, MaxFilter)
	}
	for i := range len(f.Classes) {
		if c := Class(f.Classes[i]); c != Lifecycle && c != Decision && c != Telemetry {
			return refuse(KindInvalid, "class %q: want L, D or T", f.Classes[i])
		}
	}
	for _, kind := range f.Kinds {
		if !slices.Contains(entityKindNames, kind) {
			return refuse(KindInvalid, "entity kind %.40q: want one of %v", kind, entityKindNames)
		}
	}
	for _, id := range f.Entities {
		if id == "" || len(id) > maxEntity {
			return refuse(KindInvalid, "entity id of %d bytes: want 1 to %d", len(id), maxEntity)
		}
	}
	return nil
}

// Match tells whether the filter chooses an event of type t, given by its encoded envelope. Only a filter by entity reads the
// envelope, so only then can it fail.
func (f *Filter) Match(t Type, envelope []byte) (bool, error) {
	if len(f.Types) > 0 && !slices.Contains(f.Types, t) {
		return false, nil
	}
	info := Info(t)
	if f.Classes != "" && !slices.Contains([]byte(f.Classes), byte(info.Class)) {
		return false, nil
	}
	if len(f.Kinds) == 0 && len(f.Entities) == 0 {
		return true, nil
	}
	e, err := DecodeEnvelope(envelope)
	if err != nil {
		return false, err
	}
	if e.Type != t {
		return false, fmt.Errorf("the envelope of a %s holds a %s", t, e.Type)
	}
	if len(f.Kinds) > 0 && !slices.Contains(f.Kinds, EntityKind(e.Body)) {
		return false, nil
	}
	return len(f.Entities) == 0 || slices.ContainsFunc(info.Entity(e.Body), func(id string) bool { return slices.Contains(f.Entities, id) }), nil
}

// EntityKind is the kind of what an event is about; all entities of one event are of one kind. A type that is not emitted has
// none.
func EntityKind(b Body) string {
	if r, ok := b.(ReplicaReaddressed); ok && r.ShardID == MastersGroup {
		return EntityMaster
	}
	return entityKinds[b.Type()]
}

// entityKindNames are the values of a filter's Kinds.
var entityKindNames = []string{EntityAgent, EntityNode, EntityShard, EntityMaster, EntityTxn, EntityCluster, EntityFeed, EntityEmbed}

// entityKinds is the kind of each emitted type; a test holds it complete.
var entityKinds = map[Type]string{
	TypeAgentRegistered: EntityAgent, TypeAgentHeartbeat: EntityAgent, TypeAgentDegraded: EntityAgent, TypeAgentOffline: EntityAgent,
	TypeAgentRecovered: EntityAgent, TypeAgentUnregistered: EntityAgent,

	TypeSpawnRequested: EntityNode, TypeSpawnSucceeded: EntityNode, TypeSpawnFailed: EntityNode, TypeStopRequested: EntityNode,
	TypeStopSucceeded: EntityNode, TypeStopFailed: EntityNode, TypeNodeCrashed: EntityNode, TypeNodeRestarted: EntityNode,

	TypeShardLeaderChanged: EntityShard, TypeShardQuorumLost: EntityShard, TypeShardQuorumBack: EntityShard, TypeShardFormed: EntityShard,
	TypeReplicaReaddressed: EntityShard, TypeShardCreated: EntityShard,
	TypeReplicaAssigned: EntityShard, TypeReplicaPromoted: EntityShard, TypeReplicaRemoved: EntityShard,

	TypeTxnCommitted: EntityTxn, TypeTxnAborted: EntityTxn, TypeTxnCompleted: EntityTxn,

	TypeMasterJoined: EntityMaster, TypeMasterLeft: EntityMaster, TypeLeaderElected: EntityMaster, TypeStateChecked: EntityMaster,
	TypeMasterUnreachable: EntityMaster, TypeMasterRecovered: EntityMaster, TypeClockSkew: EntityMaster,

	TypeClusterHealthy: EntityCluster, TypeClusterDegraded: EntityCluster, TypeClusterCritical: EntityCluster, TypeShardMapCreated: EntityCluster,
	TypeLevelRaised: EntityCluster, TypeIncarnationStarted: EntityCluster, TypeSettingChanged: EntityCluster, TypeAssociationTypeAdded: EntityCluster,

	TypeFeedAcked: EntityFeed, TypeFeedRewound: EntityFeed, TypeSinkAdded: EntityFeed, TypeSinkRemoved: EntityFeed,

	TypeStorageMetrics: EntityNode, TypeQueryPerformance: EntityNode, TypeHNSWIndexBuilt: EntityNode, TypeHNSWIndexLoaded: EntityNode,
	TypePathfindingMetrics: EntityNode, TypeReconciliationComplete: EntityNode, TypeCrossShardQuery: EntityCluster,
	TypeEmbeddingLatency: EntityEmbed, TypeEmbeddingServiceHealthy: EntityEmbed, TypeEmbeddingServiceDegraded: EntityEmbed,
}
