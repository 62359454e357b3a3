package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/sutra-grid/sutra-grid/agent"
	"github.com/sutra-grid/sutra-grid/agent/platform"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	labels "github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/storagenode"
	"github.com/sutra-grid/sutra-grid/transport"
)

// estate is an agent as gridagent assembles it, on a platform in this process whose nodes are storage nodes as gridnode assembles them.
type estate struct {
	w    *world
	id   event.AgentID
	host string
	run  *agent.Agent

	mu     sync.Mutex
	starts int     // guarded by mu
	tenant *tenant // guarded by mu; the last one
	wg     sync.WaitGroup
}

// tenant is one running storage node.
type tenant struct {
	node    *storagenode.Node
	wire    *wire
	end     func(platform.Exit) // once
	gone    chan struct{}       // closed when it has ended
	exit    platform.Exit       // set before gone is closed; one with a signal is a crash
	stopped chan struct{}       // closed when it has let go of its disk
	held    chan struct{}       // nil, or closed when another one may be started
	closed  chan struct{}       // closed when nothing of it is left, and another one may be started
}

var _ agent.Platform = (*estate)(nil)

func (w *world) startEstates() {
	for i := range w.estates {
		e := &estate{w: w, id: event.AgentID(fmt.Sprintf("agent-%d", i+1)), host: agentHost(i)}
		w.settled = append(w.settled, e)
		cfg := agent.DefaultConfig()
		cfg.ID, cfg.Data, cfg.Listen = e.id, filepath.Join(w.root, string(e.id)), e.host+":8001"
		for _, p := range w.peers {
			cfg.Masters = append(cfg.Masters, p.Grid)
		}
		cfg.NodePorts = agent.PortRange{From: 42101, To: 42199}
		cfg.Platform, cfg.GridNode, cfg.Network = e, "gridnode", w.net.Host(e.host)
		cfg.Log = slog.New(w.tap.of(string(e.id)))
		a, err := agent.Open(cfg)
		if err != nil {
			w.t.Fatalf("open %s: %v", e.id, err)
		}
		e.run = a
	}
}

// close ends the agent and then its node.
func (e *estate) close() {
	e.w.fault(e.run.Close())
	if t := e.present(); t != nil {
		t.end(platform.Exit{})
	}
	e.wg.Wait()
}

func (e *estate) present() *tenant {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.tenant
}

// alive tells whether it has not been ended.
func (t *tenant) alive() bool {
	select {
	case <-t.gone:
		return false
	default:
		return true
	}
}

// ofEstate tells whether an event is about an agent that assembles real nodes: those are not commands of the load.
func (w *world) ofEstate(body event.Body) bool {
	var id event.AgentID
	switch b := body.(type) {
	case event.AgentRegistered:
		id = b.AgentID
	case event.SpawnSucceeded:
		id = b.AgentID
	case event.NodeRestarted:
		id = b.AgentID
	case event.NodeCrashed:
		id = b.AgentID
	}
	return slices.ContainsFunc(w.settled, func(e *estate) bool { return e.id == id })
}

// crash ends the node as a kill does: it hands nothing over, and its agent notices at once. It is started again when restart was called.
func (e *estate) crash() (restart func()) {
	t := e.present()
	t.held = make(chan struct{})
	t.wire.sever()
	t.end(platform.Exit{Signal: "SIGKILL", Tail: "the last words"})
	return sync.OnceFunc(func() { close(t.held) })
}

// Start implements agent.Platform.
func (e *estate) Start(spec platform.Spec, record func(platform.Ref, int) error) (*platform.Instance, error) {
	if before := e.present(); before != nil {
		<-before.closed
	}
	e.mu.Lock()
	e.starts++
	pid := e.starts
	e.mu.Unlock()
	ref := platform.Ref(fmt.Sprintf("%s-%d", e.id, pid))
	if err := record(ref, pid); err != nil {
		return nil, err
	}
	t := &tenant{wire: &wire{Network: e.w.net.Host(e.host), conns: map[net.Conn]struct{}{}}, gone: make(chan struct{}), closed: make(chan struct{}), stopped: make(chan struct{})}
	var err error
	if t.node, err = storagenode.Open(e.config(spec, t.wire)); err != nil {
		return nil, err
	}
	var once sync.Once
	t.end = func(exit platform.Exit) {
		once.Do(func() {
			t.exit = exit
			close(t.gone)
			e.wg.Go(func() {
				defer close(t.closed)
				if t.exit.Signal != "" {
					e.w.fault(t.node.Abort())
				} else {
					e.w.fault(t.node.Close())
				}
				close(t.stopped)
				if t.held != nil {
					<-t.held
				}
			})
		})
	}
	e.mu.Lock()
	e.tenant = t
	e.mu.Unlock()
	return e.watch(ref, pid, t), nil
}

