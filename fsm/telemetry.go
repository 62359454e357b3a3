package fsm

import (
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// TelemetryLevel is the level from which readings of nodes and masters are in the feed; below it, they are refused.
const TelemetryLevel = 4

// maxReading bounds each name, id and address in a reading: twice what a concept's id may have.
const maxReading = 1 << 10

// reading is the handler of a type that says what was measured: it changes nothing but the feed, so it may come twice, or not at all.
// names says whose reading the body is, which has to be a node or a master of the grid, and lists the rest of its text.
func reading[B event.Body](names func(B) (by string, rest []string)) handler {
	return sample(func(s *State, b B) verdict {
		by, rest := names(b)
		if s.Node(event.NodeID(by)) == nil && s.masters.get(event.MasterID(by)) == nil {
			return refuse(event.KindNotFound, takeReading, "%.128q is no node and no master of this grid", by)
		}
		return bounded(b, rest)
	})
}

// clusterReading is the same of a type that is nobody's alone; its envelope says who took it.
func clusterReading[B event.Body](names func(B) []string) handler {
	return sample(func(_ *State, b B) verdict { return bounded(b, names(b)) })
}

func sample[B event.Body](decide func(*State, B) verdict) handler {
	return since(TelemetryLevel, on(
		func(s *State, _ *event.Command, b B) verdict { return decide(s, b) },
		func(*State, *event.Envelope, B) error { return nil }))
}

const takeReading = "take reading"

func bounded(b event.Body, names []string) verdict {
	for _, text := range names {
		if len(text) > maxReading {
			return refuse(event.KindInvalid, takeReading, "%.32q… has %d bytes, want at most %d", text, len(text), maxReading)
		}
	}
	return accept(b)
}

func storageMetricsNames(b event.StorageMetrics) (string, []string) {
	return string(b.NodeID), []string{string(b.ShardID)}
}

func queryPerformanceNames(b event.QueryPerformance) (string, []string) {
	return string(b.NodeID), []string{b.QueryType}
}

func embeddingLatencyNames(b event.EmbeddingLatency) (string, []string) {
	return b.ServiceInstance, nil
}

func hnswIndexBuiltNames(b event.HNSWIndexBuilt) (string, []string) {
	return string(b.NodeID), []string{string(b.ShardID)}
}

func hnswIndexLoadedNames(b event.HNSWIndexLoaded) (string, []string) {
	return string(b.NodeID), []string{string(b.ShardID)}
}

func pathfindingMetricsNames(b event.PathfindingMetrics) (string, []string) {
	return string(b.NodeID), []string{b.SourceID, b.TargetID, b.Strategy}
}

func reconciliationCompleteNames(b event.ReconciliationComplete) (string, []string) {
	return string(b.NodeID), []string{string(b.ShardID)}
}

func embeddingServiceHealthyNames(b event.EmbeddingServiceHealthy) (string, []string) {
	return b.InstanceID, []string{b.Endpoint}
}

func embeddingServiceDegradedNames(b event.EmbeddingServiceDegraded) (string, []string) {
	return b.InstanceID, []string{b.Endpoint}
}

func crossShardQueryNames(b event.CrossShardQuery) []string {
	names := []string{string(b.SlowestShard)}
	for _, shard := range b.Shards {
		names = append(names, string(shard))
	}
	return names
}
