package transport

import (
	"crypto/rand"
	"reflect"
	"strings"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/pack"
)

// trait is what the transport must know of a variant beside its type.
type trait uint8

const (
	storage   trait = 1 << iota // of the storage protocol: its frames may have MaxStorageFrame bytes
	read                        // changes nothing: repeating it is always safe
	again                       // a write that repeating does not do twice: idempotent by content, or numbered
	withID                      // a write that is safe to repeat when it carries a request id
	tuple                       // on the wire a positional array, not a map
	urgent                      // the grid lives by it: it has room of its own when a server is full
	streaming                   // many replies, for as long as its sender wants; bounded by who serves it
)

// variant is one message of the protocols; its name on the wire is its type's name.
type variant struct {
	name   string
	typ    reflect.Type
	traits trait
	unit   bool // no fields: a bare string on the wire
	bare   bool // no field is required: without any it is a bare string too, as it was before it had fields
}

func (v *variant) has(t trait) bool { return v.traits&t != 0 }

// entry pairs a message with its traits, for the table.
type entry struct {
	msg    any
	traits trait
}

// variants is the one table of both protocols; a test holds it complete against the message files.
var variants = newVariantTable([]entry{
	{LearnConcept{}, storage}, {LearnConceptOk{}, storage | tuple},
	{LearnAssociation{}, storage}, {LearnAssociationOk{}, storage | tuple},
	{QueryConcept{}, storage | read}, {QueryConceptOk{}, storage},
	{GetNeighbors{}, storage | read}, {GetNeighborsOk{}, storage},
	{FindPath{}, storage | read}, {FindPathOk{}, storage},
	{GetAssociation{}, storage | read}, {GetAssociationOk{}, storage},
	{GetAllConceptIds{}, storage | read}, {GetAllConceptIdsOk{}, storage},
	{GetStats{}, storage | read}, {StatsOk{}, storage},
	{Flush{}, storage | again}, {FlushOk{}, storage},
	{HealthCheck{}, storage | read | urgent}, {HealthCheckOk{}, storage},
	{Hello{}, again}, {HelloOk{}, 0}, // nobody needs 100 MiB to say hello
	{Batch{}, storage}, {BatchOk{}, storage},
	{Neighbors{}, storage | read}, {NeighborsOk{}, storage},
	{Expand{}, storage | read}, {ExpandOk{}, storage},
	{Routed{}, storage | withID}, {RoutedOk{}, storage},
	{Write{}, storage}, {WriteOk{}, storage},
	{Prepare{}, storage | again}, {PrepareOk{}, storage},
	{Finish{}, storage | again | urgent}, {FinishOk{}, storage},
	{TxnResults{}, storage | again}, {TxnResultsOk{}, storage},
	{Txn{}, withID}, {TxnOk{}, 0},
	{DeleteConcept{}, storage}, {DeleteConceptOk{}, storage},
	{DeleteAssociation{}, storage}, {DeleteAssociationOk{}, storage},
	{LearnConceptV2{}, storage}, {LearnConceptV2Ok{}, storage},
	{LearnBatch{}, storage}, {LearnBatchOk{}, storage},
	{FindPathSemantic{}, storage | read}, {FindPathSemanticOk{}, storage},
	{FindTemporalChain{}, storage | read}, {FindTemporalChainOk{}, storage},
	{FindCausalChain{}, storage | read}, {FindCausalChainOk{}, storage},
	{FindContradictions{}, storage | read}, {FindContradictionsOk{}, storage},
	{QueryBySemantic{}, storage | read}, {QueryBySemanticOk{}, storage},
	{Embed{}, storage | read}, {EmbedOk{}, storage},
	{Exists{}, storage | read}, {ExistsOk{}, storage},
	{Classify{}, storage | read}, {ClassifyOk{}, storage},
	{Links{}, storage | read}, {LinksOk{}, storage},
	{Survey{}, storage | read}, {SurveyOk{}, storage},
	{QueryByMetadata{}, storage | read}, {QueryByMetadataOk{}, storage},
	{Scan{}, storage | read}, {ScanOk{}, storage},
	{ReadConcept{}, storage | read}, {ReadConceptOk{}, storage},
	{PreparedTxns{}, storage | read}, {PreparedTxnsOk{}, storage},
	{ContentHash{}, storage | read}, {ContentHashOk{}, storage},
	{VectorSearch{}, storage | read}, {VectorSearchOk{}, storage},
	{Query{}, storage | read}, {QueryOk{}, storage},
	{OpenCheckpoint{}, storage | again}, {OpenCheckpointOk{}, storage},
	{ReadCheckpoint{}, storage | read}, {ReadCheckpointOk{}, storage},
	{CloseCheckpoint{}, storage | again}, {CloseCheckpointOk{}, storage},
	{ShardLevel{}, storage | read}, {ShardLevelOk{}, storage},
	{event.Error{}, 0},

	{RegisterAgent{}, withID | urgent}, {RegisterAgentOk{}, 0},
	{Heartbeat{}, again | urgent}, {HeartbeatOk{}, 0},
	{UnregisterAgent{}, withID}, {UnregisterAgentOk{}, 0},
	{ListAgents{}, read}, {ListAgentsOk{}, 0},
	{GetAgent{}, read}, {GetAgentOk{}, 0},
	{ListNodes{}, read}, {ListNodesOk{}, 0},
	{GetClusterStatus{}, read | urgent}, {ClusterStatus{}, 0},
	{RaftPeers{}, read | urgent}, {RaftPeersOk{}, 0},
	{GetShardMap{}, read}, {ShardMapOk{}, 0},
	{WatchShardMap{}, read | streaming},
	{WatchAssignments{}, read | streaming}, {Assignments{}, 0},
	{EmitEvents{}, again}, {EmitEventsOk{}, 0},
	{EmitTelemetry{}, 0}, {EmitTelemetryOk{}, 0},
	{Propose{}, withID | urgent}, {ProposeOk{}, 0},
	{Forward{}, urgent}, {ForwardOk{}, 0},
	{ReadIndex{}, read | urgent}, {ReadIndexOk{}, 0},
	{WatchEvents{}, read | streaming}, {ListEvents{}, read}, {EventsOk{}, 0},
	{TxnOutcome{}, again | urgent}, {TxnOutcomeOk{}, 0},
	{ListTxns{}, read}, {ListTxnsOk{}, 0},
	{ResolveTxn{}, urgent}, {ResolveTxnOk{}, 0},
	{AssociationType{}, again}, {AssociationTypeOk{}, 0},
	{AssociationTypes{}, read}, {AssociationTypesOk{}, 0},
	{MasterHello{}, read | urgent}, {MasterHelloOk{}, 0},
	{AnnounceMaster{}, again}, {AnnounceMasterOk{}, 0},
	{AddMaster{}, again}, {AddMasterOk{}, 0},
	{RemoveMaster{}, 0}, {RemoveMasterOk{}, 0},
	{TransferLeadership{}, 0}, {TransferLeadershipOk{}, 0},
	{TakeSnapshot{}, again}, {TakeSnapshotOk{}, 0},
	{IsMember{}, read | urgent}, {IsMemberOk{}, 0},
	{AssignReplica{}, withID}, {AssignReplicaOk{}, 0},
	{StateDigests{}, read | urgent}, {StateDigestsOk{}, 0},
	{GetFeed{}, read}, {FeedStatus{}, 0},
	{GetSetting{}, read}, {GetSettingOk{}, 0},
})

