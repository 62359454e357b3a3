package client

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// slowly makes nodes take their time: of the nth request, as told.
func (g *fakeGrid) slowly(took func(node event.NodeID, nth int) time.Duration) {
	g.locked(func() {
		g.fault = func(node event.NodeID, _ *transport.Routed, nth int) error {
			time.Sleep(took(node, nth))
			return nil
		}
	})
}

func always(d time.Duration) func(event.NodeID, int) time.Duration {
	return func(event.NodeID, int) time.Duration { return d }
}

// reads reads n times and returns how long the last one took.
func reads(t *testing.T, c *Client, n int, consistency string) (last time.Duration) {
	t.Helper()
	for range n {
		begun := time.Now()
		if _, err := c.Shard(t.Context(), "shard-0", ShardRequest{Consistency: consistency, Request: &transport.QueryConcept{ConceptID: "a"}}); err != nil {
			t.Fatal(err)
		}
		last = time.Since(begun)
	}
	return last
}

func wantHedges(t *testing.T, c *Client, sent, won uint64) {
	t.Helper()
	if s, w := c.hedges.counts(); s != sent || w != won {
		t.Errorf("%d second requests of which %d won, want %d and %d", s, w, sent, won)
	}
}

// TestALateReadIsHedged: after the 95th percentile it is sent again, linearizable over another connection to the leader, and
// the first answer counts.
func TestALateReadIsHedged(t *testing.T) {
	inGrid(t, 3, 1, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		g.slowly(always(20 * time.Millisecond))
		reads(t, c, 40, "")
		g.slowly(func(_ event.NodeID, nth int) time.Duration {
			if nth == 41 {
				return 3 * time.Second
			}
			return 5 * time.Millisecond
		})
		if took := reads(t, c, 1, ""); took != 25*time.Millisecond+time.Microsecond {
			t.Errorf("took %v", took)
		}
		wantHedges(t, c, 1, 1)
		if r := g.received(); len(r) != 42 || r[41].node != "node-1" {
			t.Errorf("%d requests, the last at %s", len(r), r[len(r)-1].node)
		}
		time.Sleep(5 * time.Second) // the loser's answer is dropped, and the connection lives
		if took := reads(t, c, 1, ""); took != 5*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

// TestTheNewLeaderIsHedgedTo: the map names another leader while the old one hangs.
func TestTheNewLeaderIsHedgedTo(t *testing.T) {
	inGrid(t, 3, 1, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		g.slowly(always(20 * time.Millisecond))
		reads(t, c, 40, "")
		time.AfterFunc(5*time.Millisecond, func() { g.lead("shard-0", "node-2", true) })
		g.slowly(func(node event.NodeID, _ int) time.Duration {
			if node == "node-1" {
				return time.Hour
			}
			return time.Millisecond
		})
		if took := reads(t, c, 1, ""); took != 21*time.Millisecond+time.Microsecond {
			t.Errorf("took %v", took)
		}
		wantHedges(t, c, 1, 1)
	})
}

// TestAFailedHedgeIsNoAnswer: the first request's answer is waited for.
func TestAFailedHedgeIsNoAnswer(t *testing.T) {
	inGrid(t, 3, 1, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		g.slowly(always(20 * time.Millisecond))
		reads(t, c, 40, "")
		g.locked(func() {
			g.fault = func(_ event.NodeID, _ *transport.Routed, nth int) error {
				if nth == 42 {
					return &event.Error{Kind: event.KindInternal, Message: "broken"}
				}
				time.Sleep(time.Second)
				return nil
			}
		})
		if took := reads(t, c, 1, ""); took != time.Second {
			t.Errorf("took %v", took)
		}
		wantHedges(t, c, 1, 0)
	})
}

// TestHedgesAreFew: when everything becomes slow, no more than one read in twenty is sent twice; and a burst after a calm is
// bounded.
func TestHedgesAreFew(t *testing.T) {
	inGrid(t, 3, 1, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		g.slowly(always(20 * time.Millisecond))
		reads(t, c, 40, "")
		g.slowly(always(time.Second))
		var wg sync.WaitGroup
		for range 200 {
			wg.Go(func() { reads(t, c, 1, "") })
		}
		wg.Wait()
		if sent, _ := c.hedges.counts(); sent == 0 || sent > 240/hedgeShare {
			t.Errorf("%d second requests for 240 reads", sent)
		}
		if n := len(g.received()); n > 240+240/hedgeShare {
			t.Errorf("%d requests for 240 reads", n)
		}
	})
	var h hedging
	for range 10_000 {
		h.read()
	}
	n := 0
	for h.take() {
		n++
	}
	if n != hedgeSaved {
		t.Errorf("%d second requests at once after a calm", n)
	}
}

// TestWritesAreNeverHedged: however late they are.
func TestWritesAreNeverHedged(t *testing.T) {
	inGrid(t, 3, 1, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		reads(t, c, 200, "")
		for i := range 60 {
			g.slowly(always(time.Duration(i%3) * time.Second))
			if err := c.LearnConcept(t.Context(), &transport.LearnConcept{ConceptID: "a"}); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(g.received()); n != 260 {
			t.Errorf("%d requests for 60 writes", n-200)
		}
		wantHedges(t, c, 0, 0)
	})
}

