package client

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/graphwalk"
	"github.com/sutra-grid/sutra-grid/transport"
)

// everywhere asks every shard at once and gives the replies in shard order. One shard that fails fails the whole, by name:
// never a silently smaller answer.
func everywhere[T any](ctx context.Context, c *Client, req any) ([]*T, error) {
	m, err := c.shardMap(ctx)
	if err != nil {
		return nil, err
	}
	replies := make([]*T, len(m.Shards))
	g, ctx := errgroup.WithContext(ctx)
	for i := range m.Shards {
		g.Go(func() (err error) {
			replies[i], err = ask[T](ctx, c, m.Shards[i].ID, req)
			return named(m.Shards[i].ID, err)
		})
	}
	return replies, g.Wait()
}

func (c *Client) stats(ctx context.Context) (any, error) {
	parts, err := everywhere[transport.StatsOk](ctx, c, &transport.GetStats{})
	if err != nil {
		return nil, err
	}
	sum := &transport.StatsOk{}
	for _, p := range parts {
		sum.Concepts += p.Concepts
		sum.Edges += p.Edges
		sum.Vectors += p.Vectors
		sum.Written += p.Written
		sum.Dropped += p.Dropped
		sum.Pending += p.Pending
		sum.Reconciliations += p.Reconciliations
		sum.UptimeSeconds = max(sum.UptimeSeconds, p.UptimeSeconds)
	}
	sum.TotalConcepts, sum.TotalEdges, sum.Writes, sum.Drops = sum.Concepts, sum.Edges, sum.Written, sum.Dropped
	return sum, nil
}

// allIDs merges the shards' ids, each in byte order, into one byte order.
func (c *Client) allIDs(ctx context.Context) (any, error) {
	parts, err := everywhere[transport.GetAllConceptIdsOk](ctx, c, &transport.GetAllConceptIds{})
	if err != nil {
		return nil, err
	}
	all := &transport.GetAllConceptIdsOk{ConceptIDs: []string{}}
	for _, p := range parts {
		all.ConceptIDs = append(all.ConceptIDs, p.ConceptIDs...)
	}
	slices.Sort(all.ConceptIDs)
	return all, nil
}

func (c *Client) flush(ctx context.Context) (any, error) {
	if _, err := everywhere[transport.FlushOk](ctx, c, &transport.Flush{}); err != nil {
		return nil, err
	}
	return &transport.FlushOk{}, nil
}

// health is healthy when every shard is; otherwise it names one that is not.
func (c *Client) health(ctx context.Context) (any, error) {
	parts, err := everywhere[transport.HealthCheckOk](ctx, c, &transport.HealthCheck{})
	if err != nil {
		return &transport.HealthCheckOk{Status: err.Error()}, nil
	}
	all := &transport.HealthCheckOk{Healthy: true, Status: "ok"}
	for _, p := range parts {
		if !p.Healthy {
			all.Healthy, all.Status = false, p.Status
		}
		all.UptimeSeconds = max(all.UptimeSeconds, p.UptimeSeconds)
	}
	return all, nil
}

func (c *Client) findPath(ctx context.Context, r *transport.FindPath) (any, error) {
	path, found, err := graphwalk.ShortestPath(ctx, r.StartID, r.EndID, int(r.MaxDepth),
		func(ctx context.Context, ids []string, direction string) ([][]string, []bool, error) {
			ok, err := c.expand(ctx, &transport.Expand{ConceptIDs: ids, Direction: direction})
			if err != nil {
				return nil, nil, err
			}
			return ok.Neighbors, ok.Known, nil
		})
	if err != nil {
		return nil, pathError(err)
	}
	if path == nil {
		path = []string{}
	}
	return &transport.FindPathOk{Found: found, Path: path}, nil
}

// pathError gives the search's own limit a kind.
func pathError(err error) error {
	e := wireError(err)
	if errors.Is(err, graphwalk.ErrTooLarge) {
		e.Kind, e.Op = event.KindTooLarge, "find path"
	}
	return e
}

// named says at which shard a part of a fan-out failed.
func named(shard event.ShardID, err error) error {
	if err == nil {
		return nil
	}
	e := *wireError(err)
	e.Op, e.Message = "ask "+string(shard), e.Error()
	return &e
}

// expand asks each shard for its part of a frontier and puts the answers in the order of the ids.
func (c *Client) expand(ctx context.Context, r *transport.Expand) (*transport.ExpandOk, error) {
	m, err := c.shardMap(ctx)
	if err != nil {
		return nil, err
	}
	places := map[event.ShardID][]int{}
	for i, id := range r.ConceptIDs {
		s, err := m.Shard(id)
		if err != nil {
			return nil, err
		}
		places[s.ID] = append(places[s.ID], i)
	}
	all := &transport.ExpandOk{Neighbors: make([][]string, len(r.ConceptIDs)), Known: make([]bool, len(r.ConceptIDs))}
	g, ctx := errgroup.WithContext(ctx)
	for shard, at := range places {
		g.Go(func() error { return c.expandShard(ctx, shard, at, r, all) })
	}
	return all, g.Wait()
}

// expandShard fills the places of one shard; shards write to different places.
func (c *Client) expandShard(ctx context.Context, shard event.ShardID, at []int, r *transport.Expand, all *transport.ExpandOk) error {
	part := &transport.Expand{Direction: r.Direction}
	for _, i := range at {
		part.ConceptIDs = append(part.ConceptIDs, r.ConceptIDs[i])
	}
	ok, err := ask[transport.ExpandOk](ctx, c, shard, part)
	if err != nil {
		return named(shard, err)
	}
	if len(ok.Neighbors) != len(at) || len(ok.Known) != len(at) {
		return &event.Error{Kind: event.KindInternal, Op: "expand", Message: fmt.Sprintf("%s answered %d of %d ids", shard, len(ok.Neighbors), len(at))}
	}
	for n, i := range at {
		all.Neighbors[i], all.Known[i] = ok.Neighbors[n], ok.Known[n]
	}
	return nil
}
