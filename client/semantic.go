package client

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/semanticwalk"
	"github.com/sutra-grid/sutra-grid/transport"
)

// walkSemantic answers the semantic requests that lead from concept to concept, over all shards.
func (r *reading) walkSemantic(ctx context.Context, req any) (any, error) {
	reply, err := semanticwalk.Answer(ctx, semanticwalk.Store{Slots: r.walks, Classify: r.classify, Links: r.links, Survey: r.survey}, req)
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
func (r *reading) queryBySemantic(ctx context.Context, q *transport.QueryBySemantic) (any, error) {
	if err := r.walks.Take(ctx); err != nil {
		return nil, err
	}
	defer r.walks.Give()
	all := &transport.QueryBySemanticOk{Concepts: []transport.SemanticConcept{}}
	err := everywhere(ctx, r, q, func(p *transport.QueryBySemanticOk) error {
		all.Concepts = append(all.Concepts, p.Concepts...)
		slices.SortFunc(all.Concepts, func(a, b transport.SemanticConcept) int { return strings.Compare(a.ConceptID, b.ConceptID) })
		kept := min(len(all.Concepts), transport.LimitOf(q))
		clear(all.Concepts[kept:]) // or their contents stay in memory
		all.Concepts = all.Concepts[:kept]
		return nil
	})
	if err != nil {
		return nil, err
	}
	size := 0
	for i := range all.Concepts {
		if size += len(all.Concepts[i].Content); size > transport.SemanticBytes {
			return nil, transport.TooMuchContent()
		}
	}
	return all, nil
}

func (r *reading) classify(ctx context.Context, q *transport.Classify) ([]transport.Classified, error) {
	return byOwner(ctx, r, q.ConceptIDs, func(ctx context.Context, shard event.ShardID, ids []string) ([]transport.Classified, error) {
		ok, err := part[transport.ClassifyOk](ctx, r, shard, &transport.Classify{ConceptIDs: ids, Filter: q.Filter})
		if err != nil {
			return nil, err
		}
		return ok.Concepts, nil
	})
}

func (r *reading) links(ctx context.Context, q *transport.Links) ([][]transport.Edge, error) {
	return byOwner(ctx, r, q.ConceptIDs, func(ctx context.Context, shard event.ShardID, ids []string) ([][]transport.Edge, error) {
		ok, err := part[transport.LinksOk](ctx, r, shard, &transport.Links{ConceptIDs: ids, Direction: q.Direction, Type: q.Type})
		if err != nil {
			return nil, err
		}
		return ok.Links, nil
	})
}

// survey reads the pages of all shards at once and hands them on one at a time.
func (r *reading) survey(ctx context.Context, f *transport.SemanticFilter, each func([]transport.Classified) error) error {
	m, err := r.shardMap(ctx)
	if err != nil {
		return err
	}
	shards := make([]event.ShardID, len(m.Shards))
	for i := range m.Shards {
		shards[i] = m.Shards[i].ID
	}
	var one sync.Mutex
	var enough error // each's own: no shard failed
	err = r.each(ctx, shards, stepShare, func(ctx context.Context, shard event.ShardID) error {
		for cursor := ""; ; {
			ok, err := part[transport.SurveyOk](ctx, r, shard, &transport.Survey{Filter: f, Cursor: cursor})
			if err != nil {
				return err
			}
			one.Lock()
			if enough == nil {
				enough = each(ok.Concepts)
			}
			done := enough != nil
			one.Unlock()
			if cursor = ok.Cursor; done || cursor == "" {
				return nil
			}
		}
	})
	if enough != nil {
		return enough
	}
	if err != nil {
		return err
	}
	return r.anything(shards)
}
