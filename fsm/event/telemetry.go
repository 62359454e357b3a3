package event

import (
	"fmt"
	"strings"
)

// What components measure about themselves, all of class T. Each is a reading at one moment and says nothing by its absence:
// it may be sampled, and dropped on its way (docs/telemetry.md).

// Kinds of queries in QueryPerformance.
const (
	QueryGet      = "get"      // concepts or associations by their id, attributes or place
	QueryGraph    = "graph"    // neighbours and paths
	QuerySemantic = "semantic" // by vectors or by meaning
	QueryHybrid   = "hybrid"   // several of these at once
)

// StorageMetrics is one shard at the node that leads it.
type StorageMetrics struct {
	NodeID          NodeID  `wire:"node_id"`
	ShardID         ShardID `wire:"shard_id"`
	ConceptCount    uint64  `wire:"concept_count"`
	EdgeCount       uint64  `wire:"edge_count"` // each at its source
	VectorCount     uint64  `wire:"vector_count"`
	WriteThroughput float64 `wire:"write_throughput"` // concepts and associations learned per second, over the last interval
	ReadLatencyUS   uint64  `wire:"read_latency_us"`  // mean over the last interval, 0: no reads
	MemoryUsageMB   uint64  `wire:"memory_usage_mb"`  // the process's resident memory over its replicas, MiB
}

// QueryPerformance is one query that was sampled, or was slow.
type QueryPerformance struct {
	NodeID      NodeID  `wire:"node_id"`
	QueryType   string  `wire:"query_type"`  // one of the kinds above
	QueryDepth  uint32  `wire:"query_depth"` // associations from the start that it may go
	ResultCount uint32  `wire:"result_count"`
	LatencyMS   float64 `wire:"latency_ms"`
	Confidence  float64 `wire:"confidence"` // the best of the results, 0: they have none
}

// EmbeddingLatency is one sampled answer of an embedding service, or of the cache before it.
type EmbeddingLatency struct {
	ServiceInstance string  `wire:"service_instance"` // the node that asked
	BatchSize       uint32  `wire:"batch_size"`       // texts
	LatencyMS       float64 `wire:"latency_ms"`
	Dimension       uint32  `wire:"dimension"`
	CacheHit        bool    `wire:"cache_hit"`
}

// HNSWIndexBuilt: a shard's vector index was made from its vectors.
type HNSWIndexBuilt struct {
	NodeID      NodeID  `wire:"node_id"`
	ShardID     ShardID `wire:"shard_id"`
	VectorCount uint64  `wire:"vector_count"`
	BuildTimeMS uint64  `wire:"build_time_ms"`
	Dimension   uint32  `wire:"dimension"`
}

// HNSWIndexLoaded: a shard's vector index is in memory.
type HNSWIndexLoaded struct {
	NodeID      NodeID  `wire:"node_id"`
	ShardID     ShardID `wire:"shard_id"`
	VectorCount uint64  `wire:"vector_count"`
	LoadTimeMS  uint64  `wire:"load_time_ms"`
	Persisted   bool    `wire:"persisted"` // read from its file, not made anew
}

// PathfindingMetrics is one search for a path.
type PathfindingMetrics struct {
	NodeID        NodeID  `wire:"node_id"` // or the master that searched
	SourceID      string  `wire:"source_id"`
	TargetID      string  `wire:"target_id"`
	PathLength    uint32  `wire:"path_length"`    // associations, 0: none was found
	PathsExplored uint32  `wire:"paths_explored"` // concepts whose neighbours were looked at
	LatencyMS     float64 `wire:"latency_ms"`
	Strategy      string  `wire:"strategy"`
}

// ReconciliationComplete: what was written to a shard went from memory to disk.
type ReconciliationComplete struct {
	NodeID               NodeID  `wire:"node_id"`
	ShardID              ShardID `wire:"shard_id"`
	EntriesProcessed     uint64  `wire:"entries_processed"` // rows
	ReconciliationTimeMS uint64  `wire:"reconciliation_time_ms"`
	DiskFlush            bool    `wire:"disk_flush"`
}

// CrossShardQuery is one sampled query that asked several shards.
type CrossShardQuery struct {
	Shards       []ShardID `wire:"shards"`
	LatencyMS    float64   `wire:"latency_ms"`
	SlowestShard ShardID   `wire:"slowest_shard"`
	ResultCount  uint32    `wire:"result_count"`
}

// EmbeddingServiceHealthy: the service answers, for the first time or again.
type EmbeddingServiceHealthy struct {
	InstanceID   string  `wire:"instance_id"` // the node that asks it
	Endpoint     string  `wire:"endpoint"`
	SuccessRate  float64 `wire:"success_rate"`   // 0 to 1, of the last requests
	CacheHitRate float64 `wire:"cache_hit_rate"` // 0 to 1, since the start
}

