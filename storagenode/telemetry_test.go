package storagenode

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/storagenode/engine"
	"github.com/sutra-grid/sutra-grid/transport"
)

// inTime runs f with one node that leads its one shard, in virtual time.
func inTime(t *testing.T, tune func(*Config), f func(t *testing.T, c *testCluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newCluster(t, 1, 1, tune)) })
}

// told lists the readings of one type that the master has.
func told[B event.Body](c *testCluster) (all []B) {
	c.master.mu.Lock()
	defer c.master.mu.Unlock()
	for _, body := range c.master.read {
		if b, is := body.(B); is {
			all = append(all, b)
		}
	}
	return all
}

// newest waits past two looks at the shards, of which the first may be the replica's first, and a round of the emitter, and returns the
// last reading of one type.
func newest[B event.Body](c *testCluster) B {
	c.t.Helper()
	time.Sleep(2*measureEvery + 2*time.Second)
	all := told[B](c)
	if len(all) == 0 {
		var none B
		c.t.Fatalf("there is no %s", none.Type())
	}
	return all[len(all)-1]
}

func (c *testCluster) learn(ids ...string) {
	c.t.Helper()
	for _, id := range ids {
		must[transport.LearnConceptOk](c.t)(c.route(write("shard-0", concept(id))))
	}
}

func (c *testCluster) link(from, to string) {
	c.t.Helper()
	must[transport.LearnAssociationOk](c.t)(c.route(write("shard-0", &transport.LearnAssociation{SourceID: from, TargetID: to, Confidence: 0.5})))
}

// TestStorageMetrics: counts, rates and latencies are those of the shard and of the last ten seconds; what a busy shard says every ten
// seconds, an idle one says every minute.
func TestStorageMetrics(t *testing.T) {
	inTime(t, func(cfg *Config) { cfg.InDoubtAfter = 4 * time.Second }, func(t *testing.T, c *testCluster) {
		first := newest[event.StorageMetrics](c)
		if first.NodeID != "node-1" || first.ShardID != "shard-0" || first.ConceptCount != 0 || first.WriteThroughput != 0 || first.ReadLatencyUS != 0 {
			t.Errorf("at first: %+v", first)
		}
		if resident := residentBytes() >> 20; first.MemoryUsageMB == 0 || first.MemoryUsageMB > 2*resident {
			t.Errorf("%d MiB of %d", first.MemoryUsageMB, resident)
		}
		for i := range 30 {
			c.learn(fmt.Sprint("c-", i))
		}
		for i := range 10 {
			c.link("c-0", fmt.Sprint("c-", i+1))
		}
		vector := concept("v")
		vector.Embedding = []float32{1, 2, 3, 4}
		must[transport.LearnConceptOk](t)(c.route(write("shard-0", vector)))
		busy := newest[event.StorageMetrics](c)
		if busy.ConceptCount != 31 || busy.EdgeCount != 10 || busy.VectorCount != 1 || busy.WriteThroughput != 4.1 {
			t.Errorf("behind 41 writes in 10 s: %+v", busy)
		}
		// One of two reads waits 4 s for a row that a transaction holds.
		c.vote(prepareOf(1, 1, "held"))
		for _, id := range []string{"c-1", "held"} {
			must[transport.QueryConceptOk](t)(c.route(ask("shard-0", &transport.QueryConcept{ConceptID: id})))
		}
		if waited := newest[event.StorageMetrics](c); waited.ReadLatencyUS < 1_999_000 || waited.ReadLatencyUS > 2_100_000 {
			t.Errorf("a read without delay and one of 4 s take %d µs in the mean", waited.ReadLatencyUS)
		}
		before := len(told[event.StorageMetrics](c))
		time.Sleep(time.Hour)
		if n := len(told[event.StorageMetrics](c)) - before; n != 60 {
			t.Errorf("an idle shard said %d things in an hour, want 60", n)
		}
		c.master.mu.Lock()
		defer c.master.mu.Unlock()
		for _, b := range c.master.read[len(c.master.read)-60:] {
			if m, is := b.(event.StorageMetrics); !is || m.ConceptCount != 31 || m.WriteThroughput != 0 || m.ReadLatencyUS != 0 {
				t.Errorf("while nothing happened: %+v", b)
			}
		}
	})
}

