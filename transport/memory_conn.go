package transport

import (
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// memoryWindow is what one direction holds before a writer waits, about a TCP window.
const memoryWindow = 64 << 10

// stream is one direction of a connection, as both of its ends see it.
type stream struct {
	mu      sync.Mutex
	buf     []byte        // arrived, not read
	unread  int           // written, and the writer has not heard that it was read
	shut    bool          // the writer closed its direction
	ended   bool          // and the reader has heard of it: EOF behind buf
	left    bool          // the reader closed
	broken  bool          // and the writer has heard of it: writes fail
	changed chan struct{} // closed and replaced whenever something above changes
}

func newStream() *stream { return &stream{changed: make(chan struct{})} }

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
		return n, true, nil, nil
	case s.ended:
		return 0, true, nil, io.EOF
	}
	return 0, len(p) == 0, s.changed, nil
}

// tryWrite is how much of size bytes the window takes; less without error means that the writer must wait for the channel.
func (s *stream) tryWrite(size int) (n int, wait <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.shut:
		return 0, nil, net.ErrClosed
	case s.broken:
		return 0, nil, syscall.EPIPE
	}
	n = min(size, memoryWindow-s.unread)
	s.unread += n
	return n, s.changed, nil
}

// arrive is the delivery of bytes.
func (s *stream) arrive(p []byte) {
	s.set(func() {
		if !s.left {
			s.buf = append(s.buf, p...)
		}
	})
}

// memoryConn is one end of a connection.
type memoryConn struct {
	in, out       *stream
	path          *path // what this end sends
	peer          *memoryConn
	local, remote memoryAddr
	readBy        deadline
	writeBy       deadline
	once, tear    sync.Once
	closed        chan struct{}
	torn          chan struct{} // closed by a reset
}

// memoryPipe is a connection over links of its own.
func memoryPipe(dialer, listener memoryAddr) (near, far *memoryConn) {
	return connect(dialer, listener, newLink(nil), newLink(nil))
}

// connect makes both ends of a connection whose dialer sends over up and whose listener sends over down.
func connect(dialer, listener memoryAddr, up, down *link) (near, far *memoryConn) {
	there, back := newStream(), newStream()
	near = &memoryConn{in: back, out: there, local: dialer, remote: listener, closed: make(chan struct{}), torn: make(chan struct{})}
	far = &memoryConn{in: there, out: back, local: listener, remote: dialer, closed: make(chan struct{}), torn: make(chan struct{})}
	near.peer, far.peer = far, near
	near.path, far.path = &path{link: up, conn: near}, &path{link: down, conn: far}
	up.add(near.path)
	down.add(far.path)
	return near, far
}

// reset is the delivery of a reset to this end: nothing more is read or written.
func (c *memoryConn) reset() { c.tear.Do(func() { close(c.torn) }) }

// refused tells why nothing can be read or written any more, or nil.
func (c *memoryConn) refused(expired <-chan struct{}) error {
	select {
	case <-c.closed:
		return net.ErrClosed
	default:
	}
	select {
	case <-c.torn:
		return syscall.ECONNRESET
	case <-expired:
		return os.ErrDeadlineExceeded
	default:
		return nil
	}
}

func (c *memoryConn) fail(op string, err error) error {
	return &net.OpError{Op: op, Net: "memory", Source: c.local, Addr: c.remote, Err: err}
}

// Read implements net.Conn.
func (c *memoryConn) Read(p []byte) (int, error) {
	for {
		expired, moved := c.readBy.watch()
		if err := c.refused(expired); err != nil {
			return 0, c.fail("read", err)
		}
		n, done, wait, err := c.in.tryRead(p)
		if n > 0 {
			c.path.send(0, func() { c.in.set(func() { c.in.unread -= n }) })
		}
		if done {
			return n, err // io.EOF stays bare, as readers expect it
		}
		c.await(wait, expired, moved)
	}
}

// Write implements net.Conn.
func (c *memoryConn) Write(p []byte) (int, error) {
	total := 0
	for {
		expired, moved := c.writeBy.watch()
		if err := c.refused(expired); err != nil {
			return total, c.fail("write", err)
		}
		n, wait, err := c.out.tryWrite(len(p) - total)
		if err != nil {
			return total, c.fail("write", err)
		}
		if n > 0 {
			part := slices.Clone(p[total : total+n]) // the caller may use p again before it arrives
			c.path.send(n, func() { c.out.arrive(part) })
			total += n
		}
		if total == len(p) {
			return total, nil
		}
		c.await(wait, expired, moved)
	}
}

// await returns when something has changed that a read or a write may have waited for.
func (c *memoryConn) await(wait, expired, moved <-chan struct{}) {
	select {
	case <-wait:
	case <-expired:
	case <-moved:
	case <-c.closed:
	case <-c.torn:
	}
}

// CloseWrite ends the own direction; the peer reads EOF behind what was written.
func (c *memoryConn) CloseWrite() error {
	c.out.set(func() { c.out.shut = true })
	c.path.send(0, func() { c.out.set(func() { c.out.ended = true }) })
	return nil
}

// Close ends both directions. What was written before can still be read by the peer, whose writes then fail.
func (c *memoryConn) Close() error {
	err := c.fail("close", net.ErrClosed)
	c.once.Do(func() {
		close(c.closed)
		c.out.set(func() { c.out.shut = true })
		c.in.set(func() { c.in.left, c.in.buf = true, nil })
		c.path.end(func() {
			c.out.set(func() { c.out.ended = true })
			c.in.set(func() { c.in.broken = true })
		})
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
