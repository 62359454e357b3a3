package client

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// ownedBy makes ids of a shard.
func (g *fakeGrid) ownedBy(shard event.ShardID, n int) (ids []string) {
	for i := 0; len(ids) < n; i++ {
		id := fmt.Sprintf("i%03d", i)
		if s, _ := g.current.Map.Shard(id); s.ID == shard {
			ids = append(ids, id)
		}
	}
	return ids
}

// without makes shards answer an error.
func (g *fakeGrid) without(kind event.Kind, shards ...event.ShardID) {
	g.locked(func() {
		g.fault = func(_ event.NodeID, r *transport.Routed, _ int) error {
			if slices.Contains(shards, r.ShardID) {
				return &event.Error{Kind: kind, Message: "down"}
			}
			return nil
		}
	})
}

func learnAll(t *testing.T, c *Client, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := c.LearnConcept(t.Context(), &transport.LearnConcept{ConceptID: id, Content: id}); err != nil {
			t.Fatal(err)
		}
	}
}

func missing(ok *transport.QueryOk) (ids []event.ShardID) {
	for _, m := range ok.Missing {
		ids = append(ids, m.ShardID)
	}
	return ids
}

// TestEveryFailedShardIsNamed: a fan-out waits for all within one deadline, and the error has them all.
func TestEveryFailedShardIsNamed(t *testing.T) {
	inGrid(t, 2, 4, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		g.without(event.KindUnavailable, "shard-1", "shard-3")
		ids := append(g.ownedBy("shard-1", 1), append(g.ownedBy("shard-0", 1), g.ownedBy("shard-3", 1)...)...)
		for _, req := range []any{&transport.GetStats{}, &transport.Scan{}, &transport.QueryByMetadata{}, &transport.QueryBySemantic{}, &transport.GetAllConceptIds{}, &transport.Flush{},
			&transport.FindContradictions{}, &transport.Expand{ConceptIDs: ids, Direction: "out"}} {
			begun := time.Now()
			_, err := c.Do(t.Context(), req)
			if wireError(err).Kind != event.KindUnavailable || !strings.Contains(err.Error(), "shard-1: ") || !strings.Contains(err.Error(), "shard-3: ") || strings.Contains(err.Error(), "shard-0") {
				t.Errorf("%T: %v", req, err)
			}
			if took := time.Since(begun); took > DefaultDeadline+answerGrace {
				t.Errorf("%T took %v", req, took)
			}
		}
	})
}

// TestPartial: what cannot answer is left out and named, with its reason, before the deadline; the rest is there, and says what it
// stands for.
func TestPartial(t *testing.T) {
	inGrid(t, 2, 4, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		var here, gone []string
		for i := range 4 {
			ids := g.ownedBy(event.ShardID(fmt.Sprintf("shard-%d", i)), 2)
			learnAll(t, c, ids...)
			if i == 1 || i == 3 {
				gone = append(gone, ids...)
			} else {
				here = append(here, ids...)
			}
		}
		slices.Sort(here)
		g.without(event.KindUnavailable, "shard-1", "shard-3")
		ask := func(req any) *transport.QueryOk {
			t.Helper()
			begun := time.Now()
			ok, err := c.Query(t.Context(), &transport.Query{Request: transport.Any{Value: req}, Partial: true})
			if err != nil {
				t.Fatalf("%T: %v", req, err)
			}
			if took := time.Since(begun); took >= DefaultDeadline {
				t.Errorf("%T took %v", req, took)
			}
			if !slices.Equal(missing(ok), []event.ShardID{"shard-1", "shard-3"}) || ok.Missing[0].Kind != event.KindUnavailable || !strings.Contains(ok.Missing[0].Message, "down") {
				t.Errorf("%T: %+v", req, ok.Missing)
			}
			want := []transport.ShardRead{{ShardID: "shard-0", ShardSeq: 2, ReadMode: Linearizable}, {ShardID: "shard-2", ShardSeq: 2, ReadMode: Linearizable}}
			if d := cmp.Diff(want, ok.Reads); d != "" || ok.Epoch != g.current.Map.Epoch {
				t.Errorf("%T at %v: %s", req, ok.Epoch, d)
			}
			return ok
		}
		if s := ask(&transport.GetStats{}).Reply.Value.(*transport.StatsOk); s.Concepts != 4 {
			t.Errorf("%+v", s)
		}
		if r := ask(&transport.GetAllConceptIds{}).Reply.Value.(*transport.GetAllConceptIdsOk); !slices.Equal(r.ConceptIDs, here) {
			t.Errorf("%q, want %q", r.ConceptIDs, here)
		}
		if r := ask(&transport.Scan{Limit: 10}).Reply.Value.(*transport.ScanOk); len(r.Items) != 4 || r.Cursor != "" {
			t.Errorf("%+v", r)
		}
		if r := ask(&transport.QueryBySemantic{}).Reply.Value.(*transport.QueryBySemanticOk); len(r.Concepts) != 4 {
			t.Errorf("%+v", r)
		}
		ask(&transport.FindContradictions{})
		e := ask(&transport.Expand{ConceptIDs: append(here, gone...), Direction: "out"}).Reply.Value.(*transport.ExpandOk)
		if want := []bool{true, true, true, true, false, false, false, false}; !slices.Equal(e.Known, want) {
			t.Errorf("known %v", e.Known)
		}
	})
}

