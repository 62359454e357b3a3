package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/semanticwalk"
	"github.com/sutra-grid/sutra-grid/transport"
)

// walkSemantic answers the semantic requests that lead from concept to concept, over all shards.
func (c *Client) walkSemantic(ctx context.Context, req any) (any, error) {
	reply, err := semanticwalk.Answer(ctx, semanticwalk.Store{Slots: c.walks, Classify: c.classify, Links: c.links, Survey: c.survey}, req)
	if err != nil {
		return nil, deadlineError(err)
	}
	return reply, nil
}

// deadlineError gives a context's end a kind.
func deadlineError(err error) error {
	e := *wireError(err)
	if errors.Is(err, context.DeadlineExceeded) {
		e.Kind = event.KindDeadline
	}
	return &e
}

// queryBySemantic merges the shards' answers, each in byte order of ids and with as many as are asked for.
func (c *Client) queryBySemantic(ctx context.Context, q *transport.QueryBySemantic) (any, error) {
	if err := c.walks.Take(ctx); err != nil {
		return nil, err
	}
	defer c.walks.Give()
	parts, err := everywhere[transport.QueryBySemanticOk](ctx, c, q)
	if err != nil {
		return nil, err
	}
	all := &transport.QueryBySemanticOk{Concepts: []transport.SemanticConcept{}}
	for _, p := range parts {
		all.Concepts = append(all.Concepts, p.Concepts...)
	}
	slices.SortFunc(all.Concepts, func(a, b transport.SemanticConcept) int { return strings.Compare(a.ConceptID, b.ConceptID) })
	all.Concepts = all.Concepts[:min(len(all.Concepts), transport.LimitOf(q))]
	size := 0
	for i := range all.Concepts {
		if size += len(all.Concepts[i].Content); size > transport.SemanticBytes {
			return nil, transport.TooMuchContent()
		}
	}
	return all, nil
}

func (c *Client) classify(ctx context.Context, q *transport.Classify) ([]transport.Classified, error) {
	return byOwner(ctx, c, q.ConceptIDs, func(ctx context.Context, shard event.ShardID, ids []string) ([]transport.Classified, error) {
		ok, err := ask[transport.ClassifyOk](ctx, c, shard, &transport.Classify{ConceptIDs: ids, Filter: q.Filter})
		if err != nil {
			return nil, err
		}
		return ok.Concepts, nil
	})
}

func (c *Client) links(ctx context.Context, q *transport.Links) ([][]transport.Edge, error) {
	return byOwner(ctx, c, q.ConceptIDs, func(ctx context.Context, shard event.ShardID, ids []string) ([][]transport.Edge, error) {
		ok, err := ask[transport.LinksOk](ctx, c, shard, &transport.Links{ConceptIDs: ids, Direction: q.Direction, Type: q.Type})
		if err != nil {
			return nil, err
		}
		return ok.Links, nil
	})
}

// byOwner asks each shard about its own of the ids, all at once, and puts the answers in the order of the ids.
func byOwner[T any](ctx context.Context, c *Client, ids []string, ask func(ctx context.Context, shard event.ShardID, ids []string) ([]T, error)) ([]T, error) {
	m, err := c.shardMap(ctx)
	if err != nil {
		return nil, err
	}
	places := map[event.ShardID][]int{}
	for i, id := range ids {
		s, err := m.Shard(id)
		if err != nil {
			return nil, err
		}
		places[s.ID] = append(places[s.ID], i)
	}
	all := make([]T, len(ids))
	g, ctx := errgroup.WithContext(ctx)
	for shard, at := range places {
		g.Go(func() error {
			own := make([]string, len(at))
			for n, i := range at {
				own[n] = ids[i]
			}
			answers, err := ask(ctx, shard, own)
			if err != nil {
				return named(shard, err)
			}
			if len(answers) != len(at) {
				return &event.Error{Kind: event.KindInternal, Op: "look up", Message: fmt.Sprintf("%s answered %d of %d ids", shard, len(answers), len(at))}
			}
			for n, i := range at {
				all[i] = answers[n]
			}
			return nil
		})
	}
	return all, g.Wait()
}

// survey reads the pages of all shards at once and hands them on one at a time.
func (c *Client) survey(ctx context.Context, f *transport.SemanticFilter, each func([]transport.Classified) error) error {
	m, err := c.shardMap(ctx)
	if err != nil {
		return err
	}
	var one sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	for i := range m.Shards {
		shard := m.Shards[i].ID
		g.Go(func() error {
			for cursor := ""; ; {
				ok, err := ask[transport.SurveyOk](ctx, c, shard, &transport.Survey{Filter: f, Cursor: cursor})
				if err != nil {
					return named(shard, err)
				}
				one.Lock()
				err = each(ok.Concepts)
				one.Unlock()
				if cursor = ok.Cursor; err != nil || cursor == "" {
					return err
				}
			}
		})
	}
	return g.Wait()
}
