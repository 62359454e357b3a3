package master

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// patience is how long a test waits for what must happen; a test that needs it fails.
const patience = 30 * time.Second

// cluster is three masters in this process, on a network of their own.
type cluster struct {
	t     *testing.T
	net   *transport.Memory
	tls   *tls.Config // of the test as a client
	pool  *transport.Pool
	peers Peers
	lists map[event.MasterID]Peers // of masters that are started with another list than peers
	root  string
	tune  func(*Config)
	up    map[event.MasterID]*Master
	wires map[event.MasterID]*wire
}

// wire is a master's own view of the network; cut, it reaches and is reached by nobody.
type wire struct {
	transport.Network
	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]struct{}
}

func (w *wire) track(c net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		return nil, errors.Join(errors.New("cut off"), c.Close())
	}
	w.conns[c] = struct{}{}
	return c, nil
}

func (w *wire) Dial(ctx context.Context, addr string) (net.Conn, error) {
	return w.track(w.Network.Dial(ctx, addr))
}

func (w *wire) Listen(addr string) (net.Listener, error) {
	l, err := w.Network.Listen(addr)
	return wireListener{l, w}, err
}

type wireListener struct {
	net.Listener
	wire *wire
}

func (l wireListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c, err = l.wire.track(c, nil); err == nil {
			return c, nil
		}
	}
}

// sever ends all connections, now and later.
func (w *wire) sever() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = true
	for c := range w.conns {
		_ = c.Close()
	}
}

func newCluster(t *testing.T, tune func(*Config)) *cluster {
	t.Helper()
	peers, err := ParsePeers("master-1=a:7000/7001/7002,master-2=b:7000/7001/7002,master-3=c:7000/7001/7002")
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, net: transport.NewMemory(), peers: peers, lists: map[event.MasterID]Peers{}, root: t.TempDir(), tune: tune,
		up: map[event.MasterID]*Master{}, wires: map[event.MasterID]*wire{}}
	probe := DefaultConfig()
	if tune != nil {
		tune(&probe)
	}
	c.tls = probe.ClientTLS
	c.pool = transport.NewPool(transport.PoolConfig{Network: c.net, TLS: c.tls})
	t.Cleanup(func() {
		c.stop(c.ids()...)
		if err := c.pool.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func (c *cluster) ids() []event.MasterID {
	var ids []event.MasterID
	for _, p := range c.peers {
		ids = append(ids, p.ID)
	}
	return ids
}

func (c *cluster) config(id event.MasterID) Config {
	cfg := DefaultConfig()
	cfg.ID, cfg.Dir, cfg.Peers, cfg.Bootstrap = id, filepath.Join(c.root, string(id)), c.peers, true
	if list, own := c.lists[id]; own {
		cfg.Peers = list
	}
	cfg.Network = &wire{Network: c.net, conns: map[net.Conn]struct{}{}}
	cfg.Limits.Drain = time.Second
	cfg.Limits.KeepAlive = 200 * time.Millisecond
	cfg.Raft.SegmentBytes = 1 << 20
	var out io.Writer = io.Discard
	if testing.Verbose() {
		out = c.t.Output()
	}
	cfg.Log = slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelInfo})).With("master", string(id))
	if c.tune != nil {
		c.tune(&cfg)
	}
	return cfg
}

