package engine

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
	"pgregory.net/rapid"
)

// checkQueries asks for something, in small pages, and compares with a search of the model.
func (w *world) checkQueries(t *rapid.T) {
	q := &transport.QueryByMetadata{
		Attributes: rapid.MapOfN(rapid.SampledFrom(modelAttributes), rapid.SampledFrom(modelAttributes), 0, 2).Draw(t, "query attributes"),
		Tags:       rapid.SliceOfN(rapid.SampledFrom(modelTags), 0, 2).Draw(t, "query tags"),
		Order:      rapid.SampledFrom([]string{"", "asc", "desc"}).Draw(t, "order"),
		Limit:      uint32(rapid.IntRange(1, 3).Draw(t, "limit")),
	}
	for _, bound := range []**float64{&q.From, &q.To} {
		if rapid.IntRange(0, 3).Draw(t, "bounded") == 0 {
			at := transport.Seconds(testTime + int64(rapid.IntRange(0, 60).Draw(t, "bound"))*1_000_000)
			*bound = &at
		}
	}
	var want []string
	for name, c := range w.m.concepts {
		if c.matches(q) {
			want = append(want, name)
		}
	}
	slices.SortFunc(want, func(a, b string) int {
		c := cmp.Or(cmp.Compare(w.m.concepts[a].created, w.m.concepts[b].created), strings.Compare(a, b))
		if q.Order == "desc" {
			c = -c
		}
		return c
	})
	if got := queryAll(t, w.e, q); !slices.Equal(got, want) {
		t.Fatalf("%+v finds %q, the model %q", q, got, want)
	}
	s := &transport.Scan{Prefix: rapid.SampledFrom([]string{"", "", "b", "ba", "x"}).Draw(t, "prefix"), Limit: q.Limit}
	want = slices.DeleteFunc(slices.Sorted(maps.Keys(w.m.concepts)), func(id string) bool { return !strings.HasPrefix(id, s.Prefix) })
	if got := scanAll(t, w.e, s); !slices.Equal(got, want) {
		t.Fatalf("%+v finds %q, the model %q", s, got, want)
	}
}

func (c *modelConcept) matches(q *transport.QueryByMetadata) bool {
	attributes, tags := metadataOf(c.op)
	for k, v := range q.Attributes {
		if got, there := attributes[k]; !there || got != v {
			return false
		}
	}
	for _, tag := range q.Tags {
		if !slices.Contains(tags, tag) {
			return false
		}
	}
	return (q.From == nil || float64(c.created)/1e6 >= *q.From) && (q.To == nil || float64(c.created)/1e6 < *q.To)
}

// queryAll reads all pages.
func queryAll(t failer, e *Engine, q *transport.QueryByMetadata) (ids []string) {
	t.Helper()
	next := *q
	for range 1000 {
		page, err := e.QueryByMetadata(&next)
		if err != nil {
			t.Fatalf("query: %v", err)
		}
		if q.Limit > 0 && len(page.Items) > int(q.Limit) {
			t.Fatalf("%d items in a page of %d", len(page.Items), q.Limit)
		}
		for _, item := range page.Items {
			ids = append(ids, item.ConceptID)
		}
		if next.Cursor = page.Cursor; next.Cursor == "" {
			return ids
		}
	}
	t.Fatalf("the pages do not end")
	return nil
}

func scanAll(t failer, e *Engine, q *transport.Scan) (ids []string) {
	t.Helper()
	next := *q
	for range 1000 {
		page, err := e.Scan(&next)
		if err != nil {
			t.Fatalf("scan: %v", err)
		}
		for _, item := range page.Items {
			ids = append(ids, item.ConceptID)
		}
		if next.Cursor = page.Cursor; next.Cursor == "" {
			return ids
		}
	}
	t.Fatalf("the pages do not end")
	return nil
}

func tagged(name string, attributes map[string]string, tags ...string) transport.Op {
	op := concept(name)
	op.Metadata = &transport.Metadata{Attributes: attributes, Tags: tags}
	return op
}

