package event

// Type is the code of an event on the wire; codes are never reused.
type Type uint16

// Class says whether an event may be dropped.
type Class byte

// The classes of the catalogue: lifecycle and decision events are never dropped, telemetry may be.
const (
	Lifecycle Class = 'L'
	Decision  Class = 'D'
	Telemetry Class = 'T'
)

// The event types. Codes 1-61 are the mission's and fixed. A new type takes a new code; a code is never reused.
const (
	TypeAgentRegistered   Type = 1
	TypeAgentHeartbeat    Type = 2
	TypeAgentDegraded     Type = 3
	TypeAgentOffline      Type = 4
	TypeAgentRecovered    Type = 5
	TypeAgentUnregistered Type = 6

	TypeSpawnRequested Type = 10
	TypeSpawnSucceeded Type = 11
	TypeSpawnFailed    Type = 12
	TypeStopRequested  Type = 20
	TypeStopSucceeded  Type = 21
	TypeStopFailed     Type = 22
	TypeNodeCrashed    Type = 30
	TypeNodeRestarted  Type = 31

	TypeClusterHealthy  Type = 40
	TypeClusterDegraded Type = 41
	TypeClusterCritical Type = 42

	TypeStorageMetrics           Type = 50
	TypeQueryPerformance         Type = 51
	TypeEmbeddingLatency         Type = 52
	TypeHNSWIndexBuilt           Type = 53
	TypeHNSWIndexLoaded          Type = 54
	TypePathfindingMetrics       Type = 55
	TypeReconciliationComplete   Type = 56
	TypeCrossShardQuery          Type = 57
	TypeRebalanceProgress        Type = 58
	TypeEmbeddingServiceHealthy  Type = 60
	TypeEmbeddingServiceDegraded Type = 61

	TypeShardMapCreated    Type = 100
	TypeReplicaAssigned    Type = 101
	TypeReplicaPromoted    Type = 102
	TypeReplicaRemoved     Type = 103
	TypeShardLeaderChanged Type = 104
	TypeShardMoveStarted   Type = 105
	TypeShardMoveFinished  Type = 106
	TypeShardMoveAborted   Type = 107
	TypeShardSplitStarted  Type = 108
	TypeShardSplitFinished Type = 109
	TypeShardSplitAborted  Type = 110
	TypeShardQuorumLost    Type = 111
	TypeShardQuorumBack    Type = 112
	TypeShardFormed        Type = 113
	TypeReplicaReaddressed Type = 114
	TypeShardLost          Type = 115
	TypeShardCreated       Type = 116

	TypeTxnCommitted Type = 200
	TypeTxnAborted   Type = 201
	TypeTxnCompleted Type = 202

	TypeMasterJoined       Type = 300
	TypeMasterLeft         Type = 301
	TypeLeaderElected      Type = 302
	TypeStateChecked       Type = 303
	TypeMasterUnreachable  Type = 304
	TypeMasterRecovered    Type = 305
	TypeLevelRaised        Type = 306
	TypeIncarnationStarted Type = 307
	TypeClockSkew          Type = 308

	TypeFeedAcked    Type = 400
	TypeFeedRewound  Type = 401
	TypeFeedGap      Type = 402
	TypeSinkAdded    Type = 403
	TypeSinkRemoved  Type = 404
	TypeEventsFolded Type = 405

	TypeAgentDrainStarted   Type = 500
	TypeAgentDrainFinished  Type = 501
	TypeAgentDrainCancelled Type = 502
	TypeBinaryPublished     Type = 510
	TypeBinaryRetired       Type = 511
	TypeTokenCreated        Type = 520
	TypeTokenRevoked        Type = 521

	TypeSettingChanged       Type = 530
	TypeAssociationTypeAdded Type = 531
	TypeBackupCut            Type = 540
)
