package storagenode

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/storagenode/vector/vectortest"
	"github.com/sutra-grid/sutra-grid/transport"
)

// keptLog is a log that a test reads.
type keptLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *keptLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// take is what was said since the last take.
func (l *keptLog) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	said := l.b.String()
	l.b.Reset()
	return said
}

func pointing(id string, v ...float32) *transport.LearnConcept {
	c := concept(id)
	c.Embedding = v
	return c
}

// TestVectorSearchAlone: the plain protocol, what is refused, filters, what changes, and the same after a restart, from the file.
func TestVectorSearchAlone(t *testing.T) {
	network, dir, log := transport.NewMemory(), t.TempDir(), &keptLog{}
	cfg := aloneConfig(t, network, dir)
	cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	n, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	do := func(req any) (any, error) { return n.handle(t.Context(), nil, req) }
	ids := func(q *transport.VectorSearch) string {
		t.Helper()
		var list []string
		for _, r := range must[transport.VectorSearchOk](t)(do(q)).Results {
			list = append(list, fmt.Sprintf("%s %.2f", r.ID, r.Score))
		}
		return strings.Join(list, ", ")
	}
	q := &transport.VectorSearch{QueryVector: []float32{1, 0, 0, 0}, K: 3}
	if got := must[transport.VectorSearchOk](t)(do(q)).Results; got == nil || len(got) > 0 {
		t.Errorf("nothing is stored, and found is %#v", got)
	}
	tagged := pointing("b", 1, 1, 0, 0)
	tagged.Metadata = &transport.Metadata{Tags: []string{"t"}, Attributes: map[string]string{"k": "v"}}
	for _, c := range []*transport.LearnConcept{concept("none"), pointing("zero", 0, 0, 0, 0), pointing("d", 3, 0, 0, 0), pointing("a", 2, 0, 0, 0), tagged,
		pointing("c", -1, 0, 0, 0)} {
		must[transport.LearnConceptOk](t)(do(c))
	}
	check := func(when string, tests map[string]*transport.VectorSearch) {
		t.Helper()
		for want, q := range tests {
			if got := ids(q); got != want {
				t.Errorf("%s: found %q, want %q", when, got, want)
			}
		}
	}
	check("learned", map[string]*transport.VectorSearch{
		"a 1.00, d 1.00, b 0.71": q, "b 0.71": {QueryVector: q.QueryVector, K: 3, Tags: []string{"t"}, Attributes: map[string]string{"k": "v"}},
		"c 1.00": {QueryVector: []float32{-5, 0, 0, 0}, K: 1, EFSearch: transport.MaxEF, Exact: true}, "": {QueryVector: q.QueryVector, K: 3, Tags: []string{"other"}},
	})
	if s := must[transport.StatsOk](t)(do(&transport.GetStats{})); s.Vectors != 5 {
		t.Errorf("%d vectors are counted", s.Vectors)
	}
	nan := float32(math.NaN())
	for _, bad := range []*transport.VectorSearch{{QueryVector: []float32{1, 0, 0}, K: 1}, {QueryVector: []float32{1, 0, 0, nan}, K: 1}, {QueryVector: make([]float32, 4), K: 1},
		{QueryVector: q.QueryVector}, {QueryVector: q.QueryVector, K: 1001}, {QueryVector: q.QueryVector, K: 1, EFSearch: 10_001}, {K: 1}} {
		if _, err := do(bad); err == nil {
			t.Errorf("%+v is answered", bad)
		}
	}
	must[transport.DeleteConceptOk](t)(do(&transport.DeleteConcept{ConceptID: "a"}))
	must[transport.LearnConceptOk](t)(do(pointing("d", 0, 0, 1, 0)))
	must[transport.LearnConceptOk](t)(do(concept("c"))) // without a vector now
	check("changed", map[string]*transport.VectorSearch{"b 0.71, d 0.00": q})
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	log.take()
	if n, err = Open(cfg); err != nil {
		t.Fatal(err)
	}
	check("restarted", map[string]*transport.VectorSearch{"b 0.71, d 0.00": q})
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if said := log.take(); !strings.Contains(said, "vector index loaded") || !strings.Contains(said, "vector_count=2") || strings.Contains(said, "built") {
		t.Errorf("the log of a restart:\n%s", said)
	}
}

