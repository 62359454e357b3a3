package workload

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/history"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Inspector looks at a grid from the inside, at rest, by what its own protocol says.
//
// On a grid that others use nothing is ever at rest. There it looks for what holds all the same: what was under way when it began to look has
// ended, event storage and replicas have come to where the others were then, and what two hold of one place is equal.
type Inspector struct {
	given *rig.Given // nil: nobody else is here
	feedReader
	from    uint64
	leftOut []string
}

// NewInspector looks at what happens from now on; Close must be called.
func NewInspector(ctx context.Context, g rig.Grid) (*Inspector, error) {
	layout := g.Layout()
	i := &Inspector{given: layout.Given, feedReader: feedReader{pool: transport.NewPool(transport.PoolConfig{Network: g.Network("inspector")}), storage: layout.Events}}
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
// states and "contents" of the shards' replicas; of a grid that was given, as far as there is something to compare.
func (i *Inspector) Inspect(ctx context.Context) []history.Report {
	reports := []history.Report{i.rest(ctx)}
	if i.storage != "" || len(i.masters) > 1 {
		reports = append(reports, i.feed(ctx))
	}
	reports = append(reports, i.digests(ctx))
	if i.given == nil || i.given.Contents {
		reports = append(reports, i.contents(ctx))
	}
	return reports
}

// LeftOut is what Inspect could not judge on a grid that others use, and why.
func (i *Inspector) LeftOut() []string { return i.leftOut }

func (i *Inspector) rest(ctx context.Context) history.Report {
	r := history.Report{Checker: "rest"}
	masters := transport.NewMasters(i.masters, i.pool)
	var lasting []string // of a grid that others use: what there was at every look
	looked := false
	for {
		open, err := i.open(ctx, masters)
		if i.given == nil || !looked {
			lasting = open
		} else if err == nil {
			lasting = slices.DeleteFunc(lasting, func(what string) bool { return !slices.Contains(open, what) })
		}
		looked = looked || err == nil
		if r.Checked++; err == nil && len(lasting) == 0 {
			return r
		}
		if ctx.Err() != nil {
			r.Add(history.Stuck, nil, "not at rest: %v %v", lasting, err)
			return r
		}
		wait(ctx, 200*time.Millisecond)
	}
}

// open is what has not come to its end now. An error is that not all of it is known.
func (i *Inspector) open(ctx context.Context, masters *transport.Masters) (open []string, err error) {
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
			err = errors.Join(err, fmt.Errorf("%s does not say what it holds: %s", m.ShardID, m.Message))
		}
	}
	if i.given != nil { // the feed of others never ends; feed waits for what there is now
		return open, err
	}
	feed, failed := transport.As[transport.FeedStatus](masters.Call(ctx, &transport.GetFeed{}))
	if failed == nil {
		for _, s := range feed.Sinks {
			if s.Class == sinkOfGrid && s.LagEvents > 0 {
				open = append(open, fmt.Sprintf("event storage lacks %d events: %s %s", s.LagEvents, s.State, s.Error))
			}
		}
	}
	return open, errors.Join(err, failed)
}

// sinkOfGrid is the class of the grid's own event storage.
const sinkOfGrid = "grid"

// feed reads the feed since the inspector began, everywhere. With its own judgement of decisions there need be no history of clients.
func (i *Inspector) feed(ctx context.Context) history.Report {
	through, err := i.newest(ctx)
	if err != nil {
		return history.Fault("feed", err)
	}
	if i.storage != "" {
		if err := i.shipped(ctx, through); err != nil {
			return history.Fault("feed", err)
		}
	}
	var l history.Log
	take := func(e history.FeedEvent) { l.Events = append(l.Events, e) }
	for _, m := range i.masters {
		err = errors.Join(err, i.master(ctx, m, i.from, through, take))
	}
	if i.storage != "" {
		err = errors.Join(err, i.stored(ctx, i.from, through, take))
	}
	if err != nil {
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
	c := comparison{Report: history.Report{Checker: "contents"}, marks: map[event.ShardID]uint64{}, equal: map[event.ShardID]bool{}}
	for {
		m, err := transport.As[transport.ShardMapOk](transport.NewMasters(i.masters, i.pool).Call(ctx, &transport.GetShardMap{}))
		if err != nil {
			return history.Fault("contents", err)
		}
		apart := ""
		for k := range m.Map.Shards {
			if why := i.shard(ctx, &c, m, k); why != "" {
				apart = why
			}
		}
		if apart == "" || !c.Valid() {
			for _, s := range m.Map.Shards {
				if i.given != nil && !c.equal[s.ID] {
					i.leftOut = append(i.leftOut, fmt.Sprintf("the contents of %s: others write, and its replicas were not seen at one entry", s.ID))
				}
			}
			return c.Report
		}
		if ctx.Err() != nil {
			c.Add(history.Stuck, nil, "%s", apart)
			return c.Report
		}
		wait(ctx, 200*time.Millisecond)
	}
}

// comparison is that of replicas, over several looks.
type comparison struct {
	history.Report
	marks map[event.ShardID]uint64 // the last entry of a shard that any replica had applied at the first look
	equal map[event.ShardID]bool   // its replicas were seen at one entry
}

// holding is what a replica says it holds.
type holding struct {
	by event.NodeID
	*transport.ContentHashOk
}

// shard compares the voters of one shard; it returns why that could not be done now.
func (i *Inspector) shard(ctx context.Context, c *comparison, m *transport.ShardMapOk, k int) (apart string) {
	s := m.Map.Shards[k]
	var all []holding
	for _, v := range s.Replicas {
		if v.Role != event.RoleVoter {
			continue
		}
		h, err := i.holds(ctx, s.ID, v.Endpoint)
		if err != nil {
			return fmt.Sprintf("%s of %s: %v", v.NodeID, s.ID, err)
		}
		all = append(all, holding{v.NodeID, h})
	}
	if _, looked := c.marks[s.ID]; !looked {
		for _, a := range all {
			c.marks[s.ID] = max(c.marks[s.ID], a.Applied)
		}
	}
	equal := true
	for _, a := range all {
		first := all[0]
		if a.Applied != first.Applied {
			equal = false
		} else if a.Digest != first.Digest {
			c.Add(history.StateDiffers, nil, "replicas of %s at entry %d: %s holds %x, %s holds %x", s.ID, a.Applied, first.by, first.Digest[:4], a.by, a.Digest[:4])
		}
		if i.given == nil && a.Applied != first.Applied || a.Applied < c.marks[s.ID] {
			apart = fmt.Sprintf("replicas of %s: %s has applied entry %d, %s has %d; there was an entry %d", s.ID, first.by, first.Applied, a.by, a.Applied, c.marks[s.ID])
		}
		c.Checked++
	}
	c.equal[s.ID] = c.equal[s.ID] || equal
	return apart
}

// holds asks a replica for what it holds.
func (i *Inspector) holds(ctx context.Context, shard event.ShardID, endpoint string) (*transport.ContentHashOk, error) {
	one, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	q := &transport.Routed{ShardID: shard, Consistency: transport.Stale, Request: transport.Any{Value: &transport.ContentHash{}}}
	ok, err := transport.As[transport.RoutedOk](i.pool.Call(one, endpoint, q))
	if err != nil {
		return nil, err
	}
	return transport.As[transport.ContentHashOk](ok.Reply.Value, nil)
}
