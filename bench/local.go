package main

import (
	"context"
	"fmt"
	"testing"

	"github.com/sutra-grid/sutra-grid/bench/report"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
)

// local measures what needs no server: P7, P9.
func local(ctx context.Context, b *bench) (rows []report.Row, err error) {
	return b.each(ctx, []measurement{{"P7", b.routing}, {"P9", b.replays}})
}

// routing is P7.
func (b *bench) routing(context.Context) (report.Row, error) {
	row := b.row("P7", "ns")
	m := &shardmap.Map{Strategy: shardmap.StrategyHash, Base: 16, Replicas: 1}
	for i := range uint64(16) {
		m.Shards = append(m.Shards, shardmap.Shard{ID: shardmap.ID(i), State: shardmap.Formed})
	}
	ids := make([]string, 1024)
	for i := range ids {
		ids[i] = fmt.Sprintf("synset-%08d-n-entity", i*2654435761%100000000)
	}
	if _, err := m.Shard(ids[0]); err != nil {
		return row, err
	}
	var took []float64
	var allocations int64
	for range b.rounds {
		r := testing.Benchmark(func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := m.Shard(ids[i%len(ids)]); err != nil {
					b.Fatal(err)
				}
			}
		})
		took = append(took, float64(r.T.Nanoseconds())/float64(r.N))
		allocations = max(allocations, r.AllocsPerOp())
	}
	row.SetAlone(took)
	row.Met = atMost(row.Value, 15) && allocations == 0
	row.Note = fmt.Sprintf("ids of %d bytes, %d of them; %d allocations", len(ids[0]), len(ids), allocations)
	return row, nil
}
