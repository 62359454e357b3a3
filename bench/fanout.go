package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/bench/report"
	"github.com/sutra-grid/sutra-grid/bench/servers"
	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/internal/load"
	"github.com/sutra-grid/sutra-grid/transport"
)

// What P12 and P11 are about.
const (
	fanShards  = 16
	fanRows    = 100 // on each shard
	vectorsN   = 100_000
	recallAsks = 200 // queries whose answers are compared with the exact ones
)

// spread is a client and the shards whose parts of an answer it can ask for one by one.
type spread struct {
	store  *client.Client
	shards []event.ShardID
}

func (b *bench) spread(ctx context.Context, g *servers.Grid) (*spread, *shardmap.Map, error) {
	m, err := servers.Ask[transport.ShardMapOk](ctx, g, &transport.GetShardMap{})
	if err != nil {
		return nil, nil, err
	}
	s := &spread{}
	for _, shard := range m.Map.Shards {
		s.shards = append(s.shards, shard.ID)
	}
	s.store, err = client.New(client.Config{Masters: g.Masters})
	return s, &m.Map, err
}

// slowest asks every shard for its part, all at once, and tells how long the last one took, without any merging.
func (s *spread) slowest(ctx context.Context, req any) (time.Duration, error) {
	took, errs := make([]time.Duration, len(s.shards)), make([]error, len(s.shards))
	var wg sync.WaitGroup
	began := time.Now()
	for i, id := range s.shards {
		wg.Go(func() {
			_, errs[i] = s.store.Shard(ctx, id, client.ShardRequest{Request: req})
			took[i] = time.Since(began)
		})
	}
	wg.Wait()
	worst := time.Duration(0)
	for i := range took {
		if errs[i] != nil {
			return 0, errs[i]
		}
		worst = max(worst, took[i])
	}
	return worst, nil
}

// ahead is one round: for a while, in turn, all parts and then the merged whole. It gives the medians of the slowest part and of the whole.
func (s *spread) ahead(ctx context.Context, duration time.Duration, req func() any, check func(reply any) error) (slowest, whole time.Duration, err error) {
	var parts, wholes []float64
	for until := time.Now().Add(duration); time.Now().Before(until); {
		q := req()
		part, err := s.slowest(ctx, q)
		if err != nil {
			return 0, 0, err
		}
		began := time.Now()
		reply, err := s.store.Do(ctx, q)
		if err == nil {
			err = check(reply)
		}
		if err != nil {
			return 0, 0, err
		}
		parts, wholes = append(parts, float64(part)), append(wholes, float64(time.Since(began)))
	}
	return time.Duration(report.Median(parts)), time.Duration(report.Median(wholes)), nil
}

