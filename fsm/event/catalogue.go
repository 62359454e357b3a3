package event

import (
	"fmt"
	"slices"
)

// TypeInfo is what the catalogue says about one type.
type TypeInfo struct {
	Name    string // snake_case, as in JSON
	Class   Class
	Emitted bool // it has a body and can be in the log; the others have their code and name reserved

	entity   func(Body) []string
	describe func(Body) string
}

// Entity lists the concept ids of what the event is about, as in event storage: "agent-1", "node-1", "shard-0", "master-1",
// "txn-<hex>", "cluster", "feed". A type that is not emitted has none.
func (i TypeInfo) Entity(b Body) []string {
	if i.entity == nil {
		return nil
	}
	return i.entity(b)
}

// Describe is one short sentence for people, without the time.
func (i TypeInfo) Describe(b Body) string {
	if i.describe == nil {
		return i.Name
	}
	return i.describe(b)
}

// Info looks a type up in the catalogue. An unknown type has an empty name.
func Info(t Type) TypeInfo { return catalogue[t] }

// String is the type's name, or its number when it has none.
func (t Type) String() string {
	if name := catalogue[t].Name; name != "" {
		return name
	}
	return fmt.Sprintf("type %d", uint16(t))
}

// Types lists the whole catalogue by code.
func Types() []Type {
	all := make([]Type, 0, len(catalogue))
	for t := range catalogue {
		all = append(all, t)
	}
	slices.Sort(all)
	return all
}

// TypeByName finds a type by its snake_case name.
func TypeByName(name string) (Type, bool) {
	t, ok := typeNames[name]
	return t, ok
}

// InFeed tells whether events of the type are in the feed: all but feed_acked, or an idle grid would ship for ever.
func (t Type) InFeed() bool { return t != TypeFeedAcked }

// Idempotent tells whether commands of the type take effect once however often they are proposed, without a request id or an
// emitter's number: by their content (safety S5).
func (t Type) Idempotent() bool {
	switch t {
	case TypeAgentHeartbeat, TypeFeedAcked, TypeFeedRewound, TypeMasterJoined, TypeTxnAborted, TypeTxnCompleted,
		TypeTxnCommitted,                        // under its txn id
		TypeReplicaPromoted, TypeReplicaRemoved, // of a replica id, which is never used again
		TypeShardLeaderChanged: // of one term
		return true
	}
	return false
}

// String is the class letter.
func (c Class) String() string { return string(rune(c)) }

// typeNames is catalogue turned round.
var typeNames = func() map[string]Type {
	m := make(map[string]Type, len(catalogue))
	for t, info := range catalogue {
		m[info.Name] = t
	}
	return m
}()

// row makes the entry of an emitted type.
func row[B Body](name string, class Class, entity func(B) string, describe func(B) string) TypeInfo {
	return TypeInfo{
		Name:     name,
		Class:    class,
		Emitted:  true,
		entity:   func(b Body) []string { return []string{entity(b.(B))} },
		describe: func(b Body) string { return describe(b.(B)) },
	}
}

// reserved makes the entry of a type whose feature is not built.
func reserved(name string, class Class) TypeInfo { return TypeInfo{Name: name, Class: class} }

