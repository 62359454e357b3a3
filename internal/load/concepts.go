package load

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"sync/atomic"

	"github.com/sutra-grid/sutra-grid/transport"
)

// put writes new concepts.
type put struct {
	Options
	stores
	next atomic.Uint64
}

func newPut(t Target, o Options) (Workload, error) {
	s, err := openStores(t)
	return &put{Options: o, stores: s}, err
}

// Prepare implements Workload: nothing is needed.
func (*put) Prepare(context.Context) error { return nil }

// Do implements Workload.
func (p *put) Do(ctx context.Context, w *Worker) error {
	return p.of(w).LearnConcept(ctx, p.concept(w.Rand, p.next.Add(1)-1))
}

// Weight implements Workload.
func (*put) Weight() int { return 1 }

// Close implements Workload.
func (p *put) Close() error { return p.stores.close() }

// get reads concepts.
type get struct {
	Options
	stores
}

func newGet(t Target, o Options) (Workload, error) {
	s, err := openStores(t)
	return &get{o, s}, err
}

// Prepare implements Workload.
func (g *get) Prepare(ctx context.Context) error { return g.fill(ctx, g.stores, nil) }

// Do implements Workload.
func (g *get) Do(ctx context.Context, w *Worker) error {
	id := g.name(w.Rand.Uint64N(uint64(g.Keys)))
	c, err := g.of(w).Concept(ctx, id)
	if err == nil && !c.Found {
		return fmt.Errorf("%s: %w", id, errMissing)
	}
	return err
}

// Weight implements Workload.
func (*get) Weight() int { return 1 }

// Close implements Workload.
func (g *get) Close() error { return g.stores.close() }

// bulk writes new concepts, many in a transaction.
type bulk struct {
	Options
	stores
	next atomic.Uint64
}

func newImport(t Target, o Options) (Workload, error) {
	s, err := openStores(t)
	return &bulk{Options: o, stores: s}, err
}

// Prepare implements Workload: nothing is needed.
func (*bulk) Prepare(context.Context) error { return nil }

// Do implements Workload.
func (b *bulk) Do(ctx context.Context, w *Worker) error {
	first := b.next.Add(uint64(b.Batch)) - uint64(b.Batch)
	ops := make([]transport.Op, b.Batch)
	for i := range ops {
		ops[i] = op(b.concept(w.Rand, first+uint64(i)))
	}
	_, err := b.of(w).Txn(ctx, ops)
	return err
}

// Weight implements Workload.
func (b *bulk) Weight() int { return b.Batch }

// Close implements Workload.
func (b *bulk) Close() error { return b.stores.close() }

// Search finds the nearest of vectors that lie in clusters, as those of embedding models do.
type Search struct {
	Options
	stores
	centres [][]float32
}

func newSearch(t Target, o Options) (Workload, error) {
	s, err := openStores(t)
	x := &Search{Options: o, stores: s}
	r := rand.New(rand.NewPCG(o.Seed, 2<<32))
	for range 256 {
		x.centres = append(x.centres, around(r, make([]float32, o.Dimension), 1))
	}
	return x, err
}

// around is a vector near another.
func around(r *rand.Rand, centre []float32, spread float64) []float32 {
	v := make([]float32, len(centre))
	for i := range v {
		v[i] = centre[i] + float32(spread*r.NormFloat64())
	}
	return v
}

// vector draws one.
func (x *Search) vector(r *rand.Rand) []float32 {
	return around(r, x.centres[r.IntN(len(x.centres))], 0.6)
}

// Prepare implements Workload.
func (x *Search) Prepare(ctx context.Context) error {
	next, stop := iter.Pull(x.drawn())
	defer stop()
	return x.fill(ctx, x.stores, func(c *transport.LearnConcept) { c.Embedding, _ = next() })
}

// drawn are a seed's vectors, without end.
func (x *Search) drawn() iter.Seq[[]float32] {
	return func(yield func([]float32) bool) {
		for r := rand.New(rand.NewPCG(x.Seed, 3<<32)); yield(x.vector(r)); {
		}
	}
}

// Stored are the ids and vectors that Prepare stores, drawn again: the truth, for who judges answers.
func (x *Search) Stored() iter.Seq2[string, []float32] {
	return func(yield func(string, []float32) bool) {
		n := 0
		for v := range x.drawn() {
			if n == x.Keys || !yield(x.name(uint64(n)), v) {
				return
			}
			n++
		}
	}
}

// Query draws a query.
func (x *Search) Query(r *rand.Rand) *transport.VectorSearch {
	return &transport.VectorSearch{QueryVector: x.vector(r), K: uint32(x.K)}
}

// Do implements Workload.
func (x *Search) Do(ctx context.Context, w *Worker) error {
	r, err := transport.As[transport.VectorSearchOk](x.of(w).Do(ctx, x.Query(w.Rand)))
	if want := min(x.K, x.Keys); err == nil && len(r.Results) < want {
		return fmt.Errorf("%d results of %d: %w", len(r.Results), want, errMissing)
	}
	return err
}

// Weight implements Workload.
func (*Search) Weight() int { return 1 }

// Close implements Workload.
func (x *Search) Close() error { return x.stores.close() }
