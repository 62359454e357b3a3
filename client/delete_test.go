package client

import (
	"fmt"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

func TestDeletes(t *testing.T) {
	inGrid(t, 2, 4, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		if err := c.LearnConcept(t.Context(), &transport.LearnConcept{ConceptID: "a"}); err != nil {
			t.Fatal(err)
		}
		for _, want := range []bool{true, false} {
			if got, err := c.DeleteConcept(t.Context(), "a"); err != nil || got != want {
				t.Errorf("deleted %v, %v; want %v", got, err, want)
			}
		}
		if got, err := c.DeleteAssociation(t.Context(), "b", "b", nil); err != nil || got {
			t.Errorf("deleted %v, %v", got, err)
		}
		if len(g.txns) > 0 {
			t.Errorf("%d transactions for what one shard can do", len(g.txns))
		}
	})
}

// TestDeletesOverShards: they are transactions, under the request id of the write that the shard refused, and say what there was.
func TestDeletesOverShards(t *testing.T) {
	inGrid(t, 2, 4, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		home, _ := g.current.Map.Shard("a")
		other := ""
		for i := 0; other == ""; i++ {
			if s, _ := g.current.Map.Shard(fmt.Sprint("x", i)); s.ID != home.ID {
				other = fmt.Sprint("x", i)
			}
		}
		for _, id := range []string{"a", other} {
			if err := c.LearnConcept(t.Context(), &transport.LearnConcept{ConceptID: id}); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.LearnAssociation(t.Context(), &transport.LearnAssociation{SourceID: "a", TargetID: other}); err != nil {
			t.Fatal(err)
		}
		seven := uint32(7)
		for _, there := range []bool{true, false} {
			g.deleted, g.txns = []transport.OpResult{{Found: there}}, nil
			before := len(g.received())
			got, err := c.DeleteConcept(t.Context(), "a")
			if err != nil || got != there || len(g.txns) != 1 {
				t.Fatalf("deleted %v, %v, by %d transactions", got, err, len(g.txns))
			}
			refused := g.received()[before]
			if txn := g.txns[0]; txn.RequestID != refused.RequestID || txn.Issued != refused.Issued || txn.Ops[0].Kind != transport.OpDeleteConcept || txn.Ops[0].ID != "a" {
				t.Errorf("the write was %+v, the transaction %+v", refused, txn)
			}
			if got, err := c.DeleteAssociation(t.Context(), "a", other, nil); err != nil || got != there {
				t.Errorf("deleted %v, %v", got, err)
			}
			if got, err := c.DeleteAssociation(t.Context(), other, "a", &seven); err != nil || got != there {
				t.Errorf("deleted %v, %v", got, err)
			}
			if a, b := g.txns[1].Ops[0], g.txns[2].Ops[0]; a.Kind != transport.OpDeleteAssociation || b.Kind != transport.OpDeleteAssociationType || b.AssocType != 7 {
				t.Errorf("transactions of %+v and %+v", a, b)
			}
		}
		g.deleted = nil
		if _, err := c.DeleteConcept(t.Context(), "a"); wireError(err).Kind != event.KindUnknownOutcome {
			t.Errorf("without a result: %v", err)
		}
		g.deleted = []transport.OpResult{{Found: true}}
		replies, err := c.Batch(t.Context(), &transport.DeleteConcept{ConceptID: "a"}, &transport.LearnConcept{ConceptID: "b"}, &transport.DeleteAssociation{SourceID: "a", TargetID: other})
		if err != nil {
			t.Fatal(err)
		}
		first, _ := replies[0].(*transport.DeleteConceptOk)
		last, _ := replies[2].(*transport.DeleteAssociationOk)
		if first == nil || last == nil || !first.Deleted || !last.Deleted {
			t.Errorf("in a batch: %+v", replies)
		}
	})
}