// catalogue is the table of spec "Event catalogue": every code, its name and class.
var catalogue = map[Type]TypeInfo{
	TypeAgentRegistered:   row("agent_registered", Lifecycle, func(e AgentRegistered) string { return string(e.AgentID) }, describeAgentRegistered),
	TypeAgentHeartbeat:    row("agent_heartbeat", Telemetry, func(e AgentHeartbeat) string { return string(e.AgentID) }, describeAgentHeartbeat),
	TypeAgentDegraded:     row("agent_degraded", Lifecycle, func(e AgentDegraded) string { return string(e.AgentID) }, describeAgentDegraded),
	TypeAgentOffline:      row("agent_offline", Lifecycle, func(e AgentOffline) string { return string(e.AgentID) }, describeAgentOffline),
	TypeAgentRecovered:    row("agent_recovered", Lifecycle, func(e AgentRecovered) string { return string(e.AgentID) }, describeAgentRecovered),
	TypeAgentUnregistered: row("agent_unregistered", Lifecycle, func(e AgentUnregistered) string { return string(e.AgentID) }, describeAgentUnregistered),

	TypeSpawnRequested: row("spawn_requested", Lifecycle, func(e SpawnRequested) string { return string(e.NodeID) }, describeSpawnRequested),
	TypeSpawnSucceeded: row("spawn_succeeded", Lifecycle, func(e SpawnSucceeded) string { return string(e.NodeID) }, describeSpawnSucceeded),
	TypeSpawnFailed:    row("spawn_failed", Lifecycle, func(e SpawnFailed) string { return string(e.NodeID) }, describeSpawnFailed),
	TypeStopRequested:  row("stop_requested", Lifecycle, func(e StopRequested) string { return string(e.NodeID) }, describeStopRequested),
	TypeStopSucceeded:  row("stop_succeeded", Lifecycle, func(e StopSucceeded) string { return string(e.NodeID) }, describeStopSucceeded),
	TypeStopFailed:     row("stop_failed", Lifecycle, func(e StopFailed) string { return string(e.NodeID) }, describeStopFailed),
	TypeNodeCrashed:    row("node_crashed", Lifecycle, func(e NodeCrashed) string { return string(e.NodeID) }, describeNodeCrashed),
	TypeNodeRestarted:  row("node_restarted", Lifecycle, func(e NodeRestarted) string { return string(e.NodeID) }, describeNodeRestarted),

	TypeClusterHealthy:  row("cluster_healthy", Lifecycle, cluster[ClusterHealthy], describeClusterHealthy),
	TypeClusterDegraded: row("cluster_degraded", Lifecycle, cluster[ClusterDegraded], describeClusterDegraded),
	TypeClusterCritical: row("cluster_critical", Lifecycle, cluster[ClusterCritical], describeClusterCritical),

	TypeStorageMetrics:           row("storage_metrics", Telemetry, func(e StorageMetrics) string { return string(e.NodeID) }, describeStorageMetrics),
	TypeQueryPerformance:         row("query_performance", Telemetry, func(e QueryPerformance) string { return string(e.NodeID) }, describeQueryPerformance),
	TypeEmbeddingLatency:         row("embedding_latency", Telemetry, embedding[EmbeddingLatency], describeEmbeddingLatency),
	TypeHNSWIndexBuilt:           row("hnsw_index_built", Telemetry, func(e HNSWIndexBuilt) string { return string(e.NodeID) }, describeHNSWIndexBuilt),
	TypeHNSWIndexLoaded:          row("hnsw_index_loaded", Telemetry, func(e HNSWIndexLoaded) string { return string(e.NodeID) }, describeHNSWIndexLoaded),
	TypePathfindingMetrics:       row("pathfinding_metrics", Telemetry, func(e PathfindingMetrics) string { return string(e.NodeID) }, describePathfindingMetrics),
	TypeReconciliationComplete:   row("reconciliation_complete", Telemetry, func(e ReconciliationComplete) string { return string(e.NodeID) }, describeReconciliationComplete),
	TypeCrossShardQuery:          row("cross_shard_query", Telemetry, cluster[CrossShardQuery], describeCrossShardQuery),
	TypeRebalanceProgress:        reserved("rebalance_progress", Telemetry),
	TypeEmbeddingServiceHealthy:  row("embedding_service_healthy", Telemetry, embedding[EmbeddingServiceHealthy], describeEmbeddingServiceHealthy),
	TypeEmbeddingServiceDegraded: row("embedding_service_degraded", Telemetry, embedding[EmbeddingServiceDegraded], describeEmbeddingServiceDegraded),

	TypeShardMapCreated:    row("shard_map_created", Decision, cluster[ShardMapCreated], describeShardMapCreated),
	TypeReplicaAssigned:    row("replica_assigned", Decision, func(e ReplicaAssigned) string { return string(e.ShardID) }, describeReplicaAssigned),
	TypeReplicaPromoted:    row("replica_promoted", Decision, func(e ReplicaPromoted) string { return string(e.ShardID) }, describeReplicaPromoted),
	TypeReplicaRemoved:     row("replica_removed", Decision, func(e ReplicaRemoved) string { return string(e.ShardID) }, describeReplicaRemoved),
	TypeShardLeaderChanged: row("shard_leader_changed", Lifecycle, func(e ShardLeaderChanged) string { return string(e.ShardID) }, describeShardLeaderChanged),
	TypeShardMoveStarted:   reserved("shard_move_started", Decision),
	TypeShardMoveFinished:  reserved("shard_move_finished", Decision),
	TypeShardMoveAborted:   reserved("shard_move_aborted", Decision),
	TypeShardSplitStarted:  reserved("shard_split_started", Decision),
	TypeShardSplitFinished: reserved("shard_split_finished", Decision),
	TypeShardSplitAborted:  reserved("shard_split_aborted", Decision),
	TypeShardQuorumLost:    row("shard_quorum_lost", Lifecycle, func(e ShardQuorumLost) string { return string(e.ShardID) }, describeShardQuorumLost),
	TypeShardQuorumBack:    row("shard_quorum_restored", Lifecycle, func(e ShardQuorumRestored) string { return string(e.ShardID) }, describeShardQuorumRestored),
	TypeShardFormed:        row("shard_formed", Decision, func(e ShardFormed) string { return string(e.ShardID) }, describeShardFormed),
	TypeReplicaReaddressed: row("replica_readdressed", Decision, readdressedEntity, describeReplicaReaddressed),
	TypeShardLost:          reserved("shard_lost", Decision),
	TypeShardCreated:       row("shard_created", Decision, func(e ShardCreated) string { return string(e.ShardID) }, describeShardCreated),

	TypeTxnCommitted: row("txn_committed", Decision, func(e TxnCommitted) string { return txnEntity(e.TxnID) }, describeTxnCommitted),
	TypeTxnAborted:   row("txn_aborted", Decision, func(e TxnAborted) string { return txnEntity(e.TxnID) }, describeTxnAborted),
	TypeTxnCompleted: txnCompletedRow(),

	TypeMasterJoined:       row("master_joined", Decision, func(e MasterJoined) string { return string(e.MasterID) }, describeMasterJoined),
	TypeMasterLeft:         row("master_left", Decision, func(e MasterLeft) string { return string(e.MasterID) }, describeMasterLeft),
	TypeLeaderElected:      row("leader_elected", Lifecycle, func(e LeaderElected) string { return string(e.MasterID) }, describeLeaderElected),
	TypeStateChecked:       stateCheckedRow(),
	TypeMasterUnreachable:  row("master_unreachable", Lifecycle, func(e MasterUnreachable) string { return string(e.MasterID) }, describeMasterUnreachable),
	TypeMasterRecovered:    row("master_recovered", Lifecycle, func(e MasterRecovered) string { return string(e.MasterID) }, describeMasterRecovered),
	TypeLevelRaised:        row("level_raised", Decision, cluster[LevelRaised], describeLevelRaised),
	TypeIncarnationStarted: row("incarnation_started", Decision, cluster[IncarnationStarted], describeIncarnationStarted),
	TypeClockSkew:          row("clock_skew", Decision, func(e ClockSkew) string { return string(e.MasterID) }, describeClockSkew),

	TypeFeedAcked:    row("feed_acked", Decision, func(FeedAcked) string { return "feed" }, describeFeedAcked),
	TypeFeedRewound:  row("feed_rewound", Decision, func(FeedRewound) string { return "feed" }, describeFeedRewound),
	TypeFeedGap:      reserved("feed_gap", Decision),
	TypeSinkAdded:    row("sink_added", Decision, func(SinkAdded) string { return "feed" }, describeSinkAdded),
	TypeSinkRemoved:  row("sink_removed", Decision, func(SinkRemoved) string { return "feed" }, describeSinkRemoved),
	TypeEventsFolded: reserved("events_folded", Lifecycle),

	TypeAgentDrainStarted:   reserved("agent_drain_started", Decision),
	TypeAgentDrainFinished:  reserved("agent_drain_finished", Decision),
	TypeAgentDrainCancelled: reserved("agent_drain_cancelled", Decision),
	TypeBinaryPublished:     reserved("binary_published", Decision),
	TypeBinaryRetired:       reserved("binary_retired", Decision),
	TypeTokenCreated:        reserved("token_created", Decision),
	TypeTokenRevoked:        reserved("token_revoked", Decision),

	TypeSettingChanged:       row("setting_changed", Decision, cluster[SettingChanged], describeSettingChanged),
	TypeAssociationTypeAdded: row("association_type_added", Decision, cluster[AssociationTypeAdded], describeAssociationTypeAdded),
	TypeBackupCut:            reserved("backup_cut", Decision),
}

func cluster[B Body](B) string { return "cluster" }

// readdressedEntity is the master, or the shard of a storage node's replica.
func readdressedEntity(e ReplicaReaddressed) string {
	if e.ShardID == MastersGroup {
		return e.ReplicaID.Owner()
	}
	return string(e.ShardID)
}

// txnEntity is the concept id of a transaction.
func txnEntity(id TxnID) string { return "txn-" + id.String() }

// txnCompletedRow: the one type that is about many things.
func txnCompletedRow() TypeInfo {
	info := row("txn_completed", Decision, func(TxnCompleted) string { return "" }, describeTxnCompleted)
	info.entity = func(b Body) []string {
		ids := b.(TxnCompleted).TxnIDs
		all := make([]string, len(ids))
		for i, id := range ids {
			all[i] = txnEntity(id)
		}
		return all
	}
	return info
}
