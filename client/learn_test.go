package client

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// TestLearnOverShards: what is learnt by content is linked to concepts of every shard, atomically, and again without effect.
func TestLearnOverShards(t *testing.T) {
	inGrid(t, 3, 4, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		content := "about"
		var want []string
		for i := range 8 {
			id := fmt.Sprintf("topic%d", i)
			if err := c.LearnConcept(t.Context(), &transport.LearnConcept{ConceptID: id}); err != nil {
				t.Fatal(err)
			}
			content, want = content+" "+id, append(want, id)
		}
		var id string
		for range 2 {
			ok, err := do[transport.LearnConceptV2Ok](t.Context(), c, &transport.LearnConceptV2{Content: content})
			if err != nil {
				t.Fatal(err)
			}
			id = ok.ConceptID
		}
		if id != transport.ConceptIDOf(content) {
			t.Errorf("the id is %s", id)
		}
		if got, err := c.Targets(t.Context(), id); err != nil || !slices.Equal(got, want) {
			t.Errorf("linked to %v, %v", got, err)
		}
		if len(g.txns) != 2 || len(g.txns[0].Ops) != 9 || g.txns[0].Ops[0].Kind != transport.OpLearnConcept || g.txns[0].RequestID == g.txns[1].RequestID {
			t.Errorf("transactions %+v", g.txns)
		}
		if got, err := c.Concept(t.Context(), id); err != nil || got.Content != content {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// TestLearnWithoutLinks is one write in one shard, with its vector; a retry carries the same request id.
func TestLearnWithoutLinks(t *testing.T) {
	inGrid(t, 3, 4, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		failed := 0
		g.fault = func(_ event.NodeID, r *transport.Routed, _ int) error {
			if _, write := r.Request.Value.(*transport.Write); write && failed < 2 {
				failed++
				return &event.Error{Kind: event.KindUnknownOutcome, Message: "lost"}
			}
			return nil
		}
		if _, err := c.Do(t.Context(), &transport.LearnConceptV2{Content: "quite alone"}); err != nil {
			t.Fatal(err)
		}
		ids := map[event.RequestID]int{}
		for _, r := range g.received() {
			if w, ok := r.Request.Value.(*transport.Write); ok {
				ids[r.RequestID]++
				if len(w.Ops) != 1 || len(w.Ops[0].Embedding) != 1 {
					t.Errorf("wrote %+v", w.Ops)
				}
			}
		}
		if len(ids) != 1 || len(g.txns) != 0 {
			t.Errorf("request ids %v, %d transactions", ids, len(g.txns))
		}
	})
}

func TestLearnBatchOverShards(t *testing.T) {
	inGrid(t, 2, 4, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		var contents []string
		for i := range 50 {
			contents = append(contents, fmt.Sprintf("planet%d", i), fmt.Sprintf("the moon of planet%d", i))
		}
		ok, err := do[transport.LearnBatchOk](t.Context(), c, &transport.LearnBatch{Contents: contents})
		if err != nil || len(ok.ConceptIDs) != 100 {
			t.Fatalf("%+v, %v", ok, err)
		}
		for i := 0; i < 100; i += 2 {
			if got, err := c.Targets(t.Context(), ok.ConceptIDs[i+1]); err != nil || !slices.Equal(got, ok.ConceptIDs[i:i+1]) {
				t.Errorf("%q is linked to %v, %v", contents[i+1], got, err)
			}
		}
		g.locked(func() {
			g.fault = func(_ event.NodeID, r *transport.Routed, _ int) error {
				if _, lookUp := r.Request.Value.(*transport.Exists); lookUp {
					return &event.Error{Kind: event.KindInternal, Message: "bad disk"}
				}
				return nil
			}
		})
		_, err = c.Do(t.Context(), &transport.LearnConceptV2{Content: "a new planet"})
		if err == nil || !strings.Contains(err.Error(), "shard-") || !strings.Contains(err.Error(), "bad disk") {
			t.Errorf("a shard that fails: %v", err)
		}
	})
}
