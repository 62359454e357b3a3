package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// The first byte of a connection says what is spoken on it (topology specification).
const (
	maxFrameByte = 0x06 // of a frame's length: 100 MiB is 0x06400000
	tlsByte      = 0x16 // a TLS handshake record
	raftByte     = 0xC1 // the preface of raft traffic; never a MessagePack byte
)

const (
	// maxSniffing bounds the connections whose first byte has not come yet.
	maxSniffing = 4096
	// sniffTimeout is how long the first byte may take; clients in the field connect early and ask late.
	sniffTimeout = 5 * time.Minute
	// muxBacklog is how many connections of one kind may wait for Accept.
	muxBacklog = 64
)

// Mux accepts the connections of one port and hands them out by their first byte: frames, raft traffic, or TLS around
// either. Anything else is a frame length over the limit: an Error, and the end.
type Mux struct {
	listener net.Listener
	tls      *tls.Config
	log      *slog.Logger
	frames   *muxListener
	raft     *muxListener // nil until Raft is called: no raft traffic on this port

	mu     sync.Mutex
	conns  map[net.Conn]struct{} // whose first byte is awaited, or which are being refused
	closed bool
	done   chan struct{}
	wg     sync.WaitGroup
}

// NewMux takes over l. With conf the port speaks TLS and nothing else; without it TLS is refused.
func NewMux(l net.Listener, conf *tls.Config, log *slog.Logger) *Mux {
	m := &Mux{listener: l, tls: conf, log: log, conns: map[net.Conn]struct{}{}, done: make(chan struct{})}
	m.frames = m.newListener()
	return m
}

// Frames is where connections that speak frames are accepted. Once it is closed frames are refused.
func (m *Mux) Frames() net.Listener { return m.frames }

// Raft is where connections with the raft preface are accepted; the preface is still to be read. It must be called before
// Serve; without it raft traffic is refused.
func (m *Mux) Raft() net.Listener {
	if m.raft == nil {
		m.raft = m.newListener()
	}
	return m.raft
}

// Serve accepts until ctx ends or Close is called, and then returns nil; any other end of the listener is an error.
func (m *Mux) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = m.Close() })
	defer stop()
	var pause Backoff
	for {
		conn, err := m.listener.Accept()
		switch {
		case err == nil:
			pause.Reset()
			m.sniff(conn)
		case m.isClosed():
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept on %s: %w", m.listener.Addr(), err)
		default: // out of file descriptors, a connection aborted in the backlog: the listener lives
			m.log.Warn("accept failed, goes on", "addr", m.listener.Addr().String(), "err", err)
			if pause.Wait(ctx, 0) != nil {
				return nil
			}
		}
	}
}

// Close ends the listener, both outlets and the connections nobody has accepted, and waits for its goroutines.
func (m *Mux) Close() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		m.wg.Wait()
		return nil
	}
	m.closed = true
	close(m.done)
	for c := range m.conns {
		_ = c.Close() // its sniffer notices
	}
	m.mu.Unlock()
	err := m.listener.Close()
	m.wg.Wait()
	m.frames.drain()
	if m.raft != nil {
		m.raft.drain()
	}
	return err
}

func (m *Mux) isClosed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.closed
}

// sniff starts the goroutine that waits for conn's first byte.
func (m *Mux) sniff(conn net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || len(m.conns) >= maxSniffing {
		_ = conn.Close()
		return
	}
	m.conns[conn] = struct{}{}
	m.wg.Add(1)
	go func() {
		defer m.wg.Done()
		m.dispatch(conn, conn, m.tls)
		m.mu.Lock()
		delete(m.conns, conn)
		m.mu.Unlock()
	}()
}

