package storagenode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/transport"
)

const (
	testGrid  = "6f1c2a52-0d0e-4c0a-9d53-2b7e1f1c9a11"
	testLimit = 20 * time.Second // of anything a test waits for
)

// testMaster is a master as nodes see one: it streams the map, takes the reports of leaders, and decides transactions that
// it is asked about. It keeps everything in memory and makes no mistakes.
type testMaster struct {
	t       *testing.T
	network transport.Network
	addr    string
	server  *transport.Server
	serving sync.WaitGroup

	mu       sync.Mutex
	state    transport.ShardMapOk
	changed  chan struct{}    // closed at the next change of state or asked
	decided  map[attempt]bool // committed or aborted, for ever
	asked    map[attempt]int
	reported []event.ShardLeaderChanged
	read     []event.Body // readings, in their order
}

func newTestMaster(t *testing.T, network transport.Network) *testMaster {
	return newTestMasterAt(t, network, "master:0")
}

func newTestMasterAt(t *testing.T, network transport.Network, addr string) *testMaster {
	m := &testMaster{t: t, network: network, changed: make(chan struct{}), decided: map[attempt]bool{}, asked: map[attempt]int{}}
	m.state = transport.ShardMapOk{GridID: testGrid, Incarnation: event.Incarnation{N: 1, Random: [8]byte{7}}}
	m.state.Map.Epoch = event.Position{N: 1, Seq: 1}
	m.start(addr)
	t.Cleanup(m.stop)
	return m
}

func (m *testMaster) start(addr string) {
	l, err := m.network.Listen(addr)
	if err != nil {
		m.t.Fatal(err)
	}
	m.addr = l.Addr().String()
	m.server = transport.NewServer(transport.ServerConfig{Handler: m.handle, Name: "test master", Log: testLog(m.t)})
	m.serving.Go(func() {
		if err := m.server.Serve(context.Background(), l); err != nil {
			m.t.Error(err)
		}
	})
}

func (m *testMaster) stop() {
	if err := m.server.Close(); err != nil {
		m.t.Error(err)
	}
	m.serving.Wait()
}

func (m *testMaster) handle(ctx context.Context, s *transport.Session, req any) (any, error) {
	switch q := req.(type) {
	case *transport.WatchShardMap:
		return nil, m.watch(ctx, s, q.Epoch)
	case *transport.GetShardMap:
		m.mu.Lock()
		defer m.mu.Unlock()
		state := m.state
		return &state, nil
	case *transport.Propose:
		return m.propose(q)
	case *transport.TxnOutcome:
		return m.outcome(q), nil
	case *transport.EmitTelemetry:
		return m.readings(q)
	}
	return nil, &event.Error{Kind: event.KindUnsupported, Message: "not by this master"}
}