// TestStaleReadsGoToTheQuickest: a slow replica is asked seldom, and again when it has become quick; one that is late all of a
// sudden is hedged at another one.
func TestStaleReadsGoToTheQuickest(t *testing.T) {
	inGrid(t, 3, 1, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		c.random = rand.New(rand.NewPCG(1, 2)).IntN
		share := func(n int) float64 { // of node-3 in the next n reads
			before := len(g.received())
			reads(t, c, n, Stale)
			asked := 0
			for _, r := range g.received()[before:] {
				if r.node == "node-3" {
					asked++
				}
			}
			return float64(asked) / float64(n)
		}
		slow := func(node event.NodeID, _ int) time.Duration {
			if node == "node-3" {
				return 50 * time.Millisecond
			}
			return 2 * time.Millisecond
		}
		g.slowly(slow)
		share(10) // all become known
		if s := share(200); s > 0.02 {
			t.Errorf("the slow one had %.2f of the reads", s)
		}
		g.slowly(always(2 * time.Millisecond))
		time.Sleep(2 * time.Minute) // what was known of it fades
		if s := share(200); s < 0.1 {
			t.Errorf("quick again it had %.2f of the reads", s)
		}
		before := len(g.received())
		sent, _ := c.hedges.counts()
		g.slowly(func(_ event.NodeID, nth int) time.Duration {
			if nth == before+1 {
				return 3 * time.Second
			}
			return time.Millisecond
		})
		if took := reads(t, c, 1, Stale); took != hedgeFloor+time.Millisecond+time.Microsecond {
			t.Errorf("took %v", took)
		}
		r := g.received()
		if now, _ := c.hedges.counts(); len(r) != before+2 || r[before].node == r[before+1].node || now != sent+1 {
			t.Errorf("asked %v", r[before:])
		}
	})
}

// TestAnUnreachableReplicaIsAvoided: a stale read that cannot be had at one replica is had at another, and the next ones do not try it.
func TestAnUnreachableReplicaIsAvoided(t *testing.T) {
	inGrid(t, 2, 1, func(t *testing.T, g *fakeGrid) {
		g.publish(func(m *transport.ShardMapOk) {
			m.Map.Shards[0].Replicas = append(m.Map.Shards[0].Replicas[:1:1], m.Map.Shards[0].Replicas[1])
			m.Map.Shards[0].Replicas[0].Endpoint = "nowhere:1"
		})
		c := g.client(t)
		defer c.Close()
		c.random = rand.New(rand.NewPCG(1, 2)).IntN
		reads(t, c, 5, Stale)
		begun := time.Now()
		reads(t, c, 20, Stale)
		if took := time.Since(begun); took > 0 {
			t.Errorf("the reads waited %v", took)
		}
	})
}

// TestForwardedOverAMaster: a client that reaches no replica, at once or in time, has a master send its requests on; each keeps its
// id and takes effect once.
func TestForwardedOverAMaster(t *testing.T) {
	for name, tt := range map[string]struct {
		prepare func(g *fakeGrid)
		within  time.Duration
	}{
		"at addresses nobody has": {func(g *fakeGrid) {
			g.publish(func(m *transport.ShardMapOk) {
				m.Map.Shards[0].Replicas = append(m.Map.Shards[0].Replicas[:0:0], m.Map.Shards[0].Replicas...)
				for i := range m.Map.Shards[0].Replicas {
					m.Map.Shards[0].Replicas[i].Endpoint = fmt.Sprintf("nowhere:%d", i)
				}
			})
		}, 2 * time.Second},
		"at addresses that are not known yet": {func(g *fakeGrid) {
			g.publish(func(m *transport.ShardMapOk) {
				m.Map.Shards[0].Replicas = nil
			})
		}, time.Second},
		"the leader hangs, and the others are not asked in time": {func(g *fakeGrid) {
			g.locked(func() { g.down["node-1"] = true })
			g.lead("shard-0", "node-2", false)
		}, attemptLimit + time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inGrid(t, 3, 1, func(t *testing.T, g *fakeGrid) {
				g.locked(func() { g.forwards = true })
				tt.prepare(g)
				c := g.client(t)
				defer c.Close()
				begun := time.Now()
				if err := c.LearnConcept(t.Context(), &transport.LearnConcept{ConceptID: "a", Content: "c"}); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(begun); took > tt.within {
					t.Errorf("took %v", took)
				}
				f := g.forwarded
				if len(f) != 1 || f[0].RequestID.IsZero() || g.shards["shard-0"].seq != 1 {
					t.Errorf("sent on %+v, %d writes", f, g.shards["shard-0"].seq)
				}
				if r, err := c.Concept(t.Context(), "a"); err != nil || r.Content != "c" {
					t.Errorf("%+v, %v", r, err)
				}
			})
		})
	}
}

// TestTwoPhaseCommitIsNotForwarded: it is masters' own.
func TestTwoPhaseCommitIsNotForwarded(t *testing.T) {
	inGrid(t, 1, 1, func(t *testing.T, g *fakeGrid) {
		g.locked(func() { g.forwards = true })
		g.without(event.KindUnavailable, "shard-0")
		c := g.client(t)
		defer c.Close()
		if _, err := c.Shard(t.Context(), "shard-0", ShardRequest{Request: &transport.Finish{}}); wireError(err).Kind != event.KindUnavailable || len(g.forwarded) != 0 {
			t.Errorf("%v, %d sent on", err, len(g.forwarded))
		}
	})
}
