package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

const (
	// maxInFlight is how many requests a connection carries at once; more wait in Call. It is what a server works on at once.
	maxInFlight = 256
	// silence is how long a connection with a question out may bring nothing before a call that runs into its deadline
	// takes the whole connection down, so that the next call dials anew.
	silence = 2 * time.Second
	// streamSilence ends a stream that brought nothing: every stream sends something at least every 5 s.
	streamSilence = 20 * time.Second
	// receiveTimeout is for the rest of a reply that has begun, beside its length at 1 MiB/s; sendTimeout for requests.
	receiveTimeout = 30 * time.Second
	sendTimeout    = 30 * time.Second
)

// DialConfig describes a connection.
type DialConfig struct {
	Network Network     // nil: TCP
	TLS     *tls.Config // nil: plain
	Addr    string
	Plain   bool // say no Hello: one request at a time, errors without a kind
}

// Conn is a client's connection: requests of many goroutines, pipelined; replies are matched by order.
//
// Errors of Call and Stream are *event.Error: KindUnavailable when the request surely was not sent, KindUnknownOutcome when
// it was and the connection broke, KindDeadline when it was and ctx ended; an Error reply is returned as it came.
type Conn struct {
	conn   net.Conn
	addr   string
	hello  *HelloOk  // nil: the server is a plain one
	met    time.Time // when hello came
	frames frameReader
	slots  chan struct{} // capacity maxInFlight: one token per request in flight
	wake   chan struct{} // capacity 1: calls wait to be written
	ctx    context.Context
	cancel context.CancelCauseFunc // ends both goroutines
	wg     sync.WaitGroup

	lastRead atomic.Int64 // unix ns of the last byte that came
	lastUsed atomic.Int64 // unix ns of the last call

	mu     sync.Mutex
	unsent []*call
	sent   []*call // in the order of their replies
	err    error   // why the connection is broken
}

// call is a request on its way. Guarded by Conn.mu until done is closed.
type call struct {
	frame   []byte // nil once it was written
	sent    bool
	sentAt  int64 // unix ns; of a sent one
	dropped bool  // ctx ended before it was written
	reply   any
	err     error
	done    chan struct{}
	stream  chan any // of a stream: its messages
}

// DialConn connects, and says Hello unless cfg.Plain. A server that does not know Hello is served plainly.
func DialConn(ctx context.Context, cfg DialConfig) (*Conn, error) {
	if cfg.Network == nil {
		cfg.Network = TCP()
	}
	nc, err := Dial(ctx, cfg.Network, cfg.Addr, cfg.TLS)
	if err != nil {
		return nil, &event.Error{Kind: event.KindUnavailable, Op: "connect to " + cfg.Addr, Message: err.Error()}
	}
	c := newConn(nc, cfg.Addr)
	if cfg.Plain {
		return c, nil
	}
	reply, err := c.Call(ctx, &Hello{Version: ProtocolVersion, Features: []string{FeatureConcurrent}})
	if ok, is := reply.(*HelloOk); is {
		c.hello, c.met = ok, time.Now()
		return c, nil
	}
	var refusal *event.Error
	if errors.As(err, &refusal) && refusal.Kind == event.KindInternal && c.alive() {
		return c, nil // an Error without a kind: a plain server, which does not know the variant
	}
	if err == nil {
		err = fmt.Errorf("unexpected reply %T to Hello", reply)
	}
	_ = c.Close() // the first error says more
	return nil, &event.Error{Kind: event.KindUnavailable, Op: "connect to " + cfg.Addr, Message: err.Error()}
}

func newConn(nc net.Conn, addr string) *Conn {
	c := &Conn{conn: nc, addr: addr, slots: make(chan struct{}, maxInFlight), wake: make(chan struct{}, 1)}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.frames = frameReader{ctx: c.ctx, conn: nc, receive: receiveTimeout,
		idle:   func() time.Time { return time.Time{} },
		onRead: func() { c.lastRead.Store(time.Now().UnixNano()) }}
	c.lastUsed.Store(time.Now().UnixNano())
	c.lastRead.Store(time.Now().UnixNano())
	c.wg.Add(2)
	go func() {
		defer c.wg.Done()
		c.writeAll()
	}()
	go func() {
		defer c.wg.Done()
		c.readAll()
	}()
	return c
}

