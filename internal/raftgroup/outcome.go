package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"github.com/hashicorp/raft"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// Causes of the end of a context that the group made.
var (
	// ErrTermEnded ends Lead's context when this replica no longer leads in that term.
	ErrTermEnded = errors.New("the term has ended")
	// ErrClosed ends whatever waits when the group is closed.
	ErrClosed = errors.New("the raft group is closed")
)

// await is the one place that waits for a future of raft. raft leaves some unanswered when it stops: a future's own way out
// is a channel of the library's, ShutdownCh, which it sets for some kinds only. Here it is set for all. The end of any of
// the contexts ends the wait with raft.ErrRaftShutdown; what that means for the request is the caller's to say.
func await(f raft.Future, ends ...context.Context) error {
	way := reflect.Indirect(reflect.ValueOf(f))
	if way.Kind() != reflect.Struct {
		return f.Error()
	}
	field := way.FieldByName("ShutdownCh")
	if !field.IsValid() || !field.CanSet() {
		return f.Error() // answered already: an error that never became a request
	}
	out := make(chan struct{})
	leave := sync.OnceFunc(func() { close(out) })
	for _, ctx := range ends {
		defer context.AfterFunc(ctx, leave)()
	}
	field.Set(reflect.ValueOf(out))
	return f.Error()
}

// notCommitted turns an error of Apply into what it means for the command. Three say that it surely was not put into the
// log; everything else, also a failed write of this leader's own log, leaves the outcome open.
func (g *Group) notCommitted(err error) *event.Error {
	const op = "propose"
	if e := g.surelyNot(op, err); e != nil {
		return e
	}
	return &event.Error{Kind: event.KindUnknownOutcome, Op: op, Message: fmt.Sprintf("the entry in %s may or may not be committed: %v", g.cfg.GroupID, err)}
}

// surelyNot is the error for a request that raft did not put into the log; nil when it may have.
func (g *Group) surelyNot(op string, err error) *event.Error {
	switch {
	case errors.Is(err, raft.ErrNotLeader):
		return g.notLeader(op)
	case errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return &event.Error{Kind: event.KindUnavailable, Op: op, Message: "leadership of " + g.cfg.GroupID + " is being handed over"}
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return &event.Error{Kind: event.KindUnavailable, Op: op, Message: fmt.Sprintf("the log of %s did not take the entry within %v", g.cfg.GroupID, enqueueTimeout)}
	}
	return nil
}

// notLeader names the leader if one is known.
func (g *Group) notLeader(op string) *event.Error {
	leader, term, ok := g.Leader()
	if !ok || leader == g.cfg.LocalID {
		return &event.Error{Kind: event.KindNotLeader, Op: op, Message: fmt.Sprintf("%s does not lead %s, and knows no leader in term %d", g.cfg.LocalID, g.cfg.GroupID, term)}
	}
	return &event.Error{Kind: event.KindNotLeader, Op: op, Leader: leader.Owner(), Message: fmt.Sprintf("%s does not lead %s; %s does in term %d", g.cfg.LocalID, g.cfg.GroupID, leader, term)}
}

// unavailable says that nothing was done, because ctx ended or the group stopped.
func (g *Group) unavailable(op string, cause error) *event.Error {
	if failed := g.latch.err(); failed != nil {
		cause = failed
	}
	return &event.Error{Kind: event.KindUnavailable, Op: op, Message: fmt.Sprintf("nothing was done in %s: %v", g.cfg.GroupID, cause)}
}