func TestQueryAnswersTheWholeConcept(t *testing.T) {
	e := newEngine(t)
	write(t, e, tagged("a", map[string]string{"k": "v"}, "t"), concept("b"))
	write(t, e, tagged("a", map[string]string{"k": "v"}, "t", "u"))
	page, err := e.QueryByMetadata(&transport.QueryByMetadata{Attributes: map[string]string{"k": "v"}, Tags: []string{"u", "t"}})
	must(t, err)
	at := float64(testTime) / 1e6
	if len(page.Items) != 1 || page.Cursor != "" {
		t.Fatalf("page %+v", page)
	}
	got := page.Items[0]
	if got.ConceptID != "a" || got.Content != "about a" || got.Strength != 1 || got.Confidence != 1 || got.Version != 2 ||
		got.Created != at+1 || got.Modified != at+2 || got.Metadata.Attributes["k"] != "v" || !slices.Equal(got.Metadata.Tags, []string{"t", "u"}) {
		t.Errorf("item %+v", got)
	}
	if page, err := e.QueryByMetadata(&transport.QueryByMetadata{Tags: []string{"nobody's"}}); err != nil || len(page.Items) != 0 || page.Items == nil {
		t.Errorf("nothing is %+v, %v", page, err)
	}
}

// TestSelectiveIndexBoundsTheSearch: one concept in thousands has both; the search looks at few rows of the large indexes, or
// the page would end early.
func TestSelectiveIndexBoundsTheSearch(t *testing.T) {
	e := newEngine(t)
	for from := 0; from < 3000; from += 500 {
		var ops []transport.Op
		for i := from; i < from+500; i++ {
			tags := []string{"even"}
			if i%2 == 1 {
				tags = []string{"odd"}
			}
			if i == 1234 {
				tags = append(tags, "odd", "rare")
			}
			ops = append(ops, tagged(fmt.Sprintf("c%04d", i), map[string]string{"all": "1"}, tags...))
		}
		write(t, e, ops...)
	}
	q := &transport.QueryByMetadata{Attributes: map[string]string{"all": "1"}, Tags: []string{"even", "odd"}}
	if got := queryAll(t, e, q); !slices.Equal(got, []string{"c1234"}) {
		t.Errorf("found %q", got)
	}
	if got := queryAll(t, e, &transport.QueryByMetadata{Tags: []string{"even"}, Order: "desc"}); len(got) != 1500 || got[0] != "c2998" || got[1499] != "c0000" {
		t.Errorf("%d found", len(got))
	}
}

func TestPagesEndWithTheirBytes(t *testing.T) {
	e := newEngine(t)
	for i := range 5 {
		op := concept(fmt.Sprint("c", i))
		op.Content = strings.Repeat("x", transport.PageBytes/2)
		write(t, e, op)
	}
	page, err := e.QueryByMetadata(&transport.QueryByMetadata{})
	if err != nil || len(page.Items) != 2 || page.Cursor == "" {
		t.Errorf("%d items, cursor %q, %v; want 2", len(page.Items), page.Cursor, err)
	}
	if got := scanAll(t, e, &transport.Scan{}); len(got) != 5 {
		t.Errorf("found %q", got)
	}
}

func TestQueryCursorsBelongToTheirQuestion(t *testing.T) {
	e := newEngine(t)
	write(t, e, tagged("a", nil, "t"), tagged("b", nil, "t"))
	page, err := e.QueryByMetadata(&transport.QueryByMetadata{Tags: []string{"t"}, Limit: 1})
	must(t, err)
	at := 1.0
	for name, q := range map[string]*transport.QueryByMetadata{
		"another tag": {Tags: []string{"u"}}, "an attribute": {Tags: []string{"t"}, Attributes: map[string]string{"t": ""}},
		"order": {Tags: []string{"t"}, Order: "desc"}, "from": {Tags: []string{"t"}, From: &at}, "to": {Tags: []string{"t"}, To: &at},
	} {
		q.Cursor = page.Cursor
		if _, err := e.QueryByMetadata(q); err == nil {
			t.Errorf("%s: taken", name)
		} else {
			wantKind(t, err, event.KindInvalid)
		}
	}
	_, err = e.Scan(&transport.Scan{Cursor: page.Cursor})
	wantKind(t, err, event.KindInvalid)
	more, err := e.QueryByMetadata(&transport.QueryByMetadata{Tags: []string{"t"}, Order: "asc", Limit: 7, Cursor: page.Cursor})
	if err != nil || len(more.Items) != 1 || more.Items[0].ConceptID != "b" {
		t.Errorf("another limit: %+v, %v", more, err)
	}
}
