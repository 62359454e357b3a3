package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/transport"
)

// The retry table once more, written down independently: what happens after a first answer of each kind.
type expectation struct {
	nodes []event.NodeID // asked, in order
	fails bool           // the first answer is the caller's
}

// TestRetryTable walks over every kind of error, for what is safe to repeat and for what is not.
func TestRetryTable(t *testing.T) {
	n1, n2 := nodeID(0), nodeID(1)
	once, same, next := expectation{[]event.NodeID{n1}, true}, expectation{[]event.NodeID{n1, n1}, false}, expectation{[]event.NodeID{n1, n2, n1}, false}
	table := map[event.Kind]expectation{ // node-2 is no leader: it sends back to node-1
		event.KindUnavailable: next, event.KindUnknownOutcome: next, event.KindDeadline: next,
		event.KindNotLeader: next, event.KindWrongShard: same, event.KindOldIncarnation: same,
		event.KindMoving: same, event.KindBusy: same, event.KindLocked: same,
	}
	for _, kind := range []event.Kind{event.KindInvalid, event.KindTooLarge, event.KindNotFound, event.KindUnknownAgent, event.KindConflict,
		event.KindRefused, event.KindNotLeader, event.KindWrongShard, event.KindMoving, event.KindBusy, event.KindLocked, event.KindAborted,
		event.KindPrecondition, event.KindInDoubt, event.KindDeadline, event.KindUnavailable, event.KindUnknownOutcome, event.KindExpired,
		event.KindFromTheFuture, event.KindIDReused, event.KindTooOld, event.KindNeedsTxn, event.KindTrimmed, event.KindLagging, event.KindOldIncarnation,
		event.KindUnsupported, event.KindInternal} {
		want, ok := table[kind]
		if !ok {
			want = once
		}
		for name, req := range map[string]any{"write": &transport.LearnConcept{ConceptID: "a"}, "read": &transport.QueryConcept{ConceptID: "a"}} {
			inGrid(t, 2, 1, func(t *testing.T, g *fakeGrid) {
				g.fault = func(_ event.NodeID, _ *transport.Routed, nth int) error {
					if nth == 1 {
						return &event.Error{Kind: kind, Message: "first"}
					}
					return nil
				}
				c := g.client(t)
				defer c.Close()
				_, err := c.Do(t.Context(), req)
				if (err != nil) != want.fails || err != nil && wireError(err).Kind != kind {
					t.Errorf("%s, %s: %v", kind, name, err)
				}
				var asked []event.NodeID
				ids := map[event.RequestID]bool{}
				for _, r := range g.received() {
					asked = append(asked, r.node)
					ids[r.RequestID] = true
				}
				if !slices.Equal(asked, want.nodes) || len(ids) != 1 || ids[event.RequestID{}] != (name == "read") {
					t.Errorf("%s, %s: asked %v with ids %v", kind, name, asked, ids)
				}
			})
		}
	}
}

// TestUnsafeRequestsAreSentOnce: a write that its caller gave no id is not repeated when it may have happened.
func TestUnsafeRequestsAreSentOnce(t *testing.T) {
	for kind, requests := range map[event.Kind]int{event.KindUnknownOutcome: 1, event.KindUnavailable: 3} {
		inGrid(t, 2, 1, func(t *testing.T, g *fakeGrid) {
			g.fault = func(_ event.NodeID, _ *transport.Routed, nth int) error {
				if nth == 1 {
					return &event.Error{Kind: kind, Message: "first"}
				}
				return nil
			}
			c := g.client(t)
			defer c.Close()
			_, err := c.Shard(t.Context(), "shard-0", ShardRequest{Request: &transport.Write{Ops: []transport.Op{{Kind: transport.OpLearnConcept, ID: "a"}}}})
			if got := len(g.received()); got != requests {
				t.Errorf("%s: %d requests", kind, got)
			}
			if kind == event.KindUnknownOutcome && wireError(err).Kind != kind {
				t.Error(err)
			}
		})
	}
}

