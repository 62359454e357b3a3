package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// chronicle reads the feed of a world as it grows.
type chronicle struct {
	w       *world
	masters *transport.Masters
	events  []*event.Envelope // event seq is at seq-1
	at      int               // events before it have been looked at
}

func (w *world) chronicle() *chronicle {
	var addrs []string
	for _, p := range w.peers {
		addrs = append(addrs, p.Grid)
	}
	return &chronicle{w: w, masters: transport.NewMasters(addrs, w.pool)}
}

// skip forgets what has happened so far.
func (c *chronicle) skip() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c.read(ctx)
	c.at = len(c.events)
}

func (c *chronicle) read(ctx context.Context) {
	c.w.t.Helper()
	reply, err := transport.As[transport.EventsOk](c.masters.Call(ctx, &transport.ListEvents{From: uint64(len(c.events)) + 1, Limit: 10_000}))
	if err != nil {
		c.w.t.Fatalf("read the feed behind event %d: %v; it has %s", len(c.events), err, c.tail())
	}
	for _, b := range reply.Events {
		e, err := event.DecodeEnvelope(b)
		if err != nil || e.Seq != uint64(len(c.events))+1 {
			c.w.t.Fatalf("event %+v behind event %d: %v", e, len(c.events), err)
		}
		c.events = append(c.events, e)
	}
}

// next waits for the first event behind the last skip that is wanted.
func next[B event.Body](c *chronicle, want func(B) bool) (*event.Envelope, B) {
	c.w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	for from := c.at; ; {
		changed := c.w.member(c.w.running()[0]).Changed()
		c.read(ctx)
		for ; from < len(c.events); from++ {
			if b, is := c.events[from].Body.(B); is && want(b) {
				return c.events[from], b
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			var b B
			c.w.t.Fatalf("no %s as it should be within %s; the feed has %s", b.Type(), 2*patience, c.tail())
		}
	}
}

func whatever[B event.Body](B) bool { return true }

// because checks an event's recorded cause.
func (c *chronicle) because(e, cause *event.Envelope) {
	c.w.t.Helper()
	if e.Cause != cause.Seq {
		c.w.t.Errorf("event %d (%s) has cause %d, want event %d (%s); the feed has %s", e.Seq, e.Type, e.Cause, cause.Seq, cause.Type, c.tail())
	}
}

// tail is what happened since the last skip.
func (c *chronicle) tail() string {
	var b strings.Builder
	for _, e := range c.events[min(c.at, len(c.events)):] {
		if e.Type != event.TypeAgentHeartbeat {
			fmt.Fprintf(&b, "%d:%s<%d ", e.Seq, e.Type, e.Cause)
		}
	}
	return b.String()
}

// inTown runs f in a grid of three masters and three agents with a real storage node each, two shards of three replicas, when it is
// healthy.
func inTown(t *testing.T, seed uint64, f func(t *testing.T, w *world, c *chronicle)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, scenario{seed: seed, masters: 3, estates: 3})
		defer func() {
			w.close()
			for _, err := range w.broken() {
				t.Error(err)
			}
		}()
		c := w.chronicle()
		next(c, func(b event.ClusterHealthy) bool { return b.RunningNodes == 3 })
		next(c, func(b event.ShardFormed) bool { return b.ShardID == "shard-0" })
		next(c, func(b event.ShardFormed) bool { return b.ShardID == "shard-1" })
		f(t, w, c)
	})
}

// TestFormationHasCauses: a node runs because it was asked for, a shard is formed because somebody leads it.
func TestFormationHasCauses(t *testing.T) {
	inTown(t, 31, func(t *testing.T, _ *world, c *chronicle) {
		asked, request := next(c, whatever[event.SpawnRequested])
		runs, _ := next(c, func(b event.SpawnSucceeded) bool { return b.NodeID == request.NodeID })
		c.because(runs, asked)
		created, shard := next(c, whatever[event.ShardCreated])
		leads, _ := next(c, func(b event.ShardLeaderChanged) bool { return b.ShardID == shard.ShardID })
		formed, _ := next(c, func(b event.ShardFormed) bool { return b.ShardID == shard.ShardID })
		c.because(formed, leads)
		if created.Seq > leads.Seq {
			t.Errorf("the shard of event %d is led in event %d", created.Seq, leads.Seq)
		}
	})
}

