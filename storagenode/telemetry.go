package storagenode

import (
	"context"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/emit"
	"github.com/sutra-grid/sutra-grid/storagenode/embed"
	"github.com/sutra-grid/sutra-grid/storagenode/engine"
	"github.com/sutra-grid/sutra-grid/storagenode/nearest"
	"github.com/sutra-grid/sutra-grid/transport"
)

// How much of what a node sees becomes events (docs/telemetry.md).
const (
	// sampleOf: one of so many queries is an event. More tell no more about the shape of latencies, fewer leave quiet shards dark.
	sampleOf = 100
	// slowQuery is from where a query is an event in any case.
	slowQuery = 100 * time.Millisecond
	// embeddingEvery is the least time between two events about the latency of embeddings.
	embeddingEvery = 10 * time.Second
)

// The events of one type that leave a node in a second, at most.
const (
	storageLane   = 128 // one per replica, all due at the same time
	queryLane     = 10
	pathLane      = 10
	flushLane     = 16
	indexLane     = storageLane // all are loaded at a start
	embeddingLane = 4
)

// readings is what a node tells the grid about itself. Its methods never wait, and a nil one does nothing: event storage must not fill
// the feed that it receives (safety S25), and neither may what a grid keeps of it.
type readings struct {
	node    event.NodeID
	emitter *emit.Emitter

	storage  *emit.Lane[event.StorageMetrics]
	queries  *emit.Lane[event.QueryPerformance]
	paths    *emit.Lane[event.PathfindingMetrics]
	flushes  *emit.Lane[event.ReconciliationComplete]
	built    *emit.Lane[event.HNSWIndexBuilt]
	loaded   *emit.Lane[event.HNSWIndexLoaded]
	latency  *emit.Lane[event.EmbeddingLatency]
	healthy  *emit.Lane[event.EmbeddingServiceHealthy]
	degraded *emit.Lane[event.EmbeddingServiceDegraded]
}

// newReadings starts the node's emitter; nil for event storage. Alone there is nobody to tell, and the log is told at level debug.
func (n *Node) newReadings() *readings {
	if n.cfg.Events {
		return nil
	}
	cfg := emit.DefaultConfig()
	cfg.Log, cfg.Send = n.log, n.sendReadings
	if n.masters == nil {
		cfg.Send = n.logReadings
	}
	e := emit.New(cfg)
	r := &readings{node: n.cfg.nodeID(), emitter: e,
		storage: emit.NewLane[event.StorageMetrics](e, storageLane),
		queries: emit.NewLane[event.QueryPerformance](e, queryLane),
		paths:   emit.NewLane[event.PathfindingMetrics](e, pathLane),
		flushes: emit.NewLane[event.ReconciliationComplete](e, flushLane),
		built:   emit.NewLane[event.HNSWIndexBuilt](e, indexLane),
		loaded:  emit.NewLane[event.HNSWIndexLoaded](e, indexLane),
		latency: emit.NewLane[event.EmbeddingLatency](e, embeddingLane),
		healthy: emit.NewLane[event.EmbeddingServiceHealthy](e, embeddingLane), degraded: emit.NewLane[event.EmbeddingServiceDegraded](e, embeddingLane),
	}
	e.Start()
	return r
}

// sendReadings hands readings to any master.
func (n *Node) sendReadings(ctx context.Context, events []transport.EmittedEvent) error {
	ok, err := transport.As[transport.EmitTelemetryOk](n.masters.Call(ctx, &transport.EmitTelemetry{Actor: string(n.cfg.nodeID()), Events: events}))
	if err == nil && ok.Refused+ok.Unknown > 0 {
		n.log.Warn("readings were not taken", "refused", ok.Refused, "unknown", ok.Unknown, "reason", ok.Reason)
	}
	return err
}

func (n *Node) logReadings(_ context.Context, events []transport.EmittedEvent) error {
	for _, e := range events {
		body, err := event.DecodeBody(e.Type, e.Body)
		if err != nil {
			return err
		}
		n.log.Debug("reading", "type", e.Type.String(), "text", event.Info(e.Type).Describe(body))
	}
	return nil
}