type variantTable struct {
	byName map[string]*variant
	byType map[reflect.Type]*variant
}

func newVariantTable(entries []entry) variantTable {
	t := variantTable{byName: map[string]*variant{}, byType: map[reflect.Type]*variant{}}
	for _, e := range entries {
		typ := reflect.TypeOf(e.msg)
		v := &variant{name: typ.Name(), typ: typ, traits: e.traits, unit: typ.NumField() == 0, bare: e.traits&read != 0 && onlyOptional(typ)}
		t.byName[v.name], t.byType[typ] = v, v
	}
	return t
}

// onlyOptional tells whether a message may be sent without fields.
func onlyOptional(t reflect.Type) bool {
	if t.Implements(reflect.TypeFor[pack.Appender]()) {
		return false // it reads its fields itself
	}
	for _, f := range reflect.VisibleFields(t) {
		if tag := f.Tag.Get("wire"); !f.Anonymous && !strings.HasSuffix(tag, ",optional") {
			return false
		}
	}
	return true
}

// variantOf finds the variant of a message or of a pointer to one.
func variantOf(msg any) (*variant, bool) {
	t := reflect.TypeOf(msg)
	if t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	v, ok := variants.byType[t]
	return v, ok
}

// VariantName is a message's name on the wire, for errors, logs and metrics.
func VariantName(msg any) string {
	if v, ok := variantOf(msg); ok {
		return v.name
	}
	return reflect.TypeOf(msg).String()
}

