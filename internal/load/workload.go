package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/sutra-grid/sutra-grid/transport"
)

// Workload makes requests of one sort.
type Workload interface {
	// Prepare stores what the requests need. It is called once, before Do; an error says what the grid lacks.
	Prepare(ctx context.Context) error
	// Do is an Op.
	Do(ctx context.Context, w *Worker) error
	// Weight is how many records or events one request has.
	Weight() int
	// Close ends the connections.
	Close() error
}

// Options shape a workload. Zero fields take the defaults of DefaultOptions, Seed excepted.
type Options struct {
	Seed      uint64
	Size      int // bytes of a content or value; 1 to 64 KiB
	Keys      int // concepts that get, txn and search prepare; 1 to 10 million
	Batch     int // records in one request of import; 1 to 1,000
	Dimension int // of vectors: the grid's; 1 to 2,048
	K         int // results of a search; 1 to 1,000
}

// DefaultOptions are those of docs/performance.md.
func DefaultOptions() Options {
	return Options{Size: 256, Keys: 10_000, Batch: 1000, Dimension: 768, K: 10}
}

func (o Options) withDefaults() (Options, error) {
	d := DefaultOptions()
	for _, f := range []struct {
		name    string
		value   *int
		def, to int
	}{
		{"size", &o.Size, d.Size, 64 << 10}, {"keys", &o.Keys, d.Keys, 10_000_000}, {"batch", &o.Batch, d.Batch, transport.MaxBatch},
		{"dimension", &o.Dimension, d.Dimension, transport.MaxDimension}, {"k", &o.K, d.K, transport.MaxK},
	} {
		if *f.value == 0 {
			*f.value = f.def
		}
		if *f.value < 1 || *f.value > f.to {
			return o, fmt.Errorf("load: %s %d: want 1 to %d", f.name, *f.value, f.to)
		}
	}
	return o, nil
}

// maker is a workload that can be had.
type maker struct {
	name, about string
	make        func(t Target, o Options) (Workload, error)
}

// makers is the table of workloads.
var makers = []maker{
	{"put", "each request writes a new concept", newPut},
	{"get", "each request reads one of --keys concepts, linearizable", newGet},
	{"txn", "each request associates two of --keys concepts on different shards: a two-phase commit", newTxn},
	{"search", "each request finds the nearest of --keys vectors", newSearch},
	{"feed", "each request commits one event in the masters' log: a setting bench.N, of which there are 64 afterwards", newFeed},
	{"import", "each request is a transaction of --batch new concepts, as gridctl import makes them", newImport},
}

// Names lists the workloads, each with what it does.
func Names() (all []struct{ Name, About string }) {
	for _, m := range makers {
		all = append(all, struct{ Name, About string }{m.name, m.about})
	}
	return all
}

// New makes a workload by its name. It dials nobody yet; Close must be called.
func New(name string, t Target, o Options) (Workload, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(makers, func(m maker) bool { return m.name == name })
	if i < 0 {
		return nil, fmt.Errorf("load: there is no workload %q", name)
	}
	return makers[i].make(t, o)
}

// Text is a content or value of a size: words that differ from one to the next, so that nothing stores it as almost nothing.
func Text(r *rand.Rand, size int) string {
	const letters = "etaoinshrdlucmfwypvbgkjqxz      "
	var b strings.Builder
	b.Grow(size)
	for b.Len() < size {
		for n, bits := min(12, size-b.Len()), r.Uint64(); n > 0; n-- {
			b.WriteByte(letters[bits&31])
			bits >>= 5
		}
	}
	return b.String()
}

// name is the id of a seed's n-th concept.
func (o Options) name(n uint64) string { return fmt.Sprintf("bench-%x-%09d", o.Seed, n) }

// concept is a seed's n-th concept, with what every index of a shard takes: attributes, a tag, times.
func (o Options) concept(r *rand.Rand, n uint64) *transport.LearnConcept {
	return &transport.LearnConcept{ConceptID: o.name(n), Content: Text(r, o.Size), Strength: 1, Confidence: 1,
		Metadata: &transport.Metadata{Attributes: map[string]string{"kind": kinds[n%uint64(len(kinds))], "source": "bench"}, Tags: []string{"bench"}}}
}

var kinds = [...]string{"noun", "verb", "adjective", "adverb"}

func op(c *transport.LearnConcept) transport.Op {
	return transport.Op{Kind: transport.OpLearnConcept, ID: c.ConceptID, Content: c.Content, Embedding: c.Embedding, Strength: c.Strength,
		Confidence: c.Confidence, Metadata: c.Metadata}
}

// fill stores a seed's first concepts, in transactions; the same again is no error.
func (o Options) fill(ctx context.Context, s stores, dress func(c *transport.LearnConcept)) error {
	r := rand.New(rand.NewPCG(o.Seed, 1<<32))
	for n := 0; n < o.Keys; {
		var ops []transport.Op
		for size := 0; n < o.Keys && len(ops) < transport.MaxBatch && size < 4<<20; n++ {
			c := o.concept(r, uint64(n))
			if dress != nil {
				dress(c)
			}
			ops = append(ops, op(c))
			size += len(c.Content) + 4*len(c.Embedding)
		}
		if _, err := s[0].Txn(ctx, ops); err != nil {
			return fmt.Errorf("prepare concepts up to number %d of %d: %w", n, o.Keys, err)
		}
	}
	return nil
}

// errMissing is the answer nobody may get.
var errMissing = errors.New("a concept that was stored is not found")
