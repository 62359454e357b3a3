package storagenode

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/storagenode/embed"
	"github.com/sutra-grid/sutra-grid/transport"
)

// TestLearnByContent: a node alone gives ids, vectors and links; repeated requests store nothing twice; what is refused
// stores nothing.
func TestLearnByContent(t *testing.T) {
	n := openAlone(t, transport.NewMemory(), t.TempDir())
	do := func(req any) (any, error) { return n.handle(t.Context(), nil, req) }
	must[transport.LearnConceptOk](t)(do(concept("Dog")))
	const content = "every dog has its day"
	var id string
	for range 2 {
		id = must[transport.LearnConceptV2Ok](t)(do(&transport.LearnConceptV2{Content: content})).ConceptID
	}
	if id != transport.ConceptIDOf(content) {
		t.Errorf("the id is %s", id)
	}
	c := must[transport.QueryConceptOk](t)(do(&transport.QueryConcept{ConceptID: id}))
	if !c.Found || c.Content != content || c.Strength != 1 || c.Confidence != 1 {
		t.Errorf("got %+v", c)
	}
	if a := must[transport.GetAssociationOk](t)(do(&transport.GetAssociation{SourceID: id, TargetID: "Dog"})); !a.Found || a.AssocType != 0 || a.Confidence != 0.5 {
		t.Errorf("got %+v", a)
	}
	h, err := embed.NewHashing(int(n.cfg.Dimension))
	if err != nil {
		t.Fatal(err)
	}
	want, err := h.Embed(t.Context(), []string{content})
	if err != nil {
		t.Fatal(err)
	}
	if v, err := n.replicas.all()[0].engine.Vector(id); err != nil || !slices.Equal(v, want[0]) {
		t.Errorf("the vector is %v, %v", v, err)
	}
	ids := must[transport.LearnBatchOk](t)(do(&transport.LearnBatch{Contents: []string{"the sun", "sun", content}})).ConceptIDs
	if len(ids) != 3 || ids[2] != id {
		t.Errorf("got %v", ids)
	}
	if a := must[transport.GetAssociationOk](t)(do(&transport.GetAssociation{SourceID: ids[0], TargetID: ids[1]})); !a.Found {
		t.Error("contents of one batch are not linked")
	}
	before := must[transport.StatsOk](t)(do(&transport.GetStats{}))
	if before.Concepts != 4 || before.Edges != 2 || before.Vectors != 3 {
		t.Errorf("got %+v", before)
	}
	for _, bad := range []any{
		&transport.LearnConceptV2{Content: strings.Repeat("x", transport.MaxContent+1)}, &transport.LearnConceptV2{},
		&transport.LearnBatch{Contents: slices.Repeat([]string{"c"}, 1001)}, &transport.LearnBatch{Contents: []string{"new one", ""}},
	} {
		if _, err := do(bad); err == nil {
			t.Errorf("%T is accepted", bad)
		}
	}
	if after := must[transport.StatsOk](t)(do(&transport.GetStats{})); after.Concepts != before.Concepts || after.Edges != before.Edges {
		t.Errorf("refused requests stored something: %+v", after)
	}
	known := must[transport.ExistsOk](t)(do(&transport.Exists{ConceptIDs: []string{id, "nobody", "Dog"}})).Known
	if !slices.Equal(known, []bool{true, false, true}) {
		t.Errorf("got %v", known)
	}
}

// TestLearnInABatch: one after the other, among reads and writes.
func TestLearnInABatch(t *testing.T) {
	n := openAlone(t, transport.NewMemory(), t.TempDir())
	id := transport.ConceptIDOf("sun and moon")
	got, err := n.handle(t.Context(), nil, &transport.Batch{Requests: []transport.Any{{Value: concept("sun")}, {Value: &transport.LearnConceptV2{Content: "moon"}},
		{Value: &transport.LearnConceptV2{Content: "sun and moon"}}, {Value: &transport.GetNeighbors{ConceptID: id}}}})
	ok := must[transport.BatchOk](t)(got, err)
	if n := must[transport.GetNeighborsOk](t)(ok.Replies[3].Value, nil); !slices.Equal(n.NeighborIDs, []string{"sun", transport.ConceptIDOf("moon")}) {
		t.Errorf("got %v", n.NeighborIDs)
	}
}

// TestLearnWithAService: vectors are the service's; when it fails nothing is stored.
func TestLearnWithAService(t *testing.T) {
	broken := false
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if broken {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"data": []any{map[string]any{"index": 0, "embedding": []float32{1, 2, 3, 4}}}})
	}))
	defer s.Close()
	cfg := aloneConfig(t, transport.NewMemory(), t.TempDir())
	cfg.Dimension, cfg.Embedding.URL, cfg.Embedding.Model = 4, s.URL, "m"
	n, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	id := must[transport.LearnConceptV2Ok](t)(n.handle(t.Context(), nil, &transport.LearnConceptV2{Content: "c"})).ConceptID
	if v, err := n.replicas.all()[0].engine.Vector(id); err != nil || !slices.Equal(v, []float32{1, 2, 3, 4}) {
		t.Errorf("the vector is %v, %v", v, err)
	}
	broken = true
	_, err = n.handle(t.Context(), nil, &transport.LearnConceptV2{Content: "d"})
	wantKind(t, err, event.KindRefused)
	if c := must[transport.QueryConceptOk](t)(n.handle(t.Context(), nil, &transport.QueryConcept{ConceptID: transport.ConceptIDOf("d")})); c.Found {
		t.Error("stored without its vector")
	}
}

// TestLearnOnANodeOfManyShards is refused: links may lead to other shards.
func TestLearnOnANodeOfManyShards(t *testing.T) {
	c := newCluster(t, 1, 2, nil)
	n := c.nodes["node-1"]
	_, err := n.handle(t.Context(), nil, &transport.LearnConceptV2{Content: "c"})
	wantKind(t, err, event.KindRefused)
	_, err = c.route(write("shard-0", &transport.LearnConceptV2{Content: "c"}))
	wantKind(t, err, event.KindUnsupported)
	v := must[transport.EmbedOk](t)(c.route(ask("shard-0", &transport.Embed{Texts: []string{"a dog", "…"}})))
	if len(v.Embeddings) != 2 || len(v.Embeddings[0]) != 4 || len(v.Embeddings[1]) != 0 {
		t.Errorf("got %+v", v)
	}
	ids := c.owned("shard-0", "x", 2)
	must[transport.LearnConceptOk](t)(c.route(write("shard-0", concept(ids[0]))))
	if e := must[transport.ExistsOk](t)(c.route(ask("shard-0", &transport.Exists{ConceptIDs: ids}))); !slices.Equal(e.Known, []bool{true, false}) {
		t.Errorf("got %+v", e)
	}
	_, err = c.send("node-1", ask("shard-0", &transport.Exists{ConceptIDs: c.owned("shard-1", "x", 1)}))
	wantKind(t, err, event.KindWrongShard)
}
