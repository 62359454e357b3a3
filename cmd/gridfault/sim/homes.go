package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/sutra-grid/sutra-grid/agent"
	"github.com/sutra-grid/sutra-grid/agent/platform"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// home is the machine of an agent: the agent as a process, the platform on which it runs its storage node in this process, and, as
// lodger, the node as a process that can be killed. Agent and node share the host, and each has its own connections.
type home struct {
	g  *Grid
	id event.AgentID

	mu      sync.Mutex
	agent   *agentRun                // guarded by mu; nil: down
	starts  int                      // guarded by mu; of nodes, so that no two have one reference
	tenants map[platform.Ref]*tenant // guarded by mu; all that ever were, by reference
	last    *tenant                  // guarded by mu; the newest
	held    chan struct{}            // guarded by mu; not nil: the node was killed, and may not start before this is closed
	moved   chan struct{}            // guarded by mu; closed and replaced when last is; nil: nobody waits

	nodes sync.WaitGroup // what ends and watches nodes
}

// agentRun is one life of the agent.
type agentRun struct {
	*agent.Agent
	wire  *transport.Severable
	voice *voice
	gone  chan struct{} // closed when it is killed: what it waits for on the platform comes no more
}

func (h *home) name() string { return string(h.id) }
func (h *home) host() string { return string(h.id) }

func (h *home) alive() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.agent != nil
}

// start implements process: it runs the agent.
func (h *home) start(context.Context) error {
	if h.alive() {
		return nil
	}
	r := &agentRun{wire: transport.NewSeverable(h.g.net.Host(h.host())), voice: h.g.tap.of(h.name()), gone: make(chan struct{})}
	cfg := agent.DefaultConfig()
	cfg.ID, cfg.Data, cfg.Listen = h.id, h.g.path(h.host(), 0), h.host()+":8001"
	for _, m := range h.g.layout.Masters {
		cfg.Masters = append(cfg.Masters, m.Address)
	}
	cfg.NodePorts = agent.PortRange{From: 50051, To: 50060}
	cfg.Platform, cfg.GridNode, cfg.Network = &landlord{h, r}, "gridnode", r.wire
	cfg.Log = h.g.log(r.voice)
	a, err := agent.Open(cfg)
	if err != nil {
		return fmt.Errorf("start %s: %w", h.id, err)
	}
	r.Agent = a
	h.mu.Lock()
	defer h.mu.Unlock()
	h.agent = r
	return nil
}

// kill implements process: the agent ends and its node lives on.
func (h *home) kill() error {
	h.mu.Lock()
	r := h.agent
	h.agent = nil
	h.mu.Unlock()
	if r == nil {
		return nil
	}
	r.voice.mute.Store(true)
	close(r.gone)
	err := r.wire.Sever()
	if e := r.Close(); !errors.Is(e, net.ErrClosed) { // its listener is
		err = errors.Join(err, e)
	}
	if err != nil {
		return fmt.Errorf("kill %s: %w", h.id, err)
	}
	return nil
}

// close ends everything on the machine.
func (h *home) close() error {
	err := h.kill()
	err = errors.Join(err, h.lodger().kill())
	h.nodes.Wait()
	return err
}

// present is the newest node, or nil.
func (h *home) present() *tenant {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

func (h *home) lodger() *lodger { return &lodger{h} }

// lodger is the node of a home as a process.
type lodger struct{ h *home }

func (l *lodger) name() string { return "node of " + l.h.name() }
func (l *lodger) host() string { return l.h.host() }

func (l *lodger) alive() bool {
	t := l.h.present()
	return t != nil && t.alive()
}

// kill implements process. The agent, if it runs, hears of it, and starts the node again when start is called.
func (l *lodger) kill() error {
	t := l.h.present()
	if t == nil || !t.alive() {
		return nil
	}
	l.h.mu.Lock()
	if l.h.held == nil {
		l.h.held = make(chan struct{})
	}
	l.h.mu.Unlock()
	t.end(platform.Exit{Signal: "SIGKILL"})
	<-t.closed
	return nil
}

// start implements process: the agent may start the node, and does so by itself.
func (l *lodger) start(ctx context.Context) error {
	for {
		l.h.mu.Lock()
		if l.h.held != nil {
			close(l.h.held)
			l.h.held = nil
		}
		t := l.h.last
		if l.h.moved == nil {
			l.h.moved = make(chan struct{})
		}
		moved := l.h.moved
		l.h.mu.Unlock()
		if t == nil || t.alive() {
			return nil // t == nil: it never had one
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("%s does not run again: %w", l.name(), context.Cause(ctx))
		}
	}
}

// stop has the node end in good order, which hands its leaderships over; its agent starts it again.
func (l *lodger) stop() {
	if t := l.h.present(); t != nil {
		t.end(platform.Exit{Code: new(int32)})
	}
}
