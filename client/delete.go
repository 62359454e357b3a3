package client

import (
	"context"
	"fmt"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// DeleteConcept removes a concept and its associations; deleted is false when there was none. KindNeedsTxn: it has
// associations with concepts of other shards, and nothing was removed. KindTooLarge: it has more than 1,000 associations.
func (c *Client) DeleteConcept(ctx context.Context, id string) (deleted bool, err error) {
	r, err := do[transport.DeleteConceptOk](ctx, c, &transport.DeleteConcept{ConceptID: id})
	if err != nil {
		return false, err
	}
	return r.Deleted, nil
}

// DeleteAssociation removes the association of a type, nil: of all types; deleted is false when there was none.
// KindNeedsTxn: the ends live in two shards, and nothing was removed.
func (c *Client) DeleteAssociation(ctx context.Context, source, target string, assocType *uint32) (deleted bool, err error) {
	r, err := do[transport.DeleteAssociationOk](ctx, c, &transport.DeleteAssociation{SourceID: source, TargetID: target, AssocType: assocType})
	if err != nil {
		return false, err
	}
	return r.Deleted, nil
}

// deleteAssociation sends the request to the shard in which both ends live.
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
	if source.ID != target.ID {
		return nil, &event.Error{Kind: event.KindNeedsTxn, Op: "delete association",
			Message: fmt.Sprintf("%q lives in %s and %q in %s, and one shard's commit cannot remove both ends", r.SourceID, source.ID, r.TargetID, target.ID)}
	}
	return c.onShard(ctx, source.ID, r)
}
