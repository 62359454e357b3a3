package event

import (
	"fmt"

	"github.com/sutra-grid/sutra-grid/internal/pack"
)

const (
	// MaxBody bounds an encoded body: 64 KiB, so that a feed record always fits a page of any sink.
	MaxBody = 64 << 10
	// MaxStderrTail bounds NodeCrashed.StderrTail: 4 KiB.
	MaxStderrTail = 4 << 10
	// MaxCommand bounds an encoded command: a body and its head.
	MaxCommand = MaxBody + 4<<10
)

// bodyDecoder reads a body of one type.
type bodyDecoder func(b []byte) (Body, error)

// bodies has one entry per type that has a body; what is not in it cannot be in the log.
var bodies = map[Type]bodyDecoder{
	TypeAgentRegistered:      decodeAs[AgentRegistered],
	TypeAgentHeartbeat:       decodeAs[AgentHeartbeat],
	TypeAgentDegraded:        decodeAs[AgentDegraded],
	TypeAgentOffline:         decodeAs[AgentOffline],
	TypeAgentRecovered:       decodeAs[AgentRecovered],
	TypeAgentUnregistered:    decodeAs[AgentUnregistered],
	TypeSpawnRequested:       decodeAs[SpawnRequested],
	TypeSpawnSucceeded:       decodeAs[SpawnSucceeded],
	TypeSpawnFailed:          decodeAs[SpawnFailed],
	TypeStopRequested:        decodeAs[StopRequested],
	TypeStopSucceeded:        decodeAs[StopSucceeded],
	TypeStopFailed:           decodeAs[StopFailed],
	TypeNodeCrashed:          decodeAs[NodeCrashed],
	TypeNodeRestarted:        decodeAs[NodeRestarted],
	TypeClusterHealthy:       decodeAs[ClusterHealthy],
	TypeClusterDegraded:      decodeAs[ClusterDegraded],
	TypeClusterCritical:      decodeAs[ClusterCritical],
	TypeShardMapCreated:      decodeAs[ShardMapCreated],
	TypeShardCreated:         decodeAs[ShardCreated],
	TypeShardFormed:          decodeAs[ShardFormed],
	TypeReplicaAssigned:      decodeAs[ReplicaAssigned],
	TypeReplicaPromoted:      decodeAs[ReplicaPromoted],
	TypeReplicaRemoved:       decodeAs[ReplicaRemoved],
	TypeShardLeaderChanged:   decodeAs[ShardLeaderChanged],
	TypeShardQuorumLost:      decodeAs[ShardQuorumLost],
	TypeShardQuorumBack:      decodeAs[ShardQuorumRestored],
	TypeTxnCommitted:         decodeAs[TxnCommitted],
	TypeTxnAborted:           decodeAs[TxnAborted],
	TypeTxnCompleted:         decodeAs[TxnCompleted],
	TypeMasterJoined:         decodeAs[MasterJoined],
	TypeMasterLeft:           decodeAs[MasterLeft],
	TypeReplicaReaddressed:   decodeAs[ReplicaReaddressed],
	TypeLeaderElected:        decodeAs[LeaderElected],
	TypeMasterUnreachable:    decodeAs[MasterUnreachable],
	TypeMasterRecovered:      decodeAs[MasterRecovered],
	TypeIncarnationStarted:   decodeAs[IncarnationStarted],
	TypeStateChecked:         decodeAs[StateChecked],
	TypeLevelRaised:          decodeAs[LevelRaised],
	TypeClockSkew:            decodeAs[ClockSkew],
	TypeFeedAcked:            decodeAs[FeedAcked],
	TypeFeedRewound:          decodeAs[FeedRewound],
	TypeSinkAdded:            decodeAs[SinkAdded],
	TypeSinkRemoved:          decodeAs[SinkRemoved],
	TypeSettingChanged:       decodeAs[SettingChanged],
	TypeAssociationTypeAdded: decodeAs[AssociationTypeAdded],

	TypeStorageMetrics:           decodeAs[StorageMetrics],
	TypeQueryPerformance:         decodeAs[QueryPerformance],
	TypeEmbeddingLatency:         decodeAs[EmbeddingLatency],
	TypeHNSWIndexBuilt:           decodeAs[HNSWIndexBuilt],
	TypeHNSWIndexLoaded:          decodeAs[HNSWIndexLoaded],
	TypePathfindingMetrics:       decodeAs[PathfindingMetrics],
	TypeReconciliationComplete:   decodeAs[ReconciliationComplete],
	TypeCrossShardQuery:          decodeAs[CrossShardQuery],
	TypeEmbeddingServiceHealthy:  decodeAs[EmbeddingServiceHealthy],
	TypeEmbeddingServiceDegraded: decodeAs[EmbeddingServiceDegraded],
}

func decodeAs[B Body](b []byte) (Body, error) {
	var body B
	if err := pack.UnmarshalLoose(b, &body); err != nil {
		return nil, err
	}
	return body, nil
}

// AppendBody writes a body's canonical form, an array by position, behind b. Over MaxBody it is an Error of kind
// too_large, and b is returned as it was.
func AppendBody(b []byte, body Body) ([]byte, error) {
	if body == nil {
		return b, fmt.Errorf("encode event: no body")
	}
	out, err := pack.AppendArray(b, body)
	if err != nil {
		return b, fmt.Errorf("encode %s: %w", body.Type(), err)
	}
	if n := len(out) - len(b); n > MaxBody {
		return b, &Error{Kind: KindTooLarge, Op: "encode event", Message: fmt.Sprintf("%s has a body of %d bytes, want at most %d", body.Type(), n, MaxBody)}
	}
	return out, nil
}

// DecodeBody reads a body of type t. Fields that an older writer did not have are zero, those of a newer one are passed
// over. A type without a body is an Error of kind unsupported.
func DecodeBody(t Type, b []byte) (Body, error) {
	decode, ok := bodies[t]
	if !ok {
		return nil, &Error{Kind: KindUnsupported, Op: "decode event", Message: fmt.Sprintf("type %d (%s) has no body in this version", uint16(t), t)}
	}
	if len(b) > MaxBody {
		return nil, &Error{Kind: KindTooLarge, Op: "decode event", Message: fmt.Sprintf("%s has a body of %d bytes, want at most %d", t, len(b), MaxBody)}
	}
	body, err := decode(b)
	if err != nil {
		return nil, &Error{Kind: KindInvalid, Op: "decode " + t.String(), Message: err.Error()}
	}
	return body, nil
}
