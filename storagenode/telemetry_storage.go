package storagenode

import (
	"context"
	"fmt"
	"maps"
	"os"
	"runtime/metrics"
	"slices"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/storagenode/engine"
)

const (
	// measureEvery is how often a node looks at its shards; rates and latencies are means over it.
	measureEvery = 10 * time.Second
	// idleEvery is how often a shard in which nothing happens is an event.
	idleEvery = time.Minute
)

// measure looks at every replica, until ctx ends.
func (n *Node) measure(ctx context.Context) error {
	tick := time.NewTicker(measureEvery)
	defer tick.Stop()
	gauges := map[*replica]*gauge{}
	for {
		n.measureAll(gauges)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// measureAll looks once. Behind it gauges has one for every open replica, and no other.
func (n *Node) measureAll(gauges map[*replica]*gauge) {
	open := n.replicas.all()
	maps.DeleteFunc(gauges, func(r *replica, _ *gauge) bool { return !slices.Contains(open, r) })
	share := n.cfg.memory() / uint64(max(1, len(open))) >> 20
	for _, r := range open {
		g := gauges[r]
		if g == nil {
			g = &gauge{}
			gauges[r] = g
		}
		now := look{at: time.Now(), leads: r.group.IsLeader(), stats: r.engine.Stats(), reads: r.reads.n.Load(), micros: r.reads.micros.Load()}
		if m, due := g.read(now); due {
			m.ShardID, m.MemoryUsageMB = r.shard, share
			r.readings.stored(m)
		}
	}
}

func (t *readings) stored(m event.StorageMetrics) {
	if t != nil {
		m.NodeID = t.node
		t.storage.Emit(m)
	}
}

// look is what can be seen of a replica at one moment; its counters only grow, but for a restored state.
type look struct {
	at            time.Time
	leads         bool
	stats         engine.Stats
	reads, micros uint64
}

// gauge turns looks at a replica into events: of the leader, when something has happened since the last look, or nothing was said for
// idleEvery. The first look is only the begin of an interval.
type gauge struct {
	last look
	told time.Time // of the last event; zero: none in this leader's term
}

// read takes a look, and says what to report of it, if that is due.
func (g *gauge) read(now look) (m event.StorageMetrics, due bool) {
	last := g.last
	g.last = now
	if last.at.IsZero() {
		return m, false
	}
	if !now.leads {
		g.told = time.Time{}
		return m, false
	}
	changed := now.stats != last.stats || now.reads != last.reads
	if !changed && !g.told.IsZero() && now.at.Sub(g.told) < idleEvery-measureEvery/2 { // ticks are not exact
		return m, false
	}
	g.told = now.at
	m = event.StorageMetrics{ConceptCount: now.stats.Concepts, EdgeCount: now.stats.Edges, VectorCount: now.stats.Vectors}
	if interval := now.at.Sub(last.at); interval > 0 && now.stats.Written > last.stats.Written {
		m.WriteThroughput = float64(now.stats.Written-last.stats.Written) / interval.Seconds()
	}
	if n := now.reads - last.reads; n > 0 {
		m.ReadLatencyUS = (now.micros - last.micros) / n
	}
	return m, true
}

// residentBytes is the process's resident memory; where the system does not say, what the Go runtime has of it.
func residentBytes() uint64 {
	if text, err := os.ReadFile("/proc/self/statm"); err == nil {
		var size, resident uint64 // pages
		if _, err := fmt.Sscan(string(text), &size, &resident); err == nil {
			return resident * uint64(os.Getpagesize())
		}
	}
	sample := []metrics.Sample{{Name: "/memory/classes/total:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