// dispatch reads the first byte of conn, which is raw or TLS over raw, and passes it on. conf is nil inside TLS and on
// plain ports.
func (m *Mux) dispatch(raw, conn net.Conn, conf *tls.Config) {
	_ = conn.SetReadDeadline(time.Now().Add(sniffTimeout))
	var first [1]byte
	if _, err := conn.Read(first[:]); err != nil {
		_ = conn.Close()
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	peeked := &peekedConn{Conn: conn, first: first[0], full: true}
	switch b := first[0]; {
	case conf != nil && b == tlsByte:
		m.handshake(raw, peeked, conf)
	case conf != nil:
		m.refuse(peeked, "this port speaks TLS only")
	case b <= maxFrameByte && m.frames.isClosed():
		m.refuse(peeked, "no frames on this port")
	case b <= maxFrameByte:
		m.frames.offer(peeked)
	case b == raftByte && m.raft != nil:
		m.raft.offer(peeked)
	case b == raftByte:
		m.refuse(peeked, "no raft traffic on this port")
	case b == tlsByte:
		m.refuse(peeked, "this port does not speak TLS")
	default:
		m.refuse(peeked, fmt.Sprintf("frame over the limit: its length begins with 0x%02x, at most %d bytes are allowed", b, MaxStorageFrame))
	}
}

func (m *Mux) handshake(raw net.Conn, conn net.Conn, conf *tls.Config) {
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	tc := tls.Server(conn, conf)
	if err := tc.HandshakeContext(ctx); err != nil {
		m.log.Info("TLS handshake failed", "peer", conn.RemoteAddr().String(), "err", err)
		_ = conn.Close()
		return
	}
	m.dispatch(raw, tc, nil)
}

// refuse answers with an Error and closes.
func (m *Mux) refuse(conn net.Conn, message string) {
	e := &event.Error{Kind: event.KindInvalid, Op: "accept connection", Message: message}
	_ = conn.SetWriteDeadline(time.Now().Add(lastWrite))
	if _, err := conn.Write(appendErrorFrame(nil, e, false)); err != nil {
		_ = conn.Close()
		return
	}
	lingerClose(conn)
}

// peekedConn is a connection whose first byte was read and is given back.
type peekedConn struct {
	net.Conn
	first byte
	full  bool
}

// Read implements net.Conn. Like every Read of a buffered reader it is for one goroutine at a time.
func (c *peekedConn) Read(p []byte) (int, error) {
	if c.full && len(p) > 0 {
		c.full = false
		p[0] = c.first
		return 1, nil
	}
	return c.Conn.Read(p)
}

// CloseWrite ends the own direction.
func (c *peekedConn) CloseWrite() error {
	if h, ok := c.Conn.(halfCloser); ok {
		return h.CloseWrite()
	}
	return errors.ErrUnsupported
}

// muxListener is one outlet of a Mux.
type muxListener struct {
	mux   *Mux
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (m *Mux) newListener() *muxListener {
	return &muxListener{mux: m, conns: make(chan net.Conn, muxBacklog), done: make(chan struct{})}
}

// offer waits for room in the backlog: the sniffer of a connection is what waits, and sniffers are bounded.
func (l *muxListener) offer(conn net.Conn) {
	select {
	case l.conns <- conn:
		select {
		case <-l.done: // closed meanwhile: nobody will accept it
			l.drain()
		default:
		}
	case <-l.done:
		_ = conn.Close()
	case <-l.mux.done:
		_ = conn.Close()
	}
}

// Accept implements net.Listener.
func (l *muxListener) Accept() (net.Conn, error) {
	select {
	case <-l.done:
	case <-l.mux.done:
	default:
		select {
		case c := <-l.conns:
			return c, nil
		case <-l.done:
		case <-l.mux.done:
		}
	}
	return nil, &net.OpError{Op: "accept", Net: l.Addr().Network(), Addr: l.Addr(), Err: net.ErrClosed}
}

// Close ends this outlet; the Mux lives on and drops what would come out here.
func (l *muxListener) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.drain()
	})
	return nil
}

func (l *muxListener) isClosed() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// Addr is the port's address.
func (l *muxListener) Addr() net.Addr { return l.mux.listener.Addr() }

// drain closes what nobody has accepted.
func (l *muxListener) drain() {
	for {
		select {
		case c := <-l.conns:
			_ = c.Close()
		default:
			return
		}
	}
}
