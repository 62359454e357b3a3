package master

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/storagenode"
	"github.com/sutra-grid/sutra-grid/transport"
)

const sinkAddress = "sink:50052"

// sink starts a real storage node as the grid's event storage.
func (c *cluster) sink() (stop func()) {
	c.t.Helper()
	cfg := storagenode.DefaultConfig()
	cfg.Data, cfg.Listen, cfg.Events, cfg.Network = filepath.Join(c.root, "sink"), sinkAddress, true, c.net
	cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	node, err := storagenode.Open(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	return sync.OnceFunc(func() {
		if err := node.Close(); err != nil {
			c.t.Error(err)
		}
	})
}

// wholeGrid is three masters whose four shards have three running nodes each: its level is healthy.
func wholeGrid(t *testing.T, tune func(*Config)) *cluster {
	c := newCluster(t, tune)
	c.start(c.ids()...)
	leader, _ := c.leader()
	var wg sync.WaitGroup
	for n := 1; n <= 3; n++ {
		must[transport.RegisterAgentOk](c, leader, registration(n))
		wg.Go(func() { runAgent(c, leader, n) })
	}
	wg.Wait()
	c.feed(leader, 1, until(event.TypeClusterHealthy, 1))
	return c
}

// knows waits until a master has applied the feed through an event.
func (c *cluster) knows(id event.MasterID, through uint64) {
	c.t.Helper()
	limit := time.After(patience)
	for r := c.up[id].core.replica; ; {
		changed := r.Changed()
		if r.View().Seq() >= through {
			return
		}
		select {
		case <-changed:
		case <-limit:
			c.t.Fatalf("%s is at event %d, want %d", id, r.View().Seq(), through)
		}
	}
}

// fill lets the outbox reach a share of its quota, as via knows it too, and keeps the agents alive meanwhile.
func (c *cluster) fill(via event.MasterID, percent uint64) *transport.FeedStatus {
	c.t.Helper()
	for n := 0; ; n++ {
		status := must[transport.FeedStatus](c, via, &transport.GetFeed{})
		if o := status.Outbox; o.UnsentBytes >= o.QuotaBytes/100*percent {
			c.knows(via, status.Seq)
			return status
		}
		if n%20 == 0 {
			for agent := 1; agent <= 3; agent++ {
				must[transport.HeartbeatOk](c, via, &transport.Heartbeat{AgentID: registration(agent).AgentID})
			}
		}
		must[transport.ProposeOk](c, via, proposeOf(c.t, event.SettingChanged{Key: "filler", Value: strings.Repeat("x", 3000)}))
	}
}

// TestFullOutbox takes a grid whose event storage is down through 80 and 90 % of a small quota, changes the leader there, and
// brings event storage back: it drains, is healthy again, and holds every event.
func TestFullOutbox(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a storage node")
	}
	c := wholeGrid(t, func(cfg *Config) {
		cfg.EventSink = sinkAddress
		cfg.Raft.Timeouts = raftgroup.WAN() // what is dropped is counted by each leader: none changes here unasked
	})
	leader, followers := c.leader()
	via := followers[0]
	must[transport.ProposeOk](c, via, proposeOf(t, event.SettingChanged{Key: fsm.SettingFeedQuota, Value: "1"}))
	before := must[transport.ClusterStatus](c, via, &transport.GetClusterStatus{}).Seq

	c.fill(via, 80)
	degraded := last(c.feed(leader, before+1, until(event.TypeClusterDegraded, 1)))
	if body, is := degraded.Body.(event.ClusterDegraded); !is || !strings.Contains(body.Reason, "outbox is over 80 % full") {
		t.Errorf("at 80 %%: %+v", degraded)
	}
	c.dropsTelemetry(via)
	c.dropsReadings(via)

	c.fill(via, 90)
	c.refusesWork(via)
	if err := c.up[leader].core.group.TransferLeadership(t.Context()); err != nil {
		t.Fatal(err)
	}
	leader, _ = c.leader()
	c.dropsTelemetry(via)
	c.dropsReadings(via)
	c.refusesWork(via)

	full := must[transport.ClusterStatus](c, via, &transport.GetClusterStatus{}).Seq
	stop := c.sink()
	defer stop()
	c.feed(leader, full+1, until(event.TypeClusterHealthy, 1))
	must[transport.RegisterAgentOk](c, via, registration(9))
	if beat := must[transport.HeartbeatOk](c, via, &transport.Heartbeat{AgentID: "agent-9"}); beat.Seq <= full {
		t.Errorf("a heartbeat after the outbox drained has seq %d, before it the feed ended at %d", beat.Seq, full)
	}
	c.holds(leader, full)
}

