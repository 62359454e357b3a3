package client

import (
	"context"
	"slices"

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

// part is one shard's page, or the merged one.
type part struct {
	items  []transport.ConceptItem
	cursor string
}

func (c *Client) queryByMetadata(ctx context.Context, q *transport.QueryByMetadata) (any, error) {
	replies, err := everywhere[transport.QueryByMetadataOk](ctx, c, q)
	if err != nil {
		return nil, err
	}
	parts := make([]part, len(replies))
	for i, r := range replies {
		parts[i] = part{r.Items, r.Cursor}
	}
	compare := transport.Place.Compare
	if q.Descending() {
		compare = func(a, b transport.Place) int { return b.Compare(a) }
	}
	m := merge{q: q, limit: q.Limit, compare: compare, place: func(c *transport.ConceptItem) transport.Place {
		return transport.Place{Created: transport.Micros(c.Created), ID: c.ConceptID}
	}}
	all, err := m.pages(parts)
	return &transport.QueryByMetadataOk{Items: all.items, Cursor: all.cursor}, err
}

func (c *Client) scan(ctx context.Context, q *transport.Scan) (any, error) {
	replies, err := everywhere[transport.ScanOk](ctx, c, q)
	if err != nil {
		return nil, err
	}
	parts := make([]part, len(replies))
	for i, r := range replies {
		parts[i] = part{r.Items, r.Cursor}
	}
	m := merge{q: q, limit: q.Limit, compare: transport.Place.Compare, place: func(c *transport.ConceptItem) transport.Place {
		return transport.Place{ID: c.ConceptID}
	}}
	all, err := m.pages(parts)
	return &transport.ScanOk{Items: all.items, Cursor: all.cursor}, err
}

// merge makes one page of the pages of all shards. Concepts of all shards have one order, so the place where the merged page
// ends is where every shard goes on: a cursor holds one place, however many shards there are and become.
type merge struct {
	q       transport.Paged
	limit   uint32
	compare func(a, b transport.Place) int
	place   func(*transport.ConceptItem) transport.Place
}

// pages merges. What lies behind the end of a shard's unfinished page is left to the next one, since that shard may have
// something before it.
func (m *merge) pages(parts []part) (all part, err error) {
	var end *transport.Place // nil: every shard is at its end
	all.items = []transport.ConceptItem{}
	for _, p := range parts {
		place, err := transport.PlaceOf(m.q, p.cursor)
		if err != nil {
			return all, err
		}
		if place != nil && (end == nil || m.compare(*place, *end) < 0) {
			end = place
		}
		all.items = append(all.items, p.items...)
	}
	if end != nil {
		all.items = slices.DeleteFunc(all.items, func(c transport.ConceptItem) bool { return m.compare(m.place(&c), *end) > 0 })
	}
	slices.SortFunc(all.items, func(a, b transport.ConceptItem) int { return m.compare(m.place(&a), m.place(&b)) })
	if n := m.fitting(all.items); n < len(all.items) {
		all.items = all.items[:n]
		last := m.place(&all.items[n-1])
		end = &last
	}
	if end != nil {
		all.cursor = transport.EncodeCursor(m.q, *end)
	}
	return all, nil
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