func (t *readings) close() {
	if t != nil {
		t.emitter.Close()
	}
}

// of is t for one shard.
func (t *readings) of(shard event.ShardID) *readings {
	if shard == engine.EventsShard {
		return nil
	}
	return t
}

// flushed reports what a shard wrote from memory to disk.
func (t *readings) flushed(shard event.ShardID, f engine.Flush) {
	if t != nil {
		t.flushes.Emit(event.ReconciliationComplete{NodeID: t.node, ShardID: shard, EntriesProcessed: f.Rows,
			ReconciliationTimeMS: uint64(f.Took.Milliseconds()), DiskFlush: true})
	}
}

// indexBuilt reports an index that was made of all vectors of a shard.
func (t *readings) indexBuilt(shard event.ShardID, b nearest.Built) {
	if t != nil {
		t.built.Emit(event.HNSWIndexBuilt{NodeID: t.node, ShardID: shard, VectorCount: uint64(b.Vectors), BuildTimeMS: uint64(b.Took.Milliseconds()), Dimension: uint32(b.Dimension)})
	}
}

// indexLoaded reports an index that was read from its file.
func (t *readings) indexLoaded(shard event.ShardID, l nearest.Loaded) {
	if t != nil {
		t.loaded.Emit(event.HNSWIndexLoaded{NodeID: t.node, ShardID: shard, VectorCount: uint64(l.Vectors), LoadTimeMS: uint64(l.Took.Milliseconds()), Persisted: true})
	}
}

// How paths are searched: both ends of graphwalk, and the best chains of semanticwalk.
const (
	strategyShortest = "bidirectional_bfs"
	strategySemantic = "semantic"
)

// path reports a search that ended; path has both ends, or nothing.
func (t *readings) path(q *transport.FindPath, path []string, explored int, took time.Duration) {
	t.searched(event.PathfindingMetrics{SourceID: q.StartID, TargetID: q.EndID, PathLength: steps(path), Strategy: strategyShortest}, explored, took)
}

// semanticPath reports a search for the paths between two concepts; other requests and those that failed are none.
func (t *readings) semanticPath(request, reply any, explored int, took time.Duration) {
	q, asked := request.(*transport.FindPathSemantic)
	a, answered := reply.(*transport.FindPathSemanticOk)
	if !asked || !answered || a == nil {
		return
	}
	m := event.PathfindingMetrics{SourceID: q.StartID, TargetID: q.EndID, Strategy: strategySemantic}
	if len(a.Paths) > 0 {
		m.PathLength = steps(a.Paths[0].Concepts)
	}
	t.searched(m, explored, took)
}

func (t *readings) searched(m event.PathfindingMetrics, explored int, took time.Duration) {
	if t != nil {
		m.NodeID, m.PathsExplored, m.LatencyMS = t.node, uint32(explored), millis(took)
		t.paths.Emit(m)
	}
}

// steps is how many associations a path has.
func steps(path []string) uint32 { return uint32(max(0, len(path)-1)) }

func (t *readings) embedded(l embed.Latency) {
	if t != nil {
		t.latency.Emit(event.EmbeddingLatency{ServiceInstance: l.Instance, BatchSize: uint32(l.BatchSize), LatencyMS: millis(l.Latency),
			Dimension: uint32(l.Dimension), CacheHit: l.CacheHit})
	}
}

func (t *readings) embedderHealthy(h embed.Healthy) {
	if t != nil {
		t.healthy.Emit(event.EmbeddingServiceHealthy{InstanceID: h.Instance, Endpoint: h.Endpoint, SuccessRate: h.SuccessRate, CacheHitRate: h.CacheHitRate})
	}
}

func (t *readings) embedderDegraded(d embed.Degraded) {
	if t != nil {
		t.degraded.Emit(event.EmbeddingServiceDegraded{InstanceID: d.Instance, Endpoint: d.Endpoint, ErrorRate: d.ErrorRate, Reason: d.Reason})
	}
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
