package master

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// saying is a request of one node with the given readings.
func saying(t *testing.T, bodies ...event.Body) *transport.EmitTelemetry {
	t.Helper()
	r := &transport.EmitTelemetry{Actor: "node-1"}
	for _, b := range bodies {
		encoded, err := event.AppendBody(nil, b)
		if err != nil {
			t.Fatal(err)
		}
		r.Events = append(r.Events, transport.EmittedEvent{Type: b.Type(), Body: encoded})
	}
	return r
}

func flushOf(n uint64) event.ReconciliationComplete {
	return event.ReconciliationComplete{NodeID: "node-1", ShardID: "shard-0", EntriesProcessed: n, DiskFlush: true}
}

// TestReadingsOfNodes: over any master they are in the feed, in their order and in the node's name; one that is refused costs the
// others nothing.
func TestReadingsOfNodes(t *testing.T) {
	c := newCluster(t, nil)
	c.start(c.ids()...)
	leader, followers := c.leader()
	must[transport.RegisterAgentOk](c, leader, registration(1))
	c.feed(leader, 1, until(event.TypeSpawnRequested, 1))
	all := []event.Body{
		event.StorageMetrics{NodeID: "node-1", ShardID: "shard-0", ConceptCount: 3, WriteThroughput: 0.5},
		event.QueryPerformance{NodeID: "node-1", QueryType: event.QueryGet, LatencyMS: 1},
		event.EmbeddingLatency{ServiceInstance: "node-1", BatchSize: 2},
		event.HNSWIndexBuilt{NodeID: "node-1", ShardID: "shard-0"},
		event.HNSWIndexLoaded{NodeID: "node-1", ShardID: "shard-0"},
		event.PathfindingMetrics{NodeID: "node-1", SourceID: "a", TargetID: "b"},
		event.EmbeddingServiceHealthy{InstanceID: "node-1"},
		event.EmbeddingServiceDegraded{InstanceID: "node-1"},
	}
	sent := append(slices.Clone(all), event.StorageMetrics{NodeID: "node-99"}, flushOf(1))
	for _, via := range []event.MasterID{leader, followers[0]} {
		before := c.up[leader].core.replica.View().Seq()
		ok := must[transport.EmitTelemetryOk](c, via, saying(t, sent...))
		if ok.Taken != uint32(len(all))+1 || ok.Refused != 1 || ok.Unknown != 0 || !strings.Contains(ok.Reason, "node-99") {
			t.Errorf("over %s: %+v", via, ok)
		}
		var got []event.Body
		for _, e := range c.feed(leader, before+1, until(event.TypeReconciliationComplete, 1)) {
			if measured[e.Type] {
				got = append(got, e.Body)
				if e.Actor != "node-1" || !e.RequestID.IsZero() || e.Cause != 0 {
					t.Errorf("%+v", e)
				}
			}
		}
		if want := append(slices.Clone(all), event.Body(flushOf(1))); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("over %s the feed has\n%v, want\n%v", via, got, want)
		}
	}
	for typ := range measured {
		if event.Info(typ).Class != event.Telemetry {
			t.Errorf("%s may be said by nodes and is no telemetry", typ)
		}
	}
}

// TestReadingsThatAreRefused: who says too much, nothing, or what is not a node's to say, is told so, and none of it is taken.
func TestReadingsThatAreRefused(t *testing.T) {
	c := newCluster(t, nil)
	c.start(c.ids()...)
	leader, _ := c.leader()
	before := c.up[leader].core.replica.View().Seq()
	garbage := saying(t, flushOf(1), flushOf(2))
	garbage.Events[1].Body = []byte{0xc1}
	nobody := saying(t, flushOf(1))
	nobody.Actor = ""
	round := saying(t, flushOf(1))
	round.Hops = maxHops
	for name, tt := range map[string]struct {
		req  *transport.EmitTelemetry
		want event.Kind
	}{
		"nothing":     {saying(t), event.KindInvalid},
		"too many":    {saying(t, slices.Repeat([]event.Body{flushOf(1)}, maxReadings+1)...), event.KindInvalid},
		"garbage":     {garbage, event.KindInvalid},
		"nobody":      {nobody, event.KindInvalid},
		"a heartbeat": {saying(t, event.AgentHeartbeat{AgentID: "agent-1"}), event.KindRefused},
		"a decision":  {saying(t, flushOf(1), event.LevelRaised{To: 9}), event.KindRefused},
		"a master's":  {saying(t, event.CrossShardQuery{SlowestShard: "shard-0"}), event.KindRefused},
	} {
		_, err := ask[transport.EmitTelemetryOk](c, leader, tt.req)
		if kindOf(err) != tt.want {
			t.Errorf("%s: %v, want kind %s", name, err, tt.want)
		}
	}
	for _, e := range c.feed(leader, before, func([]*event.Envelope) bool { return true }) {
		if measured[e.Type] {
			t.Errorf("%+v is in the feed", e)
		}
	}
}

// TestReadingsBelowTheirLevel are refused by name, so that nodes wait.
func TestReadingsBelowTheirLevel(t *testing.T) {
	c := newCluster(t, func(cfg *Config) { cfg.seams.supports = fsm.TelemetryLevel - 1 })
	c.start(c.ids()...)
	leader, _ := c.leader()
	_, err := ask[transport.EmitTelemetryOk](c, leader, saying(t, flushOf(1)))
	wantKind(t, err, event.KindUnsupported)
}

// dropsReadings checks that at 80 % of the outbox readings are answered, counted and kept out of the log.
func (c *cluster) dropsReadings(via event.MasterID) {
	c.t.Helper()
	before := must[transport.FeedStatus](c, via, &transport.GetFeed{})
	ok := must[transport.EmitTelemetryOk](c, via, saying(c.t, flushOf(1), flushOf(2), flushOf(3)))
	after := must[transport.FeedStatus](c, via, &transport.GetFeed{})
	c.without(event.Telemetry, after.MasterID, before.Seq+1, after.Seq)
	if ok.Taken != 3 || after.Dropped != before.Dropped+3 {
		c.t.Errorf("%+v; dropped %d and then %d, seq %d and then %d", ok, before.Dropped, after.Dropped, before.Seq, after.Seq)
	}
	if _, _, body := c.http(after.MasterID, http.MethodGet, "/metrics", ""); !strings.Contains(string(body), fmt.Sprintf("grid_feed_dropped_total{class=\"T\"} %d\n", after.Dropped)) {
		c.t.Errorf("the leader's metrics do not count %d dropped events", after.Dropped)
	}
}