// config reads a node's arguments as gridnode does.
func (e *estate) config(spec platform.Spec, network transport.Network) storagenode.Config {
	cfg := storagenode.DefaultConfig()
	cfg.Grid, cfg.Network, cfg.Log = &storagenode.Grid{}, network, slog.New(e.w.tap.of(string(e.id)))
	cfg.Dimension, cfg.Groups.SegmentBytes, cfg.CacheBytes = 4, 256<<10, 8<<20
	cfg.Groups.SnapshotThreshold, cfg.Groups.TrailingLogs = 120, 40 // so that logs are cut, and what was away gets the state
	if e.w.shardMachine != nil {
		cfg.Machine = func(shard event.ShardID, real raftgroup.FSM) raftgroup.FSM {
			return e.w.shardMachine(e.id, shard, real)
		}
	}
	if e.w.point != nil {
		cfg.Point = func(l labels.Label) { e.w.point(e.host, l) }
	}
	for i := 0; i < len(spec.Args); i++ {
		name, value := spec.Args[i], ""
		if name == "--init" {
			cfg.Grid.Init = true
			continue
		}
		if i++; i < len(spec.Args) {
			value = spec.Args[i]
		}
		switch name {
		case "--data":
			cfg.Data = value
		case "--listen":
			cfg.Listen = value
		case "--node-id":
			cfg.Grid.NodeID = event.NodeID(value)
		case "--agent-id":
			cfg.Grid.AgentID = event.AgentID(value)
		case "--grid-id":
			cfg.Grid.ID = value
		case "--masters":
			cfg.Grid.Masters = strings.Split(value, ",")
		default:
			e.w.faultf("%s starts its node with %s, which this world does not know", e.id, name)
		}
	}
	return cfg
}

// Adopt implements agent.Platform.
func (e *estate) Adopt(platform.Ref, platform.Spec) (*platform.Instance, error) {
	return nil, platform.ErrGone
}

// watch tells the agent about its node.
func (e *estate) watch(ref platform.Ref, pid int, t *tenant) *platform.Instance {
	notices, left, done := make(chan platform.Notice, 2), make(chan struct{}), make(chan struct{})
	notices <- platform.Notice{Ready: &platform.Ready{Endpoint: t.node.Addr(), StoreID: t.node.StoreID()}}
	e.wg.Go(func() {
		defer close(done)
		defer close(notices)
		select {
		case <-t.node.Failed():
			e.w.faultf("%s: its node cannot go on: %w", e.id, t.node.Err())
			t.end(platform.Exit{Code: new(int32)})
			notices <- platform.Notice{Exit: &t.exit}
		case <-t.gone:
			notices <- platform.Notice{Exit: &t.exit}
		case <-left:
		}
	})
	return &platform.Instance{Ref: ref, PID: pid, Notices: notices, Handle: lease{t, sync.OnceFunc(func() { close(left) }), done}}
}

// lease is how the agent acts on its node.
type lease struct {
	*tenant
	leave func()
	done  <-chan struct{}
}

// Terminate implements platform.Handle.
func (l lease) Terminate() error { l.end(platform.Exit{Code: new(int32)}); return nil }

// Kill implements platform.Handle.
func (l lease) Kill() error { l.end(platform.Exit{Signal: "SIGKILL"}); return nil }

// Close implements platform.Handle.
func (l lease) Close() { l.leave(); <-l.done }

// wire is one process's view of its machine's network; severed, it reaches and is reached by nobody.
type wire struct {
	transport.Network
	mu      sync.Mutex
	severed bool                  // guarded by mu
	conns   map[net.Conn]struct{} // guarded by mu
}

func (w *wire) sever() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.severed = true
	for c := range w.conns {
		_ = c.Close()
	}
}

func (w *wire) track(c net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.severed {
		return nil, errors.Join(net.ErrClosed, c.Close())
	}
	w.conns[c] = struct{}{}
	return c, nil
}

// Dial implements transport.Network.
func (w *wire) Dial(ctx context.Context, addr string) (net.Conn, error) {
	return w.track(w.Network.Dial(ctx, addr))
}

// Listen implements transport.Network.
func (w *wire) Listen(addr string) (net.Listener, error) {
	l, err := w.Network.Listen(addr)
	return wireListener{l, w}, err
}

type wireListener struct {
	net.Listener
	wire *wire
}

// Accept implements net.Listener.
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
