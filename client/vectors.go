package client

import (
	"context"
	"slices"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// VectorSearch finds the concepts whose vectors are nearest to a query by cosine, the nearest first, equally near ones by id. Each
// shard answers its own nearest, so what is merged is as exact as they are; with Exact it is what one store would answer.
func (c *Client) VectorSearch(ctx context.Context, q *transport.VectorSearch) ([]transport.VectorResult, error) {
	ok, err := do[transport.VectorSearchOk](ctx, c, q)
	if err != nil {
		return nil, err
	}
	return ok.Results, nil
}

// vectorSearch asks every shard for its nearest and keeps the nearest of all.
func (r *reading) vectorSearch(ctx context.Context, q *transport.VectorSearch) (any, error) {
	all := &transport.VectorSearchOk{Results: []transport.VectorResult{}}
	err := everywhere(ctx, r, q, func(p *transport.VectorSearchOk) error {
		all.Results = append(all.Results, p.Results...)
		slices.SortFunc(all.Results, transport.VectorResult.Compare)
		all.Results = all.Results[:min(len(all.Results), int(q.K))]
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// Embed makes the vectors of at most 1,000 texts, as the grid makes those of what is learnt by content; a text in which there is nothing
// to embed has an empty one. Vectors of different grids, or of a grid whose embedding service was changed, do not compare.
func (c *Client) Embed(ctx context.Context, texts ...string) ([][]float32, error) {
	ok, err := do[transport.EmbedOk](ctx, c, &transport.Embed{Texts: texts})
	if err != nil {
		return nil, err
	}
	return ok.Embeddings, nil
}

func (c *Client) embedTexts(ctx context.Context, r *transport.Embed) (any, error) {
	if len(r.Texts) == 0 {
		return &transport.EmbedOk{Embeddings: [][]float32{}}, nil
	}
	vectors, err := c.embed(ctx, r.Texts)
	if err != nil {
		return nil, err
	}
	if len(vectors) != len(r.Texts) {
		return nil, &event.Error{Kind: event.KindInternal, Op: "embed", Message: "a node answered another number of vectors than there are texts"}
	}
	return &transport.EmbedOk{Embeddings: vectors}, nil
}
