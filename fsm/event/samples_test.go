package event

import (
	"fmt"
	"math"
	"reflect"

	"pgregory.net/rapid"
)

func sampleID(b byte) (id RequestID) {
	for i := range id {
		id[i] = b + byte(i)
	}
	return id
}

// samples has one body of every emitted type, with every field set.
func samples() []Body {
	exit := int32(-9)
	pos := Position{N: 1, Seq: 40}
	store := "00112233445566778899aabbccddeeff"
	voters := []Voter{{NewReplicaID("node-1", store), "node-1"}, {NewReplicaID("node-2", store), "node-2"}}
	return []Body{
		AgentRegistered{"agent-1", "host-1", "process", "10.0.0.1:8001", 4, "0.1.0", "a", map[string]string{"disk": "ssd", "arch": "amd64"}, store},
		AgentHeartbeat{"agent-1", 1, Load{0.25, 1024, 2048}, []NodeReport{{"node-1", "running", 77, "10.0.0.1:50051", 2}}},
		AgentDegraded{"agent-1", 15.5},
		AgentOffline{"agent-1", 1792290000123456},
		AgentRecovered{"agent-1", 31.25},
		AgentUnregistered{"agent-1", "decommissioned"},
		SpawnRequested{"node-1", "agent-1", 50051, "nodes/node-1", 512, []ShardID{"shard-0"}},
		SpawnSucceeded{"node-1", "agent-1", 77, 50051, "10.0.0.1:50051", store, 1},
		SpawnFailed{"node-1", "agent-1", "port in use"},
		StopRequested{"node-1", "agent-1"},
		StopSucceeded{"node-1", "agent-1"},
		StopFailed{"node-1", "agent-1", "still alive after 10 s"},
		NodeCrashed{"node-1", "agent-1", &exit, "killed", true, "panic: \"no\"\n\tat x\x01", 3},
		NodeRestarted{"node-1", "agent-1", 3, 78, 50051, "10.0.0.1:50051", 4},
		ClusterHealthy{3, 3, 4, 4},
		ClusterDegraded{3, 2, "agent-2 is not healthy"},
		ClusterCritical{3, 0, "no agent is healthy"},
		ShardMapCreated{"hash", 4, 3, []string{"m"}},
		ShardCreated{"shard-0", voters},
		ReplicaAssigned{"shard-0", "node-4", RoleLearner, NewReplicaID("node-4", store), voters[0].ReplicaID},
		ReplicaPromoted{"shard-0", "node-4", NewReplicaID("node-4", store), 17},
		ReplicaRemoved{"shard-0", "node-1", "replaced", voters[0].ReplicaID, 19},
		ShardFormed{"shard-0", 2},
		ShardLeaderChanged{"shard-0", "node-1", 2},
		ShardQuorumLost{"shard-0", 1, 2},
		ShardQuorumRestored{"shard-0", 2, 2},
		TxnCommitted{sampleID(1), math.MaxUint64, pos, 1792290000000001, []ShardID{"shard-0", "shard-1"}, 2, "master-1"},
		TxnAborted{sampleID(1), 9, true, []ShardID{"shard-0"}, "conflict", pos},
		TxnCompleted{[]TxnID{sampleID(1), sampleID(2)}, pos},
		MasterJoined{"master-1", "10.0.0.1:7000", "voter", "10.0.0.1:7001", "10.0.0.1:7002", 1, NewReplicaID("master-1", store)},
		MasterLeft{"master-1"},
		ReplicaReaddressed{MastersGroup, NewReplicaID("master-1", store), "10.0.0.1:7000", "10.0.0.9:7000", "10.0.0.9:7001", "10.0.0.9:7002"},
		LeaderElected{"master-1", 3, "master-2"},
		MasterUnreachable{"master-1", 1792290000000002},
		MasterRecovered{"master-1", 1792290000000003},
		StateChecked{2048, 40, Chain{0xaa}, Chain{0xbb}, []ReplicaID{voters[0].ReplicaID}, []ReplicaID{voters[1].ReplicaID}, Chain{0xcc}},
		LevelRaised{2},
		ClockSkew{"master-1", -1500},
		IncarnationStarted{"6f1d9c52-0000-4000-8000-000000000001", Incarnation{1, [8]byte{1, 2, 3, 4, 5, 6, 7, 8}}, 12, Chain{0xab, 0xcd}, "formed", 1},
		FeedAcked{"events", "store-1", 41, Chain{1, 2}},
		FeedRewound{"events", 12, Chain{3, 4}, 41, "store-2", "store-1", 5000},
		SinkAdded{"events", "10.0.0.1:50052", "grid"},
		SinkRemoved{"events"},
		SettingChanged{"feed.quota_mb", "1024", 2},
		AssociationTypeAdded{"hypernym", 1000},
		StorageMetrics{"node-1", "shard-0", 1000, 2000, 500, 12.5, 250, 64},
		QueryPerformance{"node-1", QueryGraph, 3, 17, 1.25, 0.75},
		EmbeddingLatency{"node-1", 8, 31.5, 768, true},
		HNSWIndexBuilt{"node-1", "shard-0", 500, 1200, 768},
		HNSWIndexLoaded{"node-1", "shard-0", 500, 90, true},
		PathfindingMetrics{"node-1", "dog", "animal", 3, 42, 2.5, "bidirectional_bfs"},
		ReconciliationComplete{"node-1", "shard-0", 4096, 35, true},
		CrossShardQuery{[]ShardID{"shard-0", "shard-1"}, 4.5, "shard-1", 12},
		EmbeddingServiceHealthy{"node-1", "http://10.0.0.7:8888/v1/embeddings", 1, 0.25},
		EmbeddingServiceDegraded{"node-1", "http://10.0.0.7:8888/v1/embeddings", 0.5, "connection refused"},
	}
}

