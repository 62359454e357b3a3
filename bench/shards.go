package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/sutra-grid/sutra-grid/bench/report"
	"github.com/sutra-grid/sutra-grid/bench/servers"
	"github.com/sutra-grid/sutra-grid/internal/load"
)

// onGrid runs something on a grid of its own.
func (b *bench) onGrid(ctx context.Context, s servers.Shape, run func(g *servers.Grid) error) (err error) {
	b.say("starting a grid: %d agents, %d shards, %d replicas", s.Agents, s.Shards, s.Replicas)
	g, err := servers.StartGrid(ctx, b.bin, b.dir, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	return run(g)
}

// concepts is P6: the figures are of one voter, the note has those of three.
func concepts(ctx context.Context, b *bench) ([]report.Row, error) {
	row := b.row("P6", "writes/s")
	var three []float64
	for _, replicas := range []int{1, 3} {
		err := b.onGrid(ctx, servers.Shape{Agents: replicas, Shards: 1, Replicas: replicas}, func(g *servers.Grid) error {
			w, err := b.prepared(ctx, g, "put", connections, load.Options{})
			if err != nil {
				return err
			}
			defer w.Close()
			rates, err := b.repeat(ctx, fmt.Sprintf("P6, %d voters", replicas), b.throughput(w.Do, inFlight, b.short()))
			if replicas == 1 {
				row.SetAlone(rates)
			}
			three = rates
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	row.Met = atLeast(row.Value, 40_000) && report.Median(three) >= 20_000
	row.Note = fmt.Sprintf("one voter; three voters: %.0f/s (%.0f to %.0f). 256 B contents with two attributes and a tag, all indexes but vectors", report.Median(three),
		report.Spread(three)[0], report.Spread(three)[1])
	return []report.Row{b.done(row)}, nil
}
