package fsm

import (
	"bytes"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// measured is a grid of a level with one node and one master.
func measured(t fatal, level uint32) *replica {
	r := newReplica(t)
	r.must(event.IncarnationStarted{GridID: "g", Incarnation: event.Incarnation{N: 1}, Level: level})
	r.must(event.MasterJoined{MasterID: "master-1", Suffrage: "voter", ReplicaID: "master-1.x", Level: level})
	r.must(event.AgentRegistered{AgentID: "agent-1", MaxStorageNodes: 2})
	r.must(event.SpawnRequested{NodeID: "node-1", AgentID: "agent-1"})
	return r
}

// readingsOf has one reading of every type, by a node or a master.
func readingsOf(by string) []event.Body {
	node := event.NodeID(by)
	return []event.Body{
		event.StorageMetrics{NodeID: node, ShardID: "shard-0", ConceptCount: 3},
		event.QueryPerformance{NodeID: node, QueryType: event.QueryGet},
		event.EmbeddingLatency{ServiceInstance: by, BatchSize: 1},
		event.HNSWIndexBuilt{NodeID: node, ShardID: "shard-0"},
		event.HNSWIndexLoaded{NodeID: node, ShardID: "shard-0", Persisted: true},
		event.PathfindingMetrics{NodeID: node, SourceID: "a", TargetID: "b", Strategy: "s"},
		event.ReconciliationComplete{NodeID: node, ShardID: "shard-0", DiskFlush: true},
		event.EmbeddingServiceHealthy{InstanceID: by, Endpoint: "http://e"},
		event.EmbeddingServiceDegraded{InstanceID: by, Endpoint: "http://e"},
		event.CrossShardQuery{Shards: []event.ShardID{"shard-0", "shard-1"}, SlowestShard: "shard-1"},
	}
}

// TestReadingsChangeNothingButTheFeed: each is in the feed once per command, and nowhere else.
func TestReadingsChangeNothingButTheFeed(t *testing.T) {
	r := measured(t, TelemetryLevel)
	for _, by := range []string{"node-1", "master-1"} {
		for _, b := range readingsOf(by) {
			before := r.m.View()
			if a := r.must(b); a.Seq != before.Seq()+1 || r.m.View().Seq() != a.Seq {
				t.Errorf("%s: %+v behind event %d", b.Type(), a, before.Seq())
			}
			if a := r.must(b); a.Seq != before.Seq()+2 {
				t.Errorf("%s again: %+v behind event %d", b.Type(), a, before.Seq())
			}
			if was, is := tablesOf(before), tablesOf(r.m.View()); !bytes.Equal(was, is) {
				t.Errorf("%s changed more than the feed", b.Type())
			}
			if event.Info(b.Type()).Class != event.Telemetry || handlers[b.Type()].health {
				t.Errorf("%s is not mere telemetry", b.Type())
			}
		}
	}
}

// tablesOf is the digest of a state as if its history ended where it began: of everything but where the feed stands.
func tablesOf(s *State) []byte {
	c := *s
	c.head.Seq, c.head.Chain, c.head.Time, c.head.FeedBytes = 0, event.Chain{}, 0, 0
	c.mark.RaftIndex, c.mark.Time = 0, 0
	sum, local := c.Digest(), c.LocalDigest()
	return append(sum[:], local[:]...)
}

// TestReadingsAreRefused: of strangers, without end, and below their level.
func TestReadingsAreRefused(t *testing.T) {
	r := measured(t, TelemetryLevel)
	for _, by := range []string{"", "node-2", "cluster"} {
		for _, b := range readingsOf(by) {
			if b.Type() != event.TypeCrossShardQuery {
				wantKind(t, b.Type().String()+" of "+by, r.do(b), event.KindNotFound)
			}
		}
	}
	long := strings.Repeat("x", maxReading+1)
	for _, b := range []event.Body{
		event.StorageMetrics{NodeID: "node-1", ShardID: event.ShardID(long)},
		event.PathfindingMetrics{NodeID: "node-1", SourceID: long},
		event.PathfindingMetrics{NodeID: "node-1", TargetID: long},
		event.CrossShardQuery{Shards: []event.ShardID{event.ShardID(long)}},
		event.EmbeddingServiceHealthy{InstanceID: "node-1", Endpoint: long},
	} {
		wantKind(t, b.Type().String()+" without end", r.do(b), event.KindInvalid)
	}
	older := measured(t, TelemetryLevel-1)
	for _, b := range readingsOf("node-1") {
		wantKind(t, b.Type().String()+" at level 3", older.do(b), event.KindUnsupported)
	}
	if len(readingsOf("x")) != countSince(TelemetryLevel, event.Telemetry) {
		t.Error("a type is missing here")
	}
}

func countSince(level uint32, class event.Class) (n int) {
	for typ, h := range handlers {
		if h.level == level && event.Info(typ).Class == class {
			n++
		}
	}
	return n
}
