package feed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

const sinkAddress = "sink:50052"

// sinkStore is what a sink holds: an honest store of the storage protocol, and how often it was given each concept.
type sinkStore struct {
	mu       sync.Mutex
	concepts map[string]*transport.LearnConcept
	edges    map[transport.LearnAssociation]int
	arrivals []string // ids of concepts in the order in which they became known
	requests int      // writes handled
	frames   []string // variants of requests, as they came
	holes    bool     // one write of a batch failed: those behind it came first
	dirty    bool     // something was written behind the last Flush

	fault func(n int, req any) mishap // of the n-th write; nil: none
}

// mishap is what goes wrong with one write.
type mishap int

const (
	none    mishap = iota
	refuses        // an Error in place of the reply, nothing is stored
	cuts           // the connection breaks before it
	deafens        // it is stored, and the connection breaks
)

func newSinkStore() *sinkStore {
	return &sinkStore{concepts: map[string]*transport.LearnConcept{}, edges: map[transport.LearnAssociation]int{}}
}

var errCut = errors.New("cut")

func (s *sinkStore) write(req any) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	f := none
	if s.fault != nil {
		f = s.fault(s.requests, req)
	}
	switch f {
	case refuses:
		return nil, &event.Error{Kind: event.KindBusy, Message: "the sink is in a bad mood"}
	case cuts:
		return nil, errCut
	}
	s.dirty = true
	reply, err := s.store(req)
	if f == deafens {
		err = errCut
	}
	return reply, err
}

func (s *sinkStore) store(req any) (any, error) {
	switch r := req.(type) {
	case *transport.LearnConcept:
		if s.concepts[r.ConceptID] == nil {
			s.arrivals = append(s.arrivals, r.ConceptID)
		}
		s.concepts[r.ConceptID] = r
		return &transport.LearnConceptOk{}, nil
	case *transport.LearnAssociation:
		for _, end := range []string{r.SourceID, r.TargetID} {
			if s.concepts[end] == nil {
				return nil, &event.Error{Kind: event.KindPrecondition, Message: "unknown concept " + end}
			}
		}
		s.edges[*r]++
		return &transport.LearnAssociationOk{}, nil
	}
	return nil, fmt.Errorf("unexpected %T", req)
}

func (s *sinkStore) handle(req any) (any, error) {
	s.mu.Lock()
	s.frames = append(s.frames, transport.VariantName(req))
	s.mu.Unlock()
	switch r := req.(type) {
	case *transport.Batch:
		replies := make([]transport.Any, len(r.Requests))
		for i, one := range r.Requests {
			reply, err := s.write(one.Value)
			var e *event.Error
			if errors.Is(err, errCut) {
				return nil, err
			} else if errors.As(err, &e) {
				reply, s.holes = e, true
			}
			replies[i].Value = reply
		}
		return &transport.BatchOk{Replies: replies}, nil
	case *transport.QueryConcept:
		s.mu.Lock()
		defer s.mu.Unlock()
		ok := &transport.QueryConceptOk{ConceptID: r.ConceptID}
		if c := s.concepts[r.ConceptID]; c != nil {
			ok.Found, ok.Content, ok.Metadata = true, c.Content, c.Metadata
		}
		return ok, nil
	case *transport.Flush:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.dirty = false
		return &transport.FlushOk{}, nil
	}
	return s.write(req)
}

// cutter lets a handler break its own connection.
type cutter struct {
	store *sinkStore
	mu    sync.Mutex
	conns map[string]io.Closer
}

// server is a running sink.
type server struct {
	*transport.Server
	stop func()
}

// serveSink starts a sink on the network; plain: it knows nothing but the plain Sutra protocol.
func serveSink(t testing.TB, n transport.Network, store *sinkStore, plain bool) *server {
	t.Helper()
	l, err := n.Listen(sinkAddress)
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{store: store, conns: map[string]io.Closer{}}
	cfg := transport.ServerConfig{Name: "sink", Log: slog.New(slog.DiscardHandler), Handler: c.handle}
	if !plain {
		cfg.Hello = func() transport.HelloOk { return transport.HelloOk{Features: []string{"batch"}} }
	}
	s := transport.NewServer(cfg)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(context.Background(), &cutListener{Listener: l, c: c}); err != nil {
			t.Error(err)
		}
	}()
	stop := sync.OnceFunc(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	t.Cleanup(stop)
	return &server{Server: s, stop: stop}
}

