package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/graphwalk"
	"github.com/sutra-grid/sutra-grid/transport"
)

// oneStore is what the grid should look like from outside: all the data in one place.
type oneStore struct {
	content map[string]string
	out     map[string][]string // distinct targets in order
	edges   map[[2]string]bool
}

func (s *oneStore) learn(id, content string) { s.content[id] = content }

func (s *oneStore) known(id string) bool { _, ok := s.content[id]; return ok }

func (s *oneStore) link(a, b string) bool {
	if !s.known(a) || !s.known(b) {
		return false
	}
	if e := [2]string{a, b}; !s.edges[e] {
		s.edges[e] = true
		s.out[a] = append(s.out[a], b)
	}
	return true
}

// distance is plain breadth-first search; -1 for no path.
func (s *oneStore) distance(a, b string) int {
	if !s.known(a) {
		return -1
	}
	dist := map[string]int{a: 0}
	for queue := []string{a}; len(queue) > 0; queue = queue[1:] {
		for _, n := range s.out[queue[0]] {
			if _, seen := dist[n]; !seen {
				dist[n] = dist[queue[0]] + 1
				queue = append(queue, n)
			}
		}
	}
	if d, ok := dist[b]; ok {
		return d
	}
	return -1
}

// TestGridLooksLikeOneStore drives a client of four shards and one store with the same requests, singly and in batches.
func TestGridLooksLikeOneStore(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		// The requests are drawn outside the bubble: rapid has goroutines of its own.
		id := rapid.Custom(func(t *rapid.T) string { return fmt.Sprintf("c%d", rapid.IntRange(0, 12).Draw(t, "id")) })
		request := rapid.Custom(func(t *rapid.T) any {
			a, b := id.Draw(t, "a"), id.Draw(t, "b")
			switch rapid.IntRange(0, 9).Draw(t, "request") {
			case 0, 1, 2:
				return &transport.LearnConcept{ConceptID: a, Content: b}
			case 3, 4, 5, 6:
				return &transport.LearnAssociation{SourceID: a, TargetID: b}
			case 7:
				return &transport.QueryConcept{ConceptID: a}
			case 8:
				return &transport.FindPath{StartID: a, EndID: b, MaxDepth: 20}
			}
			return &transport.GetNeighbors{ConceptID: a}
		})
		steps := rapid.SliceOfN(rapid.SliceOfN(request, 1, 8), 1, 10).Draw(rt, "steps")
		synctest.Test(t, func(t *testing.T) {
			g := newFakeGrid(t, 2, 4)
			c := g.client(t)
			s := &oneStore{content: map[string]string{}, out: map[string][]string{}, edges: map[[2]string]bool{}}
			for _, step := range steps {
				replies, err := c.Batch(context.Background(), step...)
				if err != nil {
					t.Fatal(err)
				}
				if len(step) == 1 {
					replies[0], err = c.Do(context.Background(), step[0])
					if err != nil {
						replies[0] = wireError(err)
					}
				}
				for i, req := range step {
					if wrong := s.check(req, replies[i]); wrong != "" {
						t.Fatalf("%+v: %s", req, wrong)
					}
				}
			}
			s.checkAll(t, c)
			_ = c.Close()
			g.close()
		})
	})
}

// check applies a request to the store and says what is wrong with the grid's reply.
func (s *oneStore) check(req, reply any) string {
	switch q := req.(type) {
	case *transport.LearnConcept:
		s.learn(q.ConceptID, q.Content)
		if _, ok := reply.(*transport.LearnConceptOk); !ok {
			return fmt.Sprint(reply)
		}
	case *transport.LearnAssociation:
		_, ok := reply.(*transport.LearnAssociationOk)
		if ok != s.link(q.SourceID, q.TargetID) {
			return fmt.Sprint(reply)
		}
		if e, failed := reply.(*event.Error); failed && e.Kind != event.KindPrecondition {
			return e.Error()
		}
	case *transport.QueryConcept:
		content, found := s.content[q.ConceptID]
		return cmp.Diff(&transport.QueryConceptOk{Found: found, ConceptID: q.ConceptID, Content: content}, reply)
	case *transport.GetNeighbors:
		return cmp.Diff(&transport.GetNeighborsOk{NeighborIDs: s.out[q.ConceptID]}, reply, cmpopts.EquateEmpty())
	case *transport.FindPath:
		ok, is := reply.(*transport.FindPathOk)
		want := s.distance(q.StartID, q.EndID)
		if !is || ok.Found != (want >= 0) || len(ok.Path) != want+1 {
			return fmt.Sprintf("%+v, the distance is %d", reply, want)
		}
		for i := range max(len(ok.Path)-1, 0) {
			if !s.edges[[2]string{ok.Path[i], ok.Path[i+1]}] {
				return fmt.Sprintf("%v has no edge behind %s", ok.Path, ok.Path[i])
			}
		}
	}
	return ""
}