// start opens masters, all at once; one that a test lets crash starts again.
func (c *cluster) start(ids ...event.MasterID) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, id := range ids {
		cfg := c.config(id)
		wg.Go(func() {
			m, err := Open(ctx, cfg)
			if errors.Is(err, errCrash) {
				m, err = Open(ctx, cfg)
			}
			if err != nil {
				c.t.Errorf("open %s: %v", id, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			c.up[id], c.wires[id] = m, cfg.Network.(*wire)
		})
	}
	wg.Wait()
	if c.t.Failed() {
		c.t.FailNow()
	}
}

// stop closes masters in order.
func (c *cluster) stop(ids ...event.MasterID) {
	for _, id := range ids {
		m := c.up[id]
		if m == nil {
			continue
		}
		delete(c.up, id)
		if err := m.Close(); err != nil {
			c.t.Errorf("close %s: %v", id, err)
		}
	}
}

// kill takes a master away without a word to the others.
func (c *cluster) kill(id event.MasterID) {
	c.wires[id].sever()
	m := c.up[id]
	delete(c.up, id)
	if err := m.Close(); err != nil {
		c.t.Errorf("close %s: %v", id, err)
	}
}

func (c *cluster) peer(id event.MasterID) Peer {
	p, _ := c.peers.Find(id)
	return p
}

// leader waits until all running masters know the same leader and it has started the grid, and returns it and the others that run.
func (c *cluster) leader() (leader event.MasterID, followers []event.MasterID) {
	c.t.Helper()
	deadline := time.After(patience)
	for {
		leader, followers = "", nil
		agree := true
		var changed []<-chan struct{}
		for _, id := range c.ids() {
			m := c.up[id]
			if m == nil {
				continue
			}
			changed = append(changed, m.core.group.LeaderChanged(), m.core.replica.Changed())
			now, _, known := m.core.group.Leader()
			owner := event.MasterID(now.Owner())
			if !known || c.up[owner] == nil || leader != "" && leader != owner {
				agree = false
				continue
			}
			leader = owner
		}
		for _, id := range c.ids() {
			if c.up[id] != nil && id != leader {
				followers = append(followers, id)
			}
		}
		if agree && leader != "" && c.up[leader].core.replica.View().GridID() != "" {
			return leader, followers
		}
		merged, done := make(chan struct{}, len(changed)), make(chan struct{})
		for _, ch := range changed {
			go func() {
				select {
				case <-ch:
					merged <- struct{}{}
				case <-done:
				}
			}()
		}
		select {
		case <-merged:
			close(done)
		case <-deadline:
			c.t.Fatal("the masters do not agree on a leader")
		}
	}
}

// ask calls one master.
func ask[T any](c *cluster, id event.MasterID, req any) (*T, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	return transport.Call[T](ctx, c.pool, c.peer(id).Grid, req)
}

// must is ask for what cannot fail.
func must[T any](c *cluster, id event.MasterID, req any) *T {
	c.t.Helper()
	ok, err := ask[T](c, id, req)
	if err != nil {
		c.t.Fatalf("%s: %s: %v", id, transport.VariantName(req), err)
	}
	return ok
}

// http asks one master over HTTP.
func (c *cluster) http(id event.MasterID, method, path, body string) (status int, header http.Header, reply []byte) {
	c.t.Helper()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return transport.Dial(ctx, c.net, c.peer(id).HTTP, c.tls)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: patience}
	req, err := http.NewRequest(method, "http://master"+path, bytes.NewReader([]byte(body)))
	if err != nil {
		c.t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		c.t.Fatalf("%s %s at %s: %v", method, path, id, err)
	}
	defer resp.Body.Close()
	reply, err = io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, reply
}

// feed follows a master's events from a seq on until enough says so, and returns what came.
func (c *cluster) feed(id event.MasterID, from uint64, enough func([]*event.Envelope) bool) []*event.Envelope {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	var all []*event.Envelope
	err := c.pool.Stream(ctx, c.peer(id).Grid, &transport.WatchEvents{From: from}, func(msg any) error {
		for _, b := range msg.(*transport.EventsOk).Events {
			e, err := event.DecodeEnvelope(b)
			if err != nil {
				return err
			}
			all = append(all, e)
		}
		if enough(all) {
			return transport.ErrStop
		}
		return nil
	})
	if err != nil {
		c.t.Fatalf("watch %s: %v; %d events came: %s", id, err, len(all), typesOf(all))
	}
	for i, e := range all {
		if e.Seq != from+uint64(i) {
			c.t.Fatalf("watch %s from %d: message %d holds event %d", id, from, i, e.Seq)
		}
	}
	return all
}

// until is enough for feed: an event of a type has come, n times.
func until(t event.Type, n int) func([]*event.Envelope) bool {
	return func(all []*event.Envelope) bool {
		seen := 0
		for _, e := range all {
			if e.Type == t {
				seen++
			}
		}
		return seen >= n
	}
}

func typesOf(events []*event.Envelope) string {
	var b bytes.Buffer
	for _, e := range events {
		fmt.Fprintf(&b, "%d:%s ", e.Seq, e.Type)
	}
	return b.String()
}

func registration(n int) *transport.RegisterAgent {
	id := fmt.Sprintf("agent-%d", n)
	return &transport.RegisterAgent{AgentID: event.AgentID(id), Hostname: "host", Platform: "linux/amd64", AgentEndpoint: "h:8001",
		MaxStorageNodes: 2, Version: "test", StoreID: fmt.Sprintf("%032x", n)}
}

func kindOf(err error) event.Kind {
	var e *event.Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}

func wantKind(t *testing.T, err error, kind event.Kind) {
	t.Helper()
	if kindOf(err) != kind {
		t.Errorf("error %v of kind %q, want kind %q", err, kindOf(err), kind)
	}
}

func decode[T any](t *testing.T, data []byte) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	return v
}
