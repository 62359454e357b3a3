package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

const (
	handshakeTimeout = 5 * time.Second
	maxHandshakes    = 128 // under way at once; more are closed
)

// HostConfig says which grid's connections a Host takes.
type HostConfig struct {
	GridID      string
	Incarnation event.Incarnation
	Log         *slog.Logger
}

// Host takes the raft connections of all groups of one process and hands each to the replica it is meant for. What is not
// meant for exactly one of them is told so and closed. Membership is no ground for refusal: a replica that was away may
// not know its new leader yet.
type Host struct {
	cfg      HostConfig
	listener net.Listener
	slots    chan struct{} // one per handshake under way
	wg       sync.WaitGroup

	mu      sync.Mutex
	groups  map[string]*streams   // guarded by mu
	waiting map[net.Conn]struct{} // guarded by mu; handshakes and snapshots under way; nil after Close
}

// NewHost makes a host for the connections that l accepts. Groups can be opened before Serve.
func NewHost(l net.Listener, c HostConfig) *Host {
	return &Host{cfg: c, listener: l, slots: make(chan struct{}, maxHandshakes), groups: map[string]*streams{}, waiting: map[net.Conn]struct{}{}}
}

// Serve takes connections until ctx ends or Close, which it returns nil for.
func (h *Host) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = h.listener.Close() }) // Accept below reports it
	defer stop()
	for {
		conn, err := h.listener.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) || h.closed() {
				return nil
			}
			return fmt.Errorf("accept raft connections on %s: %w", h.listener.Addr(), err)
		}
		h.take(conn)
	}
}

func (h *Host) closed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.waiting == nil
}

// take begins the handshake.
func (h *Host) take(conn net.Conn) {
	select {
	case h.slots <- struct{}{}:
	default:
		h.cfg.Log.Warn("raft connection closed: too many handshakes under way", "remote", conn.RemoteAddr().String())
		_ = conn.Close() // logged above
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waiting == nil {
		<-h.slots
		_ = conn.Close() // closing
		return
	}
	h.waiting[conn] = struct{}{}
	h.wg.Go(func() {
		to, said, err := h.handshake(conn)
		<-h.slots
		if err == nil && said.Purpose == purposeSnapshot {
			h.deliver(conn, to, said)
			return
		}
		h.forget(conn)
		if err != nil {
			h.cfg.Log.Debug("raft connection refused", "remote", conn.RemoteAddr().String(), "reason", err)
			_ = conn.Close() // the refusal says more
			return
		}
		to.offer(conn)
	})
}

func (h *Host) forget(conn net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.waiting, conn)
}

// deliver sends a snapshot; Close of the Host ends it.
func (h *Host) deliver(conn net.Conn, to *streams, said hello) {
	defer h.forget(conn)
	if err := to.deliver(conn); err != nil {
		h.cfg.Log.Warn("a snapshot was not sent", "group", said.Group, "from", said.To, "to", said.From, "error", err)
		return
	}
	h.cfg.Log.Info("snapshot served", "group", said.Group, "from", said.To, "to", said.From)
}

// handshake finds out whom the connection is meant for, and answers.
func (h *Host) handshake(conn net.Conn) (*streams, hello, error) {
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return nil, hello{}, err
	}
	said, err := readHello(conn)
	if err != nil {
		return nil, said, fmt.Errorf("handshake: %w", err)
	}
	to, refusal := h.find(said)
	if err := writeAnswer(conn, refusal); err != nil {
		return nil, said, errors.Join(refusal, err)
	}
	if refusal != nil {
		return nil, said, fmt.Errorf("from %s: %w", said.From, refusal)
	}
	return to, said, conn.SetDeadline(time.Time{})
}

func (h *Host) find(said hello) (*streams, error) {
	switch {
	case said.GridID != h.cfg.GridID:
		return nil, fmt.Errorf("this is grid %s, not %s", h.cfg.GridID, said.GridID)
	case said.Incarnation != h.cfg.Incarnation:
		return nil, fmt.Errorf("this is incarnation %d-%x of the grid, not %d-%x",
			h.cfg.Incarnation.N, h.cfg.Incarnation.Random, said.Incarnation.N, said.Incarnation.Random)
	case said.From == "":
		return nil, errors.New("the sender does not say who it is")
	case said.Purpose != "" && said.Purpose != purposeSnapshot:
		return nil, fmt.Errorf("connections for %q are not taken here", said.Purpose)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s, ok := h.groups[said.Group]
	switch {
	case !ok:
		return nil, fmt.Errorf("no replica of %s runs here", said.Group)
	case said.To != s.cfg.LocalID:
		return nil, fmt.Errorf("the replica of %s here is %s, not %s", said.Group, s.cfg.LocalID, said.To)
	}
	return s, nil
}

// add lets connections to a replica in.
func (h *Host) add(s *streams) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waiting == nil {
		return fmt.Errorf("open replica %s of %s: the host is closed", s.cfg.LocalID, s.cfg.GroupID)
	}
	if other, ok := h.groups[s.cfg.GroupID]; ok {
		return fmt.Errorf("open replica %s of %s: %s is open in this process already", s.cfg.LocalID, s.cfg.GroupID, other.cfg.LocalID)
	}
	h.groups[s.cfg.GroupID] = s
	return nil
}

func (h *Host) remove(s *streams) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.groups[s.cfg.GroupID] == s {
		delete(h.groups, s.cfg.GroupID)
	}
}

// Close ends Serve, and the handshakes and sent snapshots under way; groups close their own connections. It is safe to call twice.
func (h *Host) Close() error {
	err := h.listener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	h.mu.Lock()
	waiting := h.waiting
	h.waiting = nil
	h.mu.Unlock()
	for conn := range waiting {
		_ = conn.Close() // its handshake fails with it
	}
	h.wg.Wait()
	return err
}