// Hello is the server's answer to Hello; nil when the server is a plain one.
func (c *Conn) Hello() *HelloOk { return c.hello }

// clock is the server's clock, unix µs, late by the time its greeting took; a server that has not told it has ours.
func (c *Conn) clock() int64 {
	if c.hello == nil || c.hello.TimeMicros == 0 {
		return time.Now().UnixMicro()
	}
	return c.hello.TimeMicros + time.Since(c.met).Microseconds()
}

// Addr is the address that was dialled.
func (c *Conn) Addr() string { return c.addr }

// Close breaks the connection: calls in flight end with KindUnknownOutcome. It waits for the connection's goroutines.
func (c *Conn) Close() error {
	c.fail(errors.New("the connection was closed here"))
	c.wg.Wait()
	return nil
}

// fail breaks the connection once; later reasons are dropped.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	for _, w := range c.unsent {
		w.end(nil, c.unavailable(err))
	}
	for _, w := range c.sent {
		w.end(nil, &event.Error{Kind: event.KindUnknownOutcome, Op: "call " + c.addr, Message: err.Error()})
	}
	c.unsent, c.sent = nil, nil
	c.cancel(err)
	_ = c.conn.Close() // ends both goroutines' I/O
}

func (c *Conn) unavailable(err error) error {
	return &event.Error{Kind: event.KindUnavailable, Op: "call " + c.addr, Message: "not sent: " + err.Error()}
}

func (w *call) end(reply any, err error) {
	w.reply, w.err = reply, err
	close(w.done)
}

func (c *Conn) alive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err == nil
}

// inFlight is how many requests the connection carries.
func (c *Conn) inFlight() int { return len(c.slots) }

// Call sends req and waits for its reply.
func (c *Conn) Call(ctx context.Context, req any) (any, error) {
	w, err := c.submit(ctx, req, nil)
	if err != nil {
		return nil, err
	}
	select {
	case <-w.done:
		return w.reply, w.err
	case <-ctx.Done():
		return c.abandon(ctx, w)
	}
}

// submit queues a request for the writing goroutine.
func (c *Conn) submit(ctx context.Context, req any, stream chan any) (*call, error) {
	frame, err := AppendFrame(nil, req)
	if err != nil {
		return nil, err
	}
	select {
	case c.slots <- struct{}{}:
	case <-c.ctx.Done():
		return nil, c.unavailable(context.Cause(c.ctx))
	case <-ctx.Done():
		return nil, c.unavailable(ctx.Err())
	}
	now := time.Now().UnixNano()
	c.lastUsed.Store(now)
	w := &call{frame: frame, done: make(chan struct{}), stream: stream}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, c.unavailable(c.err)
	}
	c.unsent = append(c.unsent, w)
	signal(c.wake)
	return w, nil
}

// abandon ends a call whose ctx has ended. Its reply, if it was sent, is still awaited and then dropped; one that has come at
// the last moment is the answer.
func (c *Conn) abandon(ctx context.Context, w *call) (any, error) {
	c.mu.Lock()
	select {
	case <-w.done:
		c.mu.Unlock()
		return w.reply, w.err
	default:
	}
	if !w.sent {
		w.dropped = true
		c.mu.Unlock()
		return nil, c.unavailable(ctx.Err())
	}
	since := w.sentAt
	c.mu.Unlock()
	if quiet := time.Duration(time.Now().UnixNano() - max(c.lastRead.Load(), since)); quiet > silence {
		c.fail(fmt.Errorf("no answer for %s", quiet.Round(time.Millisecond)))
	}
	kind := event.KindUnknownOutcome
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		kind = event.KindDeadline
	}
	return nil, &event.Error{Kind: kind, Op: "call " + c.addr, Message: "sent, but no answer came: " + ctx.Err().Error()}
}

// ErrStop, returned by the function of Stream, ends the stream without an error.
var ErrStop = errors.New("stop the stream")

