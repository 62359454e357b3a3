package sim

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/sutra-grid/sutra-grid/agent"
	"github.com/sutra-grid/sutra-grid/agent/platform"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/storagenode"
	"github.com/sutra-grid/sutra-grid/transport"
)

// landlord is a home's platform as one life of its agent sees it.
type landlord struct {
	h *home
	r *agentRun
}

var _ agent.Platform = (*landlord)(nil)

// tenant is one life of a storage node.
type tenant struct {
	h      *home
	ref    platform.Ref
	pid    int
	node   *storagenode.Node
	wire   *transport.Severable
	voice  *voice
	ending sync.Once
	gone   chan struct{} // closed when it ends
	exit   platform.Exit // set before gone is closed; one with a signal is a kill
	closed chan struct{} // closed when nothing of it is left
}

// Load is always none: the real machine's would differ from run to run.
func (l *landlord) Load() event.Load { return event.Load{} }

var errAgentGone = errors.New("the agent was killed")

// Start implements agent.Platform. It waits while the node is to stay dead, and until the node before it has let go of its disk.
func (l *landlord) Start(spec platform.Spec, record func(platform.Ref, int) error) (*platform.Instance, error) {
	h := l.h
	for {
		h.mu.Lock()
		wait := h.held
		if wait == nil && h.last != nil {
			wait = h.last.closed
		}
		h.mu.Unlock()
		if wait == nil {
			break
		}
		select {
		case <-wait:
		case <-l.r.gone:
			return nil, errAgentGone
		}
		if h.vacant() {
			break
		}
	}
	h.mu.Lock()
	h.starts++
	t := &tenant{h: h, pid: h.starts, ref: platform.Ref(fmt.Sprintf("%s-%d", h.id, h.starts)), wire: transport.NewSeverable(h.g.net.Host(h.host())),
		voice: h.g.tap.of(h.lodger().name()), gone: make(chan struct{}), closed: make(chan struct{})}
	h.mu.Unlock()
	if err := record(t.ref, t.pid); err != nil {
		return nil, err
	}
	cfg, err := t.config(spec)
	if err != nil {
		return nil, err
	}
	if t.node, err = storagenode.Open(cfg); err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.tenants[t.ref], h.last = t, t
	if h.moved != nil {
		close(h.moved)
		h.moved = nil
	}
	h.mu.Unlock()
	h.nodes.Go(t.guard)
	return t.watch(), nil
}

// Adopt implements agent.Platform.
func (l *landlord) Adopt(ref platform.Ref, _ platform.Spec) (*platform.Instance, error) {
	l.h.mu.Lock()
	t := l.h.tenants[ref]
	l.h.mu.Unlock()
	if t == nil || !t.alive() {
		return nil, platform.ErrGone
	}
	return t.watch(), nil
}

// vacant tells whether a node may be started now.
func (h *home) vacant() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held != nil || h.last == nil {
		return h.held == nil
	}
	select {
	case <-h.last.closed:
		return true
	default:
		return false
	}
}

func (t *tenant) alive() bool {
	select {
	case <-t.gone:
		return false
	default:
		return true
	}
}

// end begins the end of the node, once: abruptly if exit has a signal.
func (t *tenant) end(exit platform.Exit) {
	t.ending.Do(func() {
		t.exit = exit
		end := t.node.Close
		if exit.Signal != "" {
			end = t.node.Abort
			t.voice.mute.Store(true)
			if err := t.wire.Sever(); err != nil {
				t.h.g.tap.report("%s: %v", t.ref, err)
			}
		}
		t.h.nodes.Go(func() {
			defer close(t.closed)
			if err := end(); err != nil && !t.voice.mute.Load() {
				t.h.g.tap.report("%s: %v", t.ref, err)
			}
		})
		close(t.gone)
	})
}

// guard ends a node that cannot go on, as its program does.
func (t *tenant) guard() {
	select {
	case <-t.node.Failed():
		if !t.voice.mute.Load() {
			t.h.g.tap.report("%s cannot go on: %v", t.h.lodger().name(), t.node.Err())
		}
		t.end(platform.Exit{Code: new(int32)})
	case <-t.gone:
	}
}

// watch tells an agent about the node.
func (t *tenant) watch() *platform.Instance {
	notices, left, done := make(chan platform.Notice, 2), make(chan struct{}), make(chan struct{})
	notices <- platform.Notice{Ready: &platform.Ready{Endpoint: t.node.Addr(), StoreID: t.node.StoreID()}}
	t.h.nodes.Go(func() {
		defer close(done)
		defer close(notices)
		select {
		case <-t.gone:
			notices <- platform.Notice{Exit: &t.exit}
		case <-left:
		}
	})
	return &platform.Instance{Ref: t.ref, PID: t.pid, Notices: notices, Handle: lease{t, sync.OnceFunc(func() { close(left) }), done}}
}

// lease is how an agent acts on its node.
type lease struct {
	t     *tenant
	leave func()
	done  <-chan struct{}
}

// Terminate implements platform.Handle.
func (l lease) Terminate() error { l.t.end(platform.Exit{Code: new(int32)}); return nil }

// Kill implements platform.Handle.
func (l lease) Kill() error { l.t.end(platform.Exit{Signal: "SIGKILL"}); return nil }

// Close implements platform.Handle.
func (l lease) Close() { l.leave(); <-l.done }

// config reads a node's arguments as gridnode does.
func (t *tenant) config(spec platform.Spec) (storagenode.Config, error) {
	cfg := storagenode.DefaultConfig()
	cfg.Grid, cfg.Network, cfg.Log = &storagenode.Grid{}, t.wire, t.h.g.log(t.voice)
	cfg.Point = func(l fault.Label) { t.h.g.points.pass(t.h.lodger(), l) }
	t.h.g.sizes(&cfg)
	values := map[string]func(string){
		"--data":     func(v string) { cfg.Data = v },
		"--listen":   func(v string) { cfg.Listen = v },
		"--node-id":  func(v string) { cfg.Grid.NodeID = event.NodeID(v) },
		"--agent-id": func(v string) { cfg.Grid.AgentID = event.AgentID(v) },
		"--grid-id":  func(v string) { cfg.Grid.ID = v },
		"--masters":  func(v string) { cfg.Grid.Masters = strings.Split(v, ",") },
	}
	for i := 0; i < len(spec.Args); i++ {
		if spec.Args[i] == "--init" {
			cfg.Grid.Init = true
			continue
		}
		take := values[spec.Args[i]]
		if i+1 == len(spec.Args) || take == nil {
			return cfg, fmt.Errorf("%s: a node is started with %q, which this rig does not know", t.h.id, spec.Args[i])
		}
		i++
		take(spec.Args[i])
	}
	return cfg, nil
}