// TestLearnedByContentIsFound: the vector that the node makes is found by that of a text like it.
func TestLearnedByContentIsFound(t *testing.T) {
	cfg := aloneConfig(t, transport.NewMemory(), t.TempDir())
	cfg.Dimension = 768
	n, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	do := func(req any) (any, error) { return n.handle(t.Context(), nil, req) }
	contents := []string{"the cat sat on the mat", "stars burn hydrogen", "bread is baked from flour"}
	learned := must[transport.LearnBatchOk](t)(do(&transport.LearnBatch{Contents: contents})).ConceptIDs
	v := must[transport.EmbedOk](t)(do(&transport.Embed{Texts: []string{"a star burns hydrogen"}})).Embeddings[0]
	found := must[transport.VectorSearchOk](t)(do(&transport.VectorSearch{QueryVector: v, K: 3})).Results
	if len(found) != 3 || found[0].ID != learned[1] || found[0].Score < found[1].Score+0.2 {
		t.Errorf("found %v, want %s first", found, learned[1])
	}
}

// TestVectorSearchOverShards: four shards answer what one does, score by score; equal scores by id.
func TestVectorSearchOverShards(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var concepts []any
	for i := range 300 {
		c := pointing(fmt.Sprint("c", i), vectortest.Random(r, 4)...)
		if i%3 == 0 {
			c.Embedding = []float32{1, 2, 3, 4} // ties
		}
		c.Metadata = &transport.Metadata{Tags: []string{fmt.Sprint("t", i%5)}}
		concepts = append(concepts, c)
	}
	var queries []*transport.VectorSearch
	for i := range 40 {
		q := &transport.VectorSearch{QueryVector: vectortest.Random(r, 4), K: uint32(1 + r.IntN(120)), Exact: i%2 == 0}
		if i%4 == 0 {
			q.QueryVector = []float32{1, 2, 3, 4}
		}
		if i%5 == 0 {
			q.Tags = []string{"t2"}
		}
		queries = append(queries, q)
	}
	var answers [2][][]transport.VectorResult
	for i, shards := range []int{1, 4} {
		c := newCluster(t, 1, shards, nil)
		store, err := client.New(client.Config{Masters: []string{c.master.addr}, Network: c.network})
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		if _, err := store.Batch(t.Context(), concepts...); err != nil {
			t.Fatal(err)
		}
		for _, q := range queries {
			found, err := store.VectorSearch(t.Context(), q)
			if err != nil || len(found) == 0 {
				t.Fatalf("%d shards: %v, %v", shards, found, err)
			}
			answers[i] = append(answers[i], found)
		}
	}
	for i, q := range queries {
		if one, four := answers[0][i], answers[1][i]; !slices.Equal(one, four) {
			t.Errorf("%+v: one shard answers\n%v, four\n%v", q, one, four)
		}
	}
}

// TestVectorSearchOfReplicas: a search waits for a prepared transaction, sees what it wrote, and every replica answers alike at its index.
func TestVectorSearchOfReplicas(t *testing.T) {
	c := newCluster(t, 3, 1, nil)
	const shard = event.ShardID("shard-0")
	for i := range 30 {
		must[transport.LearnConceptOk](t)(c.route(write(shard, pointing(fmt.Sprint("c", i), float32(i), 1, 0, 0))))
	}
	q := &transport.VectorSearch{QueryVector: []float32{1, 0, 0, 0}, K: 30}
	want := must[transport.VectorSearchOk](t)(c.route(ask(shard, q))).Results
	if len(want) != 30 || want[0].ID != "c29" {
		t.Fatalf("found %v", want)
	}
	leader, _ := c.leader(shard, 0)
	index, err := c.nodes[leader].replicas.all()[0].readIndexOf(c, shard)
	if err != nil {
		t.Fatal(err)
	}
	for id, n := range c.nodes {
		ctx, cancel := context.WithTimeout(t.Context(), testLimit)
		if err := n.replicas.all()[0].group.Wait(ctx, index); err != nil {
			t.Fatal(err)
		}
		cancel()
		any := ask(shard, q)
		any.Consistency = stale
		ok, err := c.send(id, any)
		if err != nil {
			t.Fatal(err)
		}
		if got := ok.Reply.Value.(*transport.VectorSearchOk).Results; !slices.Equal(got, want) {
			t.Errorf("%s answers %v, the leader %v", id, got, want)
		}
	}
}