// TestOnlyTheLeaderMeasures: a shard of three replicas says one thing at a time, by whoever leads.
func TestOnlyTheLeaderMeasures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 1, nil)
		c.learn("a")
		leader, term := c.leader("shard-0", 0)
		if m := newest[event.StorageMetrics](c); m.NodeID != leader || m.ConceptCount != 1 {
			t.Errorf("%s leads: %+v", leader, m)
		}
		for _, m := range told[event.StorageMetrics](c) {
			if m.NodeID != leader {
				t.Errorf("%s leads: %+v", leader, m)
			}
		}
		c.stop(leader)
		next, _ := c.leader("shard-0", term)
		if m := newest[event.StorageMetrics](c); m.NodeID != next || m.ConceptCount != 1 {
			t.Errorf("%s leads: %+v", next, m)
		}
	})
}

// TestGauge: what is due from one look to the next.
func TestGauge(t *testing.T) {
	at := func(seconds int) time.Time { return time.Unix(1_700_000_000+int64(seconds), 0) }
	for name, tt := range map[string]struct {
		looks []look
		due   []bool
		last  event.StorageMetrics
	}{
		"the first look begins": {[]look{{at: at(0), leads: true}}, []bool{false}, event.StorageMetrics{}},
		"the second speaks":     {[]look{{at: at(0), leads: true}, {at: at(10), leads: true}}, []bool{false, true}, event.StorageMetrics{}},
		"a follower is silent": {[]look{{at: at(0)}, {at: at(10), stats: engine.Stats{Written: 9}}, {at: at(20), leads: true, stats: engine.Stats{Written: 10}}},
			[]bool{false, false, true}, event.StorageMetrics{WriteThroughput: 0.1}},
		"a new term speaks at once": {[]look{{at: at(0), leads: true}, {at: at(10), leads: true}, {at: at(20)}, {at: at(30), leads: true}},
			[]bool{false, true, false, true}, event.StorageMetrics{}},
		"nothing new": {[]look{{at: at(0), leads: true}, {at: at(10), leads: true}, {at: at(20), leads: true}, {at: at(69), leads: true}, {at: at(79), leads: true}},
			[]bool{false, true, false, true, false}, event.StorageMetrics{}},
		"reads": {[]look{{at: at(0), leads: true, reads: 5, micros: 500}, {at: at(10), leads: true, reads: 5, micros: 500}, {at: at(20), leads: true, reads: 9, micros: 900}},
			[]bool{false, true, true}, event.StorageMetrics{ReadLatencyUS: 100}},
		"counts": {[]look{{at: at(0), leads: true}, {at: at(20), leads: true, stats: engine.Stats{Concepts: 1, Edges: 2, Vectors: 3, Written: 5}}},
			[]bool{false, true}, event.StorageMetrics{ConceptCount: 1, EdgeCount: 2, VectorCount: 3, WriteThroughput: 0.25}},
		"a state was restored": {[]look{{at: at(0), leads: true, stats: engine.Stats{Written: 50, Concepts: 9}}, {at: at(10), leads: true, stats: engine.Stats{Written: 5, Concepts: 4}}},
			[]bool{false, true}, event.StorageMetrics{ConceptCount: 4}},
		"a clock that stands": {[]look{{at: at(0), leads: true}, {at: at(0), leads: true, stats: engine.Stats{Written: 5}}}, []bool{false, true}, event.StorageMetrics{}},
	} {
		var g gauge
		var got event.StorageMetrics
		for i, l := range tt.looks {
			m, due := g.read(l)
			if due != tt.due[i] {
				t.Errorf("%s: look %d is due: %v", name, i, due)
			}
			if due {
				got = m
			}
		}
		if got != tt.last {
			t.Errorf("%s: %+v, want %+v", name, got, tt.last)
		}
	}
}