// EmbeddingServiceDegraded: the service fails too often.
type EmbeddingServiceDegraded struct {
	InstanceID string  `wire:"instance_id"`
	Endpoint   string  `wire:"endpoint"`
	ErrorRate  float64 `wire:"error_rate"` // 0 to 1, of the last requests
	Reason     string  `wire:"reason"`     // the last failure
}

// Type is TypeStorageMetrics.
func (StorageMetrics) Type() Type { return TypeStorageMetrics }

// Type is TypeQueryPerformance.
func (QueryPerformance) Type() Type { return TypeQueryPerformance }

// Type is TypeEmbeddingLatency.
func (EmbeddingLatency) Type() Type { return TypeEmbeddingLatency }

// Type is TypeHNSWIndexBuilt.
func (HNSWIndexBuilt) Type() Type { return TypeHNSWIndexBuilt }

// Type is TypeHNSWIndexLoaded.
func (HNSWIndexLoaded) Type() Type { return TypeHNSWIndexLoaded }

// Type is TypePathfindingMetrics.
func (PathfindingMetrics) Type() Type { return TypePathfindingMetrics }

// Type is TypeReconciliationComplete.
func (ReconciliationComplete) Type() Type { return TypeReconciliationComplete }

// Type is TypeCrossShardQuery.
func (CrossShardQuery) Type() Type { return TypeCrossShardQuery }

// Type is TypeEmbeddingServiceHealthy.
func (EmbeddingServiceHealthy) Type() Type { return TypeEmbeddingServiceHealthy }

// Type is TypeEmbeddingServiceDegraded.
func (EmbeddingServiceDegraded) Type() Type { return TypeEmbeddingServiceDegraded }

// embeddingEntity is what events about embedding are about; ids that begin with "grid-" are nobody else's.
const embeddingEntity = "grid-embedding"

func embedding[B Body](B) string { return embeddingEntity }

func describeStorageMetrics(e StorageMetrics) string {
	return fmt.Sprintf("%s on %s holds %s, %s and %s; %.1f writes/s, %d µs a read, %d MiB", e.ShardID, e.NodeID,
		count(e.ConceptCount, "concept"), count(e.EdgeCount, "edge"), count(e.VectorCount, "vector"), e.WriteThroughput, e.ReadLatencyUS, e.MemoryUsageMB)
}

func describeQueryPerformance(e QueryPerformance) string {
	return fmt.Sprintf("%s answered a %s query in %.1f ms with %s", e.NodeID, e.QueryType, e.LatencyMS, count(uint64(e.ResultCount), "result"))
}

func describeEmbeddingLatency(e EmbeddingLatency) string {
	from := "the embedding service"
	if e.CacheHit {
		from = "its cache"
	}
	return fmt.Sprintf("%s got %s from %s in %.1f ms", e.ServiceInstance, count(uint64(e.BatchSize), "vector"), from, e.LatencyMS)
}

func describeHNSWIndexBuilt(e HNSWIndexBuilt) string {
	return fmt.Sprintf("%s built the index of %s over %s of %d dimensions in %d ms", e.NodeID, e.ShardID, count(e.VectorCount, "vector"), e.Dimension, e.BuildTimeMS)
}

func describeHNSWIndexLoaded(e HNSWIndexLoaded) string {
	how := "from its file"
	if !e.Persisted {
		how = "without a file"
	}
	return fmt.Sprintf("%s loaded the index of %s with %s %s in %d ms", e.NodeID, e.ShardID, count(e.VectorCount, "vector"), how, e.LoadTimeMS)
}

func describePathfindingMetrics(e PathfindingMetrics) string {
	found := "no path"
	if e.PathLength > 0 {
		found = "a path of length " + fmt.Sprint(e.PathLength)
	}
	return fmt.Sprintf("%s found %s from %.40q to %.40q in %.1f ms; %d explored", e.NodeID, found, e.SourceID, e.TargetID, e.LatencyMS, e.PathsExplored)
}

func describeReconciliationComplete(e ReconciliationComplete) string {
	return fmt.Sprintf("%s wrote %s of %s to disk in %d ms", e.NodeID, count(e.EntriesProcessed, "row"), e.ShardID, e.ReconciliationTimeMS)
}

func describeCrossShardQuery(e CrossShardQuery) string {
	return fmt.Sprintf("a query over %s took %.1f ms, longest at %s, with %s", count(uint64(len(e.Shards)), "shard"), e.LatencyMS, e.SlowestShard, count(uint64(e.ResultCount), "result"))
}

func describeEmbeddingServiceHealthy(e EmbeddingServiceHealthy) string {
	return fmt.Sprintf("the embedding service at %s answers %s", e.Endpoint, e.InstanceID)
}

func describeEmbeddingServiceDegraded(e EmbeddingServiceDegraded) string {
	reason := strings.Join(strings.Fields(e.Reason), " ")
	return fmt.Sprintf("the embedding service at %s fails %s in %.0f %% of its requests%s", e.Endpoint, e.InstanceID, e.ErrorRate*100, because(reason))
}
