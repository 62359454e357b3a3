package master

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/master/feed"
	"github.com/sutra-grid/sutra-grid/transport"
)

// watches serves the long-lived streams from this master's applied state. Each watcher is paced by its own connection: what
// it has not taken, nobody buffers for it, and nothing waits for it.
type watches struct {
	view        func() *fsm.State
	read        func(ctx context.Context) (*fsm.State, error) // a linearizable read
	mapped      *signal                                       // the shard map changed
	fleet       *signal                                       // agents or nodes changed
	outbox      *feed.Outbox
	group       leadership
	incarnation event.Incarnation
	keepAlive   time.Duration
	stats       *watchStats
	log         *slog.Logger
}

// sender is the connection a stream goes to; Send blocks while the peer does not read.
type sender interface {
	Send(ctx context.Context, msg any) error
	Remote() net.Addr
}

// ShardMap streams the map: the present one if it is newer than what the watcher has, then each newer one it is quick enough
// to see. What is sent never is older than what the watcher has. A watcher of an earlier incarnation is not refused: the
// map of the present one is what it lacks (safety S2).
func (w *watches) ShardMap(ctx context.Context, to sender, req *transport.WatchShardMap) error {
	return w.serve(ctx, to, streamShardMap, func() error {
		if n := max(req.Epoch.N, req.Incarnation.N); n >= w.incarnation.N {
			if err := w.sameHistory(n, req.Incarnation); err != nil {
				return err
			}
		}
		sent := req.Epoch
		return w.follow(ctx, w.mapped, func(s *fsm.State, alive bool) error {
			m := s.ShardMap()
			switch {
			case fault.Broken(fault.EpochNotChecked):
			case m.Epoch.Less(sent) && alive:
				return elsewhere(fmt.Sprintf("this master has applied epoch %d of the shard map, the watcher has %d", m.Epoch.Seq, sent.Seq))
			case m.Epoch.Less(sent), !alive && m.Epoch == sent:
				return nil
			}
			sent = m.Epoch
			return to.Send(ctx, shardMapOk(s))
		})
	})
}

// Assignments streams an agent's desired set: the present one at once, then each change. An agent that has just registered
// may be known to the leader only, so the stream begins behind a linearizable read.
func (w *watches) Assignments(ctx context.Context, to sender, req *transport.WatchAssignments) error {
	return w.serve(ctx, to, streamAssignments, func() error { return w.assignments(ctx, to, req) })
}

func (w *watches) assignments(ctx context.Context, to sender, req *transport.WatchAssignments) error {
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
func (w *watches) follow(ctx context.Context, changes *signal, step func(s *fsm.State, alive bool) error) error {
	tick := time.NewTicker(w.keepAlive)
	defer tick.Stop()
	contact := contactCheck{group: w.group}
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
			if err := contact.err(); err != nil {
				return err
			}
		}
	}
}

// contactCheck ends a stream, so that the watcher goes to another master, when this one knows no leader at two looks in a row:
// its state may be old.
type contactCheck struct {
	group  leadership
	orphan bool
}

// err is called once a keep-alive period.
func (c *contactCheck) err() error {
	_, _, led := c.group.Leader()
	if !led && c.orphan {
		return elsewhere("this master has lost touch with the leader")
	}
	c.orphan = !led
	return nil
}

// elsewhere sends a watcher to another master.
func elsewhere(why string) error {
	return &event.Error{Kind: event.KindUnavailable, Op: "watch", Message: why + "; ask another master"}
}

// sameHistory compares a watcher's incarnation, if it names one, with this master's (safety S2).
func (w *watches) sameHistory(n uint64, theirs event.Incarnation) error {
	switch ours := w.incarnation; {
	case n > ours.N:
		return elsewhere(fmt.Sprintf("the watcher is in incarnation %d of the grid, this master in %d, which is over", n, ours.N))
	case theirs != (event.Incarnation{}) && theirs != ours:
		return &event.Error{Kind: event.KindOldIncarnation, Op: "watch", Incarnation: ours, Message: fmt.Sprintf(
			"the position is of incarnation %d (%x) of a grid, this grid is in %d (%x): begin again without a position", theirs.N, theirs.Random, ours.N, ours.Random)}
	}
	return nil
}