func (s *oneStore) checkAll(t *testing.T, c *Client) {
	stats, err := c.Stats(context.Background())
	if err != nil || stats.Concepts != uint64(len(s.content)) || stats.Edges != uint64(len(s.edges)) || stats.TotalConcepts != stats.Concepts ||
		stats.TotalEdges != stats.Edges || stats.Writes != stats.Written || stats.UptimeSeconds != 5 {
		t.Errorf("%+v, %v; want %d concepts and %d edges", stats, err, len(s.content), len(s.edges))
	}
	ids, err := c.IDs(context.Background())
	if want := slices.Sorted(maps.Keys(s.content)); err != nil || !cmp.Equal(ids, want, cmpopts.EquateEmpty()) {
		t.Errorf("%v, %v; want %v", ids, err, want)
	}
}

func TestTypedMethods(t *testing.T) {
	inGrid(t, 2, 4, func(t *testing.T, g *fakeGrid) {
		ctx := t.Context()
		c := g.client(t)
		defer c.Close()
		for _, id := range []string{"a", "b", "c"} {
			if err := c.LearnConcept(ctx, &transport.LearnConcept{ConceptID: id, Content: "the " + id}); err != nil {
				t.Fatal(err)
			}
		}
		for _, e := range [][2]string{{"a", "b"}, {"a", "c"}, {"b", "c"}} {
			if err := c.LearnAssociation(ctx, &transport.LearnAssociation{SourceID: e[0], TargetID: e[1], AssocType: 3, Confidence: 0.5}); err != nil {
				t.Fatal(err)
			}
		}
		if r, err := c.Concept(ctx, "a"); err != nil || r.Content != "the a" {
			t.Errorf("%+v, %v", r, err)
		}
		if r, err := c.Association(ctx, "a", "b"); err != nil || !r.Found || r.AssocType != 3 {
			t.Errorf("%+v, %v", r, err)
		}
		if r, err := c.Targets(ctx, "a"); err != nil || !slices.Equal(r, []string{"b", "c"}) {
			t.Errorf("%v, %v", r, err)
		}
		if r, err := c.Neighbors(ctx, &transport.Neighbors{ConceptID: "a", Direction: "out"}); err != nil || len(r.Items) != 2 {
			t.Errorf("%+v, %v", r, err)
		}
		if path, found, err := c.Path(ctx, "a", "c", 5); err != nil || !found || !slices.Equal(path, []string{"a", "c"}) {
			t.Errorf("%v, %v, %v", path, found, err)
		}
		if path, found, err := c.Path(ctx, "a", "nowhere", 5); err != nil || found || path == nil {
			t.Errorf("%#v, %v, %v", path, found, err)
		}
		if r, err := do[transport.FlushOk](ctx, c, &transport.Flush{}); err != nil {
			t.Error(r, err)
		}
		if r, err := do[transport.HealthCheckOk](ctx, c, &transport.HealthCheck{}); err != nil || !r.Healthy || r.UptimeSeconds != 5 {
			t.Errorf("%+v, %v", r, err)
		}
		if _, err := c.Do(ctx, &transport.ListAgents{}); wireError(err).Kind != event.KindUnsupported {
			t.Error(err)
		}
		for _, bad := range []any{&transport.QueryConcept{}, &transport.FindPath{StartID: "a", EndID: "b", MaxDepth: 21}, &transport.Txn{}} {
			if _, err := c.Do(ctx, bad); wireError(err).Kind != event.KindInvalid && wireError(err).Kind != event.KindTooLarge {
				t.Errorf("%T: %v", bad, err)
			}
		}
	})
}

