package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// streams is the connections of one replica, as raft's NetworkTransport wants them: it accepts what the Host hands over,
// and dials with the handshake. The transport's connections know no shutdown of their own, so Close ends them all.
type streams struct {
	cfg      *Config
	accepted chan net.Conn
	sending  chan struct{}             // capacity 1: one snapshot is sent at a time, and none any more when the group holds it
	snapshot func(io.ReadWriter) error // sends one; set before the Host knows of the streams
	ctx      context.Context           // ends with Close
	cancel   context.CancelFunc

	mu    sync.Mutex
	conns map[*stream]struct{} // guarded by mu; nil after Close
}

var (
	_ raft.StreamLayer           = (*streams)(nil)
	_ raft.ServerAddressProvider = (*streams)(nil)
)

func newStreams(c *Config) *streams {
	s := &streams{cfg: c, accepted: make(chan net.Conn), sending: make(chan struct{}, 1), conns: map[*stream]struct{}{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// stream is one connection that Close of its streams ends.
type stream struct {
	net.Conn
	owner *streams
}

// Close implements net.Conn.
func (s *stream) Close() error {
	s.owner.mu.Lock()
	delete(s.owner.conns, s)
	s.owner.mu.Unlock()
	return s.Conn.Close()
}

// adopt takes conn under the wing of Close; when that has passed, conn is closed.
func (s *streams) adopt(conn net.Conn) (*stream, error) {
	st := &stream{Conn: conn, owner: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		return nil, errors.Join(net.ErrClosed, conn.Close())
	}
	s.conns[st] = struct{}{}
	return st, nil
}

// offer hands over an incoming connection that was welcomed.
func (s *streams) offer(conn net.Conn) {
	st, err := s.adopt(conn)
	if err != nil {
		return // closing
	}
	select {
	case s.accepted <- st:
	case <-s.ctx.Done():
		_ = st.Close() // nobody is left to tell
	}
}

// deliver serves an incoming connection that asks for a snapshot, until that is sent.
func (s *streams) deliver(conn net.Conn) (err error) {
	st, err := s.adopt(conn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	peer := paced{st, streamIdle}
	select {
	case s.sending <- struct{}{}:
		defer func() { <-s.sending }()
		return s.snapshot(peer)
	default:
		if _, err := readFrame(peer, s.cfg.GroupID); err != nil { // or the other side fails to send it, and sees no answer
			return err
		}
		return writeAnswer(peer, fmt.Errorf("%s sends a snapshot of %s already; try again, or ask another replica", s.cfg.LocalID, s.cfg.GroupID))
	}
}

// Accept implements net.Listener.
func (s *streams) Accept() (net.Conn, error) {
	select {
	case c := <-s.accepted:
		return c, nil
	case <-s.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Addr implements net.Listener; it is the replica's id.
func (s *streams) Addr() net.Addr { return replicaAddr(s.cfg.LocalID) }

type replicaAddr event.ReplicaID

func (replicaAddr) Network() string  { return "raft" }
func (a replicaAddr) String() string { return string(a) }

// Close implements net.Listener.
func (s *streams) Close() error {
	s.cfg.Host.remove(s)
	s.cancel()
	s.mu.Lock()
	conns := s.conns
	s.conns = nil
	s.mu.Unlock()
	var errs []error
	for c := range conns {
		errs = append(errs, c.Conn.Close())
	}
	return errors.Join(errs...)
}

// ServerAddr implements raft.ServerAddressProvider: "replica id@host:port", so that Dial knows whom it expects there.
func (s *streams) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	addr, err := s.cfg.Addresses(event.ReplicaID(id))
	if err != nil {
		return "", err
	}
	return raft.ServerAddress(string(id) + "@" + addr), nil
}

// Dial implements raft.StreamLayer.
func (s *streams) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	at := strings.LastIndexByte(string(address), '@')
	if at < 0 { // raft falls back to the bare id when ServerAddr failed
		_, err := s.cfg.Addresses(event.ReplicaID(address))
		return nil, dialError{fmt.Errorf("the address of %s is not known: %w", address, err)}
	}
	to, addr := event.ReplicaID(address[:at]), string(address[at+1:])
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	conn, err := transport.Dial(ctx, s.cfg.Network, addr, s.cfg.TLS)
	if err != nil {
		return nil, dialError{err}
	}
	st, err := s.adopt(conn)
	if err != nil {
		return nil, dialError{err}
	}
	h := s.cfg.Host.cfg
	said := hello{GridID: h.GridID, Incarnation: h.Incarnation, Group: s.cfg.GroupID, From: s.cfg.LocalID, To: to}
	if err := greet(st, said, timeout); err != nil {
		return nil, dialError{errors.Join(fmt.Errorf("%s at %s: %w", to, addr, err), st.Close())}
	}
	return st, nil
}