// TestUnknownStaysUnknown: a write that may have happened is not reported as a failure because later attempts failed.
func TestUnknownStaysUnknown(t *testing.T) {
	for name, tt := range map[string]struct {
		req  any
		want event.Kind
	}{"write": {&transport.LearnConcept{ConceptID: "a"}, event.KindUnknownOutcome}, "read": {&transport.QueryConcept{ConceptID: "a"}, event.KindUnavailable}} {
		inGrid(t, 3, 1, func(t *testing.T, g *fakeGrid) {
			g.fault = func(_ event.NodeID, _ *transport.Routed, nth int) error {
				if nth == 1 {
					return &event.Error{Kind: event.KindUnknownOutcome, Message: "lost"}
				}
				return &event.Error{Kind: event.KindUnavailable, Message: "no quorum"}
			}
			c := g.client(t)
			defer c.Close()
			began := time.Now()
			_, err := c.Do(t.Context(), tt.req)
			if wireError(err).Kind != tt.want || !strings.Contains(err.Error(), "shard-0") {
				t.Errorf("%s: %v", name, err)
			}
			if took := time.Since(began); took != DefaultDeadline {
				t.Errorf("%s: gave up after %v", name, took)
			}
		})
	}
}

// TestWritesTakeEffectOnce: the answer is lost, the retry gets the first one.
func TestWritesTakeEffectOnce(t *testing.T) {
	inGrid(t, 1, 1, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		g.fault = func(_ event.NodeID, r *transport.Routed, nth int) error {
			if nth == 1 {
				_, _, _ = g.shards["shard-0"].do(r) // done, and the answer is lost
				return &event.Error{Kind: event.KindUnknownOutcome, Message: "lost"}
			}
			return nil
		}
		ok, err := do[transport.LearnConceptOk](t.Context(), c, &transport.LearnConcept{ConceptID: "a"})
		if err != nil || ok.Sequence != 1 || g.shards["shard-0"].seq != 1 {
			t.Errorf("%+v, %v, %d writes", ok, err, g.shards["shard-0"].seq)
		}
		if err := c.LearnConcept(t.Context(), &transport.LearnConcept{ConceptID: "a"}); err != nil {
			t.Error(err)
		}
		r := g.received()
		if r[0].RequestID != r[1].RequestID || r[0].Issued != r[1].Issued || r[0].Issued == 0 || r[2].RequestID == r[0].RequestID {
			t.Errorf("ids %v %v %v", r[0].RequestID, r[1].RequestID, r[2].RequestID)
		}
	})
}

