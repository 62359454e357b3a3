package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// serverConn is one connection of a Server: this goroutine reads and starts handlers, one goroutine writes replies.
type serverConn struct {
	server *Server
	conn   net.Conn
	ctx    context.Context // of all handlers; ends when the peer is gone or the server closes
	cancel context.CancelCauseFunc
	frames frameReader
	lane   *lane

	concurrent int   // handlers at once: 1, after Hello Limits.Concurrent
	extended   bool  // Hello was said: errors go out whole. Written before the next handler starts
	requests   int   // read so far
	charged    int64 // request bytes of the frame being read that are already taken from admission.bytes
}

func newServerConn(s *Server, conn net.Conn) *serverConn {
	c := &serverConn{server: s, conn: conn, concurrent: 1}
	c.ctx, c.cancel = context.WithCancelCause(s.ctx)
	c.lane = newLane(c)
	c.frames = frameReader{ctx: c.ctx, conn: conn, receive: s.limits.Receive, charge: c.charge,
		idle: func() time.Time { return time.Now().Add(s.limits.Idle) }}
	return c
}

var (
	// ErrPeerGone is the cause that ends the requests of a peer that left.
	ErrPeerGone = errors.New("the peer is gone")
	// ErrStalled is the cause that ends the requests of a peer that did not take its replies within Limits.Send.
	ErrStalled = errors.New("the peer takes nothing")

	errBusy = errors.New("too many bytes in flight")
)

// serve runs until the connection ends; then no goroutine of it is left.
func (c *serverConn) serve() {
	stop := context.AfterFunc(c.ctx, func() {
		_ = c.conn.SetReadDeadline(time.Unix(1, 0))
		_ = c.conn.SetWriteDeadline(time.Now().Add(lastWrite))
	})
	defer stop()
	err := c.readAll()
	linger := c.lastWord(err)
	c.lane.end() // waits until the replies are written
	stop()       // lingering has a deadline of its own
	c.cancel(ErrPeerGone)
	c.lane.handlers.Wait()
	if linger {
		lingerClose(c.conn)
		return
	}
	_ = c.conn.Close() // everything is written or the peer is gone
}

// armWrite sets the deadline for writing n bytes.
func (c *serverConn) armWrite(n int) error {
	if err := c.conn.SetWriteDeadline(writeBy(c.server.limits.Send, n)); err != nil || c.ctx.Err() == nil {
		return err
	}
	return c.conn.SetWriteDeadline(time.Now().Add(lastWrite)) // serve's own may have come before ours
}

// readAll reads requests and starts their handlers until reading fails.
func (c *serverConn) readAll() error {
	for {
		payload, large, err := c.frames.next()
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && c.ctx.Err() == nil && !c.frames.inside() && c.lane.busy():
			continue // a stream, or a long wait for an answer: the peer has nothing to ask
		default:
			c.server.admission.bytes.Release(c.charged)
			return err
		}
		size, budget := int64(len(payload)), c.server.admission.bytes
		if large {
			c.charged = 0 // the slot returns it
		} else {
			budget = c.server.admission.budget(payload)
			if err := budget.Acquire(c.ctx, size); err != nil {
				return err
			}
		}
		s, err := c.lane.open(c.concurrent, size)
		if err != nil {
			budget.Release(size)
			return err
		}
		s.budget = budget
		req, err := DecodeMessage(payload)
		c.requests++
		c.start(s, req, err)
	}
}

// charge takes n bytes of a large frame from the server's budget. It does not wait: two frames that wait for each other's
// share would wait for ever.
func (c *serverConn) charge(n int) error {
	if !c.server.admission.bytes.TryAcquire(int64(n)) {
		return errBusy
	}
	c.charged += int64(n)
	return nil
}

