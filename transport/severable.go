package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
)

// Severable is a network whose every listener and connection can be closed at once, however deep they are in use.
//
// It is for a process that must leave at once: while one of its threads hangs in the kernel, on a disk that does not answer, the
// kernel keeps all that the process has open, and whoever is connected to it waits. Its methods are safe for concurrent use.
type Severable struct {
	inner Network

	mu   sync.Mutex
	open map[io.Closer]struct{} // guarded by mu; nil after Sever
}

var (
	_ Network    = (*Severable)(nil)
	_ halfCloser = (*severableConn)(nil)
)

// NewSeverable makes a severable network of n.
func NewSeverable(n Network) *Severable {
	return &Severable{inner: n, open: map[io.Closer]struct{}{}}
}

// Listen implements Network.
func (s *Severable) Listen(addr string) (net.Listener, error) {
	l, err := s.inner.Listen(addr)
	if err != nil {
		return nil, err
	}
	if err := s.adopt(l); err != nil {
		return nil, err
	}
	return &severableListener{Listener: l, owner: s}, nil
}

// Dial implements Network.
func (s *Severable) Dial(ctx context.Context, addr string) (net.Conn, error) {
	c, err := s.inner.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	return s.conn(c)
}

// Sever closes everything that is open and everything that would be opened from now on. It waits for nobody.
func (s *Severable) Sever() error {
	s.mu.Lock()
	open := s.open
	s.open = nil
	s.mu.Unlock()
	var errs []error
	for c := range open {
		if err := c.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// adopt notes what is to be closed by Sever, or closes it when that has passed.
func (s *Severable) adopt(c io.Closer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		return errors.Join(net.ErrClosed, c.Close())
	}
	s.open[c] = struct{}{}
	return nil
}

func (s *Severable) forget(c io.Closer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}

func (s *Severable) conn(c net.Conn) (net.Conn, error) {
	if err := s.adopt(c); err != nil {
		return nil, err
	}
	return &severableConn{Conn: c, owner: s}, nil
}

type severableListener struct {
	net.Listener
	owner *Severable
}

// Accept implements net.Listener.
func (l *severableListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.owner.conn(c)
}

// Close implements net.Listener.
func (l *severableListener) Close() error {
	l.owner.forget(l.Listener)
	return l.Listener.Close()
}

type severableConn struct {
	net.Conn
	owner *Severable
}

// Close implements net.Conn.
func (c *severableConn) Close() error {
	c.owner.forget(c.Conn)
	return c.Conn.Close()
}

// CloseWrite ends the own direction.
func (c *severableConn) CloseWrite() error {
	if h, ok := c.Conn.(halfCloser); ok {
		return h.CloseWrite()
	}
	return errors.ErrUnsupported
}