// ReadOnly tells whether a request changes nothing.
func ReadOnly(req any) bool {
	switch m := req.(type) {
	case *Routed:
		return ReadOnly(m.Request.Value)
	case Routed:
		return ReadOnly(m.Request.Value)
	case *Batch:
		return allReadOnly(m.Requests)
	case Batch:
		return allReadOnly(m.Requests)
	}
	v, ok := variantOf(req)
	return ok && v.has(read)
}

func allReadOnly(reqs []Any) bool {
	for _, r := range reqs {
		if !ReadOnly(r.Value) {
			return false
		}
	}
	return true
}

// Retryable tells whether sending a request a second time is safe when the outcome of the first is unknown: it is a read,
// it is idempotent by content, or it carries a request id that its receiver remembers (safety S5).
func Retryable(req any) bool {
	v, ok := variantOf(req)
	switch {
	case !ok:
		return false
	case v.has(read | again):
		return true
	case v.has(withID):
		return carriesID(req)
	}
	return ReadOnly(req)
}

func carriesID(req any) bool {
	switch m := req.(type) {
	case *Routed:
		return !m.RequestID.IsZero() || Retryable(m.Request.Value)
	case Routed:
		return !m.RequestID.IsZero() || Retryable(m.Request.Value)
	case *Propose:
		return !m.RequestID.IsZero() || m.Type.Idempotent()
	case Propose:
		return carriesID(&m)
	}
	id, _ := identity(req)
	return id != nil && !id.IsZero()
}

// identity is where a command carries its request id and time of issue; nil: it has no place for one, or needs none.
func identity(req any) (id *event.RequestID, issued *int64) {
	switch m := req.(type) {
	case *Txn:
		return &m.RequestID, &m.Issued
	case Txn:
		return &m.RequestID, &m.Issued
	case *RegisterAgent:
		return &m.RequestID, &m.Issued
	case RegisterAgent:
		return &m.RequestID, &m.Issued
	case *UnregisterAgent:
		return &m.RequestID, &m.Issued
	case UnregisterAgent:
		return &m.RequestID, &m.Issued
	case *AssignReplica:
		return &m.RequestID, &m.Issued
	case AssignReplica:
		return &m.RequestID, &m.Issued
	case *Propose:
		if !m.Type.Idempotent() {
			return &m.RequestID, &m.Issued
		}
	}
	return nil, nil
}

// identified is req with a request id, made here if it takes one and has none, and issued at a time by now's clock; req itself is not
// changed.
func identified(req any, now func() (int64, error)) (with any, err error) {
	id, _ := identity(req)
	if id == nil || !id.IsZero() {
		return req, nil
	}
	at, err := now()
	if err != nil {
		return nil, err
	}
	switch m := req.(type) { // a copy
	case *Txn:
		c := *m
		with = &c
	case *RegisterAgent:
		c := *m
		with = &c
	case *UnregisterAgent:
		c := *m
		with = &c
	case *AssignReplica:
		c := *m
		with = &c
	case *Propose:
		c := *m
		with = &c
	default:
		return req, nil // a value: nobody sends one
	}
	id, issued := identity(with)
	rand.Read(id[:]) // never fails (crypto/rand)
	*issued = at
	return with, nil
}