// fanOut is P12.
func fanOut(ctx context.Context, b *bench) ([]report.Row, error) {
	row := b.row("P12", "ms")
	err := b.onGrid(ctx, servers.Shape{Agents: 3, Shards: fanShards, Replicas: 1}, func(g *servers.Grid) error {
		s, m, err := b.spread(ctx, g)
		if err != nil {
			return err
		}
		defer s.store.Close()
		if err := fillEvenly(ctx, s.store, m); err != nil {
			return err
		}
		req := func() any {
			return &transport.QueryByMetadata{Attributes: map[string]string{"set": "fan-out"}, Limit: fanShards * fanRows}
		}
		check := func(reply any) error {
			if r, ok := reply.(*transport.QueryByMetadataOk); !ok || len(r.Items) != fanShards*fanRows {
				return fmt.Errorf("answered with %T, or not with %d rows", reply, fanShards*fanRows)
			}
			return nil
		}
		var beyond, parts []float64
		for range b.rounds {
			part, whole, err := s.ahead(ctx, b.short(), req, check)
			if err != nil {
				return err
			}
			b.say("P12: slowest shard %s, merged %s", part, whole)
			beyond, parts = append(beyond, max(millis(whole-part), 0)), append(parts, millis(part))
		}
		row.SetAlone(beyond)
		row.Met = atMost(row.Value, 2)
		row.Note = fmt.Sprintf("medians of both in turn; the slowest of %d shards takes %.2f ms, alone with its rows decoded", fanShards, report.Median(parts))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return []report.Row{b.done(row)}, nil
}

// fillEvenly stores as many concepts on each shard.
func fillEvenly(ctx context.Context, store *client.Client, m *shardmap.Map) error {
	have := map[event.ShardID]int{}
	var ops []transport.Op
	for n := 0; len(ops) < fanShards*fanRows; n++ {
		id := fmt.Sprintf("fan-%06d", n)
		shard, err := m.Shard(id)
		if err != nil {
			return err
		}
		if have[shard.ID] == fanRows {
			continue
		}
		have[shard.ID]++
		ops = append(ops, transport.Op{Kind: transport.OpLearnConcept, ID: id, Content: id, Strength: 1, Confidence: 1,
			Metadata: &transport.Metadata{Attributes: map[string]string{"set": "fan-out"}}})
	}
	for len(ops) > 0 {
		n := min(len(ops), transport.MaxBatch)
		if _, err := store.Txn(ctx, ops[:n]); err != nil {
			return err
		}
		ops = ops[n:]
	}
	return nil
}

// vectors is P11: the figure is of one shard, the note has four.
func vectors(ctx context.Context, b *bench) ([]report.Row, error) {
	row := b.row("P11", "ms")
	row.Met = true
	for _, shards := range []int{1, 4} {
		err := b.onGrid(ctx, servers.Shape{Agents: 1, Shards: shards, Replicas: 1}, func(g *servers.Grid) error {
			w, err := b.prepared(ctx, g, "search", connections, load.Options{Keys: vectorsN})
			if err != nil {
				return err
			}
			defer w.Close()
			return b.searches(ctx, &row, g, w.(*load.Search))
		})
		if err != nil {
			return nil, err
		}
	}
	return []report.Row{b.done(row)}, nil
}

// searches measures one grid of P11.
func (b *bench) searches(ctx context.Context, row *report.Row, g *servers.Grid, w *load.Search) error {
	s, m, err := b.spread(ctx, g)
	if err != nil {
		return err
	}
	defer s.store.Close()
	if err := awaitIdle(ctx, g); err != nil {
		return err
	}
	recall, err := recallOf(ctx, s.store, w)
	if err != nil {
		return err
	}
	if len(m.Shards) == 1 {
		p50, err := b.repeat(ctx, "P11, 1 shard", b.latency(w.Do, b.short()))
		if err != nil {
			return err
		}
		row.SetAlone(p50)
		row.Met = atMost(row.Value, 3) && recall >= 0.95
		row.Note = fmt.Sprintf("1 shard, one client: recall@10 %.3f", recall)
		return nil
	}
	r := rand.New(rand.NewPCG(b.seed, 9))
	var times, wholes []float64
	for range b.rounds {
		part, whole, err := s.ahead(ctx, b.short(), func() any { return w.Query(r) }, func(any) error { return nil })
		if err != nil {
			return err
		}
		times, wholes = append(times, float64(whole)/float64(part)), append(wholes, millis(whole))
	}
	row.Met = row.Met && report.Median(times) <= 1.5 && recall >= 0.95
	row.Note += fmt.Sprintf("; 4 shards: recall@10 %.3f, p50 %.2f ms, %.2f × the slowest shard", recall, report.Median(wholes), report.Median(times))
	return nil
}

// idle is how much of a core a node takes that has built its index, with room for what it does anyway.
const idle = 0.1

// awaitIdle waits until no node builds its index any more: it then uses next to no processor time.
func awaitIdle(ctx context.Context, g *servers.Grid) error {
	const every = 2 * time.Second
	dev, err := g.Dev()
	if err != nil {
		return err
	}
	used := func() (sum float64, err error) {
		for _, n := range dev.Nodes {
			t, err := processorTime(n.PID)
			if err != nil {
				return 0, err
			}
			sum += t
		}
		return sum, nil
	}
	for last := -1.0; ; {
		now, err := used()
		if err != nil {
			return err
		}
		if last >= 0 && now-last < idle*every.Seconds() {
			return nil
		}
		last = now
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// recallOf is the share of the exact answers that the index finds.
func recallOf(ctx context.Context, store *client.Client, w *load.Search) (float64, error) {
	r := rand.New(rand.NewPCG(1, 10))
	found, wanted := 0, 0
	for range recallAsks {
		q := w.Query(r)
		exact := *q
		exact.Exact = true
		truth, err := store.VectorSearch(ctx, &exact)
		if err != nil {
			return 0, err
		}
		got, err := store.VectorSearch(ctx, q)
		if err != nil {
			return 0, err
		}
		among := map[string]bool{}
		for _, x := range truth {
			among[x.ID] = true
		}
		wanted += len(truth)
		for _, x := range got {
			if among[x.ID] {
				found++
			}
		}
	}
	if wanted == 0 {
		return 0, fmt.Errorf("%d exact searches found nothing", recallAsks)
	}
	return float64(found) / float64(wanted), nil
}
