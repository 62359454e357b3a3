package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// ProtocolVersion is what Hello and HelloOk carry.
const ProtocolVersion = 1

// FeatureConcurrent lets the server work on pipelined requests of a connection at the same time; replies stay in order.
const FeatureConcurrent = "concurrent"

// Handler answers one request. It runs on a goroutine of its own, and must return soon after ctx ends. req is a pointer to
// a message; so may the reply be, or a message itself. An error becomes an Error reply; one that is no *event.Error is
// KindInternal. (nil, nil) writes nothing (more): for streams whose messages went through Session.Send.
type Handler func(ctx context.Context, s *Session, req any) (any, error)

// ServerConfig describes a Server.
type ServerConfig struct {
	Handler Handler
	Hello   func() HelloOk // fills the answer to Hello; version and features are the server's own. nil: an empty one
	Name    string         // in logs: "grid", "storage"
	Log     *slog.Logger
	Limits  Limits
	Slow    time.Duration // a request that takes longer is logged, at a bounded rate; 0: none is
}

// Limits bounds what a Server spends on its peers. Zero fields take DefaultLimits.
type Limits struct {
	Conns        int           // connections in all
	ConnsPerPeer int           // connections of one IP address
	Concurrent   int           // requests of one connection worked on at once after Hello
	Requests     int           // requests worked on at once in all, without streams; an eighth more for those the grid lives by
	ConnBytes    int64         // bytes of requests and replies in flight on one connection, beside the frame being read
	RequestBytes int64         // bytes of requests in flight in all
	ReplyBytes   int64         // bytes of large replies in flight in all
	Idle         time.Duration // without a request
	Receive      time.Duration // for the rest of a frame that has begun, beside its length at 1 MiB/s
	Send         time.Duration // for writing replies, beside their length at 1 MiB/s
}

// DefaultLimits suits every process of the grid. RequestBytes holds two frames of the largest size; a smaller value would
// refuse documented requests, a larger one would let a few peers take a small machine's memory. Requests is 32 busy connections: more
// only wait for the same disk and hold memory meanwhile, fewer would refuse a burst. ConnsPerPeer is high
// because a whole development grid and its clients share one address.
func DefaultLimits() Limits {
	return Limits{Conns: 16384, ConnsPerPeer: 8192, Concurrent: 256, Requests: 8192, ConnBytes: 8 << 20, RequestBytes: 256 << 20, ReplyBytes: 256 << 20,
		Idle: 10 * time.Minute, Receive: 30 * time.Second, Send: 30 * time.Second}
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	def(&l.Conns, d.Conns)
	def(&l.ConnsPerPeer, d.ConnsPerPeer)
	def(&l.Concurrent, d.Concurrent)
	def(&l.Requests, d.Requests)
	def(&l.ConnBytes, d.ConnBytes)
	def(&l.RequestBytes, d.RequestBytes)
	def(&l.ReplyBytes, d.ReplyBytes)
	def(&l.Idle, d.Idle)
	def(&l.Receive, d.Receive)
	def(&l.Send, d.Send)
	return l
}

// def replaces a value that is not set.
func def[T int | int64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Server answers the requests of many connections with one Handler.
type Server struct {
	cfg       ServerConfig
	limits    Limits
	admission admission
	replies   *semaphore.Weighted // Limits.ReplyBytes
	crew      *crew               // handles requests
	end       func()              // ends it, once

	ctx    context.Context // ends with Close
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // connections

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	perPeer   map[string]int
	conns     int
}

var errServerClosed = errors.New("the server is closing")

// NewServer makes a server that listens nowhere yet.
func NewServer(cfg ServerConfig) *Server {
	l := cfg.Limits.withDefaults()
	ctx, cancel := context.WithCancelCause(context.Background())
	crew := newCrew()
	return &Server{cfg: cfg, limits: l, replies: semaphore.NewWeighted(l.ReplyBytes), crew: crew, end: sync.OnceFunc(crew.end),
		admission: admission{limit: int64(l.Requests), bytes: semaphore.NewWeighted(l.RequestBytes), urgent: semaphore.NewWeighted(reservedBytes),
			slow: slowLog{log: cfg.Log, name: cfg.Name, after: cfg.Slow}},
		ctx: ctx, cancel: cancel, listeners: map[net.Listener]struct{}{}, perPeer: map[string]int{}}
}

// Serve accepts connections from l, which it takes over, until ctx ends or Close is called, and then returns nil. It may be
// called for several listeners. Connections end with Close, not with ctx.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if !s.own(l) {
		return l.Close()
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var pause Backoff
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			pause.Reset()
			s.accept(conn)
		case ctx.Err() != nil || s.ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept on %s: %w", l.Addr(), err)
		default:
			s.cfg.Log.Warn("accept failed, goes on", "server", s.cfg.Name, "addr", l.Addr().String(), "err", err)
			if pause.Wait(ctx, 0) != nil {
				return nil
			}
		}
	}
}

func (s *Server) own(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return false
	}
	s.listeners[l] = struct{}{}
	return true
}

// accept starts a connection, or refuses it when there are too many.
func (s *Server) accept(conn net.Conn) {
	peer := peerOf(conn)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ctx.Err() != nil:
		_ = conn.Close()
		return
	case s.conns >= s.limits.Conns || s.perPeer[peer] >= s.limits.ConnsPerPeer:
		s.cfg.Log.Warn("connection refused: too many", "server", s.cfg.Name, "peer", peer, "of_peer", s.perPeer[peer], "all", s.conns)
		_ = conn.Close()
		return
	}
	s.conns++
	s.perPeer[peer]++
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		newServerConn(s, conn).serve()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.conns--
		if s.perPeer[peer]--; s.perPeer[peer] == 0 {
			delete(s.perPeer, peer)
		}
	}()
}

// peerOf is the peer's host: what connections are counted by.
func peerOf(conn net.Conn) string {
	addr := conn.RemoteAddr().String()
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}

// Close ends the listeners and all connections: handlers' contexts are cancelled, what they answer is still written, and
// Close returns when everything has ended.
func (s *Server) Close() error {
	s.mu.Lock()
	s.cancel(errServerClosed)
	var errs []error
	for l := range s.listeners {
		errs = append(errs, l.Close())
	}
	s.listeners = map[net.Listener]struct{}{}
	s.mu.Unlock()
	s.wg.Wait()
	s.end()
	for i, err := range errs {
		if errors.Is(err, net.ErrClosed) { // Serve's context was first
			errs[i] = nil
		}
	}
	return errors.Join(errs...)
}

// asError makes an error of a handler what goes over the wire. A wrapped *event.Error keeps its kind and hints and gets
// the whole text.
func asError(err error) *event.Error {
	var e *event.Error
	switch {
	case errors.As(err, &e):
		if err == error(e) {
			return e
		}
		c := *e
		c.Op, c.Message = "", err.Error()
		return &c
	case errors.Is(err, context.DeadlineExceeded):
		return &event.Error{Kind: event.KindDeadline, Message: err.Error()}
	case errors.Is(err, context.Canceled) || errors.Is(err, errServerClosed) || errors.Is(err, ErrPeerGone) || errors.Is(err, ErrStalled): // whatever ended the handler's ctx
		return &event.Error{Kind: event.KindUnknownOutcome, Message: err.Error()}
	}
	return &event.Error{Kind: event.KindInternal, Message: err.Error()}
}
