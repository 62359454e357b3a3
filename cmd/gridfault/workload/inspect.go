package workload

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/history"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Inspector looks at a grid from the inside, at rest, by what its own protocol says.
type Inspector struct {
	grid rig.Grid
	feedReader
	from uint64
}

// NewInspector looks at what happens from now on; Close must be called.
func NewInspector(ctx context.Context, g rig.Grid) (*Inspector, error) {
	layout := g.Layout()
	i := &Inspector{grid: g, feedReader: feedReader{pool: transport.NewPool(transport.PoolConfig{Network: g.Network("inspector")}), storage: layout.Events}}
	for _, m := range layout.Masters {
		i.masters = append(i.masters, m.Address)
	}
	seq, err := i.newest(ctx)
	if err != nil {
		return nil, errors.Join(err, i.pool.Close())
	}
	i.from = max(seq, 1)
	return i, nil
}

// Close ends the inspector's connections.
func (i *Inspector) Close() error { return i.pool.Close() }

// Inspect waits until the grid is at rest, and reports what is not as it must be: that it does not come to rest before ctx ends, too.
// Nobody may write meanwhile. The reports are those of "rest" (nothing prepared, nothing decided and not completed, the feed shipped),
// "feed" (every master and event storage hold the same, one leader a term, no transaction decided twice), "digests" of the masters'
// states and "contents" of the shards' replicas.
func (i *Inspector) Inspect(ctx context.Context) []history.Report {
	return []history.Report{i.rest(ctx), i.feed(ctx), i.digests(ctx), i.contents(ctx)}
}

func (i *Inspector) rest(ctx context.Context) history.Report {
	r := history.Report{Checker: "rest"}
	masters := transport.NewMasters(i.masters, i.pool)
	for {
		var open []string
		txns, err := transport.As[transport.ListTxnsOk](masters.Call(ctx, &transport.ListTxns{}))
		if err == nil {
			for _, d := range txns.Decided {
				if !d.Completed && d.Outcome != "open" {
					open = append(open, fmt.Sprintf("transaction %s is %s and not completed", d.TxnID, d.Outcome))
				}
			}
			for _, p := range txns.Prepared {
				open = append(open, fmt.Sprintf("transaction %s is prepared at %s", p.TxnID, p.ShardID))
			}
			for _, m := range txns.Missing {
				open = append(open, fmt.Sprintf("%s does not say what it holds: %s", m.ShardID, m.Message))
			}
		}
		feed, failed := transport.As[transport.FeedStatus](masters.Call(ctx, &transport.GetFeed{}))
		if failed == nil {
			for _, s := range feed.Sinks {
				if s.Class == sinkOfGrid && s.LagEvents > 0 {
					open = append(open, fmt.Sprintf("event storage lacks %d events: %s %s", s.LagEvents, s.State, s.Error))
				}
			}
		}
		if r.Checked++; err == nil && failed == nil && len(open) == 0 {
			return r
		}
		if ctx.Err() != nil {
			r.Add(history.Stuck, nil, "not at rest: %v %v", open, errors.Join(err, failed))
			return r
		}
		wait(ctx, 200*time.Millisecond)
	}
}

// sinkOfGrid is the class of the grid's own event storage.
const sinkOfGrid = "grid"

// feed reads the feed since the inspector began, everywhere. With its own judgement of decisions there need be no history of clients.
func (i *Inspector) feed(ctx context.Context) history.Report {
	through, err := i.newest(ctx)
	if err != nil {
		return history.Fault("feed", err)
	}
	if err := i.shipped(ctx, through); err != nil {
		return history.Fault("feed", err)
	}
	var l history.Log
	take := func(e history.FeedEvent) { l.Events = append(l.Events, e) }
	for _, m := range i.masters {
		err = errors.Join(err, i.master(ctx, m, i.from, through, take))
	}
	if err = errors.Join(err, i.stored(ctx, i.from, through, take)); err != nil {
		return history.Fault("feed", err)
	}
	return history.Feed(&l)
}

// digests compares what the masters remember of their states at the same entries of their log.
func (i *Inspector) digests(ctx context.Context) history.Report {
	r := history.Report{Checker: "digests"}
	type said struct {
		by event.ReplicaID
		transport.StateDigest
	}
	at := map[uint64]said{}
	for _, m := range i.masters {
		ok, err := transport.As[transport.StateDigestsOk](i.retried(ctx, m, &transport.StateDigests{}))
		if err != nil {
			return history.Fault("digests", fmt.Errorf("%s: %w", m, err))
		}
		r.Checked++
		for _, d := range ok.Digests {
			other, known := at[d.Index]
			if !known {
				at[d.Index] = said{ok.Replica, d}
				continue
			}
			if other.StateDigest != d {
				r.Add(history.StateDiffers, nil, "at entry %d: %s has event %d, state %x, local state %x; %s has event %d, state %x, local state %x", d.Index,
					other.by, other.Seq, other.Digest[:4], other.Local[:4], ok.Replica, d.Seq, d.Digest[:4], d.Local[:4])
			}
		}
	}
	return r
}

// contents waits until the replicas of each shard have applied the same entries, and compares all they hold.
func (i *Inspector) contents(ctx context.Context) history.Report {
	r := history.Report{Checker: "contents"}
	for {
		m, err := transport.As[transport.ShardMapOk](transport.NewMasters(i.masters, i.pool).Call(ctx, &transport.GetShardMap{}))
		if err != nil {
			return history.Fault("contents", err)
		}
		apart := ""
		for k := range m.Map.Shards {
			if why := i.shard(ctx, &r, m, k); why != "" {
				apart = why
			}
		}
		if apart == "" || !r.Valid() {
			return r
		}
		if ctx.Err() != nil {
			r.Add(history.Stuck, nil, "%s", apart)
			return r
		}
		wait(ctx, 200*time.Millisecond)
	}
}

// shard compares the voters of one shard of a map; it returns why that could not be done now.
func (i *Inspector) shard(ctx context.Context, r *history.Report, m *transport.ShardMapOk, k int) (apart string) {
	s := m.Map.Shards[k]
	type said struct {
		by event.NodeID
		*transport.ContentHashOk
	}
	var all []said
	for _, v := range s.Replicas {
		if v.Role != event.RoleVoter {
			continue
		}
		one, cancel := context.WithTimeout(ctx, patience)
		q := &transport.Routed{ShardID: s.ID, Consistency: transport.Stale, Request: transport.Any{Value: &transport.ContentHash{}}}
		ok, err := transport.As[transport.RoutedOk](i.pool.Call(one, v.Endpoint, q))
		cancel()
		if err != nil {
			return fmt.Sprintf("%s of %s: %v", v.NodeID, s.ID, err)
		}
		h, is := ok.Reply.Value.(*transport.ContentHashOk)
		if !is {
			return fmt.Sprintf("%s of %s answers %s", v.NodeID, s.ID, transport.VariantName(ok.Reply.Value))
		}
		all = append(all, said{v.NodeID, h})
	}
	for _, a := range all {
		switch first := all[0]; {
		case a.Applied != first.Applied:
			apart = fmt.Sprintf("replicas of %s: %s has applied entry %d, %s has %d", s.ID, first.by, first.Applied, a.by, a.Applied)
		case a.Digest != first.Digest:
			r.Add(history.StateDiffers, nil, "replicas of %s at entry %d: %s holds %x, %s holds %x", s.ID, a.Applied, first.by, first.Digest[:4], a.by, a.Digest[:4])
		}
		r.Checked++
	}
	return apart
}
