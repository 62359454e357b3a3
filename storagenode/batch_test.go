package storagenode

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// TestPlainBatchSharesCommands: what only learns shares one, up to the bounds; what is asked for again by its id does not, nor vectors.
func TestPlainBatchSharesCommands(t *testing.T) {
	n := &Node{}
	plain := func(req any) *item { return &item{call: n.plain(req)} }
	link := &transport.LearnAssociation{SourceID: "a", TargetID: "b"}
	many := make([]*item, transport.MaxOps+1)
	for i := range many {
		many[i] = plain(link)
	}
	half := &transport.LearnConcept{ConceptID: "a", Content: strings.Repeat("x", togetherBytes/2)}
	routed := &item{call: call{request: link, id: newRequestID()}}
	for name, c := range map[string]struct {
		items []*item
		want  int
	}{
		"what only learns":     {[]*item{plain(concept("a")), plain(link), plain(concept("b")), plain(&transport.DeleteConcept{ConceptID: "a"})}, 3},
		"a delete":             {[]*item{plain(&transport.DeleteConcept{ConceptID: "a"}), plain(link)}, 1},
		"with an id":           {[]*item{routed, plain(link)}, 1},
		"before one with one":  {[]*item{plain(link), routed}, 1},
		"a vector":             {[]*item{plain(&transport.LearnConcept{ConceptID: "a", Embedding: make([]float32, 4)}), plain(link)}, 1},
		"before a vector":      {[]*item{plain(link), plain(&transport.LearnConcept{ConceptID: "a", Embedding: make([]float32, 4)})}, 1},
		"as many as there may": {many, transport.MaxOps},
		"as large as may be":   {[]*item{plain(half), plain(half), plain(half)}, 2},
	} {
		if got := sharing(c.items); got != c.want {
			t.Errorf("%s: %d share a command, want %d", name, got, c.want)
		}
	}
}

// TestPlainBatchKeepsItsOrder: what was refused together is done before what stands behind it.
func TestPlainBatchKeepsItsOrder(t *testing.T) {
	network := transport.NewMemory()
	n := openAlone(t, network, t.TempDir())
	pool := transport.NewPool(transport.PoolConfig{Network: network})
	defer pool.Close()
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	defer cancel()
	reply, err := transport.Call[transport.BatchOk](ctx, pool, n.Addr(), &transport.Batch{Requests: []transport.Any{
		{Value: concept("a")}, {Value: &transport.LearnAssociation{SourceID: "a", TargetID: "nowhere"}}, // refused together
		{Value: &transport.DeleteConcept{ConceptID: "a"}},
		{Value: concept("b")}, {Value: &transport.LearnAssociation{SourceID: "b", TargetID: "a"}}, // likewise: a is gone
		{Value: concept("c")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var refused []int
	for i, r := range reply.Replies {
		if e, is := r.Value.(*event.Error); is {
			refused = append(refused, i)
			if e.Kind != event.KindPrecondition {
				t.Errorf("request %d: %v", i, e)
			}
		}
	}
	deleted, is := reply.Replies[2].Value.(*transport.DeleteConceptOk)
	if !slices.Equal(refused, []int{1, 4}) || !is || !deleted.Deleted {
		t.Errorf("refused %v, the delete was answered %+v", refused, reply.Replies[2].Value)
	}
	stats, err := transport.Call[transport.StatsOk](ctx, pool, n.Addr(), &transport.GetStats{})
	if err != nil || stats.Concepts != 2 || stats.Edges != 0 {
		t.Errorf("%+v, %v: want b and c", stats, err)
	}
}

// TestPlainBatchAnswersEach: of requests that share a command one is refused; it alone is, with its own reason, and the others are there in
// their order.
func TestPlainBatchAnswersEach(t *testing.T) {
	network := transport.NewMemory()
	n := openAlone(t, network, t.TempDir())
	pool := transport.NewPool(transport.PoolConfig{Network: network})
	defer pool.Close()
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	defer cancel()
	b := &transport.Batch{}
	add := func(req any) int {
		b.Requests = append(b.Requests, transport.Any{Value: req})
		return len(b.Requests) - 1
	}
	add(concept("hub"))
	const links = 450
	for i := range links {
		add(concept(fmt.Sprintf("c-%d", i)))
		add(&transport.LearnAssociation{SourceID: "hub", TargetID: fmt.Sprintf("c-%d", i), Confidence: 1})
	}
	bad := add(&transport.LearnAssociation{SourceID: "hub", TargetID: "nowhere", Confidence: 1})
	empty := add(concept(""))
	add(concept("last"))
	reply, err := transport.Call[transport.BatchOk](ctx, pool, n.Addr(), b)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range reply.Replies {
		e, refused := r.Value.(*event.Error)
		switch {
		case i == bad && (!refused || e.Kind != event.KindPrecondition || !strings.Contains(e.Message, "nowhere")):
			t.Errorf("an unknown end: %+v", r.Value)
		case i == empty && (!refused || e.Kind != event.KindInvalid):
			t.Errorf("an empty id: %+v", r.Value)
		case i != bad && i != empty && refused:
			t.Fatalf("request %d, %+v: %v", i, b.Requests[i].Value, e)
		}
	}
	neighbors, err := transport.Call[transport.GetNeighborsOk](ctx, pool, n.Addr(), &transport.GetNeighbors{ConceptID: "hub"})
	if err != nil || len(neighbors.NeighborIDs) != links {
		t.Fatalf("%d neighbours, %v", len(neighbors.NeighborIDs), err)
	}
	for i, id := range neighbors.NeighborIDs {
		if id != fmt.Sprintf("c-%d", i) {
			t.Fatalf("neighbour %d is %s: not in the order of the batch", i, id)
		}
	}
	stats, err := transport.Call[transport.StatsOk](ctx, pool, n.Addr(), &transport.GetStats{})
	if err != nil || stats.Concepts != links+2 || stats.Edges != links || stats.Written != 2*links+2 {
		t.Errorf("%+v, %v: something was written twice or not at all", stats, err)
	}
}
