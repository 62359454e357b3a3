package main

import (
	"context"
	"fmt"
	"time"

	"github.com/sutra-grid/sutra-grid/bench/growth"
	"github.com/sutra-grid/sutra-grid/bench/report"
	"github.com/sutra-grid/sutra-grid/bench/servers"
	"github.com/sutra-grid/sutra-grid/internal/load"
)

// How a shard is filled: as many transactions at once as connections, each as large as an import's.
const storeBatch = 1000

// growStorage is the series of concepts in one shard.
func growStorage(ctx context.Context, g *grower) error {
	return g.onGrid(ctx, servers.Shape{Agents: 1, Shards: 1, Replicas: 1}, func(grid *servers.Grid) error {
		bulk, err := g.prepared(ctx, grid, "import", connections, load.Options{Batch: storeBatch})
		if err != nil {
			return err
		}
		defer bulk.Close()
		done := 0
		for _, size := range g.want.sizes(growth.StorageID) {
			batches := (size - done + storeBatch - 1) / storeBatch
			began := time.Now()
			if err := times(ctx, batches, connections, bulk.Do); err != nil {
				return errAt(size, err)
			}
			rate := float64(batches*storeBatch) / time.Since(began).Seconds()
			done += batches * storeBatch
			g.say("%s: %d concepts, %.0f/s; the node comes to rest", g.fresh.ID, done, rate)
			if err := awaitIdle(ctx, grid); err != nil {
				return errAt(size, err)
			}
			p, err := g.stored(ctx, grid, size)
			if err != nil {
				return errAt(size, err)
			}
			p.Set("load_per_second", rate)
			if err := g.add(p); err != nil {
				return err
			}
		}
		return nil
	})
}

// stored measures one client on a shard that has so many concepts.
func (g *grower) stored(ctx context.Context, grid *servers.Grid, size int) (p growth.Point, err error) {
	target := load.Target{Masters: grid.Masters, Connections: 1}
	get, err := load.New("get", target, load.Options{Seed: g.seed, Keys: size}) // those that import stored: Prepare would store them again
	if err != nil {
		return p, err
	}
	defer get.Close()
	put, err := load.New("put", target, load.Options{Seed: g.seed + uint64(size)}) // ids of its own at each size
	if err != nil {
		return p, err
	}
	defer put.Close()
	getP50, getP99, err := g.latencies(ctx, fmt.Sprintf("get of %d concepts", size), get.Do, g.short())
	if err != nil {
		return p, err
	}
	putP50, putP99, err := g.latencies(ctx, fmt.Sprintf("put beside %d concepts", size), put.Do, putTime(size, g.rounds, g.short()))
	if err != nil {
		return p, err
	}
	seen, err := look(ctx, grid)
	if err != nil {
		return p, err
	}
	p = g.point(size, seen, growth.Node)
	p.Set("get_p50_ms", getP50)
	p.Set("get_p99_ms", getP99)
	p.Set("put_p50_ms", putP50)
	p.Set("put_p99_ms", putP99)
	disk, err := grid.Disk(servers.NodesData)
	p.Set(growth.Disk, disk)
	return p, err
}

// putTime is how long a round of puts may last that shall not make a shard larger by more than a tenth over all rounds, at some thousand a
// second; but long enough to have a p99.
func putTime(size, rounds int, longest time.Duration) time.Duration {
	tenth := time.Duration(size/10/rounds) * time.Millisecond
	return min(max(tenth, 300*time.Millisecond), longest)
}

// growShards is the series of shards on one node.
func growShards(ctx context.Context, g *grower) error {
	for _, size := range g.want.sizes(growth.ShardsID) {
		err := g.onGrid(ctx, servers.Shape{Agents: 1, Shards: size, Replicas: 1}, func(grid *servers.Grid) error { return g.sharded(ctx, grid, size) })
		if err != nil {
			return errAt(size, err)
		}
	}
	return nil
}

// sharded measures a grid of so many shards.
func (g *grower) sharded(ctx context.Context, grid *servers.Grid, size int) error {
	put, err := g.prepared(ctx, grid, "put", connections, load.Options{})
	if err != nil {
		return err
	}
	defer put.Close()
	rate, worst, err := g.flood(ctx, fmt.Sprintf("puts into %d shards", size), put.Do)
	if err != nil {
		return err
	}
	get, err := g.prepared(ctx, grid, "get", 1, load.Options{})
	if err != nil {
		return err
	}
	defer get.Close()
	if err := awaitIdle(ctx, grid); err != nil {
		return err
	}
	p50, p99, err := g.latencies(ctx, fmt.Sprintf("get of %d shards", size), get.Do, g.short())
	if err != nil {
		return err
	}
	seen, err := look(ctx, grid)
	if err != nil {
		return err
	}
	disk, err := grid.Disk(servers.NodesData)
	if err != nil {
		return err
	}
	p := g.point(size, seen, growth.Node)
	p.Set("put_per_second", rate)
	p.Set("put_p99_ms", worst)
	p.Set("get_p50_ms", p50)
	p.Set("get_p99_ms", p99)
	p.Set(growth.Disk, disk)
	return g.add(p)
}

// flood makes 256 requests at once, in rounds, and gives the medians of requests/s and of their p99, ms.
func (g *grower) flood(ctx context.Context, what string, op load.Op) (rate, p99 float64, err error) {
	var worst []float64
	rates, err := g.repeat(ctx, what, func(ctx context.Context) (float64, error) {
		r, err := drive(ctx, g.plan(inFlight, g.short()), op)
		if err != nil {
			return 0, err
		}
		worst = append(worst, r.Latency.P99)
		return r.PerSecond, nil
	})
	return report.Median(rates), report.Median(worst), err
}
