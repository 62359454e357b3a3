package workload

import (
	"context"
	"fmt"
	"time"

	"github.com/sutra-grid/sutra-grid/internal/history"
	"github.com/sutra-grid/sutra-grid/transport"
)

// pageSize is how many ids are asked for at once.
const pageSize = 500

// query asks an index once, page after page, and records it.
func (u *user) query(ctx context.Context, q history.QueryOp) history.Outcome {
	call := u.begin(func(r *history.Recorder) uint64 { return r.InvokeQuery(u.number, q) })
	one, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	ids, err := u.ids(one, q)
	outcome := history.Of(err)
	u.end(call, outcome, func(r *history.Recorder) {
		switch outcome {
		case history.OK:
			r.QueryOK(call, ids)
		case history.Fail:
			r.Fail(call, 0, err.Error())
		default:
			r.Unknown(call, err.Error())
		}
	})
	return outcome
}

// mustQuery asks an index until it answers; an error is that ctx ended before.
func (u *user) mustQuery(ctx context.Context, q history.QueryOp) error {
	for u.query(ctx, q) != history.OK {
		if ctx.Err() != nil {
			return fmt.Errorf("the index %s of %s does not answer: %w", q.Index, q.Of, context.Cause(ctx))
		}
		wait(ctx, time.Duration(50+u.rng.IntN(100))*time.Millisecond)
	}
	return nil
}

func (u *user) ids(ctx context.Context, q history.QueryOp) ([]string, error) {
	switch q.Index {
	case history.IndexScan:
		return paged(ctx, u, func(cursor string) any { return &transport.Scan{Prefix: q.Of, Limit: pageSize, Cursor: cursor} })
	case history.IndexMetadata:
		return paged(ctx, u, func(cursor string) any {
			return &transport.QueryByMetadata{Attributes: map[string]string{history.AttributeGroup: q.Of}, Limit: pageSize, Cursor: cursor}
		})
	case history.IndexIncoming:
		return paged(ctx, u, func(cursor string) any {
			return &transport.Neighbors{ConceptID: q.Of, Direction: "in", Limit: pageSize, Cursor: cursor}
		})
	}
	if q.Index == history.IndexAgents {
		ok, err := transport.As[transport.ListAgentsOk](u.pool.Call(ctx, u.masters[0], &transport.ListAgents{}))
		if err != nil {
			return nil, err
		}
		var ids []string
		for _, a := range ok.Agents {
			ids = append(ids, string(a.AgentID))
		}
		return ids, nil
	}
	ok, err := transport.As[transport.ListNodesOk](u.pool.Call(ctx, u.masters[0], &transport.ListNodes{}))
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, n := range ok.Nodes {
		ids = append(ids, fmt.Sprintf("%s@%s", n.NodeID, n.AgentID))
	}
	return ids, nil
}

// paged reads all pages of a query, each id once.
func paged(ctx context.Context, u *user, page func(cursor string) any) (ids []string, err error) {
	seen := map[string]bool{}
	for cursor := ""; ; {
		reply, err := u.do(ctx, page(cursor))
		if err != nil {
			return nil, err
		}
		var found []string
		switch ok := reply.(type) {
		case *transport.ScanOk:
			cursor, found = ok.Cursor, conceptIDs(ok.Items)
		case *transport.QueryByMetadataOk:
			cursor, found = ok.Cursor, conceptIDs(ok.Items)
		case *transport.NeighborsOk:
			cursor = ok.Cursor
			for _, item := range ok.Items {
				found = append(found, item.ID)
			}
		}
		for _, id := range found {
			if !seen[id] {
				seen[id] = true
				ids = append(ids, id)
			}
		}
		if cursor == "" {
			return ids, nil
		}
	}
}

func conceptIDs(items []transport.ConceptItem) (ids []string) {
	for _, item := range items {
		ids = append(ids, item.ConceptID)
	}
	return ids
}

// do sends a request of the storage protocol through the library, or to the next master.
func (u *user) do(ctx context.Context, req any) (any, error) {
	if u.lib != nil {
		return u.lib.Do(ctx, req)
	}
	u.turn++
	return u.pool.Call(ctx, u.masters[u.turn%len(u.masters)], req)
}
