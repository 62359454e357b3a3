package master

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/master/feed"
	"github.com/sutra-grid/sutra-grid/transport"
)

// feedStatus says how far the sinks are. Only the leader ships, so it is asked, unless the outbox of this master is meant.
func (c *core) feedStatus(ctx context.Context, r *transport.GetFeed) (status *transport.FeedStatus, err error) {
	if r.Local {
		status = c.localFeed()
		status.Read = transport.Read{ReadMode: transport.Stale}
		return status, nil
	}
	err = c.leading.Do(ctx, errand{
		what:  "ask for the feed's state",
		safe:  true,
		local: func(context.Context) error { status = c.localFeed(); return nil },
		remote: func(ctx context.Context, address string) (err error) {
			if r.Hops >= maxHops {
				return passedOn("ask for the feed's state", address)
			}
			status, err = transport.Call[transport.FeedStatus](ctx, c.proposer.pool, address, &transport.GetFeed{Hops: r.Hops + 1})
			return err
		},
	})
	return status, err
}

// localFeed is what this master knows: its own outbox, the applied cursors, and, if it leads, what the shipper is doing.
func (c *core) localFeed() *transport.FeedStatus {
	s := c.replica.View()
	used, held := s.Outbox(), c.replica.outbox
	base, known := held.Base()
	_, term, _ := c.group.Leader()
	status := &transport.FeedStatus{MasterID: c.cfg.ID, Sinks: []transport.FeedSink{},
		Outbox: transport.FeedOutbox{First: held.First(), Last: held.Last(), Base: base, BaseKnown: known, Bytes: uint64(held.Bytes()),
			Unsent: used.Events, UnsentBytes: used.Bytes, QuotaBytes: used.Quota, UsedPercent: uint32(used.Bytes * 100 / used.Quota), Full: used.Full},
		Dropped: c.proposer.admit.dropped.Load(), Refused: c.proposer.admit.refused.Load(),
		Seq: s.Seq(), Epoch: s.Epoch().Seq, Read: transport.Read{ReadMode: transport.Leader, Term: term}}
	shipping := map[string]feed.SinkStatus{}
	for _, st := range c.shipper.Status() {
		shipping[st.Sink] = st
	}
	for sink := range s.Sinks() {
		cursor, at := s.Cursor(sink.Name), shipping[sink.Name]
		state := at.State
		if state == "" {
			state = feed.SinkConnecting
		}
		status.Sinks = append(status.Sinks, transport.FeedSink{Sink: sink.Name, Address: sink.Address, Class: sink.Class, SinkID: cursor.SinkID,
			Through: cursor.Through, LagEvents: s.Seq() - cursor.Through, LagMillis: uint64(c.behind(s, cursor.Through).Milliseconds()),
			State: string(state), Error: at.Error})
	}
	return status
}

// behind is the age of the oldest event above through, by this machine's clock: for people, nothing is decided by it. What was
// trimmed meanwhile counts as the oldest that is left.
func (c *core) behind(s *fsm.State, through uint64) time.Duration {
	if through >= s.Seq() {
		return 0
	}
	at, err := c.replica.outbox.Time(through + 1)
	if errors.Is(err, feed.ErrTrimmed) {
		at, err = c.replica.outbox.Time(c.replica.outbox.First())
	}
	if err != nil {
		return 0 // the outbox was closed or restored under it; the next look sees
	}
	return max(0, time.Since(time.UnixMicro(at)))
}

// feed answers GET /api/feed.
func (a *api) feed(ctx context.Context, _ *http.Request) (reply, error) {
	c, err := a.core(ctx)
	if err != nil {
		return reply{}, err
	}
	status, err := c.feedStatus(ctx, &transport.GetFeed{})
	if err != nil {
		return reply{}, err
	}
	return reply{http.StatusOK, status, contract{status.Seq, status.Epoch, status.Read}}, nil
}