func TestTxnGetsItsIdentity(t *testing.T) {
	inGrid(t, 1, 1, func(t *testing.T, g *fakeGrid) {
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		c := g.client(t)
		defer c.Close()
		if err := c.LearnConcept(ctx, &transport.LearnConcept{ConceptID: "a"}); err != nil {
			t.Fatal(err)
		}
		ops := []transport.Op{{Kind: transport.OpLearnAssociation, ID: "a", Target: "a"}}
		ok, err := c.Txn(ctx, ops)
		if err != nil || ok.TxnID.IsZero() {
			t.Fatal(ok, err)
		}
		own := &transport.Txn{RequestID: event.RequestID{9}, Issued: 5, TimeoutMillis: 6, Ops: ops}
		if _, err := c.Do(ctx, own); err != nil {
			t.Fatal(err)
		}
		made, kept := g.txns[0], g.txns[1]
		if made.RequestID != ok.TxnID || made.Issued != time.Now().UnixMicro() || made.TimeoutMillis != 4000 {
			t.Errorf("%+v", made)
		}
		if kept.RequestID != own.RequestID || kept.Issued != 5 || kept.TimeoutMillis != 6 {
			t.Errorf("%+v", kept)
		}
	})
}

func concepts(n int, content string) []any {
	var reqs []any
	for i := range n {
		reqs = append(reqs, &transport.LearnConcept{ConceptID: fmt.Sprintf("c%d", i), Content: content})
	}
	return reqs
}

func TestBatchUsesFewWrites(t *testing.T) {
	inGrid(t, 2, 4, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		reqs := concepts(1000, "")
		if _, err := c.Batch(t.Context(), reqs...); err != nil || len(g.received()) != 4 {
			t.Errorf("%v, %d requests for 4 shards", err, len(g.received()))
		}
		var links []any
		for i := range 1000 {
			links = append(links, &transport.LearnAssociation{SourceID: "c0", TargetID: fmt.Sprintf("c%d", i)})
		}
		replies, err := c.Batch(t.Context(), links...)
		if err != nil || len(g.txns) != 1 || len(g.txns[0].Ops) != 1000 {
			t.Errorf("%v, %d transactions", err, len(g.txns))
		}
		for i, r := range replies {
			if _, ok := r.(*transport.LearnAssociationOk); !ok {
				t.Errorf("reply %d is %v", i, r)
			}
		}
		if targets, err := c.Targets(t.Context(), "c0"); err != nil || len(targets) != 1000 || targets[999] != "c999" {
			t.Errorf("%d targets, %v", len(targets), err)
		}
	})
}

// TestBatchIsBoundedByBytes: large concepts do not make one large entry.
func TestBatchIsBoundedByBytes(t *testing.T) {
	inGrid(t, 1, 1, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		reqs := concepts(10, strings.Repeat("x", 1<<20))
		reqs = append(reqs, &transport.LearnConcept{ConceptID: "huge", Content: strings.Repeat("x", transport.MaxContent)})
		if _, err := c.Batch(t.Context(), reqs...); err != nil {
			t.Fatal(err)
		}
		var sizes []int
		for _, r := range g.received() {
			sizes = append(sizes, len(r.Request.Value.(*transport.Write).Ops))
		}
		if !slices.Equal(sizes, []int{4, 4, 2, 1}) {
			t.Errorf("writes of %v concepts", sizes)
		}
	})
}