// TestACrashAndWhatFollows: the leader of a shard is killed: its crash is on record with how it ended, and is the cause of the new
// leader, of the cluster's level, and of the restart, which is the cause of what gets better.
func TestACrashAndWhatFollows(t *testing.T) {
	inTown(t, 32, func(t *testing.T, w *world, c *chronicle) {
		_, lead := next(c, whatever[event.ShardLeaderChanged])
		_, at := next(c, func(b event.SpawnSucceeded) bool { return b.NodeID == lead.NodeID })
		c.skip()
		restart := w.estateOf(at.AgentID).crash()
		defer restart()
		crashed, how := next(c, whatever[event.NodeCrashed])
		if how.NodeID != lead.NodeID || how.Signal != "SIGKILL" || how.ExitCode != nil || how.OOM || how.StderrTail != "the last words" {
			t.Errorf("crashed: %+v", how)
		}
		degraded, _ := next(c, whatever[event.ClusterDegraded])
		c.because(degraded, crashed)
		changed, to := next(c, func(b event.ShardLeaderChanged) bool { return b.ShardID == lead.ShardID })
		c.because(changed, crashed)
		if to.NodeID == lead.NodeID || to.Term <= lead.Term {
			t.Errorf("%+v leads behind %+v", to, lead)
		}
		restart()
		restarted, again := next(c, whatever[event.NodeRestarted])
		c.because(restarted, crashed)
		if again.NodeID != lead.NodeID || again.RestartCount != 1 {
			t.Errorf("restarted: %+v", again)
		}
		healthy, _ := next(c, whatever[event.ClusterHealthy])
		c.because(healthy, restarted)
	})
}

// TestAQuorumIsLostAndRestored: two of three nodes are killed: their crashes take the shards' quorums, those the cluster's level, and a
// restart brings them back.
func TestAQuorumIsLostAndRestored(t *testing.T) {
	inTown(t, 33, func(t *testing.T, w *world, c *chronicle) {
		c.skip()
		one, two := w.settled[0].crash(), w.settled[1].crash()
		defer one()
		defer two()
		lost, what := next(c, whatever[event.ShardQuorumLost])
		if cause := c.events[lost.Cause-1]; cause.Type != event.TypeNodeCrashed || what.Live != 1 || what.Needed != 2 {
			t.Errorf("%+v because of event %d (%s)", what, cause.Seq, cause.Type)
		}
		critical, _ := next(c, whatever[event.ClusterCritical])
		if cause := c.events[critical.Cause-1]; cause.Type != event.TypeShardQuorumLost {
			t.Errorf("critical because of event %d (%s)", cause.Seq, cause.Type)
		}
		one()
		two()
		back, _ := next(c, func(b event.ShardQuorumRestored) bool { return b.ShardID == what.ShardID })
		if cause := c.events[back.Cause-1]; cause.Type != event.TypeNodeRestarted {
			t.Errorf("restored because of event %d (%s)", cause.Seq, cause.Type)
		}
		next(c, whatever[event.ClusterHealthy])
	})
}

// TestASilentAgentAndWhatFollows: a machine that cannot be reached makes its agent degraded, then offline, and the cluster degraded; it
// recovers with its next heartbeat.
func TestASilentAgentAndWhatFollows(t *testing.T) {
	inTown(t, 34, func(t *testing.T, w *world, c *chronicle) {
		c.skip()
		e := w.settled[2]
		w.net.Down(e.host)
		late, how := next(c, whatever[event.AgentDegraded])
		if how.AgentID != e.id || how.SecondsSinceHeartbeat < 15 || how.SecondsSinceHeartbeat > 20 {
			t.Errorf("degraded: %+v", how)
		}
		degraded, _ := next(c, whatever[event.ClusterDegraded])
		c.because(degraded, late)
		offline, _ := next(c, whatever[event.AgentOffline])
		c.because(offline, late)
		w.net.Up(e.host)
		recovered, _ := next(c, whatever[event.AgentRecovered])
		if cause := c.events[recovered.Cause-1]; cause.Type != event.TypeAgentHeartbeat && cause.Type != event.TypeAgentRegistered {
			t.Errorf("recovered because of event %d (%s)", cause.Seq, cause.Type)
		}
		healthy, _ := next(c, whatever[event.ClusterHealthy])
		c.because(healthy, recovered)
	})
}

// TestALostMasterAndWhatFollows: a follower dies and comes back.
func TestALostMasterAndWhatFollows(t *testing.T) {
	inTown(t, 35, func(t *testing.T, w *world, c *chronicle) {
		leader, _, err := w.leader(0)
		if err != nil {
			t.Fatal(err)
		}
		c.skip()
		victim := w.ids[(slices.Index(w.ids, leader)+1)%len(w.ids)]
		w.crash(victim)
		away, who := next(c, whatever[event.MasterUnreachable])
		if who.MasterID != victim {
			t.Errorf("unreachable: %+v, want %s", who, victim)
		}
		degraded, _ := next(c, whatever[event.ClusterDegraded])
		c.because(degraded, away)
		w.restart()
		back, _ := next(c, whatever[event.MasterRecovered])
		healthy, _ := next(c, whatever[event.ClusterHealthy])
		c.because(healthy, back)
	})
}

func (w *world) estateOf(id event.AgentID) *estate {
	for _, e := range w.settled {
		if e.id == id {
			return e
		}
	}
	w.t.Fatalf("no agent %s", id)
	return nil
}