// envelopeOf puts a body into a place with every field of the envelope set.
func envelopeOf(b Body) *Envelope {
	return &Envelope{Seq: 41, RaftIndex: 99, Type: b.Type(), Time: 1792290000123456, Cause: 12, Actor: "agent-1", RequestID: sampleID(7), Body: b}
}

// anyBody draws a body of any emitted type with arbitrary content that Validate accepts.
func anyBody(t *rapid.T) Body {
	all := samples()
	sample := all[rapid.IntRange(0, len(all)-1).Draw(t, "type")]
	v := reflect.New(reflect.TypeOf(sample)).Elem()
	fill(t, v, false)
	return v.Interface().(Body)
}

// fill sets v to an arbitrary value.
func fill(t *rapid.T, v reflect.Value, isTime bool) {
	name := v.Type().String()
	switch v.Kind() {
	case reflect.String:
		v.SetString(rapid.String().Draw(t, name))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, name))
	case reflect.Int32:
		v.SetInt(int64(rapid.Int32().Draw(t, name)))
	case reflect.Int64:
		if !isTime {
			v.SetInt(rapid.Int64().Draw(t, name))
			return
		}
		v.SetInt(anyTime(t))
	case reflect.Uint32:
		v.SetUint(uint64(rapid.Uint32().Draw(t, name)))
	case reflect.Uint64:
		v.SetUint(rapid.Uint64().Draw(t, name))
	case reflect.Float64:
		v.SetFloat(rapid.Float64().Draw(t, name))
	case reflect.Pointer:
		if rapid.Bool().Draw(t, "present") {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem(), false)
		}
	case reflect.Array:
		reflect.Copy(v, reflect.ValueOf(rapid.SliceOfN(rapid.Byte(), v.Len(), v.Len()).Draw(t, name)))
	case reflect.Slice:
		n := rapid.IntRange(0, 3).Draw(t, "len")
		s := reflect.MakeSlice(v.Type(), n, n)
		for i := range n {
			fill(t, s.Index(i), false)
		}
		v.Set(s)
	case reflect.Map:
		m := reflect.MakeMap(v.Type())
		for range rapid.IntRange(0, 3).Draw(t, "len") {
			m.SetMapIndex(reflect.ValueOf(rapid.String().Draw(t, "key")), reflect.ValueOf(rapid.String().Draw(t, "value")))
		}
		v.Set(m)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), isTime || v.Type().Field(i).Tag.Get("form") == "time")
		}
	default:
		panic(fmt.Sprintf("no generator for %s", v.Type()))
	}
}

// anyTime draws unix µs from year 1 to 9999.
func anyTime(t *rapid.T) int64 {
	return rapid.Int64Range(-62135596800000000, 253402300799999999).Draw(t, "time")
}

func anyRequestID(t *rapid.T) (id RequestID) {
	if rapid.Bool().Draw(t, "request id") {
		copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "bytes"))
	}
	return id
}

func anyEnvelope(t *rapid.T) *Envelope {
	e := &Envelope{
		Seq: rapid.Uint64().Draw(t, "seq"), RaftIndex: rapid.Uint64().Draw(t, "index"), Time: anyTime(t),
		Cause: rapid.Uint64().Draw(t, "cause"), Actor: rapid.StringN(-1, -1, maxActor).Draw(t, "actor"), RequestID: anyRequestID(t), Body: anyBody(t),
	}
	e.Type = e.Body.Type()
	copy(e.Chain[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "chain"))
	return e
}

func anyCommand(t *rapid.T) *Command {
	c := NewCommand(rapid.StringN(-1, -1, maxActor).Draw(t, "actor"), anyBody(t))
	c.RequestID, c.Issued = anyRequestID(t), rapid.Int64().Draw(t, "issued")
	c.Emitter, c.EmitterSeq = rapid.StringN(-1, -1, maxEmitter).Draw(t, "emitter"), rapid.Uint64().Draw(t, "emitter seq")
	c.Cause = rapid.Uint64().Draw(t, "cause")
	return c
}