// TestPartialIsNotEverything: the request's own fault, and an answer that nobody is in, are errors.
func TestPartialIsNotEverything(t *testing.T) {
	inGrid(t, 2, 4, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		partial := func(req any) error {
			_, err := c.Query(t.Context(), &transport.Query{Request: transport.Any{Value: req}, Partial: true})
			return err
		}
		g.without(event.KindInvalid, "shard-2")
		if err := partial(&transport.GetStats{}); wireError(err).Kind != event.KindInvalid || !strings.Contains(err.Error(), "shard-2") {
			t.Error(err)
		}
		g.without(event.KindInternal, "shard-0", "shard-1", "shard-2", "shard-3")
		for _, req := range []any{&transport.GetStats{}, &transport.FindContradictions{}, &transport.QueryConcept{ConceptID: "a"}} {
			if err := partial(req); wireError(err).Kind != event.KindInternal {
				t.Errorf("%T: %v", req, err)
			}
		}
	})
}

// TestPartialPath: a path around a missing shard is found, and the shard is waited for once, not at every step.
func TestPartialPath(t *testing.T) {
	inGrid(t, 2, 4, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		a, b := g.ownedBy("shard-0", 6), g.ownedBy("shard-1", 2)
		learnAll(t, c, append(a, b...)...)
		links := [][2]string{{a[0], b[0]}, {b[0], b[1]}, {b[1], a[5]}} // short, over the missing shard
		for i := range 5 {
			links = append(links, [2]string{a[i], a[i+1]})
		}
		for _, l := range links {
			if err := c.LearnAssociation(t.Context(), &transport.LearnAssociation{SourceID: l[0], TargetID: l[1]}); err != nil {
				t.Fatal(err)
			}
		}
		g.without(event.KindUnavailable, "shard-1")
		q := &transport.Query{Request: transport.Any{Value: &transport.FindPath{StartID: a[0], EndID: a[5], MaxDepth: 9}}, Partial: true, TimeoutMillis: 4000}
		begun := time.Now()
		ok, err := c.Query(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if p := ok.Reply.Value.(*transport.FindPathOk); !slices.Equal(p.Path, a) || !slices.Equal(missing(ok), []event.ShardID{"shard-1"}) {
			t.Errorf("%v without %v", p.Path, missing(ok))
		}
		if took := time.Since(begun); took < time.Second || took > 2500*time.Millisecond {
			t.Errorf("took %v: half of the time is for the first step", took)
		}
		if _, err := c.Do(t.Context(), q.Request.Value); wireError(err).Kind != event.KindUnavailable || !strings.Contains(err.Error(), "shard-1") {
			t.Error(err)
		}
	})
}

// TestFanOutIsBounded: not all of many shards are asked at once, but many are.
func TestFanOutIsBounded(t *testing.T) {
	inGrid(t, 1, 150, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		var now, most atomic.Int32
		g.locked(func() {
			g.fault = func(event.NodeID, *transport.Routed, int) error {
				n := now.Add(1)
				for seen := most.Load(); n > seen && !most.CompareAndSwap(seen, n); seen = most.Load() {
				}
				time.Sleep(100 * time.Millisecond)
				now.Add(-1)
				return nil
			}
		})
		begun := time.Now()
		if _, err := c.Stats(t.Context()); err != nil || most.Load() != maxFanOut || time.Since(begun) != 300*time.Millisecond {
			t.Errorf("%v after %v, %d at once", err, time.Since(begun), most.Load())
		}
	})
}

// TestALevelIsOneRoundTrip: a level of a path search goes to all its shards at once, cut to what a message may have.
func TestALevelIsOneRoundTrip(t *testing.T) {
	inGrid(t, 1, 2, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		ids := make([]string, 2*transport.MaxExpand+transport.MaxExpand/2)
		for i := range ids {
			ids[i] = fmt.Sprintf("c%d", i)
		}
		if _, _, err := c.reading().neighborhoods(t.Context(), ids, "out"); err != nil {
			t.Fatal(err)
		}
		asked, requests := 0, len(g.received())
		for _, r := range g.received() {
			n := len(r.Request.Value.(*transport.Expand).ConceptIDs)
			if asked += n; n > transport.MaxExpand {
				t.Errorf("%d ids in a request", n)
			}
		}
		if asked != len(ids) || requests != 4 {
			t.Errorf("%d ids in %d requests", asked, requests)
		}
	})
}

// TestAllIDsFitAFrame: the list is refused, by a limit that says what to do, before it is too large to be sent.
func TestAllIDsFitAFrame(t *testing.T) {
	part := &transport.GetAllConceptIdsOk{ConceptIDs: slices.Repeat([]string{strings.Repeat("x", transport.MaxID)}, 10_000)}
	var l idList
	for n := 1; ; n++ {
		err := l.add(part)
		if err == nil && n*10_000*transport.MaxID > transport.MaxStorageFrame {
			t.Fatalf("%d bytes are taken", n*10_000*transport.MaxID)
		}
		if err != nil {
			if e := wireError(err); e.Kind != event.KindTooLarge || !strings.Contains(e.Message, "Scan") || l.ids != nil || n*10_000*transport.MaxID < transport.MaxStorageFrame*9/10 {
				t.Errorf("after %d: %v", n, err)
			}
			return
		}
	}
}
