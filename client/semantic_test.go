package client

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// TestSemanticOverShards: a walk crosses shards, a survey reads every page of each, answers merge by id; a shard that fails or
// answers too little fails the whole, by its name.
func TestSemanticOverShards(t *testing.T) {
	inGrid(t, 3, 4, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		var ids []string
		for i := range 40 {
			ids = append(ids, fmt.Sprintf("c%02d", i))
			content := "yes"
			if i == 39 {
				content = "no"
			}
			if err := c.LearnConcept(t.Context(), &transport.LearnConcept{ConceptID: ids[i], Content: content}); err != nil {
				t.Fatal(err)
			}
			if i > 0 {
				if err := c.LearnAssociation(t.Context(), &transport.LearnAssociation{SourceID: ids[i-1], TargetID: ids[i], AssocType: 1, Confidence: 1}); err != nil {
					t.Fatal(err)
				}
			}
		}
		path, err := do[transport.FindPathSemanticOk](t.Context(), c, &transport.FindPathSemantic{StartID: ids[0], EndID: ids[20], MaxDepth: 20})
		if err != nil || len(path.Paths) != 1 || !slices.Equal(path.Paths[0].Concepts, ids[:21]) {
			t.Errorf("%+v, %v", path, err)
		}
		chains, err := do[transport.FindCausalChainOk](t.Context(), c, &transport.FindCausalChain{StartID: ids[0], MaxDepth: 5})
		if err != nil || len(chains.Paths) != 5 || !slices.Equal(chains.Paths[4].Concepts, ids[:6]) {
			t.Errorf("%+v, %v", chains, err)
		}
		pairs, err := do[transport.FindContradictionsOk](t.Context(), c, &transport.FindContradictions{})
		if err != nil || len(pairs.Contradictions) != 39 || pairs.Contradictions[38][0] != ids[38] || pairs.Contradictions[38][1] != ids[39] {
			t.Errorf("%+v, %v", pairs, err)
		}
		limit := uint32(7)
		found, err := do[transport.QueryBySemanticOk](t.Context(), c, &transport.QueryBySemantic{Limit: &limit})
		if err != nil || len(found.Concepts) != 7 || found.Concepts[6].ConceptID != ids[6] {
			t.Errorf("%+v, %v", found, err)
		}
		walk := &transport.FindPathSemantic{StartID: ids[0], EndID: ids[20], MaxDepth: 20}
		for read, req := range map[string]any{"Classify": walk, "Links": walk, "Survey": &transport.FindContradictions{}, "QueryBySemantic": &transport.QueryBySemantic{}} {
			failsByName(t, g, c, read, req)
		}
	})
}

// failsByName makes one shard refuse a read, and sends a request that needs it.
func failsByName(t *testing.T, g *fakeGrid, c *Client, read string, req any) {
	g.locked(func() {
		g.fault = func(_ event.NodeID, r *transport.Routed, _ int) error {
			if r.ShardID == "shard-2" && transport.VariantName(r.Request.Value) == read {
				return &event.Error{Kind: event.KindInternal, Message: "bad disk"}
			}
			return nil
		}
	})
	if _, err := c.Do(t.Context(), req); err == nil || !strings.Contains(err.Error(), "shard-2") || !strings.Contains(err.Error(), "bad disk") {
		t.Errorf("%s that fails: %v", read, err)
	}
}