func (c *cutter) handle(_ context.Context, s *transport.Session, req any) (any, error) {
	reply, err := c.store.handle(req)
	if errors.Is(err, errCut) {
		c.mu.Lock()
		defer c.mu.Unlock()
		_ = c.conns[s.Remote().String()].Close()
	}
	return reply, err
}

// log is the masters' log with the real state machine, and one master's outbox.
type log struct {
	t       testing.TB
	outbox  *Outbox
	machine *fsm.Machine

	mu      sync.Mutex
	index   uint64
	changed chan struct{}
	acks    []event.FeedAcked
	ackedAt []time.Time
	events  []*event.Envelope
	refuse  func(c event.Command) error
}

// newLog is of a grid of level 1, as an earlier version left it.
func newLog(t testing.TB) *log { return newLogAt(t, 1) }

func newLogAt(t testing.TB, level uint32) *log {
	l := &log{t: t, outbox: openMem(t, vfs.NewMem(), 0, 0), machine: fsm.NewMachine(), changed: make(chan struct{})}
	t.Cleanup(l.close)
	l.must(event.IncarnationStarted{GridID: "grid", Incarnation: event.Incarnation{N: 1}, Level: level, Reason: "test"})
	l.must(event.AgentRegistered{AgentID: "agent-1", Hostname: "h", Platform: "process", AgentEndpoint: "h:1", MaxStorageNodes: 1, Version: "1"})
	l.must(event.SinkAdded{Sink: "events", Address: sinkAddress, Class: "grid"})
	return l
}

func (l *log) must(body event.Body) {
	l.t.Helper()
	answer, err := l.propose(context.Background(), *event.NewCommand("test", body))
	if err != nil || answer.Err != nil {
		l.t.Fatalf("%s: %v, %v", body.Type(), err, answer.Err)
	}
}

func (l *log) settings(n int) {
	for range n {
		_, version := l.machine.View().Setting("k")
		l.must(event.SettingChanged{Key: "k", Value: fmt.Sprint(version), Version: version + 1})
	}
}

