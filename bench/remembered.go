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

// sizes are the objects of P15 in the masters' state: request ids with their answers, which the masters keep for ten minutes.
var sizes = [...]int{10_000, 100_000, 1_000_000}

// rememberedFor is how long masters keep a request: what takes longer to fill is not all there when it is measured.
const rememberedFor = 10 * time.Minute

// remembering is a grid whose masters remember more and more requests: P15 and the series of the masters.
type remembering struct {
	*bench
	grid      *servers.Grid
	many, one load.Workload // 256 in flight; one
	done      int           // requests that were made to fill
}

// remembered is what the masters were like with so many of them.
type remembered struct {
	filled   float64 // requests/s while filling, event storage not waited for
	p50, p99 float64 // one client's commit, ms
	memory   footprints
}

// onRemembering runs something on a grid of its own.
func (b *bench) onRemembering(ctx context.Context, run func(r *remembering) error) error {
	return b.onGrid(ctx, servers.Shape{Agents: 1, Shards: 1, Replicas: 1}, func(g *servers.Grid) error {
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
		return run(&remembering{bench: b, grid: g, many: many, one: one})
	})
}

// at fills the masters up to a size, which is over the last one, and measures.
func (r *remembering) at(ctx context.Context, what string, size int) (m remembered, err error) {
	began := time.Now()
	if err := times(ctx, size-r.done, inFlight, r.many.Do); err != nil {
		return m, err
	}
	m.filled = float64(size-r.done) / time.Since(began).Seconds()
	r.done = size
	if err := r.grid.AwaitShipped(ctx, shipPatience); err != nil {
		return m, err
	}
	what = fmt.Sprintf("%s, %d objects", what, size)
	if m.p50, m.p99, err = r.latencies(ctx, what, r.one.Do, r.short()); err != nil {
		return m, err
	}
	if m.memory, err = look(ctx, r.grid); err != nil {
		return m, err
	}
	if took := time.Since(began); took > rememberedFor {
		return m, fmt.Errorf("filling and measuring took %s, and masters remember for %s: fewer than %d were there", took.Round(time.Second), rememberedFor, size)
	}
	r.say("%s: p50 %.2f ms, heap %.0f MB", what, m.p50, m.memory.lowest(growth.Master))
	return m, nil
}

// manyRemembered is P15.
func manyRemembered(ctx context.Context, b *bench) ([]report.Row, error) {
	row := b.row("P15", "×")
	var p50, heap [len(sizes)]float64
	err := b.onRemembering(ctx, func(r *remembering) error {
		for i, size := range sizes {
			m, err := r.at(ctx, row.ID, size)
			if err != nil {
				return err
			}
			p50[i], heap[i] = m.p50, m.memory.lowest(growth.Master)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	last := len(sizes) - 1
	row.SetAlone([]float64{p50[last] / p50[0]})
	perObject := func(i int) float64 { return (heap[i] - heap[i-1]) / float64(sizes[i]-sizes[i-1]) * (1 << 20) }
	linear := perObject(last) <= 1.5*max(perObject(1), 100)
	row.Met = atMost(row.Value, 1.3) && linear
	row.Note = fmt.Sprintf("remembered requests; p50 %.2f, %.2f and %.2f ms, heap %.0f, %.0f and %.0f MB with 10 k, 100 k and 1 M: %.0f bytes an object at last", p50[0], p50[1],
		p50[2], heap[0], heap[1], heap[2], perObject(last))
	return []report.Row{b.done(row)}, nil
}

// growMasters is the series of remembered requests.
func growMasters(ctx context.Context, g *grower) error {
	return g.onRemembering(ctx, func(r *remembering) error {
		for _, size := range g.want.sizes(growth.MastersID) {
			m, err := r.at(ctx, growth.MastersID, size)
			if err != nil {
				return errAt(size, err)
			}
			p := g.point(size, m.memory, growth.Master)
			p.Set("fill_per_second", m.filled)
			p.Set(growth.P50, m.p50)
			p.Set(growth.P99, m.p99)
			disk, err := r.grid.Disk(servers.MastersData)
			if err != nil {
				return errAt(size, err)
			}
			p.Set(growth.Disk, disk/float64(len(r.grid.Masters)))
			if err := g.add(p); err != nil {
				return err
			}
		}
		return nil
	})
}

// errAt says at which size a series ended.
func errAt(size int, err error) error { return fmt.Errorf("at %d: %w", size, err) }
