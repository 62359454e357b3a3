package client

import (
	"context"
	"fmt"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// one sends a request about one concept to its shard.
func (c *Client) one(ctx context.Context, conceptID string, req any) (any, error) {
	m, err := c.shardMap(ctx)
	if err != nil {
		return nil, err
	}
	shard, err := m.Shard(conceptID)
	if err != nil {
		return nil, err
	}
	return c.onShard(ctx, shard.ID, req)
}

// onShard sends a request to a shard and unwraps its reply; a write gets its request id here.
func (c *Client) onShard(ctx context.Context, shard event.ShardID, req any) (any, error) {
	r := ShardRequest{Request: req}
	if !transport.ReadOnly(req) {
		r.RequestID, r.Issued = c.newRequest()
	}
	ok, err := c.Shard(ctx, shard, r)
	if err != nil {
		return nil, err
	}
	return ok.Reply.Value, nil
}

// ask is onShard with the reply's type checked.
func ask[T any](ctx context.Context, c *Client, shard event.ShardID, req any) (*T, error) {
	reply, err := c.onShard(ctx, shard, req)
	if err != nil {
		return nil, err
	}
	return typed[T](req, reply)
}

func typed[T any](req, reply any) (*T, error) {
	t, ok := reply.(*T)
	if !ok {
		return nil, &event.Error{Kind: event.KindInternal, Message: fmt.Sprintf("%s was answered with %s", transport.VariantName(req), transport.VariantName(reply))}
	}
	return t, nil
}

// learnAssociation stores an association: in one shard if both ends live there, else as a transaction over two.
func (c *Client) learnAssociation(ctx context.Context, r *transport.LearnAssociation) (any, error) {
	m, err := c.shardMap(ctx)
	if err != nil {
		return nil, err
	}
	source, err := m.Shard(r.SourceID)
	if err != nil {
		return nil, err
	}
	target, err := m.Shard(r.TargetID)
	if err != nil {
		return nil, err
	}
	if source.ID == target.ID {
		return c.onShard(ctx, source.ID, r)
	}
	ok, err := c.runTxn(ctx, &transport.Txn{Ops: []transport.Op{associationOp(r)}})
	if err != nil {
		return nil, err
	}
	return &transport.LearnAssociationOk{Sequence: ok.Seq}, nil
}

func associationOp(r *transport.LearnAssociation) transport.Op {
	return transport.Op{Kind: transport.OpLearnAssociation, ID: r.SourceID, Target: r.TargetID, AssocType: r.AssocType, Confidence: r.Confidence}
}

func conceptOp(r *transport.LearnConcept) transport.Op {
	return transport.Op{Kind: transport.OpLearnConcept, ID: r.ConceptID, Content: r.Content, Embedding: r.Embedding,
		Strength: r.Strength, Confidence: r.Confidence, Metadata: r.Metadata}
}

// runTxn completes a transaction's identity and deadline and runs it.
func (c *Client) runTxn(ctx context.Context, t *transport.Txn) (*transport.TxnOk, error) {
	full := *t
	if full.RequestID.IsZero() {
		full.RequestID, full.Issued = c.newRequest()
	}
	if full.Issued == 0 {
		full.Issued = c.now().UnixMicro()
	}
	if deadline, ok := ctx.Deadline(); ok && full.TimeoutMillis == 0 {
		full.TimeoutMillis = uint32(max(time.Until(deadline).Milliseconds(), 1))
	}
	return c.txn(ctx, &full)
}

func (c *Client) sendTxn(ctx context.Context, t *transport.Txn) (*transport.TxnOk, error) {
	reply, err := c.masters.Call(ctx, t)
	if err != nil {
		return nil, err
	}
	return typed[transport.TxnOk](t, reply)
}

// LearnConcept creates a concept, or replaces its fields.
func (c *Client) LearnConcept(ctx context.Context, r *transport.LearnConcept) error {
	_, err := c.Do(ctx, r)
	return err
}

// LearnAssociation creates an association, or updates its confidence; both ends must exist (KindPrecondition).
func (c *Client) LearnAssociation(ctx context.Context, r *transport.LearnAssociation) error {
	_, err := c.Do(ctx, r)
	return err
}

// Concept reads a concept; an absent one is Found: false.
func (c *Client) Concept(ctx context.Context, id string) (*transport.QueryConceptOk, error) {
	return do[transport.QueryConceptOk](ctx, c, &transport.QueryConcept{ConceptID: id})
}

// Association reads the association of the lowest type between two concepts; an absent one is Found: false.
func (c *Client) Association(ctx context.Context, source, target string) (*transport.GetAssociationOk, error) {
	return do[transport.GetAssociationOk](ctx, c, &transport.GetAssociation{SourceID: source, TargetID: target})
}

// Targets reads the distinct targets of a concept's associations, in commit order of the first.
func (c *Client) Targets(ctx context.Context, id string) ([]string, error) {
	r, err := do[transport.GetNeighborsOk](ctx, c, &transport.GetNeighbors{ConceptID: id})
	if err != nil {
		return nil, err
	}
	return r.NeighborIDs, nil
}

// Neighbors reads one page of a concept's associations, in commit order.
func (c *Client) Neighbors(ctx context.Context, r *transport.Neighbors) (*transport.NeighborsOk, error) {
	return do[transport.NeighborsOk](ctx, c, r)
}

// Path finds a shortest path of at most maxDepth associations (at most 20), both ends included; found is false if there is none.
func (c *Client) Path(ctx context.Context, from, to string, maxDepth uint32) (path []string, found bool, err error) {
	r, err := do[transport.FindPathOk](ctx, c, &transport.FindPath{StartID: from, EndID: to, MaxDepth: maxDepth})
	if err != nil {
		return nil, false, err
	}
	return r.Path, r.Found, nil
}

// Stats adds up the counters of all shards.
func (c *Client) Stats(ctx context.Context) (*transport.StatsOk, error) {
	return do[transport.StatsOk](ctx, c, &transport.GetStats{})
}

// IDs lists the ids of all concepts, in byte order.
func (c *Client) IDs(ctx context.Context) ([]string, error) {
	r, err := do[transport.GetAllConceptIdsOk](ctx, c, &transport.GetAllConceptIds{})
	if err != nil {
		return nil, err
	}
	return r.ConceptIDs, nil
}

// Batch runs up to 1,000 requests as if one after the other, not atomically. The replies are in the order of the requests;
// in place of the reply to one that failed is its *event.Error.
func (c *Client) Batch(ctx context.Context, requests ...any) ([]any, error) {
	b := &transport.Batch{Requests: make([]transport.Any, len(requests))}
	for i, r := range requests {
		b.Requests[i].Value = r
	}
	ok, err := do[transport.BatchOk](ctx, c, b)
	if err != nil {
		return nil, err
	}
	replies := make([]any, len(ok.Replies))
	for i, r := range ok.Replies {
		replies[i] = r.Value
	}
	return replies, nil
}

// Txn runs operations as one transaction, all or none, strictly serialisable: at most 1,000, of 16 MiB. They are executed in their order,
// and each sees what those before it did. Reads, adds and deletes have their result in the place of the operation. KindAborted,
// KindPrecondition and the other "fail" kinds: it surely did not happen; OpNumber of the error names the operation at fault, if one
// is. KindUnknownOutcome: Do with the same *transport.Txn, whose RequestID the caller has set, gives the true outcome.
func (c *Client) Txn(ctx context.Context, ops []transport.Op) (*transport.TxnOk, error) {
	return do[transport.TxnOk](ctx, c, &transport.Txn{Ops: ops})
}

func do[T any](ctx context.Context, c *Client, req any) (*T, error) {
	reply, err := c.Do(ctx, req)
	if err != nil {
		return nil, err
	}
	return typed[T](req, reply)
}
