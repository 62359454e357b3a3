package client

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/graphwalk"
	"github.com/sutra-grid/sutra-grid/transport"
)

func (r *reading) stats(ctx context.Context) (any, error) {
	sum := &transport.StatsOk{}
	err := everywhere(ctx, r, &transport.GetStats{}, func(p *transport.StatsOk) error {
		sum.Concepts += p.Concepts
		sum.Edges += p.Edges
		sum.Vectors += p.Vectors
		sum.Written += p.Written
		sum.Dropped += p.Dropped
		sum.Pending += p.Pending
		sum.Reconciliations += p.Reconciliations
		sum.UptimeSeconds = max(sum.UptimeSeconds, p.UptimeSeconds)
		return nil
	})
	if err != nil {
		return nil, err
	}
	sum.TotalConcepts, sum.TotalEdges, sum.Writes, sum.Drops = sum.Concepts, sum.Edges, sum.Written, sum.Dropped
	return sum, nil
}

// idBytes is what a list of ids may take in a frame; what is left is room for the rest of it.
const idBytes = transport.MaxStorageFrame - 1<<10

// idList is the ids of all shards as far as they have come: those of one frame, or none.
type idList struct {
	ids  []string
	size int // bytes in a frame, at most
}

func (l *idList) add(p *transport.GetAllConceptIdsOk) error {
	for _, id := range p.ConceptIDs {
		l.size += len(id) + 3 // its length with it
	}
	if l.size > idBytes {
		l.ids = nil
		return &event.Error{Kind: event.KindTooLarge, Op: "GetAllConceptIds",
			Message: fmt.Sprintf("the ids of all concepts take more than the %d MiB of an answer: read them in pages, with Scan", transport.MaxStorageFrame>>20)}
	}
	l.ids = append(l.ids, p.ConceptIDs...)
	return nil
}

// allIDs merges the shards' ids into one byte order.
func (r *reading) allIDs(ctx context.Context) (any, error) {
	all := idList{ids: []string{}}
	if err := everywhere(ctx, r, &transport.GetAllConceptIds{}, all.add); err != nil {
		return nil, err
	}
	slices.Sort(all.ids)
	return &transport.GetAllConceptIdsOk{ConceptIDs: all.ids}, nil
}

func (c *Client) flush(ctx context.Context) (any, error) {
	err := everywhere(ctx, c.reading(), &transport.Flush{}, func(*transport.FlushOk) error { return nil })
	if err != nil {
		return nil, err
	}
	return &transport.FlushOk{}, nil
}

// health is healthy when every shard is; otherwise it names what is not.
func (r *reading) health(ctx context.Context) (any, error) {
	all := &transport.HealthCheckOk{Healthy: true, Status: "ok"}
	err := everywhere(ctx, r, &transport.HealthCheck{}, func(p *transport.HealthCheckOk) error {
		if !p.Healthy {
			all.Healthy, all.Status = false, p.Status
		}
		all.UptimeSeconds = max(all.UptimeSeconds, p.UptimeSeconds)
		return nil
	})
	if err != nil {
		return &transport.HealthCheckOk{Status: err.Error()}, nil
	}
	return all, nil
}

// neighborhood is what a shard says of one id in an Expand.
type neighborhood struct {
	neighbors []string
	known     bool
}

// neighborhoods asks each shard for its part of a frontier, of any length.
func (r *reading) neighborhoods(ctx context.Context, ids []string, direction string) (neighbors [][]string, known []bool, err error) {
	all, err := byOwner(ctx, r, ids, func(ctx context.Context, shard event.ShardID, ids []string) ([]neighborhood, error) {
		ok, err := part[transport.ExpandOk](ctx, r, shard, &transport.Expand{ConceptIDs: ids, Direction: direction})
		if err != nil || len(ok.Neighbors) != len(ok.Known) {
			return nil, err // too few, which the caller notices
		}
		of := make([]neighborhood, len(ok.Known))
		for i := range of {
			of[i] = neighborhood{ok.Neighbors[i], ok.Known[i]}
		}
		return of, nil
	})
	if err != nil {
		return nil, nil, err
	}
	neighbors, known = make([][]string, len(ids)), make([]bool, len(ids))
	for i, n := range all {
		neighbors[i], known[i] = n.neighbors, n.known
	}
	return neighbors, known, nil
}

func (r *reading) expand(ctx context.Context, q *transport.Expand) (any, error) {
	neighbors, known, err := r.neighborhoods(ctx, q.ConceptIDs, q.Direction)
	if err != nil {
		return nil, err
	}
	return &transport.ExpandOk{Neighbors: neighbors, Known: known}, nil
}

func (r *reading) findPath(ctx context.Context, q *transport.FindPath) (any, error) {
	path, found, err := graphwalk.ShortestPath(ctx, q.StartID, q.EndID, int(q.MaxDepth), r.neighborhoods)
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