// TestQueryPerformance: every hundredth query and every slow one, with what it asked for and got; nothing else a node answers.
func TestQueryPerformance(t *testing.T) {
	inTime(t, func(cfg *Config) { cfg.InDoubtAfter = 250 * time.Millisecond }, func(t *testing.T, c *testCluster) {
		c.learn("a", "b", "c")
		c.link("a", "b")
		c.link("a", "c")
		for range 149 { // with the first below 150
			must[transport.QueryConceptOk](t)(c.route(ask("shard-0", &transport.QueryConcept{ConceptID: "a"})))
			must[transport.StatsOk](t)(c.route(ask("shard-0", &transport.GetStats{})))
		}
		must[transport.GetNeighborsOk](t)(c.route(ask("shard-0", &transport.GetNeighbors{ConceptID: "a"})))
		c.vote(prepareOf(1, 1, "held"))
		must[transport.NeighborsOk](t)(c.route(ask("shard-0", &transport.Neighbors{ConceptID: "held", Direction: "out"})))
		for range 48 {
			must[transport.QueryConceptOk](t)(c.route(ask("shard-0", &transport.QueryConcept{ConceptID: "nobody"})))
		}
		must[transport.GetNeighborsOk](t)(c.route(ask("shard-0", &transport.GetNeighbors{ConceptID: "a"}))) // the 200th
		time.Sleep(2 * time.Second)
		got := told[event.QueryPerformance](c)
		if len(got) != 3 {
			t.Fatalf("got %+v", got)
		}
		if q := got[1]; q.LatencyMS < 250 || q.LatencyMS > 300 {
			t.Errorf("a query that waited 250 ms took %v ms", q.LatencyMS)
		}
		got[1].LatencyMS = 250
		for i := range got {
			if got[i].LatencyMS > 250 {
				t.Errorf("%+v", got[i])
			}
			got[i].LatencyMS = 0
		}
		want := []event.QueryPerformance{
			{NodeID: "node-1", QueryType: event.QueryGet, ResultCount: 1, Confidence: 1},
			{NodeID: "node-1", QueryType: event.QueryGraph, QueryDepth: 1},
			{NodeID: "node-1", QueryType: event.QueryGraph, QueryDepth: 1, ResultCount: 2},
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("query %d: %+v, want %+v", i, got[i], want[i])
			}
		}
	})
}

