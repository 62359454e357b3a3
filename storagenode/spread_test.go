package storagenode

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
)

func TestPreferred(t *testing.T) {
	for _, c := range []struct{ name, wanted, have, want string }{
		{"the first of the map", "b a c", "a b c", "b"},
		{"a learner comes", "b a c d+", "a b c", ""},
		{"it is there", "b a c d+", "a b c d+", ""},
		{"one leaves", "b a- c", "a b c", ""},
		{"one has left, and the map does not know", "b a c", "a b", ""},
		{"one came that the map does not know", "b a c", "a b c d", ""},
		{"the map names another one", "b a d", "a b c", ""},
		{"no configuration yet", "b a c", "", ""},
		{"a shard of one", "a", "a", "a"},
	} {
		if got := preferred(shardOf(c.wanted), configurationOf(c.have)); string(got) != c.want {
			t.Errorf("%s: map %q, configuration %q: %q, want %q", c.name, c.wanted, c.have, got, c.want)
		}
	}
	forming := shardOf("b a c")
	forming.State = shardmap.Forming
	if got := preferred(forming, configurationOf("a b c")); got != "" {
		t.Errorf("of a shard that has not formed: %q", got)
	}
}

// TestPatience: a leadership that comes back is kept longer each time, up to a bound, and that is forgotten when one has lasted.
func TestPatience(t *testing.T) {
	p, now := patience{least: 10 * time.Second}, time.Now()
	var got []time.Duration
	for range 9 {
		p.elected(now)
		got = append(got, p.now/time.Second)
		now = now.Add(p.now)
		p.tried(now, false)
		now = now.Add(time.Second)
	}
	if want := []time.Duration{10, 20, 40, 80, 160, 320, 600, 600, 600}; !slices.Equal(got, want) {
		t.Errorf("pauses of %d s, want %d", got, want)
	}
	p.elected(now.Add(spreadLasting * spreadMost))
	if p.now != 10*time.Second {
		t.Errorf("%v after a hand-over that lasted", p.now)
	}
	p.tried(now, true)
	if p.now != 20*time.Second {
		t.Errorf("%v after a failure", p.now)
	}
}

func TestCalm(t *testing.T) {
	start := time.Now()
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	c := calm{since: start, looked: start, applied: 100}
	for _, step := range []struct {
		at       int
		applied  uint64
		prepared bool
		since    int
	}{
		{2, 140, false, 0}, // 20 a second
		{4, 181, false, 4},
		{6, 181, false, 4},
		{8, 181, true, 8},
		{10, 200, false, 8},
	} {
		c.look(at(step.at), step.applied, step.prepared)
		if !c.since.Equal(at(step.since)) {
			t.Errorf("at %d s: calm since %v", step.at, c.since.Sub(start))
		}
	}
}

// unhurried makes idle groups cheap in virtual time: one heartbeat counts for ten. Leaders move as they do by default.
func unhurried(cfg *Config) {
	t := &cfg.Groups.Timeouts
	t.Heartbeat, t.Election, t.Lease, t.Commit = 2*time.Second, 2*time.Second, 2*time.Second, time.Second
	cfg.Groups.SegmentBytes = 64 << 10
	cfg.SpreadAfter = DefaultConfig().SpreadAfter
}

// rotate makes the voters' order of each shard begin one node further.
func (c *testCluster) rotate() {
	c.master.change(func(m *shardmap.Map) {
		for i := range m.Shards {
			r := m.Shards[i].Replicas
			k := i % len(r)
			m.Shards[i].Replicas = slices.Concat(r[k:], r[:k])
		}
	})
}

// leads counts the shards of each leader, as the masters know them.
func (c *testCluster) leads() map[event.NodeID]int {
	c.master.mu.Lock()
	defer c.master.mu.Unlock()
	out := map[event.NodeID]int{}
	for _, s := range c.master.state.Map.Shards {
		out[s.Leader]++
	}
	return out
}

// reports is how many leaders the masters were told of.
func (c *testCluster) reports() int {
	c.master.mu.Lock()
	defer c.master.mu.Unlock()
	return len(c.master.reported)
}

func (c *testCluster) wantLeads(when string) {
	c.t.Helper()
	want := map[event.NodeID]int{"node-1": 4, "node-2": 4, "node-3": 4}
	if got := c.leads(); !maps.Equal(got, want) {
		c.t.Fatalf("%s the nodes lead %v", when, got)
	}
}

func TestLeadersSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 12, unhurried)
		c.rotate()
		time.Sleep(9 * time.Second)
		before := c.reports()
		time.Sleep(20 * time.Second)
		c.wantLeads("29 s after the start")
		settled := c.reports()
		if settled == before {
			t.Error("no leader had to move: the test shows nothing")
		}
		time.Sleep(time.Minute)
		if got := c.reports(); got != settled {
			t.Errorf("%d leaders were elected in a quiet minute", got-settled)
		}

		c.stop("node-1")
		time.Sleep(time.Minute)
		if got := c.leads(); got["node-2"]+got["node-3"] != 12 {
			t.Fatalf("without node-1 the nodes lead %v", got)
		}
		c.start("node-1", false)
		time.Sleep(9 * time.Second)
		if got := c.leads(); got["node-1"] != 0 {
			t.Errorf("9 s after its start node-1 leads %d", got["node-1"])
		}
		time.Sleep(20 * time.Second)
		c.wantLeads("29 s after node-1 came back")
	})
}

// TestNobodyIsHandedOverUnderLoad: a shard that is written to keeps its leader, and moves when that ends; not one write fails
// for it.
func TestNobodyIsHandedOverUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 1, unhurried)
		const shard = event.ShardID("shard-0")
		leader, term := c.leader(shard, 0)
		c.master.change(func(m *shardmap.Map) { // somebody else shall lead
			r := m.Shards[0].Replicas
			for r[0].NodeID == leader {
				r[0], r[1] = r[1], r[0]
			}
		})
		stop, done := context.WithCancel(t.Context())
		pace := time.Second / (2 * calmEntries)
		var load sync.WaitGroup
		load.Go(func() {
			for i := 0; stop.Err() == nil; i++ {
				if _, err := c.send(leader, write(shard, concept(fmt.Sprint("w", i)))); err != nil {
					t.Errorf("write %d: %v", i, err)
					return
				}
				time.Sleep(pace)
			}
		})
		time.Sleep(30 * time.Second)
		done()
		load.Wait()
		if now, then := c.leader(shard, 0); now != leader || then != term {
			t.Fatalf("under load leadership went to %s in term %d", now, then)
		}
		time.Sleep(15 * time.Second)
		if now, _ := c.leader(shard, 0); now == leader {
			t.Error("leadership did not move when the load had ended")
		}
	})
}

func TestNobodyIsHandedOverWhileATransactionIsPrepared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 1, func(cfg *Config) {
			unhurried(cfg)
			cfg.InDoubtAfter = never
		})
		leader, term := c.leader("shard-0", 0)
		c.master.change(func(m *shardmap.Map) {
			r := m.Shards[0].Replicas
			for r[0].NodeID == leader {
				r[0], r[1] = r[1], r[0]
			}
		})
		p := prepareOf(1, 1, "p")
		c.vote(p)
		time.Sleep(time.Minute)
		if now, then := c.leader("shard-0", 0); now != leader || then != term {
			t.Fatalf("leadership went to %s in term %d", now, then)
		}
		c.finish(finishOf(p, true))
		time.Sleep(15 * time.Second)
		if now, _ := c.leader("shard-0", 0); now == leader {
			t.Error("leadership did not move when the transaction had ended")
		}
	})
}
