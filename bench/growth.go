package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sutra-grid/sutra-grid/bench/report"
	"github.com/sutra-grid/sutra-grid/bench/servers"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/load"
	"github.com/sutra-grid/sutra-grid/transport"
)

// What P13 and P15 are about.
const (
	manyAgents = 10_000
	heartbeat  = 10 * time.Second
)

// sizes are the objects of P15 in the masters' state: request ids with their answers, which the masters keep for ten minutes.
var sizes = [...]int{10_000, 100_000, 1_000_000}

// usage is what a master has used.
type usage struct{ cpu, heap float64 } // seconds of a core; bytes

// usages looks at every master.
func usages(ctx context.Context, g *servers.Grid) ([]usage, error) {
	dev, err := g.Dev()
	if err != nil {
		return nil, err
	}
	var all []usage
	for _, m := range dev.Masters {
		u := usage{}
		if u.cpu, err = processorTime(m.PID); err != nil {
			return nil, err
		}
		if u.heap, err = metric(ctx, "http://"+m.HTTP+"/metrics", "go_memstats_heap_alloc_bytes"); err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	return all, nil
}

// metric reads one figure of a Prometheus page.
func metric(ctx context.Context, url, name string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(text, 64)
		}
	}
	return 0, errors.Join(lines.Err(), fmt.Errorf("%s has no %s", url, name))
}

