package transport

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// memoryWindow is what one direction holds before a writer waits, about a TCP window.
const memoryWindow = 64 << 10

// stream is one direction of a connection.
type stream struct {
	mu       sync.Mutex
	buf      []byte
	ended    bool          // the writer closed its direction: EOF behind buf
	broken   bool          // the reader is gone: writes fail
	changed  chan struct{} // closed and replaced whenever something above changes
	peerGone error         // what a write gets when broken
}

func newStream() *stream {
	return &stream{changed: make(chan struct{}), peerGone: syscall.EPIPE}
}

// notifyLocked wakes everybody who waits for a change.
func (s *stream) notifyLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *stream) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	s.notifyLocked()
}

// tryRead takes what is there; done is false when the reader must wait for the channel.
func (s *stream) tryRead(p []byte) (n int, done bool, wait <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(s.buf) > 0:
		n = copy(p, s.buf)
		s.buf = s.buf[n:]
		if len(s.buf) == 0 {
			s.buf = nil
		}
		s.notifyLocked()
		return n, true, nil, nil
	case s.ended:
		return 0, true, nil, io.EOF
	}
	return 0, len(p) == 0, s.changed, nil
}

// tryWrite puts what fits; n < len(p) without error means that the writer must wait for the channel.
func (s *stream) tryWrite(p []byte) (n int, wait <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
		return 0, nil, net.ErrClosed
	case s.broken:
		return 0, nil, s.peerGone
	}
	n = min(len(p), memoryWindow-len(s.buf))
	if n > 0 {
		s.buf = append(s.buf, p[:n]...)
		s.notifyLocked()
	}
	return n, s.changed, nil
}

// memoryConn is one end of a connection.
type memoryConn struct {
	in, out       *stream
	local, remote memoryAddr
	readBy        deadline
	writeBy       deadline
	once          sync.Once
	closed        chan struct{}
}

func memoryPipe(dialer, listener memoryAddr) (near, far *memoryConn) {
	up, down := newStream(), newStream()
	near = &memoryConn{in: down, out: up, local: dialer, remote: listener, closed: make(chan struct{})}
	far = &memoryConn{in: up, out: down, local: listener, remote: dialer, closed: make(chan struct{})}
	return near, far
}

func (c *memoryConn) fail(op string, err error) error {
	return &net.OpError{Op: op, Net: "memory", Source: c.local, Addr: c.remote, Err: err}
}

// Read implements net.Conn.
func (c *memoryConn) Read(p []byte) (int, error) {
	for {
		expired, moved := c.readBy.watch()
		select {
		case <-c.closed:
			return 0, c.fail("read", net.ErrClosed)
		case <-expired:
			return 0, c.fail("read", os.ErrDeadlineExceeded)
		default:
		}
		n, done, wait, err := c.in.tryRead(p)
		if done {
			return n, err // io.EOF stays bare, as readers expect it
		}
		select {
		case <-wait:
		case <-expired:
		case <-moved:
		case <-c.closed:
		}
	}
}

// Write implements net.Conn.
func (c *memoryConn) Write(p []byte) (int, error) {
	total := 0
	for {
		expired, moved := c.writeBy.watch()
		select {
		case <-c.closed:
			return total, c.fail("write", net.ErrClosed)
		case <-expired:
			return total, c.fail("write", os.ErrDeadlineExceeded)
		default:
		}
		n, wait, err := c.out.tryWrite(p[total:])
		if total += n; err != nil {
			return total, c.fail("write", err)
		}
		if total == len(p) {
			return total, nil
		}
		select {
		case <-wait:
		case <-expired:
		case <-moved:
		case <-c.closed:
		}
	}
}

// CloseWrite ends the own direction; the peer reads EOF behind what was written.
func (c *memoryConn) CloseWrite() error {
	c.out.set(func() { c.out.ended = true })
	return nil
}

// Close ends both directions. What was written before can still be read by the peer, whose writes then fail.
func (c *memoryConn) Close() error {
	err := c.fail("close", net.ErrClosed)
	c.once.Do(func() {
		close(c.closed)
		c.out.set(func() { c.out.ended = true })
		c.in.set(func() { c.in.broken, c.in.buf = true, nil })
		c.readBy.set(time.Time{})
		c.writeBy.set(time.Time{})
		err = nil
	})
	return err
}

func (c *memoryConn) LocalAddr() net.Addr  { return c.local }
func (c *memoryConn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *memoryConn) SetDeadline(t time.Time) error {
	c.readBy.set(t)
	c.writeBy.set(t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (c *memoryConn) SetReadDeadline(t time.Time) error {
	c.readBy.set(t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *memoryConn) SetWriteDeadline(t time.Time) error {
	c.writeBy.set(t)
	return nil
}

// deadline is a moving point in time that can be waited for.
type deadline struct {
	mu      sync.Mutex
	timer   *time.Timer
	expired chan struct{} // closed when the present deadline has passed
	change  chan struct{} // closed and replaced when the deadline moves
}

func (d *deadline) initLocked() {
	if d.expired == nil {
		d.expired, d.change = make(chan struct{}), make(chan struct{})
	}
}

// watch returns both channels as of one moment.
func (d *deadline) watch() (expired, moved <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.initLocked()
	return d.expired, d.change
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.initLocked()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	expired := make(chan struct{})
	d.expired = expired
	close(d.change)
	d.change = make(chan struct{})
	if t.IsZero() {
		return
	}
	if wait := time.Until(t); wait > 0 {
		d.timer = time.AfterFunc(wait, func() { close(expired) })
	} else {
		close(expired)
	}
}
