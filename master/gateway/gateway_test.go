package gateway

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// grid is a masters' state with one shard on one node, and what that node was asked.
type grid struct {
	t       *testing.T
	network *transport.Memory
	machine *fsm.Machine
	index   uint64
	mu      sync.Mutex
	changed chan struct{} // of the map; closed and replaced by apply; guarded by mu
	gateway *Gateway
	routed  chan *transport.Routed
	txn     func(ctx context.Context, t *transport.Txn) (*transport.TxnOk, error)
}

const nodeAddress = "node:50051"

func newGrid(t *testing.T) *grid {
	g := &grid{t: t, network: transport.NewMemory(), machine: fsm.NewMachine(), changed: make(chan struct{}), routed: make(chan *transport.Routed, 100)}
	g.apply(event.IncarnationStarted{GridID: "g", Incarnation: event.Incarnation{N: 1}, Level: 1, Reason: "test"})
	c, err := client.New(client.Config{Network: g.network, Map: LocalMap(g.machine.View, g.mapChanged),
		Txn: func(ctx context.Context, txn *transport.Txn) (*transport.TxnOk, error) { return g.txn(ctx, txn) }})
	if err != nil {
		t.Fatal(err)
	}
	g.gateway = New(Config{Client: c})
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func (g *grid) apply(body event.Body) {
	g.t.Helper()
	b, err := event.AppendCommand(nil, event.NewCommand("test", body))
	if err != nil {
		g.t.Fatal(err)
	}
	g.index++
	answers, _, err := g.machine.Apply(fsm.EntryMeta{Index: g.index, Time: time.Now().UnixMicro(), Level: 1}, [][]byte{b})
	if err != nil || answers[0].Err != nil {
		g.t.Fatalf("%s: %v, %v", body.Type(), err, answers[0].Err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.changed)
	g.changed = make(chan struct{})
}

func (g *grid) mapChanged() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.changed
}

// form gives the grid its map, with a node that answers every write.
func (g *grid) form() {
	g.t.Helper()
	store := strings.Repeat("0", 32)
	g.apply(event.AgentRegistered{AgentID: "agent-1", Hostname: "h", Platform: "process", AgentEndpoint: "h:1", MaxStorageNodes: 1, Version: "1", StoreID: store})
	g.apply(event.SpawnRequested{NodeID: "node-1", AgentID: "agent-1"})
	g.apply(event.SpawnSucceeded{NodeID: "node-1", AgentID: "agent-1", PID: 1, Port: 50051, Endpoint: nodeAddress, StoreID: store, Start: 1})
	g.apply(event.ShardMapCreated{Strategy: "hash", Shards: 1, Replicas: 1})
	g.apply(event.ShardCreated{ShardID: "shard-0", Voters: []event.Voter{{ReplicaID: event.NewReplicaID("node-1", store), NodeID: "node-1"}}})
	l, err := g.network.Listen(nodeAddress)
	if err != nil {
		g.t.Fatal(err)
	}
	s := transport.NewServer(transport.ServerConfig{Name: "node", Log: slog.New(slog.DiscardHandler),
		Handler: func(_ context.Context, _ *transport.Session, req any) (any, error) {
			r := req.(*transport.Routed)
			g.routed <- r
			return &transport.RoutedOk{Reply: transport.Any{Value: &transport.LearnConceptOk{Sequence: 42}}}, nil
		}})
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), l) }()
	g.t.Cleanup(func() {
		if err := errors.Join(s.Close(), <-served); err != nil {
			g.t.Error(err)
		}
	})
}

// TestWritesAreRoutedByThisMastersMap: the request waits for the map, then goes to the shard's node with a request id.
func TestWritesAreRoutedByThisMastersMap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrid(t)
		go func() {
			time.Sleep(3 * time.Second)
			g.form()
		}()
		reply, err := g.gateway.Handle(t.Context(), nil, &transport.LearnConcept{ConceptID: "a", Content: "c", Strength: 1, Confidence: 1})
		if err != nil {
			t.Fatal(err)
		}
		if ok, is := reply.(*transport.LearnConceptOk); !is || ok.Sequence != 42 {
			t.Errorf("answered %#v", reply)
		}
		if r := <-g.routed; r.ShardID != "shard-0" || r.RequestID.IsZero() || r.Issued == 0 || r.Epoch != g.machine.View().Epoch() {
			t.Errorf("routed %+v", r)
		}
	})
}

// TestRoutedIsSentOn: as it came, id and all; what no client sends is refused.
func TestRoutedIsSentOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrid(t)
		g.form()
		q := &transport.Routed{ShardID: "shard-0", RequestID: event.RequestID{7}, Issued: 5, Request: transport.Any{Value: &transport.LearnConcept{ConceptID: "a", Content: "c"}}}
		reply, err := g.gateway.Handle(t.Context(), nil, q)
		if ok, is := reply.(*transport.RoutedOk); err != nil || !is || ok.Reply.Value.(*transport.LearnConceptOk).Sequence != 42 {
			t.Errorf("answered %#v, %v", reply, err)
		}
		if r := <-g.routed; r.RequestID != q.RequestID || r.Issued != 5 || r.Request.Value.(*transport.LearnConcept).ConceptID != "a" {
			t.Errorf("sent on %+v", r)
		}
		for _, req := range []any{&transport.Prepare{Ops: []transport.Op{{Kind: transport.OpLearnConcept, ID: "a"}}}, &transport.Finish{}, &transport.CloseCheckpoint{ShardID: "shard-0"}} {
			_, err := g.gateway.Handle(t.Context(), nil, &transport.Routed{ShardID: "shard-0", Request: transport.Any{Value: req}})
			if !errors.Is(err, &event.Error{Kind: event.KindUnsupported}) || len(g.routed) != 0 {
				t.Errorf("%T: %v", req, err)
			}
		}
	})
}

func TestEveryRequestHasADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrid(t) // and no map
		g.txn = func(ctx context.Context, txn *transport.Txn) (*transport.TxnOk, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		ops := []transport.Op{{Kind: transport.OpLearnConcept, ID: "a"}}
		for _, tt := range []struct {
			req  any
			want time.Duration
		}{
			{&transport.QueryConcept{ConceptID: "a"}, client.DefaultDeadline},
			{&transport.Query{Request: transport.Any{Value: &transport.GetStats{}}, TimeoutMillis: 1500}, 1500 * time.Millisecond},
			{&transport.Txn{Ops: ops}, client.DefaultDeadline},
			{&transport.Txn{Ops: ops, TimeoutMillis: 2500}, 2500 * time.Millisecond},
			{&transport.Txn{Ops: ops, TimeoutMillis: 1 << 31}, time.Minute},
		} {
			start := time.Now()
			if _, err := g.gateway.Handle(t.Context(), nil, tt.req); err == nil || time.Since(start) != tt.want {
				t.Errorf("%T ended after %v with %v, want %v", tt.req, time.Since(start), err, tt.want)
			}
		}
	})
}

func TestOtherProtocolsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrid(t)
		for _, req := range []any{&transport.Routed{}, &transport.Write{}, &transport.Prepare{}, &transport.Finish{}, &transport.Heartbeat{}} {
			if _, err := g.gateway.Handle(t.Context(), nil, req); err == nil {
				t.Errorf("%T was answered", req)
			}
		}
	})
}
