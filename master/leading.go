package master

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
)

// A request may be passed on this often before it is refused: masters that disagree about the leader must not play ball.
const maxHops = 3

// Waits between two attempts at a leader that did not take a request; a change of leader ends a wait at once.
const (
	firstPause = 2 * time.Millisecond
	lastPause  = 200 * time.Millisecond
)

// leading brings what only the leader can do to the leader, wherever it is, and holds it while there is none.
type leading struct {
	self  event.MasterID
	find  func(event.ReplicaID) (Peer, bool) // where a master listens
	group leadership
	limit time.Duration // of a request whose context has no deadline
}

// leadership is what leading needs of the raft group.
type leadership interface {
	Leader() (id event.ReplicaID, term uint64, ok bool)
	LeaderChanged() <-chan struct{}
}

var _ leadership = (*raftgroup.Group)(nil)

// errand is one thing to be done at the leader.
type errand struct {
	what   string // verb phrase, for errors
	safe   bool   // doing it twice is doing it once: it may be tried again when its outcome is unknown
	local  func(ctx context.Context) error
	remote func(ctx context.Context, address string) error
}

// Do runs the errand until it is done, refused, or ctx ends. It is tried again after a failure that means it surely was not
// done, and, if it is safe, after one that leaves the outcome open. Once an outcome is open, no later failure hides that.
func (l *leading) Do(ctx context.Context, e errand) error {
	ctx, cancel := l.bound(ctx)
	defer cancel()
	var open error
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		changed := l.group.LeaderChanged()
		err := l.attempt(ctx, e)
		if err == nil {
			return nil
		}
		switch outcomeOf(err) {
		case outcomeRefused:
			return err
		case outcomeDeclined:
			if open != nil {
				return l.gaveUp(ctx, e, open, err)
			}
			return err
		case outcomeUnknown:
			open = err
			if !e.safe {
				return err
			}
		case outcomeNotDone:
		}
		if !l.wait(ctx, changed, pause) {
			return l.gaveUp(ctx, e, open, err)
		}
	}
}

func (l *leading) attempt(ctx context.Context, e errand) error {
	leader, _, known := l.group.Leader()
	if !known {
		return &event.Error{Kind: event.KindUnavailable, Op: e.what, Message: "no leader is known"}
	}
	if event.MasterID(leader.Owner()) == l.self {
		return e.local(ctx)
	}
	peer, known := l.find(leader)
	if !known {
		return &event.Error{Kind: event.KindUnavailable, Op: e.what, Message: fmt.Sprintf("it is not known where leader %s listens", leader)}
	}
	if !e.safe {
		return e.remote(ctx, peer.Grid)
	}
	ctx, cancel := l.whileLeads(ctx, leader)
	defer cancel()
	return e.remote(ctx, peer.Grid)
}

// whileLeads ends the context when this master no longer takes that replica for the leader: one that hangs must not hold
// what its successor could do.
func (l *leading) whileLeads(ctx context.Context, leader event.ReplicaID) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		for {
			changed := l.group.LeaderChanged()
			if now, _, known := l.group.Leader(); !known || now != leader {
				cancel(&event.Error{Kind: event.KindUnknownOutcome, Op: "ask " + string(leader), Message: "it no longer leads"})
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

// wait is over when the leader changes, the pause ends (±50 %), or, with false, ctx does.
func (l *leading) wait(ctx context.Context, changed <-chan struct{}, pause time.Duration) bool {
	timer := time.NewTimer(pause/2 + rand.N(pause))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-changed:
	case <-timer.C:
	}
	return true
}

func (l *leading) gaveUp(ctx context.Context, e errand, open, last error) error {
	if open != nil {
		return &event.Error{Kind: event.KindUnknownOutcome, Op: e.what,
			Message: fmt.Sprintf("sent to a leader whose answer was lost (%v); ask again with the same request id", open)}
	}
	return &event.Error{Kind: event.KindUnavailable, Op: e.what,
		Message: fmt.Sprintf("no leader took it within the deadline (%v; %v); is a majority of the masters up?", context.Cause(ctx), last)}
}

// passedOn refuses to pass a request on once more.
func passedOn(what, address string) error {
	return &event.Error{Kind: event.KindNotLeader, Op: what, Message: fmt.Sprintf("passed on %d times already", maxHops), Leader: address}
}

// bound gives a request without a deadline the usual one.
func (l *leading) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, bounded := ctx.Deadline(); bounded {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, l.limit)
}

// outcome says what a failed attempt means for what was attempted.
type outcome int

const (
	outcomeRefused  outcome = iota // an answer: it will not be done
	outcomeNotDone                 // surely not done; somebody else, or the same a moment later, may do it
	outcomeUnknown                 // it may have been done
	outcomeDeclined                // not done, by the leader's word: the log did not see it, and says nothing of an earlier attempt
)

// outcomes lists the kinds that are not an answer.
var outcomes = map[event.Kind]outcome{
	event.KindNotLeader:      outcomeNotDone,
	event.KindUnavailable:    outcomeNotDone,
	event.KindFeedFull:       outcomeDeclined,
	event.KindUnknownOutcome: outcomeUnknown,
	event.KindDeadline:       outcomeUnknown,
	event.KindInternal:       outcomeUnknown,
}

func outcomeOf(err error) outcome {
	var e *event.Error
	if errors.As(err, &e) {
		return outcomes[e.Kind]
	}
	return outcomeUnknown
}