// TestBatchAnswersInPlace: what fails has its error, the rest its reply.
func TestBatchAnswersInPlace(t *testing.T) {
	inGrid(t, 2, 4, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		link := func(a, b string) any { return &transport.LearnAssociation{SourceID: a, TargetID: b} }
		replies, err := c.Batch(t.Context(),
			&transport.LearnConcept{ConceptID: "a"}, &transport.LearnConcept{ConceptID: ""}, &transport.LearnConcept{ConceptID: "b"},
			link("a", "b"), link("a", "absent"), link("", "b"), link("b", "a"), link("absent", "b"), link("b", "b"),
			&transport.GetNeighbors{ConceptID: "b"}, &transport.ListAgents{}, &transport.GetStats{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range replies {
			name := transport.VariantName(r)
			if e, ok := r.(*event.Error); ok {
				name = string(e.Kind)
			}
			got = append(got, name)
		}
		want := []string{"LearnConceptOk", "invalid", "LearnConceptOk", "LearnAssociationOk", "precondition", "invalid", "LearnAssociationOk",
			"precondition", "LearnAssociationOk", "GetNeighborsOk", "unsupported", "StatsOk"}
		if !slices.Equal(got, want) {
			t.Errorf("%v", got)
		}
		if n := replies[9].(*transport.GetNeighborsOk); !slices.Equal(n.NeighborIDs, []string{"a", "b"}) {
			t.Errorf("%v", n.NeighborIDs)
		}
	})
}

// TestBatchFindsTheConceptAtFault: a shard refuses a write for one concept; the others are written.
func TestBatchFindsTheConceptAtFault(t *testing.T) {
	inGrid(t, 1, 1, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		g.fault = func(_ event.NodeID, r *transport.Routed, _ int) error {
			w, ok := r.Request.Value.(*transport.Write)
			q, single := r.Request.Value.(*transport.LearnConcept)
			if ok && len(w.Ops) > 1 || single && q.ConceptID == "c1" {
				return &event.Error{Kind: event.KindInvalid, Message: "wrong dimension"}
			}
			return nil
		}
		replies, err := c.Batch(t.Context(), concepts(3, "")...)
		if err != nil || len(g.shards["shard-0"].concepts) != 2 || wireError(replies[1].(error)).Kind != event.KindInvalid {
			t.Errorf("%v, %v", replies, err)
		}
	})
}

// TestBatchUnderFailure: an error that blames no operation is everybody's.
func TestBatchUnderFailure(t *testing.T) {
	inGrid(t, 1, 1, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		g.fault = func(event.NodeID, *transport.Routed, int) error {
			return &event.Error{Kind: event.KindInternal, Message: "disk"}
		}
		replies, err := c.Batch(t.Context(), concepts(3, "")...)
		if err != nil || len(g.received()) != 1 {
			t.Errorf("%v, %d requests", err, len(g.received()))
		}
		for _, r := range replies {
			if e, ok := r.(*event.Error); !ok || e.Kind != event.KindInternal {
				t.Error(r)
			}
		}
	})
}

// TestFanOutNamesTheShard: one shard that fails fails the whole, by name.
func TestFanOutNamesTheShard(t *testing.T) {
	inGrid(t, 2, 4, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		g.fault = func(_ event.NodeID, r *transport.Routed, _ int) error {
			if r.ShardID == "shard-2" {
				return &event.Error{Kind: event.KindInternal, Message: "disk"}
			}
			return nil
		}
		for _, req := range []any{&transport.GetStats{}, &transport.GetAllConceptIds{}, &transport.Flush{},
			&transport.Expand{ConceptIDs: []string{"a", "b", "c", "d", "e", "f", "g", "h"}, Direction: "out"}} {
			if _, err := c.Do(t.Context(), req); wireError(err).Kind != event.KindInternal || !strings.Contains(err.Error(), "shard-2") {
				t.Errorf("%T: %v", req, err)
			}
		}
		if h, err := do[transport.HealthCheckOk](t.Context(), c, &transport.HealthCheck{}); err != nil || h.Healthy || !strings.Contains(h.Status, "shard-2") {
			t.Errorf("%+v, %v", h, err)
		}
	})
}

func TestPathErrors(t *testing.T) {
	if e := pathError(fmt.Errorf("search: %w", graphwalk.ErrTooLarge)); wireError(e).Kind != event.KindTooLarge {
		t.Error(e)
	}
	if e := pathError(errors.New("odd")); wireError(e).Kind != event.KindInternal {
		t.Error(e)
	}
	if graphwalk.MaxDepth != transport.MaxPathDepth {
		t.Error("the limit of the walk is not the protocol's")
	}
}