func (l *log) propose(_ context.Context, c event.Command) (fsm.Answer, error) {
	b, err := event.AppendCommand(nil, &c)
	if err != nil {
		return fsm.Answer{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse != nil {
		if err := l.refuse(c); err != nil {
			return fsm.Answer{}, err
		}
	}
	l.index++
	answers, records, err := l.machine.Apply(fsm.EntryMeta{Index: l.index, Time: time.Now().UnixMicro(), Level: 1}, [][]byte{b})
	if err != nil {
		return fsm.Answer{}, err
	}
	if err := l.outbox.Append(l.index, records); err != nil {
		return fsm.Answer{}, err
	}
	for _, r := range records {
		e, err := event.DecodeEnvelope(r.Bytes)
		if err != nil {
			return fsm.Answer{}, err
		}
		l.events = append(l.events, e)
	}
	if ack, ok := c.Body.(event.FeedAcked); ok && answers[0].Err == nil {
		l.acks = append(l.acks, ack)
		l.ackedAt = append(l.ackedAt, time.Now())
	}
	close(l.changed)
	l.changed = make(chan struct{})
	return answers[0], nil
}

func (l *log) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// lead runs a shipper as one term of a leader does; the returned function ends the term.
func (l *log) lead(n transport.Network) (*Shipper, func()) {
	pool := transport.NewPool(transport.PoolConfig{Network: n})
	s := NewShipper(ShipperConfig{Outbox: l.outbox, View: l.machine.View, Changed: l.Changed, Propose: l.propose, Pool: pool,
		Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	end := sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-done, pool.Close()); err != nil {
			l.t.Error(err)
		}
	})
	l.t.Cleanup(end)
	return s, end
}

func (l *log) close() {
	if err := l.outbox.Close(); err != nil {
		l.t.Error(err)
	}
}

func (l *log) cursor() fsm.Cursor { return l.machine.View().Cursor("events") }

// shipped checks that the sink holds every event of the log exactly as specified, and nothing else of a feed.
func (l *log) shipped(store *sinkStore) {
	l.t.Helper()
	synctest.Wait()
	store.mu.Lock()
	defer store.mu.Unlock()
	if store.holes {
		slices.Sort(store.arrivals)
	}
	edges := map[transport.LearnAssociation]bool{}
	next := uint64(1)
	for _, id := range store.arrivals {
		var seq uint64
		if n, _ := fmt.Sscanf(id, "event-%d", &seq); n == 0 {
			continue
		}
		if seq != next {
			l.t.Fatalf("event %d came where event %d was due", seq, next)
		}
		next++
	}
	if int(next-1) != len(l.events) {
		l.t.Fatalf("the sink has %d events, the log %d", next-1, len(l.events))
	}
	for _, e := range l.events {
		l.checkEvent(store, e, edges)
	}
	if len(edges) != len(store.edges) {
		l.t.Errorf("the sink has %d associations, want %d", len(store.edges), len(edges))
	}
}

func (l *log) checkEvent(store *sinkStore, e *event.Envelope, edges map[transport.LearnAssociation]bool) {
	l.t.Helper()
	id := fmt.Sprintf("event-%016d", e.Seq)
	c := store.concepts[id]
	back, err := event.FromJSON([]byte(c.Content))
	if err != nil {
		l.t.Fatalf("%s: %v", id, err)
	}
	want, _ := event.AppendEnvelope(nil, e)
	if got, err := event.AppendEnvelope(nil, back); err != nil || string(got) != string(want) {
		l.t.Errorf("%s: its content is another event (%v)", id, err)
	}
	attributes := map[string]string{"event_type": e.Type.String(), "class": event.Info(e.Type).Class.String(), "chain": hexChain(e.Chain),
		"timestamp": time.UnixMicro(e.Time).UTC().Format("2006-01-02T15:04:05.000000Z"), "entity": "cluster"}
	switch e.Type {
	case event.TypeAgentRegistered:
		attributes["entity"], attributes["agent_id"] = "agent-1", "agent-1"
	case event.TypeSinkAdded, event.TypeFeedRewound:
		attributes["entity"] = "feed"
	}
	if !maps.Equal(c.Metadata.Attributes, attributes) {
		l.t.Errorf("%s: attributes %v, want %v", id, c.Metadata.Attributes, attributes)
	}
	mine := []transport.LearnAssociation{
		{SourceID: attributes["entity"], TargetID: id, AssocType: uint32(e.Type), Confidence: 1},
		{SourceID: id, TargetID: fmt.Sprintf("ts-%d", e.Time/60_000_000), AssocType: 999, Confidence: 1},
	}
	if e.Cause != 0 {
		mine = append(mine, transport.LearnAssociation{SourceID: id, TargetID: fmt.Sprintf("event-%016d", e.Cause), AssocType: 900, Confidence: 1})
	}
	for _, a := range mine {
		edges[a] = true
		if store.edges[a] == 0 {
			l.t.Errorf("%s: association %v is missing", id, a)
		}
	}
}

// cutListener tells the cutter of each connection.
type cutListener struct {
	net.Listener
	c *cutter
}

func (l *cutListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.c.mu.Lock()
		defer l.c.mu.Unlock()
		l.c.conns[conn.RemoteAddr().String()] = conn
	}
	return conn, err
}

// TestAttributesStandInTheContent: an event is found by what its JSON form says.
func TestAttributesStandInTheContent(t *testing.T) {
	h := &history{time: 1_700_000_000_000_000}
	for _, body := range []event.Body{
		event.SettingChanged{Key: "k", Value: "v"}, event.NodeCrashed{NodeID: "node-1", AgentID: "agent-\"1"}, event.AgentOffline{AgentID: "agent-1"},
		event.ShardLeaderChanged{ShardID: "shard-0", NodeID: "node-2", Term: 3}, event.TxnCommitted{TxnID: event.TxnID{7}},
	} {
		w := newWriter(0)
		if _, err := w.add(h.add(t, time.Millisecond, body)); err != nil {
			t.Fatal(err)
		}
		learned := w.take()[0].(*transport.LearnConcept)
		var content map[string]any
		if err := json.Unmarshal([]byte(learned.Content), &content); err != nil {
			t.Fatal(err)
		}
		delete(learned.Metadata.Attributes, "entity")
		for _, name := range []string{"event_type", "class", "chain", "timestamp", "agent_id", "node_id", "shard_id", "txn_id"} {
			value, _ := content[name].(string)
			if got := learned.Metadata.Attributes[name]; got != value {
				t.Errorf("%s: the attribute %s is %q, the content says %q", body.Type(), name, got, value)
			}
			delete(learned.Metadata.Attributes, name)
		}
		if len(learned.Metadata.Attributes) > 0 {
			t.Errorf("%s: more attributes: %v", body.Type(), learned.Metadata.Attributes)
		}
	}
}