func TestFindingTheLeader(t *testing.T) {
	read := &transport.QueryConcept{ConceptID: "a"}
	tests := []struct {
		name    string
		prepare func(g *fakeGrid)
		asked   []event.NodeID
		within  time.Duration
	}{
		{"the map is right", func(*fakeGrid) {}, []event.NodeID{"node-1"}, 0},
		{"another leads, and is named", func(g *fakeGrid) { g.lead("shard-0", "node-3", false) }, []event.NodeID{"node-1", "node-3"}, 0},
		{"nobody is recorded", func(g *fakeGrid) { g.lead("shard-0", "", true); g.lead("shard-0", "node-2", false) }, []event.NodeID{"node-1", "node-2"}, 0},
		{"the leader's address is unknown", func(g *fakeGrid) {
			g.publish(func(m *transport.ShardMapOk) {
				m.Map.Shards[0].Replicas = slices.Clone(m.Map.Shards[0].Replicas)
				m.Map.Shards[0].Replicas[0].Endpoint = ""
			})
			g.lead("shard-0", "node-2", false)
		}, []event.NodeID{"node-2"}, 0},
		{"the leader is named by its replica", func(g *fakeGrid) {
			g.lead("shard-0", "node-2", false)
			g.fault = func(n event.NodeID, _ *transport.Routed, nth int) error {
				if nth == 1 {
					return &event.Error{Kind: event.KindNotLeader, Leader: "node-2.00"}
				}
				return nil
			}
		}, []event.NodeID{"node-1", "node-2"}, 0},
		{"the named leader is an address nobody knows", func(g *fakeGrid) {
			g.lead("shard-0", "node-2", false)
			g.fault = func(n event.NodeID, _ *transport.Routed, _ int) error {
				if n != "node-2" {
					return &event.Error{Kind: event.KindNotLeader, Leader: "10.0.0.1:1"}
				}
				return nil
			}
		}, nil, time.Second},
		{"nobody leads for a second", func(g *fakeGrid) {
			began := time.Now()
			g.fault = func(event.NodeID, *transport.Routed, int) error {
				if time.Since(began) < time.Second {
					return &event.Error{Kind: event.KindNotLeader}
				}
				return nil
			}
		}, nil, 3 * time.Second},
		{"the leader hangs", func(g *fakeGrid) {
			g.locked(func() { g.down["node-1"] = true })
			g.lead("shard-0", "node-2", false)
		}, []event.NodeID{"node-1", "node-2"}, attemptLimit + time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inGrid(t, 3, 1, func(t *testing.T, g *fakeGrid) {
				tt.prepare(g)
				c := g.client(t)
				defer c.Close()
				began := time.Now()
				if _, err := c.Do(t.Context(), read); err != nil {
					t.Error(err)
				}
				var asked []event.NodeID
				for _, r := range g.received() {
					asked = append(asked, r.node)
				}
				if tt.asked != nil && !slices.Equal(asked, tt.asked) {
					t.Errorf("asked %v, want %v", asked, tt.asked)
				}
				if took := time.Since(began); took > tt.within {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

// TestWrongShardWaitsForTheMap: who is told of a newer map waits for it instead of asking the same node again and again.
func TestWrongShardWaitsForTheMap(t *testing.T) {
	inGrid(t, 2, 1, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		g.fault = func(_ event.NodeID, r *transport.Routed, _ int) error {
			if r.Epoch.Seq < 11 {
				time.AfterFunc(500*time.Millisecond, func() { g.publish(func(*transport.ShardMapOk) {}) })
				return &event.Error{Kind: event.KindWrongShard, Epoch: 11}
			}
			return nil
		}
		if _, err := c.Concept(t.Context(), "a"); err != nil || len(g.received()) != 2 {
			t.Errorf("%v after %d requests", err, len(g.received()))
		}
	})
}

func TestDeadlinesTravel(t *testing.T) {
	inGrid(t, 1, 1, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
		defer cancel()
		if _, err := c.Concept(ctx, "a"); err != nil {
			t.Error(err)
		}
		if _, err := c.Concept(t.Context(), "a"); err != nil {
			t.Error(err)
		}
		if r := g.received(); r[0].TimeoutMillis != 700 || r[1].TimeoutMillis != uint32(attemptLimit.Milliseconds()) {
			t.Errorf("%d and %d ms", r[0].TimeoutMillis, r[1].TimeoutMillis)
		}
	})
}

// TestDeadlineAtTheNode: what a node says at the deadline is heard.
func TestDeadlineAtTheNode(t *testing.T) {
	inGrid(t, 1, 1, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		g.fault = func(_ event.NodeID, r *transport.Routed, _ int) error {
			time.Sleep(time.Duration(r.TimeoutMillis)*time.Millisecond + 100*time.Millisecond) // and the way back
			return &event.Error{Kind: event.KindInDoubt, Message: "undecided", Txn: event.RequestID{7}}
		}
		if _, err := c.Concept(t.Context(), "a"); wireError(err).Kind != event.KindInDoubt {
			t.Error(err)
		}
	})
}

func TestStaleReadsGoAnywhere(t *testing.T) {
	inGrid(t, 3, 1, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		g.lead("shard-0", "", true)
		r, err := c.Shard(t.Context(), "shard-0", ShardRequest{Consistency: Stale, Request: &transport.QueryConcept{ConceptID: "a"}})
		if err != nil || len(g.received()) != 1 || r.Epoch != mapAt(1, 11) {
			t.Errorf("%+v, %v after %d requests", r, err, len(g.received()))
		}
	})
}

func TestUnknownShard(t *testing.T) {
	inGrid(t, 1, 1, func(t *testing.T, g *fakeGrid) {
		c := g.client(t)
		defer c.Close()
		if _, err := c.Shard(t.Context(), "shard-9", ShardRequest{Request: &transport.GetStats{}}); wireError(err).Kind != event.KindNotFound {
			t.Error(err)
		}
	})
}

func TestMapIsWatched(t *testing.T) {
	t.Run("not before the first call", func(t *testing.T) {
		inGrid(t, 1, 1, func(t *testing.T, g *fakeGrid) {
			c := g.client(t)
			time.Sleep(time.Minute)
			g.locked(func() {
				if g.watches != 0 {
					t.Error("watched before anything was asked")
				}
			})
			_ = c.Close()
			if _, err := c.Concept(t.Context(), "a"); err == nil {
				t.Error("answers after Close")
			}
		})
	})
	t.Run("until it is complete", func(t *testing.T) {
		inGrid(t, 1, 2, func(t *testing.T, g *fakeGrid) {
			whole := g.current.Map.Shards
			g.publish(func(m *transport.ShardMapOk) { m.Map.Shards = whole[:1] })
			c := g.client(t)
			defer c.Close()
			time.AfterFunc(3*time.Second, func() { g.publish(func(m *transport.ShardMapOk) { m.Map.Shards = whole }) })
			began := time.Now()
			if _, err := c.Stats(t.Context()); err != nil || time.Since(began) != 3*time.Second {
				t.Errorf("%v after %v", err, time.Since(began))
			}
		})
	})
	t.Run("in vain", func(t *testing.T) {
		inGrid(t, 1, 1, func(t *testing.T, g *fakeGrid) {
			g.publish(func(m *transport.ShardMapOk) { m.Map = shardmap.Map{} })
			c := g.client(t)
			defer c.Close()
			began := time.Now()
			if _, err := c.Stats(t.Context()); wireError(err).Kind != event.KindUnavailable || time.Since(began) != DefaultDeadline {
				t.Errorf("%v after %v", err, time.Since(began))
			}
		})
	})
	t.Run("a refusal is the caller's answer", func(t *testing.T) {
		inGrid(t, 1, 1, func(t *testing.T, g *fakeGrid) {
			refuse := true
			g.watchFault = func() error {
				if refuse {
					return &event.Error{Kind: event.KindUnsupported, Message: "no maps here"}
				}
				return nil
			}
			c := g.client(t)
			defer c.Close()
			if _, err := c.Stats(t.Context()); err == nil || !strings.Contains(err.Error(), "no maps here") {
				t.Error(err)
			}
			g.locked(func() { g.watchFault = nil })
			time.Sleep(lastWatchPause)
			if _, err := c.Stats(t.Context()); err != nil {
				t.Errorf("not asked again: %v", err)
			}
		})
	})
}

// TestMapNeverGoesBack: older epochs, other grids and other histories are not taken; a later history is, with a smaller seq.
func TestMapNeverGoesBack(t *testing.T) {
	at := func(grid string, n, seq uint64, random byte) *transport.ShardMapOk {
		return &transport.ShardMapOk{GridID: grid, Incarnation: event.Incarnation{N: n, Random: [8]byte{random}}, Map: shardmap.Map{Epoch: mapAt(n, seq), Base: 1}}
	}
	w := newMapWatch(nil, nil)
	for _, step := range []struct {
		msg  any
		kind event.Kind
		want event.Position
	}{
		{at("g", 1, 10, 1), "", mapAt(1, 10)}, {at("g", 1, 9, 1), "", mapAt(1, 10)}, {at("g", 1, 12, 1), "", mapAt(1, 12)},
		{at("other", 1, 99, 1), event.KindRefused, mapAt(1, 12)}, {at("g", 1, 99, 2), event.KindOldIncarnation, mapAt(1, 12)},
		{at("g", 2, 3, 5), "", mapAt(2, 3)}, {at("g", 1, 99, 1), event.KindOldIncarnation, mapAt(2, 3)}, {at("g", 2, 4, 5), "", mapAt(2, 4)},
		{&transport.FlushOk{}, event.KindInternal, mapAt(2, 4)},
	} {
		err := w.receive(step.msg)
		if (err == nil) != (step.kind == "") || err != nil && wireError(err).Kind != step.kind || w.current.Epoch != step.want {
			t.Errorf("%+v: %v, at %v", step.msg, err, w.current.Epoch)
		}
	}
	w.close()
}

func TestNewNeedsMasters(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("a client without masters")
	}
	source := &fixedMap{}
	if _, err := New(Config{Map: source}); err == nil {
		t.Error("a client without anybody to commit transactions")
	}
	c, err := New(Config{Map: source, Txn: func(context.Context, *transport.Txn) (*transport.TxnOk, error) { return nil, errors.New("no") }})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := c.Stats(ctx); wireError(err).Kind != event.KindUnavailable {
		t.Error(err)
	}
	if _, err := c.Txn(t.Context(), []transport.Op{{Kind: transport.OpLearnConcept, ID: "a"}}); err == nil || err.Error() != "no" {
		t.Error(err)
	}
}

// fixedMap is a MapSource without a map.
type fixedMap struct{ m shardmap.Map }

func (f *fixedMap) Map() *shardmap.Map { return &f.m }
func (f *fixedMap) WaitNewer(ctx context.Context, _ event.Position) error {
	<-ctx.Done()
	return fmt.Errorf("wait: %w", ctx.Err())
}
