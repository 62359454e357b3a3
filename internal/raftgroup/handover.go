package raftgroup

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

const opHandOver = "hand over leadership"

// TransferLeadership hands leadership to the follower that is furthest, and returns when this replica no longer leads. The
// error is of kind not_leader, or unavailable when it was not taken over.
func (g *Group) TransferLeadership(ctx context.Context) error {
	return g.handedOver(ctx, g.raft.LeadershipTransfer())
}

// TransferTo is TransferLeadership to a particular voter. It is refused for a learner, for an id that is no member, and for
// a voter that is not connected or not within 100 entries: commands would wait for it in vain. For this replica itself,
// if it leads, it is success.
func (g *Group) TransferTo(ctx context.Context, id event.ReplicaID) error {
	if g.raft.State() != raft.Leader {
		return g.notLeader(opHandOver)
	}
	if id == g.cfg.LocalID {
		return nil
	}
	refused := func(why string) error {
		return &event.Error{Kind: event.KindRefused, Op: opHandOver, Message: fmt.Sprintf("leadership of %s stays: %s", g.cfg.GroupID, why)}
	}
	switch p := find(g.Peers(), id); {
	case p.ID == "":
		return refused(fmt.Sprintf("%q is no member", id))
	case p.Suffrage != Voter:
		return refused(string(id) + " is a learner; promote it first")
	case !g.caughtUp(p):
		return refused(fmt.Sprintf("%s; it must be connected and within %d entries", g.describe(p), nearEntries))
	}
	return g.handedOver(ctx, g.raft.LeadershipTransferToServer(raft.ServerID(id), raft.ServerAddress(id)))
}

func (g *Group) handedOver(ctx context.Context, f raft.Future) error {
	err := await(f, ctx, g.alive)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader):
		return g.notLeader(opHandOver)
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	return &event.Error{Kind: event.KindUnavailable, Op: opHandOver, Message: fmt.Sprintf("leadership of %s: %v", g.cfg.GroupID, err)}
}
