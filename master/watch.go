package master

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/master/feed"
	"github.com/sutra-grid/sutra-grid/transport"
)

// A message of a WatchEvents stream holds at most this much.
const (
	watchPage  = 1000
	watchBytes = 1 << 20
)

// watches serves the long-lived streams from this master's applied state. Each watcher is paced by its own connection: what
// it has not taken, nobody buffers for it.
type watches struct {
	view      func() *fsm.State
	read      func(ctx context.Context) (*fsm.State, error) // a linearizable read
	mapped    *signal                                       // the shard map changed
	fleet     *signal                                       // agents or nodes changed
	outbox    *feed.Outbox
	group     leadership
	keepAlive time.Duration
}

// sender is the connection a stream goes to; Send blocks while the peer does not read.
type sender interface {
	Send(ctx context.Context, msg any) error
}

// ShardMap streams the map: the present one if it is newer than what the watcher has, then each newer one it is quick enough
// to see.
func (w *watches) ShardMap(ctx context.Context, to sender, req *transport.WatchShardMap) error {
	sent := req.Epoch
	return w.follow(ctx, w.mapped, func(s *fsm.State, alive bool) error {
		m := s.ShardMap()
		if !alive && !sent.Less(m.Epoch) {
			return nil
		}
		sent = m.Epoch
		return to.Send(ctx, shardMapOk(s))
	})
}

// Assignments streams an agent's desired set: the present one at once, then each change. An agent that has just registered
// may be known to the leader only, so the stream begins behind a linearizable read.
func (w *watches) Assignments(ctx context.Context, to sender, req *transport.WatchAssignments) error {
	if _, err := w.read(ctx); err != nil {
		return err
	}
	first, sent := true, uint64(0)
	return w.follow(ctx, w.fleet, func(s *fsm.State, alive bool) error {
		if s.Agent(req.AgentID) == nil {
			return &event.Error{Kind: event.KindUnknownAgent, Op: "watch assignments", Message: "agent " + string(req.AgentID) + " is not registered"}
		}
		a := assignmentsOf(s, req.AgentID)
		if !first && !alive && a.Revision == sent {
			return nil
		}
		first, sent = false, a.Revision
		return to.Send(ctx, a)
	})
}

// follow calls step with the present state at once, after each change, and with alive after a period without a message due.
// The stream ends, so that the watcher goes to another master, when this one has lost touch with the leader for a period: its
// state may be old.
func (w *watches) follow(ctx context.Context, changes *signal, step func(s *fsm.State, alive bool) error) error {
	tick := time.NewTicker(w.keepAlive)
	defer tick.Stop()
	orphan := false
	for alive := false; ; {
		changed := changes.Changed()
		if err := step(w.view(), alive); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
			alive = false
		case <-tick.C:
			alive = true
			_, _, led := w.group.Leader()
			if !led && orphan {
				return &event.Error{Kind: event.KindUnavailable, Op: "watch", Message: "this master has lost touch with the leader; ask another"}
			}
			orphan = !led
		}
	}
}

// Events streams the feed from a seq on, gap-free; an empty message is a progress mark. A watcher that falls behind what the
// outbox keeps is told so, never skipped over.
func (w *watches) Events(ctx context.Context, to sender, req *transport.WatchEvents) error {
	next := req.From
	if next == 0 {
		next = w.outbox.Last() + 1
	}
	for began := false; ; began = true {
		records, err := w.outbox.Range(next, watchPage, watchBytes)
		if errors.Is(err, feed.ErrTrimmed) {
			return trimmed(next, w.outbox.First(), began)
		}
		if err != nil {
			return err
		}
		if len(records) == 0 && began {
			if err := w.awaitEvent(ctx, next); err == nil {
				continue
			} else if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
				return err
			}
		}
		next += uint64(len(records))
		if err := to.Send(ctx, &transport.EventsOk{Events: encoded(records), Last: next - 1}); err != nil {
			return err
		}
	}
}

func (w *watches) awaitEvent(ctx context.Context, seq uint64) error {
	ctx, cancel := context.WithTimeout(ctx, w.keepAlive)
	defer cancel()
	return w.outbox.Wait(ctx, seq)
}

func trimmed(from, oldest uint64, began bool) error {
	kind := event.KindTrimmed
	if began {
		kind = event.KindLagging
	}
	return &event.Error{Kind: kind, Op: "watch events", Message: fmt.Sprintf("the oldest event kept here is %d; %d is in event storage", oldest, from)}
}

func encoded(records []fsm.Record) [][]byte {
	out := make([][]byte, len(records))
	for i, r := range records {
		out[i] = r.Bytes
	}
	return out
}