// dropsTelemetry checks that heartbeats are answered, counted and kept out of the log, and that nobody is called silent for it.
func (c *cluster) dropsTelemetry(via event.MasterID) {
	c.t.Helper()
	before := must[transport.FeedStatus](c, via, &transport.GetFeed{})
	beat := must[transport.HeartbeatOk](c, via, &transport.Heartbeat{AgentID: "agent-1"})
	after := must[transport.FeedStatus](c, via, &transport.GetFeed{})
	if after.Dropped != before.Dropped+1 || beat.Seq < before.Seq {
		c.t.Errorf("dropped %d and then %d, seq %d and then %d; the heartbeat was answered with seq %d", before.Dropped, after.Dropped, before.Seq, after.Seq, beat.Seq)
	}
	c.without(event.Telemetry, after.MasterID, before.Seq+1, after.Seq)
	if _, _, body := c.http(after.MasterID, http.MethodGet, "/metrics", ""); !strings.Contains(string(body), fmt.Sprintf("grid_feed_dropped_total{class=\"T\"} %d\n", after.Dropped)) {
		c.t.Errorf("the leader's metrics do not count %d dropped events", after.Dropped)
	}
}

// without checks that no event of a class is in a part of the feed.
func (c *cluster) without(class event.Class, at event.MasterID, from, through uint64) {
	c.t.Helper()
	if from > through {
		return
	}
	for _, e := range c.feed(at, from, func(all []*event.Envelope) bool { return len(all) > 0 && last(all).Seq >= through }) {
		if event.Info(e.Type).Class == class {
			c.t.Errorf("%s is in the feed at %d", e.Type, e.Seq)
		}
	}
}

// refusesWork checks what is refused at 90 %, what is not, and what is said.
func (c *cluster) refusesWork(via event.MasterID) {
	c.t.Helper()
	_, err := ask[transport.RegisterAgentOk](c, via, registration(9))
	wantKind(c.t, err, event.KindFeedFull)
	if err == nil || !strings.Contains(err.Error(), "sink events ("+sinkAddress+") is") || !strings.Contains(err.Error(), "of 1 MiB") {
		c.t.Errorf("a new agent is refused with %v", err)
	}
	code, _, body := c.http(via, http.MethodPost, "/api/agents/register", `{"agent_id":"agent-9"}`)
	if code != http.StatusServiceUnavailable || decode[errorBody](c.t, body).Code != event.KindFeedFull {
		c.t.Errorf("over HTTP: %d %s", code, body)
	}
	must[transport.RegisterAgentOk](c, via, registration(2)) // it is known
	_, err = ask[transport.AssociationTypeOk](c, via, &transport.AssociationType{Name: "new"})
	wantKind(c.t, err, event.KindFeedFull)

	core := c.up[via].core
	begin := core.replica.View().Position()
	commit := event.TxnCommitted{TxnID: event.TxnID{7}, Attempt: 7, Begin: begin, Issued: core.replica.View().Time(), Shards: []event.ShardID{"shard-0", "shard-1"}, OpCount: 2, Coordinator: via}
	_, err = core.proposer.Propose(c.t.Context(), event.Command{RequestID: commit.TxnID, Issued: commit.Issued, Actor: "test", Type: commit.Type(), Body: commit})
	wantKind(c.t, err, event.KindFeedFull)
	abort := event.TxnAborted{TxnID: commit.TxnID, Attempt: 7, Shards: commit.Shards, Reason: "in doubt", Begin: begin}
	if _, err := accepted(core.proposer.Propose(c.t.Context(), *event.NewCommand("test", abort))); err != nil {
		c.t.Errorf("an abort in doubt: %v", err)
	}
	op := transport.Op{Kind: transport.OpLearnConcept, Content: "c", Strength: 1, Confidence: 1}
	ops := make([]transport.Op, 20) // of several shards
	for i := range ops {
		ops[i], ops[i].ID = op, fmt.Sprintf("c-%d", i)
	}
	_, err = core.txns.Run(c.t.Context(), &transport.Txn{Ops: ops})
	wantKind(c.t, err, event.KindFeedFull)
}

// holds checks that event storage has every event of the feed through one.
func (c *cluster) holds(at event.MasterID, through uint64) {
	c.t.Helper()
	for _, e := range c.feed(at, 1, func(all []*event.Envelope) bool { return uint64(len(all)) >= through }) {
		want, err := event.JSON(e)
		got, readErr := transport.Call[transport.QueryConceptOk](c.t.Context(), c.pool, sinkAddress, &transport.QueryConcept{ConceptID: event.ConceptID(e.Seq)})
		if err := errors.Join(err, readErr); err != nil {
			c.t.Fatal(err)
		}
		if e.Seq <= through && (!got.Found || got.Content != string(want)) {
			c.t.Fatalf("event %d in event storage: found %v, %q; want %q", e.Seq, got.Found, got.Content, want)
		}
	}
}

func last[T any](all []T) T { return all[len(all)-1] }
