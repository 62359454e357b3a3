package client

import (
	"context"
	"errors"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// DeleteConcept removes a concept and its associations, at every shard in which they have an end; deleted is false when there
// was none. KindTooLarge: it has more than 1,000 associations; nothing was removed.
func (c *Client) DeleteConcept(ctx context.Context, id string) (deleted bool, err error) {
	r, err := do[transport.DeleteConceptOk](ctx, c, &transport.DeleteConcept{ConceptID: id})
	if err != nil {
		return false, err
	}
	return r.Deleted, nil
}

// DeleteAssociation removes the association of a type, nil: of all types, at both of its ends; deleted is false when there was
// none.
func (c *Client) DeleteAssociation(ctx context.Context, source, target string, assocType *uint32) (deleted bool, err error) {
	r, err := do[transport.DeleteAssociationOk](ctx, c, &transport.DeleteAssociation{SourceID: source, TargetID: target, AssocType: assocType})
	if err != nil {
		return false, err
	}
	return r.Deleted, nil
}

// deleteConcept asks the concept's shard. One that finds associations with concepts elsewhere refuses; then the same request, under
// its id, is a transaction.
func (c *Client) deleteConcept(ctx context.Context, r *transport.DeleteConcept) (any, error) {
	m, err := c.shardMap(ctx)
	if err != nil {
		return nil, err
	}
	shard, err := m.Shard(r.ConceptID)
	if err != nil {
		return nil, err
	}
	id, issued := c.newRequest()
	ok, err := c.Shard(ctx, shard.ID, ShardRequest{RequestID: id, Issued: issued, Request: r})
	if err == nil {
		return ok.Reply.Value, nil
	}
	if !errors.Is(err, &event.Error{Kind: event.KindNeedsTxn}) {
		return nil, err
	}
	deleted, seq, err := c.deleteByTxn(ctx, &transport.Txn{RequestID: id, Issued: issued, Ops: []transport.Op{{Kind: transport.OpDeleteConcept, ID: r.ConceptID}}})
	if err != nil {
		return nil, err
	}
	return &transport.DeleteConceptOk{Deleted: deleted, Sequence: seq}, nil
}

// deleteAssociation sends the request to the shard in which both ends live, or runs it as a transaction over two.
func (c *Client) deleteAssociation(ctx context.Context, r *transport.DeleteAssociation) (any, error) {
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
	op := transport.Op{Kind: transport.OpDeleteAssociation, ID: r.SourceID, Target: r.TargetID}
	if r.AssocType != nil {
		op.Kind, op.AssocType = transport.OpDeleteAssociationType, *r.AssocType
	}
	deleted, seq, err := c.deleteByTxn(ctx, &transport.Txn{Ops: []transport.Op{op}})
	if err != nil {
		return nil, err
	}
	return &transport.DeleteAssociationOk{Deleted: deleted, Sequence: seq}, nil
}

// deleteByTxn runs a transaction of one delete; its result says whether there was something.
func (c *Client) deleteByTxn(ctx context.Context, t *transport.Txn) (deleted bool, seq uint64, err error) {
	ok, err := c.runTxn(ctx, t)
	switch {
	case err != nil:
		return false, 0, err
	case len(ok.Results) == 0:
		return false, 0, &event.Error{Kind: event.KindUnknownOutcome, Op: string(t.Ops[0].Kind), Txn: ok.TxnID,
			Message: "it is deleted; whether there was something to delete is no longer known"}
	}
	return ok.Results[0].Found, ok.Seq, nil
}