// TestQueryOf: every reply of a query, and no other.
func TestQueryOf(t *testing.T) {
	items := []transport.ConceptItem{{}, {}}
	found := []transport.VectorResult{{ID: "a", Score: 0.5}}
	paths, depth := []transport.SemanticPath{{Confidence: 0.7}, {Confidence: 0.1}}, uint32(9)
	for _, tt := range []struct {
		request, reply any
		want           event.QueryPerformance
		is             bool
	}{
		{&transport.QueryConcept{}, &transport.QueryConceptOk{Found: true, Confidence: 0.9}, event.QueryPerformance{QueryType: "get", ResultCount: 1, Confidence: 0.9}, true},
		{&transport.GetAssociation{}, &transport.GetAssociationOk{Found: true, Confidence: 0.1}, event.QueryPerformance{QueryType: "get", ResultCount: 1, Confidence: 0.1}, true},
		{&transport.GetAssociation{}, &transport.GetAssociationOk{}, event.QueryPerformance{QueryType: "get"}, true},
		{&transport.GetAllConceptIds{}, &transport.GetAllConceptIdsOk{ConceptIDs: []string{"a"}}, event.QueryPerformance{QueryType: "get", ResultCount: 1}, true},
		{&transport.Exists{}, &transport.ExistsOk{Known: []bool{true, false}}, event.QueryPerformance{QueryType: "get", ResultCount: 2}, true},
		{&transport.QueryByMetadata{}, &transport.QueryByMetadataOk{Items: items}, event.QueryPerformance{QueryType: "get", ResultCount: 2}, true},
		{&transport.Scan{}, &transport.ScanOk{Items: items}, event.QueryPerformance{QueryType: "get", ResultCount: 2}, true},
		{&transport.Expand{}, &transport.ExpandOk{Known: []bool{true}}, event.QueryPerformance{QueryType: "graph", QueryDepth: 1, ResultCount: 1}, true},
		{&transport.FindPath{MaxDepth: 7}, &transport.FindPathOk{Found: true}, event.QueryPerformance{QueryType: "graph", QueryDepth: 7, ResultCount: 1}, true},
		{&transport.FindPathSemantic{MaxDepth: 4}, &transport.FindPathSemanticOk{Paths: paths}, event.QueryPerformance{QueryType: "semantic", QueryDepth: 4, ResultCount: 2, Confidence: 0.7}, true},
		{&transport.FindCausalChain{MaxDepth: 3}, &transport.FindCausalChainOk{}, event.QueryPerformance{QueryType: "semantic", QueryDepth: 3}, true},
		{&transport.FindTemporalChain{}, &transport.FindTemporalChainOk{Paths: paths}, event.QueryPerformance{QueryType: "semantic", ResultCount: 2, Confidence: 0.7}, true},
		{&transport.FindTemporalChain{MaxDepth: &depth}, &transport.FindTemporalChainOk{}, event.QueryPerformance{QueryType: "semantic", QueryDepth: 9}, true},
		{&transport.FindContradictions{}, &transport.FindContradictionsOk{Contradictions: [][]string{nil}}, event.QueryPerformance{QueryType: "semantic", ResultCount: 1}, true},
		{&transport.QueryBySemantic{}, &transport.QueryBySemanticOk{Concepts: []transport.SemanticConcept{{Confidence: 0.2}, {Confidence: 0.3}}}, event.QueryPerformance{QueryType: "semantic", ResultCount: 2, Confidence: 0.3}, true},
		{&transport.VectorSearch{}, &transport.VectorSearchOk{Results: found}, event.QueryPerformance{QueryType: "semantic", ResultCount: 1}, true},
		{&transport.VectorSearch{Tags: []string{"t"}}, &transport.VectorSearchOk{Results: found}, event.QueryPerformance{QueryType: "hybrid", ResultCount: 1}, true},
		{&transport.VectorSearch{Attributes: map[string]string{"a": "b"}}, &transport.VectorSearchOk{}, event.QueryPerformance{QueryType: "hybrid"}, true},
		{&transport.LearnConcept{}, &transport.LearnConceptOk{}, event.QueryPerformance{}, false},
		{&transport.GetStats{}, &transport.StatsOk{}, event.QueryPerformance{}, false},
		{&transport.Flush{}, &transport.FlushOk{}, event.QueryPerformance{}, false},
	} {
		if got, is := queryOf(tt.request, tt.reply); got != tt.want || is != tt.is {
			t.Errorf("%T: %+v, %v", tt.reply, got, is)
		}
	}
}

// TestPathfindingMetrics: the length of what was found, and how many concepts were looked at for it.
func TestPathfindingMetrics(t *testing.T) {
	inTime(t, nil, func(t *testing.T, c *testCluster) {
		c.learn("a", "b", "c", "d", "alone")
		for _, edge := range []string{"ab", "bc", "cd"} {
			c.link(edge[:1], edge[1:])
		}
		for _, to := range []string{"d", "alone"} {
			must[transport.FindPathOk](t)(c.route(ask("shard-0", &transport.FindPath{StartID: "a", EndID: to, MaxDepth: 5})))
		}
		must[transport.FindPathSemanticOk](t)(c.route(ask("shard-0", &transport.FindPathSemantic{StartID: "a", EndID: "c", MaxDepth: 5})))
		_, err := c.route(ask("shard-0", &transport.FindPath{StartID: "a", EndID: "d", MaxDepth: 21}))
		if err == nil {
			t.Error("a depth of 21 is taken")
		}
		time.Sleep(2 * time.Second)
		got := told[event.PathfindingMetrics](c)
		if len(got) != 3 {
			t.Fatalf("got %+v", got)
		}
		if got[2].PathsExplored == 0 || got[2].PathsExplored > 5 {
			t.Errorf("a semantic search in a grid of 5 concepts explored %d", got[2].PathsExplored)
		}
		got[2].PathsExplored = 3
		// Both sides have frontiers of one concept, so the first goes on: over a, b and c to d, and behind d to nowhere.
		for i, want := range []event.PathfindingMetrics{
			{NodeID: "node-1", SourceID: "a", TargetID: "d", PathLength: 3, PathsExplored: 3, Strategy: strategyShortest},
			{NodeID: "node-1", SourceID: "a", TargetID: "alone", PathsExplored: 4, Strategy: strategyShortest},
			{NodeID: "node-1", SourceID: "a", TargetID: "c", PathLength: 2, PathsExplored: 3, Strategy: strategySemantic},
		} {
			got[i].LatencyMS = 0
			if got[i] != want {
				t.Errorf("got %+v, want %+v", got[i], want)
			}
		}
	})
}