func (m *testMaster) watch(ctx context.Context, s *transport.Session, from event.Position) error {
	sent := from
	for {
		m.mu.Lock()
		state, changed := m.state, m.changed
		m.mu.Unlock()
		if sent.Less(state.Map.Epoch) {
			sent = state.Map.Epoch
			if err := s.Send(ctx, &state); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// propose records a leader, if its term is higher than the recorded one.
func (m *testMaster) propose(q *transport.Propose) (any, error) {
	body, err := event.DecodeBody(q.Type, q.Body)
	if err != nil {
		return nil, err
	}
	report, ok := body.(event.ShardLeaderChanged)
	if !ok {
		return nil, &event.Error{Kind: event.KindInvalid, Message: fmt.Sprintf("unexpected %T", body)}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if s, ok := m.state.Map.ByID(report.ShardID); !ok || s.Term >= report.Term {
		return nil, &event.Error{Kind: event.KindConflict, Message: "the term is not higher"}
	}
	m.reported = append(m.reported, report)
	m.changeLocked(func(next *shardmap.Map) {
		s, _ := next.ByID(report.ShardID)
		s.State, s.Leader, s.Term = shardmap.Formed, report.NodeID, report.Term
	})
	return &transport.ProposeOk{Seq: m.state.Map.Epoch.Seq, Epoch: m.state.Map.Epoch}, nil
}

// readings takes all of them.
func (m *testMaster) readings(q *transport.EmitTelemetry) (any, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range q.Events {
		body, err := event.DecodeBody(e.Type, e.Body)
		if err != nil {
			return nil, err
		}
		m.read = append(m.read, body)
	}
	m.signalLocked()
	return &transport.EmitTelemetryOk{Taken: uint32(len(q.Events))}, nil
}

// outcome aborts what is undecided, as masters do.
func (m *testMaster) outcome(q *transport.TxnOutcome) any {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := attempt{q.TxnID, q.Attempt}
	m.asked[key]++
	if _, ok := m.decided[key]; !ok {
		m.decided[key] = false
	}
	m.signalLocked()
	return &transport.TxnOutcomeOk{Committed: m.decided[key], Seq: 1}
}

func (m *testMaster) decide(key attempt, committed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.decided[key] = committed
}

// change publishes a new map.
func (m *testMaster) change(edit func(*shardmap.Map)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changeLocked(edit)
}

func (m *testMaster) changeLocked(edit func(*shardmap.Map)) {
	next := m.state.Map
	next.Shards = slices.Clone(next.Shards)
	for i := range next.Shards {
		next.Shards[i].Replicas = slices.Clone(next.Shards[i].Replicas)
	}
	edit(&next)
	next.Epoch.Seq++
	m.state.Map = next
	m.signalLocked()
}

func (m *testMaster) signalLocked() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// await waits until cond holds; it is asked again at every change.
func (m *testMaster) await(what string, cond func() bool) {
	m.t.Helper()
	limit := time.After(testLimit)
	for {
		m.mu.Lock()
		ok, changed := cond(), m.changed
		m.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-limit:
			m.t.Fatalf("waited %s for %s", testLimit, what)
		}
	}
}

// testCluster is nodes of one grid in this process.
type testCluster struct {
	t       *testing.T
	dir     string
	network transport.Network
	master  *testMaster
	pool    *transport.Pool
	nodes   map[event.NodeID]*Node
	tune    func(*Config)
}

// newCluster starts n nodes and gives them shards groups of n voters.
func newCluster(t *testing.T, n, shards int, tune func(*Config)) *testCluster {
	t.Helper()
	network := transport.NewMemory()
	c := &testCluster{
		t: t, dir: t.TempDir(), network: network, master: newTestMaster(t, network), nodes: map[event.NodeID]*Node{}, tune: tune,
		pool: transport.NewPool(transport.PoolConfig{Network: network}),
	}
	t.Cleanup(func() {
		for _, id := range slices.Sorted(maps.Keys(c.nodes)) {
			c.stop(id)
		}
		if err := c.pool.Close(); err != nil {
			t.Error(err)
		}
	})
	var ids []string
	for i := range n {
		id := fmt.Sprintf("node-%d", i+1)
		ids = append(ids, id)
		c.start(event.NodeID(id), true)
	}
	c.master.change(func(m *shardmap.Map) {
		*m = *testMap(shardmap.Forming, shards, ids...)
		m.Epoch = event.Position{N: 1, Seq: 10}
		for s := range m.Shards {
			for r := range m.Shards[s].Replicas {
				m.Shards[s].Replicas[r].Endpoint = c.nodes[m.Shards[s].Replicas[r].NodeID].Addr()
			}
		}
	})
	for s := range shards {
		c.leader(shardmap.ID(uint64(s)), 0)
	}
	return c
}

func (c *testCluster) config(id event.NodeID, init bool) Config {
	cfg := DefaultConfig()
	cfg.Data, cfg.Listen, cfg.Network = filepath.Join(c.dir, string(id)), string(id)+":50053", c.network
	cfg.Grid = &Grid{ID: testGrid, NodeID: id, AgentID: "agent-1", Masters: []string{c.master.addr}, Init: init}
	cfg.Dimension, cfg.Log = 4, testLog(c.t)
	quicken(&cfg)
	cfg.SpreadAfter = never // a leader stays one until a test takes that away; those of the spread say otherwise
	if c.tune != nil {
		c.tune(&cfg)
	}
	return cfg
}

// quicken makes elections quick and files small.
func quicken(cfg *Config) {
	t := &cfg.Groups.Timeouts
	t.Heartbeat, t.Election, t.Lease = 100*time.Millisecond, 100*time.Millisecond, 100*time.Millisecond
	cfg.Groups.SegmentBytes = 1 << 20
}

func (c *testCluster) start(id event.NodeID, init bool) *Node {
	c.t.Helper()
	n, err := Open(c.config(id, init))
	if err != nil {
		c.t.Fatal(err)
	}
	c.nodes[id] = n
	return n
}

func (c *testCluster) stop(id event.NodeID) {
	c.t.Helper()
	if err := c.nodes[id].Close(); err != nil {
		c.t.Errorf("close %s: %v", id, err)
	}
	delete(c.nodes, id)
}

// leader waits for a leader of the shard with a term above, and returns it and its term.
func (c *testCluster) leader(shard event.ShardID, above uint64) (event.NodeID, uint64) {
	c.t.Helper()
	var s shardmap.Shard
	c.master.await(fmt.Sprintf("a leader of %s above term %d", shard, above), func() bool {
		found, ok := c.master.state.Map.ByID(shard)
		if ok {
			s = *found
		}
		return ok && s.Term > above
	})
	return s.Leader, s.Term
}

// send asks one node once.
func (c *testCluster) send(id event.NodeID, q *transport.Routed) (*transport.RoutedOk, error) {
	ctx, cancel := context.WithTimeout(context.Background(), testLimit)
	defer cancel()
	return transport.Call[transport.RoutedOk](ctx, c.pool, c.nodes[id].Addr(), q)
}

// route asks the shard's leader, whoever it is, and returns the reply inside.
func (c *testCluster) route(q *transport.Routed) (any, error) {
	c.t.Helper()
	limit := time.Now().Add(testLimit)
	for above := uint64(0); ; {
		id, term := c.leader(q.ShardID, above)
		if c.nodes[id] == nil {
			above = term
			continue
		}
		ok, err := c.send(id, q)
		var e *event.Error
		switch {
		case err == nil:
			return ok.Reply.Value, nil
		case errors.As(err, &e) && (e.Kind == event.KindNotLeader || e.Kind == event.KindUnavailable || e.Kind == event.KindUnknownOutcome) && time.Now().Before(limit):
			above = term // who leads next says so
		default:
			return nil, err
		}
	}
}

func write(shard event.ShardID, request any) *transport.Routed {
	return &transport.Routed{ShardID: shard, RequestID: newRequestID(), Issued: time.Now().UnixMicro(), Request: transport.Any{Value: request}}
}

func ask(shard event.ShardID, request any) *transport.Routed {
	return &transport.Routed{ShardID: shard, Request: transport.Any{Value: request}}
}

// must fails the test on an error.
func must[T any](t *testing.T) func(any, error) *T {
	return func(reply any, err error) *T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		got, ok := reply.(*T)
		if !ok {
			t.Fatalf("got a %T, want a %T", reply, got)
		}
		return got
	}
}

func wantKind(t *testing.T, err error, kind event.Kind) *event.Error {
	t.Helper()
	var e *event.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Fatalf("got %v, want an error of kind %s", err, kind)
	}
	return e
}

// owned lists n ids with a prefix that belong to the shard.
func (c *testCluster) owned(shard event.ShardID, prefix string, n int) []string {
	c.master.mu.Lock()
	m := c.master.state.Map
	c.master.mu.Unlock()
	var ids []string
	for i := 0; len(ids) < n; i++ {
		id := fmt.Sprintf("%s-%d", prefix, i)
		if s, err := m.Shard(id); err != nil {
			c.t.Fatal(err)
		} else if s.ID == shard {
			ids = append(ids, id)
		}
	}
	return ids
}

func concept(id string) *transport.LearnConcept {
	return &transport.LearnConcept{ConceptID: id, Content: "about " + id, Strength: 1, Confidence: 1}
}

func conceptOp(id string) transport.Op {
	return transport.Op{Kind: transport.OpLearnConcept, ID: id, Content: "about " + id, Strength: 1, Confidence: 1}
}

// testLog shows what nodes log only when the test fails.
func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(string(p))
	return len(p), nil
}

// dial opens a raw connection, for tests of bytes.
func dial(t *testing.T, network transport.Network, addr string) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	defer cancel()
	conn, err := network.Dial(ctx, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(testLimit))
	return conn
}
