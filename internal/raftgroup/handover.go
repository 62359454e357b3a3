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
//
// Nobody's command is lost to it: what is in flight is committed first, what comes meanwhile waits, and afterwards it is
// not_leader, surely not in the log, or goes on here when nobody took over. No change of members runs at the same time.
func (g *Group) TransferLeadership(ctx context.Context) error {
	return g.handOver(ctx, g.raft.LeadershipTransfer)
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
	return g.handOver(ctx, func() raft.Future {
		return g.raft.LeadershipTransferToServer(raft.ServerID(id), raft.ServerAddress(id))
	})
}

// handOver asks raft for it when nothing else is under way. Without that, raft would fail the entries in flight as of unknown
// outcome when it steps down.
func (g *Group) handOver(ctx context.Context, request func() raft.Future) error {
	if g.raft.State() != raft.Leader {
		return g.notLeader(opHandOver)
	}
	both, cancel := joined(ctx, g.open)
	defer cancel()
	select {
	case g.changing <- struct{}{}:
		defer func() { <-g.changing }()
	case <-both.Done():
		return g.stays(context.Cause(both))
	}
	if err := g.intake.flights.Acquire(both, inFlight()); err != nil {
		return g.stays(fmt.Errorf("entries in flight were not committed: %w", context.Cause(both)))
	}
	defer g.intake.flights.Release(inFlight())
	err := await(request(), ctx, g.alive)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader):
		return g.notLeader(opHandOver)
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	return g.stays(err)
}

func (g *Group) stays(why error) *event.Error {
	return &event.Error{Kind: event.KindUnavailable, Op: opHandOver, Message: fmt.Sprintf("leadership of %s: %v", g.cfg.GroupID, why)}
}
