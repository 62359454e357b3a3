package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sutra-grid/sutra-grid/bench/growth"
	"github.com/sutra-grid/sutra-grid/bench/report"
	"github.com/sutra-grid/sutra-grid/bench/servers"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/load"
	"github.com/sutra-grid/sutra-grid/transport"
)

// What P13 is about.
const (
	manyAgents = 10_000
	heartbeat  = 10 * time.Second
)

// fleet is agents that are only their heartbeats.
type fleet struct {
	agents  int // that are registered
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
		if err := f.register(ctx, manyAgents); err != nil {
			return err
		}
		rounds, err := f.rounds(ctx, b, g, row.ID)
		if err != nil {
			return err
		}
		var cpu []float64
		heap := 0.0
		for _, r := range rounds {
			cpu, heap = append(cpu, r.busiest), max(heap, r.heap)
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

// register brings agents into the grid until there are so many.
func (f *fleet) register(ctx context.Context, agents int) error {
	var next atomic.Uint64
	next.Store(uint64(f.agents))
	err := times(ctx, agents-f.agents, inFlight, func(ctx context.Context, w *load.Worker) error {
		n := next.Add(1) - 1
		_, err := f.of(w).Call(ctx, &transport.RegisterAgent{AgentID: agentName(n), Hostname: "host", Platform: "linux", AgentEndpoint: "127.0.0.1:1", Version: "bench",
			StoreID: fmt.Sprintf("%032x", n+1)})
		if err != nil {
			return fmt.Errorf("register agent number %d: %w", n, err)
		}
		return nil
	})
	f.agents = agents
	return err
}

// beatRound is one round of P13.
type beatRound struct {
	p50, p99 float64 // of a heartbeat, ms
	busiest  float64 // master, in % of a core
	heap     float64 // of the fullest master, bytes
}

// rounds lets every agent send its heartbeats, in rounds, and looks at the masters.
func (f *fleet) rounds(ctx context.Context, b *bench, g *servers.Grid, what string) (all []beatRound, err error) {
	beats := f.beats(b)
	for range b.rounds {
		before, err := usages(ctx, g)
		if err != nil {
			return nil, err
		}
		began := time.Now()
		r, err := beats(ctx)
		if err != nil {
			return nil, err
		}
		after, err := usages(ctx, g)
		if err != nil {
			return nil, err
		}
		round := beatRound{p50: r.Latency.P50, p99: r.Latency.P99}
		for i := range after {
			round.busiest = max(round.busiest, 100*(after[i].cpu-before[i].cpu)/time.Since(began).Seconds())
			round.heap = max(round.heap, after[i].heap)
		}
		b.say("%s, %d agents: %.0f heartbeats/s, p99 %.0f ms, the busiest master %.1f %% of a core", what, f.agents, r.PerSecond, r.Latency.P99, round.busiest)
		all = append(all, round)
	}
	return all, nil
}

// beats gives what lets every agent send its heartbeats for a round, and measures it.
func (f *fleet) beats(b *bench) func(ctx context.Context) (*load.Report, error) {
	var turn atomic.Uint64
	plan := load.Plan{InFlight: 4 * inFlight, Rate: float64(f.agents) / heartbeat.Seconds(), Duration: max(b.duration, heartbeat), Seed: b.seed}
	op := func(ctx context.Context, w *load.Worker) error {
		_, err := f.of(w).Call(ctx, &transport.Heartbeat{AgentID: agentName((turn.Add(1) - 1) % uint64(f.agents)), Load: event.Load{CPU: 0.25, MemoryMB: 4096, DiskMB: 20000}})
		return err
	}
	return func(ctx context.Context) (*load.Report, error) { return drive(ctx, plan, op) }
}

// growAgents is the series of agents.
func growAgents(ctx context.Context, g *grower) error {
	return g.onGrid(ctx, servers.Shape{Agents: 1, Shards: 1, Replicas: 1}, func(grid *servers.Grid) error {
		f := newFleet(grid)
		defer f.close()
		for _, size := range g.want.sizes(growth.AgentsID) {
			if err := f.register(ctx, size); err != nil {
				return errAt(size, err)
			}
			rounds, err := f.rounds(ctx, g.bench, grid, growth.AgentsID)
			if err != nil {
				return errAt(size, err)
			}
			var p50, p99, busiest []float64
			for _, r := range rounds {
				p50, p99, busiest = append(p50, r.p50), append(p99, r.p99), append(busiest, r.busiest)
			}
			seen, err := look(ctx, grid)
			if err != nil {
				return errAt(size, err)
			}
			p := g.point(size, seen, growth.Master)
			p.Set(growth.P50, report.Median(p50))
			p.Set(growth.P99, report.Median(p99))
			p.Set("core_percent", report.Median(busiest))
			if err := g.add(p); err != nil {
				return err
			}
		}
		return nil
	})
}
