package client

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// onePage is a shard's page, or the merged one.
type onePage struct {
	items  []transport.ConceptItem
	cursor string
}

// pageOf is a shard's page of what it has, in the query's order; looks bounds how many items it looks at.
func pageOf(items []transport.ConceptItem, q *transport.QueryByMetadata, looks int) onePage {
	compare := func(a, b transport.ConceptItem) int {
		c := cmp.Or(cmp.Compare(a.Created, b.Created), strings.Compare(a.ConceptID, b.ConceptID))
		if q.Order == "desc" {
			c = -c
		}
		return c
	}
	items = slices.Clone(items)
	slices.SortFunc(items, compare)
	after, err := transport.DecodeCursor(q)
	if err != nil {
		panic(err)
	}
	p := onePage{}
	looked := 0
	for i, item := range items {
		if after != nil && compare(item, transport.ConceptItem{Created: transport.Seconds(after.Created), ConceptID: after.ID}) <= 0 {
			continue
		}
		if looked++; item.Strength == 0 { // it does not match
			p.items = append(p.items, item)
		}
		if i+1 < len(items) && (looked == looks || len(p.items) == int(q.Limit)) {
			p.cursor = transport.EncodeCursor(q, transport.Place{Created: transport.Micros(item.Created), ID: item.ConceptID})
			return p
		}
	}
	return p
}

// TestMergedPagesAreOneOrder: pages of several shards, some of which end early, merged and read to the end are what one store
// would give.
func TestMergedPagesAreOneOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shards := make([][]transport.ConceptItem, rapid.IntRange(1, 4).Draw(t, "shards"))
		var want []transport.ConceptItem
		for i := range rapid.IntRange(0, 30).Draw(t, "concepts") {
			item := transport.ConceptItem{ConceptID: fmt.Sprintf("c%02d", i), Created: transport.Seconds(int64(rapid.IntRange(-2, 5).Draw(t, "created"))),
				Strength: float32(rapid.IntRange(0, 1).Draw(t, "no match"))}
			s := rapid.IntRange(0, len(shards)-1).Draw(t, "shard")
			shards[s] = append(shards[s], item)
			if item.Strength == 0 {
				want = append(want, item)
			}
		}
		q := &transport.QueryByMetadata{Order: rapid.SampledFrom([]string{"asc", "desc"}).Draw(t, "order"), Limit: uint32(rapid.IntRange(1, 9).Draw(t, "limit"))}
		whole := *q
		whole.Limit = 1000
		want = pageOf(want, &whole, 0).items
		var got []transport.ConceptItem
		for pages := 0; ; pages++ {
			m := metadataMerge(q)
			for _, s := range rapid.Permutation(shards).Draw(t, "order of answers") {
				p := pageOf(s, q, 3)
				if err := m.add(p.items, p.cursor); err != nil || len(m.items) > int(q.Limit) || pages > 100 {
					t.Fatalf("page %d: %+v, %v", pages, m.items, err)
				}
			}
			got = append(got, m.items...)
			if q.Cursor = m.cursor(); q.Cursor == "" {
				break
			}
		}
		ids := func(items []transport.ConceptItem) (ids []string) {
			for _, item := range items {
				ids = append(ids, item.ConceptID)
			}
			return ids
		}
		if !slices.Equal(ids(got), ids(want)) {
			t.Fatalf("%q, want %q", ids(got), ids(want))
		}
	})
}

func TestQueriesOverAllShards(t *testing.T) {
	inGrid(t, 2, 4, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		var want []string
		for i := range 40 {
			id := fmt.Sprintf("c%02d", i)
			want = append(want, id)
			if err := c.LearnConcept(t.Context(), &transport.LearnConcept{ConceptID: id}); err != nil {
				t.Fatal(err)
			}
		}
		var found, scanned []string
		q, s := &transport.QueryByMetadata{Limit: 7, Order: "desc"}, &transport.Scan{Limit: 7}
		for {
			page, err := c.QueryByMetadata(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, item := range page.Items {
				found = append(found, item.ConceptID)
			}
			if q.Cursor = page.Cursor; q.Cursor == "" {
				break
			}
		}
		for {
			page, err := c.Scan(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			for _, item := range page.Items {
				scanned = append(scanned, item.ConceptID)
			}
			if s.Cursor = page.Cursor; s.Cursor == "" {
				break
			}
		}
		slices.Reverse(found) // all were created at once, so their ids say the order
		if !slices.Equal(found, want) || !slices.Equal(scanned, want) {
			t.Errorf("found %q, scanned %q", found, scanned)
		}
		if _, err := c.QueryByMetadata(t.Context(), &transport.QueryByMetadata{Cursor: s.Cursor + "AAAA"}); wireError(err).Kind != event.KindInvalid {
			t.Errorf("a foreign cursor: %v", err)
		}
	})
}
