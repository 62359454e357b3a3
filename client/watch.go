package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// EventPosition is a place in the feed of a grid (safety S2). The zero value is "from now on, whatever the grid is in".
type EventPosition struct {
	Incarnation event.Incarnation // zero: not compared; positions of another history then mean other events
	Seq         uint64            // of the next event wanted; 0: what is committed from now on
}

// Events is one step of a watch. Without events it is a progress mark, at least every few seconds.
type Events struct {
	Events []*event.Envelope // in seq order; never modified later
	Next   EventPosition     // a watch from here goes on with neither gap nor repetition
	Newest uint64            // seq of the last event that the master has applied
}

// WatchEvents calls fn with the committed events that filter chooses, from a position on: each exactly once, in order, over any
// change of masters. A position that is not there yet is waited for. It returns nil when ctx ends or fn returns
// transport.ErrStop; fn's own error when it returns another; and an *event.Error for what the caller must decide:
//
//   - KindTrimmed, KindLagging: no master keeps the position any more. ResumeFrom is what comes next, Oldest what is kept;
//     the events between are in event storage.
//   - KindOldIncarnation: the position is of another history of the grid, or of another grid.
//   - KindInvalid, KindTooLarge: the filter.
//
// While fn works nothing is fetched, and a master cuts off who takes nothing for half a minute: then the watch begins again
// where it was. It has a connection of its own and is over when it returns.
func (c *Client) WatchEvents(ctx context.Context, from EventPosition, filter event.Filter, fn func(Events) error) error {
	if c.masters == nil {
		return noMasters("watch events")
	}
	w := eventWatch{next: from, all: filter.All()}
	masters := transport.NewMasters(c.masters.Addrs(), c.pool) // its own round, so that no other call sends it back to whom it left
	request := func() any {
		return &transport.WatchEvents{From: w.next.Seq, Incarnation: w.next.Incarnation, Filter: filter}
	}
	return masters.Stream(ctx, request, func(msg any) error {
		step, err := w.step(msg)
		if err != nil {
			return err
		}
		if err := fn(step); err != nil {
			return err
		}
		w.next = step.Next
		return nil
	})
}

func noMasters(op string) error {
	return &event.Error{Kind: event.KindInvalid, Op: op, Message: "this client has no masters' addresses"}
}

// eventWatch is how far a watch has come.
type eventWatch struct {
	next EventPosition
	all  bool // nothing is filtered: every seq must come
}

// step checks that a message continues the watch.
func (w *eventWatch) step(msg any) (Events, error) {
	r, ok := msg.(*transport.EventsOk)
	if !ok {
		return Events{}, broken("it was answered with %s", transport.VariantName(msg))
	}
	if known := w.next.Incarnation; known != (event.Incarnation{}) && r.Incarnation != known {
		return Events{}, &event.Error{Kind: event.KindOldIncarnation, Op: "watch events", Incarnation: r.Incarnation,
			Message: fmt.Sprintf("a master streams incarnation %d (%x), this watch is of %d (%x)", r.Incarnation.N, r.Incarnation.Random, known.N, known.Random)}
	}
	step := Events{Next: EventPosition{r.Incarnation, r.Last + 1}, Newest: r.Seq}
	at := w.next.Seq // the lowest seq that may come
	for _, b := range r.Events {
		e, err := event.DecodeEnvelope(b)
		if err != nil {
			return Events{}, broken("%v", err)
		}
		if e.Seq < at || e.Seq > r.Last || w.all && at > 0 && e.Seq != at {
			return Events{}, broken("event %d came where %d is next, in a message up to %d", e.Seq, at, r.Last)
		}
		step.Events = append(step.Events, e)
		at = e.Seq + 1
	}
	if r.Last+1 < at || w.all && at > 0 && r.Last+1 != at {
		return Events{}, broken("a message up to event %d ends before %d", r.Last, at)
	}
	return step, nil
}

func broken(format string, args ...any) error {
	return &event.Error{Kind: event.KindInternal, Op: "watch events", Message: fmt.Sprintf(format, args...)}
}

// WatchShardMap calls fn with the shard map whenever a newer one than from is known (intermediate ones may be passed over, the
// newest never is, none comes twice or after a newer one), over any change of masters. It returns as WatchEvents does; a map of
// another grid, or of an earlier history than was seen, is an *event.Error.
func (c *Client) WatchShardMap(ctx context.Context, from event.Position, fn func(*transport.ShardMapOk) error) error {
	if c.masters == nil {
		return noMasters("watch the shard map")
	}
	latest := newMapHistory(from)
	masters := transport.NewMasters(c.masters.Addrs(), c.pool)
	return masters.Stream(ctx, latest.request, func(msg any) error {
		m, newer, err := latest.take(msg)
		if err != nil || !newer {
			return err
		}
		return fn(m)
	})
}

// mapHistory is the newest map a watch has seen. The map only moves forward, by incarnation and then by seq, and only within the
// grid it began with.
type mapHistory struct {
	grid    string            // the first one seen
	history event.Incarnation // the highest one seen
	epoch   event.Position
}

func newMapHistory(from event.Position) *mapHistory { return &mapHistory{epoch: from} }

func (h *mapHistory) request() any {
	return &transport.WatchShardMap{Epoch: h.epoch, Incarnation: h.history}
}

// take takes a message of the stream: a map of the same grid, and of the same history or a later one (safety S2). A keep-alive
// is not newer.
func (h *mapHistory) take(msg any) (m *transport.ShardMapOk, newer bool, err error) {
	m, ok := msg.(*transport.ShardMapOk)
	if !ok {
		return nil, false, &event.Error{Kind: event.KindInternal, Op: "watch the shard map", Message: "it was answered with " + transport.VariantName(msg)}
	}
	switch known := h.history; {
	case h.grid == "":
	case m.GridID != h.grid:
		return nil, false, &event.Error{Kind: event.KindRefused, Op: "watch the shard map",
			Message: fmt.Sprintf("a master belongs to grid %s, this client to %s: check the masters' addresses", m.GridID, h.grid)}
	case m.Incarnation.N < known.N || m.Incarnation.N == known.N && m.Incarnation != known:
		return nil, false, &event.Error{Kind: event.KindOldIncarnation, Op: "watch the shard map", Incarnation: m.Incarnation,
			Message: fmt.Sprintf("a master is in incarnation %d (%x) of the grid, this client has seen %d (%x)", m.Incarnation.N, m.Incarnation.Random, known.N, known.Random)}
	}
	h.grid, h.history = m.GridID, m.Incarnation
	if !h.epoch.Less(m.Map.Epoch) {
		return m, false, nil
	}
	h.epoch = m.Map.Epoch
	return m, true, nil
}

// Oldest tells, for an error of WatchEvents, from where the feed can be watched again, and the first event that is missed by
// doing so; false when that is not what is wrong.
func Oldest(err error) (oldest, missed uint64, ok bool) {
	var e *event.Error
	if !errors.As(err, &e) || e.Kind != event.KindTrimmed && e.Kind != event.KindLagging {
		return 0, 0, false
	}
	return e.Oldest, e.ResumeFrom, true
}
