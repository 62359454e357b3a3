package client

import (
	"context"
	"sort"

	"github.com/sutra-grid/sutra-grid/transport"
)

// QueryByMetadata reads one page of the concepts with all of the attributes and tags, in the order of their creation.
func (c *Client) QueryByMetadata(ctx context.Context, r *transport.QueryByMetadata) (*transport.QueryByMetadataOk, error) {
	return do[transport.QueryByMetadataOk](ctx, c, r)
}

// Scan reads one page of the concepts whose ids begin with a prefix, in byte order.
func (c *Client) Scan(ctx context.Context, r *transport.Scan) (*transport.ScanOk, error) {
	return do[transport.ScanOk](ctx, c, r)
}

func (r *reading) queryByMetadata(ctx context.Context, q *transport.QueryByMetadata) (any, error) {
	m := metadataMerge(q)
	err := everywhere(ctx, r, q, func(p *transport.QueryByMetadataOk) error { return m.add(p.Items, p.Cursor) })
	if err != nil {
		return nil, err
	}
	return &transport.QueryByMetadataOk{Items: m.items, Cursor: m.cursor()}, nil
}

func (r *reading) scan(ctx context.Context, q *transport.Scan) (any, error) {
	m := scanMerge(q)
	err := everywhere(ctx, r, q, func(p *transport.ScanOk) error { return m.add(p.Items, p.Cursor) })
	if err != nil {
		return nil, err
	}
	return &transport.ScanOk{Items: m.items, Cursor: m.cursor()}, nil
}

// merge makes one page of the pages of all shards, in whatever order they come, and never holds more than a page of its own and
// the one that is being added. Concepts of all shards have one order, so the place where the merged page ends is where
// every shard goes on: a cursor holds one place, however many shards there are and become.
type merge struct {
	q       transport.Paged
	limit   uint32
	compare func(a, b transport.Place) int
	place   func(*transport.ConceptItem) transport.Place

	items []transport.ConceptItem
	end   *transport.Place // of the page; nil: every shard so far is at its end
}

func metadataMerge(q *transport.QueryByMetadata) *merge {
	compare := transport.Place.Compare
	if q.Descending() {
		compare = func(a, b transport.Place) int { return b.Compare(a) }
	}
	return &merge{q: q, limit: q.Limit, compare: compare, items: []transport.ConceptItem{}, place: func(c *transport.ConceptItem) transport.Place {
		return transport.Place{Created: transport.Micros(c.Created), ID: c.ConceptID}
	}}
}

func scanMerge(q *transport.Scan) *merge {
	return &merge{q: q, limit: q.Limit, compare: transport.Place.Compare, items: []transport.ConceptItem{}, place: func(c *transport.ConceptItem) transport.Place {
		return transport.Place{ID: c.ConceptID}
	}}
}

// add takes a shard's page. What lies behind the end of an unfinished one is left to the next page, since that shard may have
// something before it; so is what a whole page has no room for.
func (m *merge) add(items []transport.ConceptItem, cursor string) error {
	place, err := transport.PlaceOf(m.q, cursor)
	if err != nil {
		return err
	}
	if place != nil && (m.end == nil || m.compare(*place, *m.end) < 0) {
		m.end = place
	}
	m.items = m.together(m.until(m.items), m.until(items))
	if n := m.fitting(m.items); n < len(m.items) {
		clear(m.items[n:]) // or their contents stay in memory
		m.items = m.items[:n]
		last := m.place(&m.items[n-1])
		m.end = &last
	}
	return nil
}

// until cuts off what lies behind the end of an unfinished page.
func (m *merge) until(items []transport.ConceptItem) []transport.ConceptItem {
	if m.end == nil {
		return items
	}
	n := sort.Search(len(items), func(i int) bool { return m.compare(m.place(&items[i]), *m.end) > 0 })
	return items[:n]
}

// together merges two lists that are in order, as every shard's page is.
func (m *merge) together(a, b []transport.ConceptItem) []transport.ConceptItem {
	out := make([]transport.ConceptItem, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if m.compare(m.place(&a[0]), m.place(&b[0])) <= 0 {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// cursor is where the next page begins; "" is the end.
func (m *merge) cursor() string {
	if m.end == nil {
		return ""
	}
	return transport.EncodeCursor(m.q, *m.end)
}

// fitting is how many items the page has, by the limits of a shard's page.
func (m *merge) fitting(items []transport.ConceptItem) int {
	limit, size := int(m.limit), 0
	if limit == 0 {
		limit = transport.DefaultPage
	}
	for n := range items {
		if n == limit || size >= transport.PageBytes {
			return n
		}
		size += items[n].Size()
	}
	return len(items)
}