// TestReconciliationComplete: one per memtable that went to disk, with its rows; none when there is nothing to write.
func TestReconciliationComplete(t *testing.T) {
	inTime(t, nil, func(t *testing.T, c *testCluster) {
		rows := func(writes int) uint64 {
			before := told[event.ReconciliationComplete](c)
			for i := range writes {
				c.learn(fmt.Sprintf("%d-%d", len(before), i))
			}
			for range 2 { // the second has nothing to do
				must[transport.FlushOk](t)(c.route(ask("shard-0", &transport.Flush{})))
			}
			time.Sleep(2 * time.Second)
			after := told[event.ReconciliationComplete](c)
			if len(after) != len(before)+1 {
				t.Fatalf("%d events about %d flushes", len(after)-len(before), 1)
			}
			e := after[len(before)]
			if e.NodeID != "node-1" || e.ShardID != "shard-0" || !e.DiskFlush {
				t.Errorf("%+v", e)
			}
			return e.EntriesProcessed
		}
		rows(1) // with what making the shard wrote
		ten, thirty := rows(10), rows(30)
		if ten < 20 || ten%10 != 0 || thirty != 3*ten {
			t.Errorf("10 concepts were %d rows, 30 were %d", ten, thirty)
		}
	})
}

// TestHNSWIndexEvents: an index that was saved is loaded, one that is gone is built: hnsw_index_loaded, hnsw_index_built.
func TestHNSWIndexEvents(t *testing.T) {
	inTime(t, nil, func(t *testing.T, c *testCluster) {
		for i := range 30 {
			must[transport.LearnConceptOk](t)(c.route(write("shard-0", pointing(fmt.Sprint("c-", i), float32(i), 1, 0, 0))))
		}
		time.Sleep(2 * time.Second)
		if built, loaded := told[event.HNSWIndexBuilt](c), told[event.HNSWIndexLoaded](c); len(loaded) != 0 || len(built) > 1 {
			t.Errorf("before the restart: %+v, %+v", built, loaded)
		}
		before := len(told[event.HNSWIndexBuilt](c))
		c.stop("node-1")
		c.start("node-1", false)
		time.Sleep(2 * time.Second)
		loaded := told[event.HNSWIndexLoaded](c)
		if len(loaded) != 1 || loaded[0].VectorCount != 30 || loaded[0].NodeID != "node-1" || loaded[0].ShardID != "shard-0" || !loaded[0].Persisted {
			t.Errorf("with its file: %+v", loaded)
		}
		file := filepath.Join(c.nodes["node-1"].shardDir("shard-0"), vectorsFile)
		c.stop("node-1")
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		c.start("node-1", false)
		time.Sleep(2 * time.Second)
		built := told[event.HNSWIndexBuilt](c)[before:]
		if len(built) != 1 || built[0].VectorCount != 30 || built[0].Dimension != 4 || built[0].NodeID != "node-1" || built[0].ShardID != "shard-0" {
			t.Errorf("without its file: %+v", built)
		}
		if n := len(told[event.HNSWIndexLoaded](c)); n != 1 {
			t.Errorf("loaded %d times", n)
		}
	})
}

// service is an embedding service behind no network.
type service struct {
	mu   sync.Mutex
	fail bool
}

func (s *service) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail {
		return nil, errors.New("no route")
	}
	time.Sleep(40 * time.Millisecond)
	var q struct{ Input []string }
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		return nil, err
	}
	var data []any
	for i := range q.Input {
		data = append(data, map[string]any{"index": i, "embedding": []float32{1, 2, 3, 4}})
	}
	b, err := json.Marshal(map[string]any{"data": data})
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(b)), Request: r}, err
}

