package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
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
	recallAsks = 100 // queries whose answers are compared with the exact ones
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
	if err := awaitIndex(ctx, s.store, w); err != nil {
		return err
	}
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

// How long a search may take while an index is built, and how long that may take.
const (
	searchLimit = 2 * time.Minute
	buildLimit  = 30 * time.Minute
)

// quickSearch is what no search takes that has the index: while it is built, what it lacks is compared one by one.
const quickSearch = 20 * time.Millisecond

// awaitIndex waits until searches are quick.
func awaitIndex(ctx context.Context, store *client.Client, w *load.Search) error {
	ctx, cancel := context.WithTimeout(ctx, buildLimit)
	defer cancel()
	r := rand.New(rand.NewPCG(1, 11))
	for quick := 0; quick < 5; {
		began := time.Now()
		_, err := within(ctx, store, w.Query(r)) // one that takes too long is not quick either
		if err == nil && time.Since(began) <= quickSearch {
			quick++
			continue
		}
		quick = 0
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return fmt.Errorf("wait for the index: %w", cmp.Or(err, context.Cause(ctx)))
		}
	}
	return nil
}

// within is a search that may take its time.
func within(ctx context.Context, store *client.Client, q *transport.VectorSearch) ([]transport.VectorResult, error) {
	ctx, cancel := context.WithTimeout(ctx, searchLimit)
	defer cancel()
	return store.VectorSearch(ctx, q)
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

// recallOf is the share of the true answers that the grid finds. The truth is computed here, from the same vectors.
func recallOf(ctx context.Context, store *client.Client, w *load.Search) (float64, error) {
	r := rand.New(rand.NewPCG(1, 10))
	asked := make([]*transport.VectorSearch, recallAsks)
	for i := range asked {
		asked[i] = w.Query(r)
	}
	truth := nearest(asked, w.Stored())
	found, wanted := 0, 0
	for i, q := range asked {
		got, err := within(ctx, store, q)
		if err != nil {
			return 0, err
		}
		wanted += len(truth[i])
		for _, x := range got {
			if slices.Contains(truth[i], x.ID) {
				found++
			}
		}
	}
	if wanted == 0 {
		return 0, errors.New("there are no vectors")
	}
	return float64(found) / float64(wanted), nil
}

// nearest are the ids of the vectors nearest to each query by cosine, by comparing all.
func nearest(queries []*transport.VectorSearch, stored iter.Seq2[string, []float32]) [][]string {
	type near struct {
		id    string
		score float64
	}
	best := make([][]near, len(queries))
	for id, v := range stored {
		norm := math.Sqrt(product(v, v))
		for i, q := range queries {
			n := near{id, product(q.QueryVector, v) / norm} // the query's own length changes no order
			if len(best[i]) == int(q.K) && n.score <= best[i][len(best[i])-1].score {
				continue
			}
			at, _ := slices.BinarySearchFunc(best[i], n, func(a, b near) int { return cmp.Compare(b.score, a.score) })
			best[i] = slices.Insert(best[i], at, n)
			best[i] = best[i][:min(len(best[i]), int(q.K))]
		}
	}
	ids := make([][]string, len(queries))
	for i := range best {
		for _, n := range best[i] {
			ids[i] = append(ids[i], n.id)
		}
	}
	return ids
}

// product is a dot product, in four lanes.
func product(a, b []float32) float64 {
	var s0, s1, s2, s3 float32
	b = b[:len(a)]
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += a[i] * b[i]
		s1 += a[i+1] * b[i+1]
		s2 += a[i+2] * b[i+2]
		s3 += a[i+3] * b[i+3]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return float64(s0+s1) + float64(s2+s3)
}
