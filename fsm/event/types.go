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

// The event types. Codes 1-61 are the mission's and fixed.
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

	TypeShardMapCreated    Type = 100
	TypeReplicaAssigned    Type = 101
	TypeReplicaPromoted    Type = 102
	TypeReplicaRemoved     Type = 103
	TypeShardLeaderChanged Type = 104
	TypeShardQuorumLost    Type = 111
	TypeShardQuorumBack    Type = 112
	TypeShardFormed        Type = 113
	TypeShardCreated       Type = 116

	TypeTxnCommitted Type = 200
	TypeTxnAborted   Type = 201
	TypeTxnCompleted Type = 202

	TypeMasterJoined       Type = 300
	TypeMasterLeft         Type = 301
	TypeLeaderElected      Type = 302
	TypeMasterUnreachable  Type = 304
	TypeMasterRecovered    Type = 305
	TypeIncarnationStarted Type = 307

	TypeFeedAcked   Type = 400
	TypeSinkAdded   Type = 403
	TypeSinkRemoved Type = 404

	TypeSettingChanged       Type = 530
	TypeAssociationTypeAdded Type = 531
)
