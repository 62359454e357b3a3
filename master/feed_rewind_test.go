package master

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// TestASinkLosesItsData: event storage, a real storage node, comes back emptied, as an older copy of itself, and emptied while the leader
// changes. Each time a feed_rewound is in the feed, and it ends up with every event once, in order, its chain unbroken.
func TestASinkLosesItsData(t *testing.T) {
	if testing.Short() {
		t.Skip("starts storage nodes")
	}
	c := newCluster(t, func(cfg *Config) { cfg.EventSink = sinkAddress })
	dir, old := filepath.Join(c.root, "sink"), filepath.Join(c.root, "sink-old")
	stop := c.sink()
	defer func() { stop() }()
	c.start(c.ids()...)
	leader, followers := c.leader()
	c.settings(followers[0], 600)
	c.shipped(leader)

	stop() // an older copy of it
	c.must(os.CopyFS(old, os.DirFS(dir)))
	stop = c.sink()
	c.settings(followers[0], 600)
	c.shipped(leader)
	stop()
	c.must(os.RemoveAll(dir))
	c.must(os.Rename(old, dir))
	stop = c.sink()
	c.settings(followers[0], 1)
	first := c.rewound(leader, 1)
	if first.To < 100 || first.To > 700 || first.From < 1200 {
		t.Errorf("from an older copy it is shipped to again from %d on, and had acknowledged %d", first.To+1, first.From)
	}
	c.complete(leader)

	leader, followers = c.handOver(leader) // a term that has rewound waits for 30 s before it does so again
	stop()                                 // emptied
	c.must(os.RemoveAll(dir))
	stop = c.sink()
	c.settings(followers[0], 1)
	if second := c.rewound(leader, 2); second.To != 0 || second.Replaces != first.SinkID {
		t.Errorf("emptied it is rewound with %+v", second)
	}
	c.complete(leader)

	leader, followers = c.handOver(leader)
	stop() // emptied again, and the leader changes when that is decided
	c.must(os.RemoveAll(dir))
	stop = c.sink()
	c.settings(followers[0], 1)
	c.rewound(leader, 3)
	leader, followers = c.handOver(leader)
	c.settings(followers[0], 1)
	c.complete(leader)
}

func (c *cluster) handOver(from event.MasterID) (leader event.MasterID, followers []event.MasterID) {
	c.t.Helper()
	c.must(c.up[from].core.group.TransferLeadership(c.t.Context()))
	return c.leader()
}

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// settings makes n events, many at a time.
func (c *cluster) settings(via event.MasterID, n int) {
	c.t.Helper()
	var g errgroup.Group
	g.SetLimit(32)
	for range n {
		propose := proposeOf(c.t, event.SettingChanged{Key: "k", Value: "v"})
		g.Go(func() error {
			_, err := ask[transport.ProposeOk](c, via, propose)
			return err
		})
	}
	c.must(g.Wait())
}

// shipped waits until the feed as it is now is acknowledged, as a master sees it, and returns its end.
func (c *cluster) shipped(at event.MasterID) (through uint64) {
	c.t.Helper()
	through = must[transport.ClusterStatus](c, at, &transport.GetClusterStatus{}).Seq
	limit := time.After(patience)
	for replica := c.up[at].core.replica; ; {
		changed := replica.Changed()
		if replica.View().Cursor("events").Through >= through {
			return through
		}
		select {
		case <-changed:
		case <-limit:
			c.t.Fatalf("event storage holds %+v of %d events; %+v", replica.View().Cursor("events"), through, c.up[at].core.shipper.Status())
		}
	}
}

// rewound waits for the n-th feed_rewound of the feed.
func (c *cluster) rewound(at event.MasterID, n int) event.FeedRewound {
	c.t.Helper()
	return last(c.feed(at, 1, until(event.TypeFeedRewound, n))).Body.(event.FeedRewound)
}

// complete waits until event storage has the feed, and compares all of it: no event is missing, altered, or there without being in the feed.
func (c *cluster) complete(at event.MasterID) {
	c.t.Helper()
	through := c.shipped(at)
	c.holds(at, through)
	var chain event.Chain
	for _, e := range c.feed(at, 1, func(all []*event.Envelope) bool { return uint64(len(all)) >= through }) {
		c.must(event.Verify(chain, e))
		chain = e.Chain
	}
	end := must[transport.ClusterStatus](c, at, &transport.GetClusterStatus{}).Seq
	got, err := transport.Call[transport.QueryConceptOk](c.t.Context(), c.pool, sinkAddress, &transport.QueryConcept{ConceptID: event.ConceptID(end + 1)})
	c.must(err)
	if got.Found {
		c.t.Errorf("event storage has an event %d, the feed ends at %d", end+1, end)
	}
}