// start answers a request: at once when it did not decode, is Hello or is one too many, else on a goroutine.
func (c *serverConn) start(s *slot, req any, err error) {
	if err != nil {
		s.finish(nil, err)
		return
	}
	if h, ok := req.(*Hello); ok {
		s.finish(c.hello(h))
		return
	}
	leave, err := c.server.admission.enter(req)
	if err != nil {
		s.finish(nil, err)
		return
	}
	session := &Session{conn: c, slot: s, extended: c.extended}
	c.lane.handlers.Add(1)
	c.server.crew.do(func() {
		defer c.lane.handlers.Done()
		begun := time.Now()
		reply, err := c.handle(session, req)
		leave()
		c.server.admission.slow.done(c.conn.RemoteAddr(), req, time.Since(begun), err)
		s.finish(reply, err)
	})
}

// handle calls the handler. A panic in it is a defect: it is logged with its stack and costs this request, not the
// process, so that one bad request repeated at every replica cannot take the grid down.
func (c *serverConn) handle(session *Session, req any) (reply any, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.server.cfg.Log.Error("handler panicked", "server", c.server.cfg.Name, "request", VariantName(req), "panic", p, "stack", string(debug.Stack()))
			reply, err = nil, &event.Error{Kind: event.KindInternal, Op: VariantName(req), Message: fmt.Sprintf("panic: %v", p)}
		}
	}()
	return c.server.cfg.Handler(c.ctx, session, req)
}

// hello switches the connection to extended errors and, when asked, to concurrent handlers.
func (c *serverConn) hello(h *Hello) (any, error) {
	switch {
	case c.requests > 1:
		return nil, &event.Error{Kind: event.KindInvalid, Op: "Hello", Message: "it must be the first request of a connection"}
	case h.Version > ProtocolVersion:
		return nil, &event.Error{Kind: event.KindUnsupported, Op: "Hello", Message: fmt.Sprintf("version %d is not spoken here: at most %d", h.Version, ProtocolVersion)}
	}
	ok := HelloOk{}
	if c.server.cfg.Hello != nil {
		ok = c.server.cfg.Hello()
	}
	ok.Version = ProtocolVersion
	if !slices.Contains(ok.Features, FeatureConcurrent) {
		ok.Features = append([]string{FeatureConcurrent}, ok.Features...)
	}
	c.extended = true
	if slices.Contains(h.Features, FeatureConcurrent) {
		c.concurrent = c.server.limits.Concurrent
	}
	return ok, nil
}

// lastWord queues the Error that a failed read deserves, and cancels handlers nobody waits for. It tells whether the
// peer may still be sending, so that closing must linger.
func (c *serverConn) lastWord(err error) (linger bool) {
	switch {
	case errors.Is(err, errFrameTooLarge):
		c.lane.farewell(&event.Error{Kind: event.KindTooLarge, Op: "read frame", Message: err.Error()})
		return true
	case errors.Is(err, errBusy):
		c.lane.farewell(&event.Error{Kind: event.KindBusy, Op: "read frame", Message: err.Error(), RetryAfterMillis: 1000})
		return true
	case errors.Is(err, io.EOF): // the peer has said everything; it may still listen for the replies
		c.lane.peerEnded()
	case c.server.ctx.Err() != nil:
	case errors.Is(err, io.ErrUnexpectedEOF):
		c.lane.farewell(&event.Error{Kind: event.KindInvalid, Op: "read frame", Message: "the connection ended inside a frame"})
	case errors.Is(err, os.ErrDeadlineExceeded) && c.frames.inside():
		c.lane.farewell(&event.Error{Kind: event.KindInvalid, Op: "read frame", Message: "the rest of the frame did not come in time"})
		return true
	case errors.Is(err, os.ErrDeadlineExceeded): // idle
	default:
		c.cancel(ErrPeerGone)
	}
	return false
}

// Session is the server's side of one request.
type Session struct {
	conn     *serverConn
	slot     *slot
	extended bool
}

// Extended tells whether the client said Hello: it gets errors whole.
func (s *Session) Extended() bool { return s.extended }

// Remote is the peer's address.
func (s *Session) Remote() net.Addr { return s.conn.conn.RemoteAddr() }

// Send writes a message of a stream, before the final reply. It waits while the peer is slow, until ctx ends; after an
// error (ErrStalled: the peer was too slow) the peer is gone and the handler should return.
func (s *Session) Send(ctx context.Context, msg any) error {
	return s.slot.send(ctx, msg)
}
