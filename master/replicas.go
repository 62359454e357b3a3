package master

import (
	"context"
	"fmt"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
	"github.com/sutra-grid/sutra-grid/transport"
)

// assignReplica puts on record that a shard's members shall change. A new replica gets its id here, and keeps it for ever.
func (c *core) assignReplica(ctx context.Context, r *transport.AssignReplica) (*transport.AssignReplicaOk, error) {
	s, err := c.reads.State(ctx)
	if err != nil {
		return nil, err
	}
	body, err := assigned(s, r)
	if err != nil {
		return nil, err
	}
	answer, err := accepted(c.proposer.Propose(ctx, event.Command{RequestID: r.RequestID, Issued: r.Issued, Actor: "operator", Type: body.Type(), Body: body}))
	if err != nil {
		return nil, err
	}
	if s, err = c.reads.State(ctx); err != nil { // a repeated request has the id of the first
		return nil, err
	}
	ok := &transport.AssignReplicaOk{ReplicaID: body.ReplicaID, Seq: answer.Seq}
	if sh := s.Shard(r.ShardID); sh != nil {
		if at, there := s.ReplicaAt(sh, r.NodeID); there {
			ok.ReplicaID = at.ReplicaID
		}
	}
	return ok, nil
}

// assigned is the event that a request asks for. What the state cannot have is left to the state machine to refuse.
func assigned(s *fsm.State, r *transport.AssignReplica) (event.ReplicaAssigned, error) {
	body := event.ReplicaAssigned{ShardID: r.ShardID, NodeID: r.NodeID, Role: r.Role}
	sh := s.Shard(r.ShardID)
	if sh == nil {
		return body, &event.Error{Kind: event.KindNotFound, Op: "assign replica", Message: fmt.Sprintf("shard %q is unknown", r.ShardID)}
	}
	at, _ := s.ReplicaAt(sh, r.NodeID)
	body.ReplicaID = at.ReplicaID
	if r.Role == event.RoleLearner {
		body.ReplicaID = event.NewReplicaID(string(r.NodeID), datadir.NewStoreID())
	}
	if r.Replaces == "" {
		return body, nil
	}
	replaced, ok := s.ReplicaAt(sh, r.Replaces)
	if !ok {
		return body, &event.Error{Kind: event.KindNotFound, Op: "assign replica", Message: fmt.Sprintf("%q has no replica of %s", r.Replaces, r.ShardID)}
	}
	body.Replaces = replaced.ReplicaID
	return body, nil
}
