package master

import (
	"context"
	"errors"
	"fmt"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/master/feed"
	"github.com/sutra-grid/sutra-grid/transport"
)

// proposable lists what may be proposed from outside by name, and by whom. Everything else has a message of its own, or is
// the masters' own to decide.
var proposable = map[event.Type]string{
	event.TypeShardLeaderChanged: "a storage node whose replica has begun to lead",
	event.TypeReplicaPromoted:    "the leader of a shard's group, when a learner votes",
	event.TypeReplicaRemoved:     "the leader of a shard's group, when a replica has left it",
	event.TypeSettingChanged:     "an operator",
	event.TypeSinkAdded:          "an operator",
	event.TypeSinkRemoved:        "an operator",
}

// emitted lists what agents report with numbers of their own.
var emitted = map[event.Type]bool{
	event.TypeSpawnSucceeded: true,
	event.TypeSpawnFailed:    true,
	event.TypeStopSucceeded:  true,
	event.TypeStopFailed:     true,
	event.TypeNodeCrashed:    true,
	event.TypeNodeRestarted:  true,
}

// Bounds of one message.
const (
	maxEmitted    = 1000  // events in one EmitEvents
	maxListed     = 10000 // events in one ListEvents
	defaultListed = 1000
	listBytes     = 8 << 20 // encoded events in one reply: half of a frame
	listPage      = 1000    // events read at a time …
	listPageBytes = 1 << 20 // … and their bytes
)

func (c *core) propose(ctx context.Context, r *transport.Propose) (*transport.ProposeOk, error) {
	op := "propose " + r.Type.String()
	if _, may := proposable[r.Type]; !may {
		return nil, &event.Error{Kind: event.KindRefused, Op: op, Message: "events of this type are not proposed from outside"}
	}
	body, err := event.DecodeBody(r.Type, r.Body)
	if err != nil {
		return nil, asError(op, err)
	}
	if change, is := body.(event.SettingChanged); is && change.Key == fsm.SettingMastersDead {
		if err := checkDeadAfter(change.Value); err != nil {
			return nil, err
		}
	}
	answer, err := accepted(c.proposer.Propose(ctx, event.Command{RequestID: r.RequestID, Issued: r.Issued, Actor: r.Actor, Type: r.Type, Body: body}))
	if err != nil {
		return nil, err
	}
	_, term, _ := c.group.Leader()
	return &transport.ProposeOk{Seq: answer.Seq, Epoch: answer.Epoch, Term: term, Value: answer.Value}, nil
}

// emit takes an emitter's events in their order. What the state machine refuses is refused for good and counted; the first
// event without an answer ends the message, and the emitter sends the rest again.
func (c *core) emit(ctx context.Context, r *transport.EmitEvents) (*transport.EmitEventsOk, error) {
	commands, err := emittedCommands(r)
	if err != nil {
		return nil, err
	}
	ok := &transport.EmitEventsOk{Through: r.First - 1}
	for _, cmd := range commands {
		answer, err := c.proposer.Propose(ctx, cmd)
		if err != nil {
			if ok.Through >= r.First {
				return ok, nil // what is done is worth saying
			}
			return nil, err
		}
		if answer.Err != nil {
			s, err := c.reads.State(ctx)
			if err != nil {
				return nil, err
			}
			if s.Emitter(r.Emitter) < cmd.EmitterSeq {
				return nil, answer.Err // not refused for good: it was not this event's turn
			}
			ok.Refused++
		}
		ok.Through = cmd.EmitterSeq
	}
	return ok, nil
}

func emittedCommands(r *transport.EmitEvents) ([]event.Command, error) {
	const op = "emit events"
	if err := checkName("emitter", r.Emitter, true); err != nil {
		return nil, err
	}
	if r.First == 0 || len(r.Events) == 0 || len(r.Events) > maxEmitted {
		return nil, &event.Error{Kind: event.KindInvalid, Op: op, Message: fmt.Sprintf("%d events from number %d; want 1 to %d events numbered from 1", len(r.Events), r.First, maxEmitted)}
	}
	commands := make([]event.Command, len(r.Events))
	for i, e := range r.Events {
		number := r.First + uint64(i)
		if !emitted[e.Type] {
			return nil, &event.Error{Kind: event.KindRefused, Op: op, Message: fmt.Sprintf("number %d of %s: agents do not report %s", number, r.Emitter, e.Type)}
		}
		body, err := event.DecodeBody(e.Type, e.Body)
		if err != nil {
			return nil, &event.Error{Kind: event.KindInvalid, Op: op, Message: fmt.Sprintf("number %d of %s: %v", number, r.Emitter, err)}
		}
		commands[i] = event.Command{Actor: r.Emitter, Emitter: r.Emitter, EmitterSeq: number, Type: e.Type, Body: body}
	}
	return commands, nil
}

// listEvents is a page of the feed.
func (c *core) listEvents(ctx context.Context, r *transport.ListEvents) (*transport.EventsOk, error) {
	s, err := c.reads.At(ctx, r.Reading)
	if err != nil {
		return nil, err
	}
	to := s.Seq()
	if r.To > 0 {
		to = min(to, r.To)
	}
	page := listing{next: max(r.From, 1), to: to, left: min(int(r.Limit), maxListed), want: r.Type}
	if page.left == 0 {
		page.left = defaultListed
	}
	for page.open() {
		records, err := c.replica.outbox.Range(page.next, listPage, listPageBytes)
		if errors.Is(err, feed.ErrTrimmed) {
			return nil, trimmed(page.next, c.replica.outbox.First(), false)
		}
		if err != nil {
			return nil, err
		}
		page.take(records)
	}
	return &transport.EventsOk{Events: page.events, Last: page.next - 1, Contract: s.contract()}, nil
}