// Stream sends req and gives fn every message that comes, until fn returns an error (ErrStop: nil is returned), the server
// ends it with an Error, 20 s pass without a message, or ctx ends (its error is returned). The connection is closed
// afterwards: a stream has a connection to itself.
func (c *Conn) Stream(ctx context.Context, req any, fn func(msg any) error) error {
	defer c.Close()
	messages := make(chan any, 16)
	w, err := c.submit(ctx, req, messages)
	if err != nil {
		return err
	}
	quiet := time.NewTimer(streamSilence)
	defer quiet.Stop()
	for {
		select {
		case m := <-messages:
			if e, ok := m.(*event.Error); ok {
				return e
			}
			if err := fn(m); errors.Is(err, ErrStop) {
				return nil
			} else if err != nil {
				return err
			}
			quiet.Reset(streamSilence) // from now: what fn took is not the peer's silence
		case <-w.done:
			return w.err
		case <-quiet.C:
			return &event.Error{Kind: event.KindUnavailable, Op: "stream from " + c.addr, Message: fmt.Sprintf("nothing came for %s", streamSilence)}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// writeAll writes all requests that wait with one call, again and again.
func (c *Conn) writeAll() {
	var chunk []byte
	for {
		select {
		case <-c.wake:
		case <-c.ctx.Done():
			return
		}
		runtime.Gosched() // callers that go on together, behind replies that came together, shall be written together
		for {
			var n int
			chunk, n = c.take(chunk[:0])
			if n == 0 {
				break
			}
			err := c.conn.SetWriteDeadline(writeBy(sendTimeout, len(chunk)))
			if err == nil {
				_, err = c.conn.Write(chunk)
			}
			if err != nil {
				c.fail(fmt.Errorf("write: %w", err))
				return
			}
			if cap(chunk) > 4*writeChunk {
				chunk = nil
			}
		}
	}
}

// take moves calls that wait into the queue of those that await a reply, and their bytes into chunk.
func (c *Conn) take(chunk []byte) ([]byte, int) {
	now := time.Now().UnixNano()
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for n < len(c.unsent) && (n == 0 || len(chunk) < writeChunk) {
		w := c.unsent[n]
		n++
		if w.dropped {
			<-c.slots
			continue
		}
		chunk = append(chunk, w.frame...)
		w.frame, w.sent, w.sentAt = nil, true, now
		c.sent = append(c.sent, w)
	}
	c.unsent = slices.Delete(c.unsent, 0, n)
	return chunk, n
}

// readAll reads replies and gives each to the call it belongs to.
func (c *Conn) readAll() {
	for {
		payload, _, err := c.frames.next()
		if err != nil {
			switch {
			case errors.Is(err, io.EOF):
				err = errors.New("the peer closed the connection")
			case errors.Is(err, os.ErrDeadlineExceeded):
				err = errors.New("the rest of a reply did not come in time")
			}
			c.fail(err)
			return
		}
		msg, err := DecodeMessage(payload)
		if err != nil {
			c.fail(fmt.Errorf("undecodable reply: %w", err))
			return
		}
		if !c.deliver(msg) {
			return
		}
	}
}

// deliver gives a reply to the first call that awaits one.
func (c *Conn) deliver(msg any) bool {
	c.mu.Lock()
	if len(c.sent) == 0 {
		c.mu.Unlock()
		c.fail(unasked(msg))
		return false
	}
	w := c.sent[0]
	if w.stream != nil {
		c.mu.Unlock()
		select {
		case w.stream <- msg:
			return true
		case <-c.ctx.Done():
			return false
		}
	}
	c.sent[0] = nil
	c.sent = c.sent[1:]
	<-c.slots // w's token: this does not wait
	if e, ok := msg.(*event.Error); ok {
		w.end(nil, e)
	} else {
		w.end(msg, nil)
	}
	c.mu.Unlock()
	return true
}

// unasked is the reason to break a connection on which something came that nobody asked for: a server's last word.
func unasked(msg any) error {
	if e, ok := msg.(*event.Error); ok {
		return e
	}
	return fmt.Errorf("a %s came that nobody asked for", VariantName(msg))
}