// heaps is the lowest heap of each master over some seconds: what is left behind a collection.
func heaps(ctx context.Context, g *servers.Grid) (lowest []float64, err error) {
	for range 30 {
		now, err := usages(ctx, g)
		if err != nil {
			return nil, err
		}
		for i, u := range now {
			if i == len(lowest) {
				lowest = append(lowest, u.heap)
			}
			lowest[i] = min(lowest[i], u.heap)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return lowest, nil
}

// fleet is agents that are only their heartbeats.
type fleet struct {
	pools   []*transport.Pool
	masters []*transport.Masters
}

func newFleet(g *servers.Grid) *fleet {
	f := &fleet{}
	for i := range connections { // agents ask any master
		p := transport.NewPool(transport.PoolConfig{MaxPerPeer: 1})
		k := i % len(g.Masters)
		f.pools, f.masters = append(f.pools, p), append(f.masters, transport.NewMasters(slices.Concat(g.Masters[k:], g.Masters[:k]), p))
	}
	return f
}

func (f *fleet) close() error {
	var errs []error
	for _, p := range f.pools {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

func (f *fleet) of(w *load.Worker) *transport.Masters { return f.masters[w.Index%len(f.masters)] }

func agentName(n uint64) event.AgentID { return event.AgentID(fmt.Sprintf("bench-agent-%05d", n)) }

// heartbeats is P13.
func heartbeats(ctx context.Context, b *bench) ([]report.Row, error) {
	row := b.row("P13", "% of a core")
	err := b.onGrid(ctx, servers.Shape{Agents: 1, Shards: 1, Replicas: 1}, func(g *servers.Grid) error {
		f := newFleet(g)
		defer f.close()
		if err := f.register(ctx); err != nil {
			return err
		}
		beats := f.beats(b)
		var cpu []float64
		heap := 0.0
		for range b.rounds {
			before, err := usages(ctx, g)
			if err != nil {
				return err
			}
			began := time.Now()
			r, err := beats(ctx)
			if err != nil {
				return err
			}
			after, err := usages(ctx, g)
			if err != nil {
				return err
			}
			busiest := 0.0
			for i := range after {
				busiest = max(busiest, 100*(after[i].cpu-before[i].cpu)/time.Since(began).Seconds())
				heap = max(heap, after[i].heap)
			}
			b.say("P13: %.0f heartbeats/s, p99 %.0f ms, the busiest master %.1f %% of a core", r.PerSecond, r.Latency.P99, busiest)
			cpu = append(cpu, busiest)
		}
		row.SetAlone(cpu)
		row.Met = atMost(row.Value, 10) && heap <= 200<<20
		row.Note = fmt.Sprintf("the highest heap of a master was %.0f MB", heap/(1<<20))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return []report.Row{b.done(row)}, nil
}

// register brings all agents into the grid.
func (f *fleet) register(ctx context.Context) error {
	var next atomic.Uint64
	return times(ctx, manyAgents, inFlight, func(ctx context.Context, w *load.Worker) error {
		n := next.Add(1) - 1
		_, err := f.of(w).Call(ctx, &transport.RegisterAgent{AgentID: agentName(n), Hostname: "host", Platform: "linux", AgentEndpoint: "127.0.0.1:1", Version: "bench",
			StoreID: fmt.Sprintf("%032x", n+1)})
		if err != nil {
			return fmt.Errorf("register agent number %d: %w", n, err)
		}
		return nil
	})
}

// beats gives what lets every agent send its heartbeats for a round, and measures it.
func (f *fleet) beats(b *bench) func(ctx context.Context) (*load.Report, error) {
	var turn atomic.Uint64
	plan := load.Plan{InFlight: 4 * inFlight, Rate: manyAgents / heartbeat.Seconds(), Duration: max(b.duration, heartbeat), Seed: b.seed}
	op := func(ctx context.Context, w *load.Worker) error {
		_, err := f.of(w).Call(ctx, &transport.Heartbeat{AgentID: agentName((turn.Add(1) - 1) % manyAgents), Load: event.Load{CPU: 0.25, MemoryMB: 4096, DiskMB: 20000}})
		return err
	}
	return func(ctx context.Context) (*load.Report, error) { return drive(ctx, plan, op) }
}

// growth is P15.
func growth(ctx context.Context, b *bench) ([]report.Row, error) {
	row := b.row("P15", "×")
	err := b.onGrid(ctx, servers.Shape{Agents: 1, Shards: 1, Replicas: 1}, func(g *servers.Grid) error {
		many, err := b.prepared(ctx, g, "feed", connections, load.Options{})
		if err != nil {
			return err
		}
		defer many.Close()
		one, err := b.prepared(ctx, g, "feed", 1, load.Options{})
		if err != nil {
			return err
		}
		defer one.Close()
		var p50, heap [len(sizes)]float64
		done := 0
		for i, size := range sizes {
			if err := times(ctx, size-done, inFlight, many.Do); err != nil {
				return err
			}
			if err := g.AwaitShipped(ctx, shipPatience); err != nil {
				return err
			}
			done = size
			took, err := b.repeat(ctx, fmt.Sprintf("P15, %d objects", size), b.latency(one.Do, b.short()))
			if err != nil {
				return err
			}
			p50[i] = report.Median(took)
			lowest, err := heaps(ctx, g)
			if err != nil {
				return err
			}
			heap[i] = slices.Max(lowest) / (1 << 20)
			b.say("P15: %d objects: p50 %.2f ms, heap %.0f MB", size, p50[i], heap[i])
		}
		last := len(sizes) - 1
		row.SetAlone([]float64{p50[last] / p50[0]})
		perObject := func(i int) float64 { return (heap[i] - heap[i-1]) / float64(sizes[i]-sizes[i-1]) * (1 << 20) }
		linear := perObject(last) <= 1.5*max(perObject(1), 100)
		row.Met = atMost(row.Value, 1.3) && linear
		row.Note = fmt.Sprintf("remembered requests; p50 %.2f, %.2f and %.2f ms, heap %.0f, %.0f and %.0f MB with 10 k, 100 k and 1 M: %.0f bytes an object at last", p50[0], p50[1],
			p50[2], heap[0], heap[1], heap[2], perObject(last))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return []report.Row{b.done(row)}, nil
}

// times makes so many requests, some at once; the first that fails ends it.
func times(ctx context.Context, n, atOnce int, op load.Op) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for i := range atOnce {
		wg.Go(func() {
			for w := load.NewWorker(1, i); next.Add(1) <= int64(n) && ctx.Err() == nil; w.N++ {
				if err := op(ctx, w); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}