// TestEmbeddingEvents: a service's state when it changes, its latency at most every ten seconds.
func TestEmbeddingEvents(t *testing.T) {
	s := &service{}
	inTime(t, func(cfg *Config) {
		cfg.Embedding.URL, cfg.Embedding.Transport, cfg.Embedding.Attempts = "http://embedder:8888", s, 1
	}, func(t *testing.T, c *testCluster) {
		embed := func(texts ...string) error {
			_, err := c.send("node-1", ask("shard-0", &transport.Embed{Texts: texts}))
			return err
		}
		for i := range 20 { // two a second
			if err := embed(fmt.Sprint("text ", i), "the same"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(460 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		if err := embed("the same"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		latency := told[event.EmbeddingLatency](c)
		want := []event.EmbeddingLatency{{ServiceInstance: "node-1", BatchSize: 1, LatencyMS: 40, Dimension: 4}, {ServiceInstance: "node-1", BatchSize: 1, Dimension: 4, CacheHit: true}}
		if len(latency) != 2 {
			t.Fatalf("embedding_latency in 14 s: %+v", latency)
		}
		want[0].BatchSize = latency[0].BatchSize // one text of two, or both
		if latency[0] != want[0] || latency[1] != want[1] || want[0].BatchSize > 2 {
			t.Errorf("embedding_latency: %+v", latency)
		}
		s.mu.Lock()
		s.fail = true
		s.mu.Unlock()
		for i := range 60 {
			_ = embed(fmt.Sprint("failing ", i))
		}
		s.mu.Lock()
		s.fail = false
		s.mu.Unlock()
		time.Sleep(2 * time.Second)
		if err := embed("again"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		const endpoint = "http://embedder:8888/v1/embeddings"
		healthy, degraded := told[event.EmbeddingServiceHealthy](c), told[event.EmbeddingServiceDegraded](c)
		if len(healthy) != 2 || len(degraded) != 1 {
			t.Fatalf("embedding_service_healthy: %+v, embedding_service_degraded: %+v", healthy, degraded)
		}
		for _, h := range healthy {
			if h.InstanceID != "node-1" || h.Endpoint != endpoint || h.SuccessRate != 1 {
				t.Errorf("embedding_service_healthy: %+v", h)
			}
		}
		if d := degraded[0]; d.InstanceID != "node-1" || d.Endpoint != endpoint || d.ErrorRate < 0.5 || !strings.Contains(d.Reason, "no route") {
			t.Errorf("embedding_service_degraded: %+v", d)
		}
	})
}

// TestReadingsWithoutMasters: a node serves and closes as fast as with them, and tells what is new when they are back.
func TestReadingsWithoutMasters(t *testing.T) {
	inTime(t, nil, func(t *testing.T, c *testCluster) {
		newest[event.StorageMetrics](c)
		c.master.stop()
		for i := range 300 {
			if _, err := c.send("node-1", write("shard-0", concept(fmt.Sprint("c-", i)))); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		before := len(told[event.StorageMetrics](c))
		c.master.start(c.master.addr)
		time.Sleep(20 * time.Second)
		after := told[event.StorageMetrics](c)[before:]
		if len(after) == 0 || len(after) > 6 || after[0].ConceptCount < 250 || after[len(after)-1].ConceptCount != 300 {
			t.Errorf("behind 5 minutes without masters: %+v", after)
		}
	})
}

// TestWhoTellsNothing: event storage, which would fill its own feed, and a node alone, which has nobody to tell.
func TestWhoTellsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		for _, events := range []bool{true, false} {
			log.Reset()
			cfg := aloneConfig(t, transport.NewMemory(), t.TempDir())
			cfg.Events, cfg.Log = events, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			n, err := Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			must[transport.LearnConceptOk](t)(n.handle(t.Context(), nil, concept("a")))
			time.Sleep(time.Minute)
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
			if said := strings.Contains(log.String(), "level=DEBUG msg=reading "); said == events || (n.readings == nil) != events {
				t.Errorf("event storage: %v; readings are logged: %v", events, said)
			}
			if n.readings.of(engine.EventsShard) != nil || (n.readings.of("shard-0") == nil) != events {
				t.Error("the shard of events has readings")
			}
		}
	})
}
