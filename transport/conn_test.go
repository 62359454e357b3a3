package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// scripted accepts connections and gives each to script, until the test ends.
func scripted(t *testing.T, n Network, script func(c net.Conn, r *frameReader)) (addr string) {
	t.Helper()
	l := listen(t, n)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				script(c, rawReader(c))
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

// greet answers Hello; false when the peer is gone.
func greet(c net.Conn, r *frameReader) bool {
	if _, _, err := r.next(); err != nil {
		return false
	}
	b, _ := AppendFrame(nil, &HelloOk{Version: 1})
	_, err := c.Write(b)
	return err == nil
}

func kindOf(err error) event.Kind {
	var e *event.Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}

func TestManyCallsShareAConnection(t *testing.T) {
	both(t, func(t *testing.T, n Network) {
		addr, _ := serve(t, n, ServerConfig{Handler: echoID})
		c := dialConn(t, n, addr)
		if c.Hello() == nil || c.Addr() != addr {
			t.Error("no Hello")
		}
		var wg sync.WaitGroup
		for i := range 1000 {
			wg.Go(func() {
				id := fmt.Sprint(i)
				if ok, err := As[QueryConceptOk](c.Call(context.Background(), &QueryConcept{ConceptID: id})); err != nil || ok.ConceptID != id {
					t.Errorf("%s: %v, %v", id, ok, err)
				}
			})
		}
		wg.Wait()
		if got := c.inFlight(); got != 0 {
			t.Errorf("%d in flight", got)
		}
	})
}

func TestErrorsSayWhatMayHaveHappened(t *testing.T) {
	both(t, func(t *testing.T, n Network) {
		if _, err := DialConn(t.Context(), DialConfig{Network: n, Addr: "127.0.0.1:1"}); kindOf(err) != event.KindUnavailable {
			t.Errorf("nobody there: %v", err)
		}
		breaks := scripted(t, n, func(c net.Conn, r *frameReader) {
			if greet(c, r) {
				_, _, _ = r.next()
			}
		})
		c := dialConn(t, n, breaks)
		if _, err := c.Call(t.Context(), &GetStats{}); kindOf(err) != event.KindUnknownOutcome {
			t.Errorf("sent and broken: %v", err)
		}
		if _, err := c.Call(t.Context(), &GetStats{}); kindOf(err) != event.KindUnavailable {
			t.Errorf("broken before: %v", err)
		}
		for what, bytes := range map[string]string{"undecodable": "\x00\x00\x00\x01\xc1", "over the limit": "\xff\xff\xff\xff"} {
			addr := scripted(t, n, func(c net.Conn, r *frameReader) {
				if greet(c, r) {
					_, _, _ = r.next()
					_, _ = c.Write([]byte(bytes))
					_, _, _ = r.next()
				}
			})
			if _, err := dialConn(t, n, addr).Call(t.Context(), &GetStats{}); kindOf(err) != event.KindUnknownOutcome {
				t.Errorf("%s reply: %v", what, err)
			}
		}
		if _, err := c.Call(t.Context(), struct{}{}); kindOf(err) != event.KindInternal {
			t.Errorf("no message: %v", err)
		}
	})
}

// TestUnaskedMessageBreaksTheConnection: what nobody asked for is a server's last word, or a defect.
func TestUnaskedMessageBreaksTheConnection(t *testing.T) {
	addr := scripted(t, TCP(), func(c net.Conn, r *frameReader) {
		if greet(c, r) {
			_, _ = c.Write(appendErrorFrame(nil, &event.Error{Kind: event.KindBusy, Message: "go away"}, true))
			_, _, _ = r.next()
		}
	})
	c := dialConn(t, TCP(), addr)
	<-c.ctx.Done()
	if _, err := c.Call(t.Context(), &GetStats{}); kindOf(err) != event.KindUnavailable || !strings.Contains(err.Error(), "go away") {
		t.Error(err)
	}
}

func TestPlainServerIsServedPlainly(t *testing.T) {
	both(t, func(t *testing.T, n Network) {
		addr := scripted(t, n, func(c net.Conn, r *frameReader) {
			for {
				payload, _, err := r.next()
				if err != nil {
					return
				}
				b := appendErrorFrame(nil, &event.Error{Message: "unknown variant Hello"}, false)
				if msg, _ := DecodeMessage(payload); VariantName(msg) == "QueryConcept" {
					b, _ = AppendFrame(nil, QueryConceptOk{ConceptID: "plain"})
				}
				_, _ = c.Write(b)
			}
		})
		c := dialConn(t, n, addr)
		if c.Hello() != nil {
			t.Error("a plain server said Hello")
		}
		if ok, err := As[QueryConceptOk](c.Call(t.Context(), &QueryConcept{ConceptID: "x"})); err != nil || ok.ConceptID != "plain" {
			t.Errorf("%v, %v", ok, err)
		}
		if _, err := c.Call(t.Context(), &GetStats{}); kindOf(err) != event.KindInternal {
			t.Error(err)
		}
		p, err := DialConn(t.Context(), DialConfig{Network: n, Addr: addr, Plain: true})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if _, err := p.Call(t.Context(), &QueryConcept{ConceptID: "x"}); err != nil {
			t.Error(err)
		}
	})
}

// TestAbandonedRepliesAreDropped: the reply to a call that gave up does not go to the next one.
func TestAbandonedRepliesAreDropped(t *testing.T) {
	both(t, func(t *testing.T, n Network) {
		gate, in := make(chan struct{}), make(chan struct{})
		addr, _ := serve(t, n, ServerConfig{Handler: func(ctx context.Context, s *Session, req any) (any, error) {
			if q := req.(*QueryConcept); q.ConceptID == "slow" {
				close(in)
				<-gate
			}
			return echoID(ctx, s, req)
		}})
		c := dialConn(t, n, addr)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-in; cancel() }()
		if _, err := c.Call(ctx, &QueryConcept{ConceptID: "slow"}); kindOf(err) != event.KindUnknownOutcome {
			t.Errorf("cancelled: %v", err)
		}
		close(gate)
		if ok, err := As[QueryConceptOk](c.Call(t.Context(), &QueryConcept{ConceptID: "next"})); err != nil || ok.ConceptID != "next" {
			t.Errorf("%v, %v", ok, err)
		}
	})
}

// TestInFlightIsBounded: the call beyond the bound waits, and is surely not sent when its context ends.
func TestInFlightIsBounded(t *testing.T) {
	gate := make(chan struct{})
	var in atomic.Int32
	all := make(chan struct{})
	addr, _ := serve(t, TCP(), ServerConfig{Handler: func(ctx context.Context, s *Session, req any) (any, error) {
		if in.Add(1) == maxInFlight {
			close(all)
		}
		<-gate
		return echoID(ctx, s, req)
	}})
	c := dialConn(t, TCP(), addr)
	var wg sync.WaitGroup
	for range maxInFlight {
		wg.Go(func() {
			if _, err := c.Call(context.Background(), &GetStats{}); err != nil {
				t.Error(err)
			}
		})
	}
	<-all
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Call(ctx, &GetStats{}); kindOf(err) != event.KindUnavailable {
		t.Error(err)
	}
	close(gate)
	wg.Wait()
	if in.Load() != maxInFlight {
		t.Errorf("%d were sent", in.Load())
	}
}

// TestSilentServer runs in virtual time: a call that meets its deadline takes a silent connection down, and only a silent one.
func TestSilentServer(t *testing.T) {
	for _, tt := range []struct {
		unused, timeout time.Duration
		alive           bool
	}{{0, silence / 2, true}, {0, silence * 2, false}, {time.Hour, silence / 2, true}, {time.Hour, silence * 2, false}} {
		synctest.Test(t, func(t *testing.T) {
			near, far := memoryPipe("a", "b")
			c := newConn(near, "b")
			time.Sleep(tt.unused)
			ctx, cancel := context.WithTimeout(context.Background(), tt.timeout)
			defer cancel()
			if _, err := c.Call(ctx, &GetStats{}); kindOf(err) != event.KindDeadline {
				t.Error(err)
			}
			if c.alive() != tt.alive {
				t.Errorf("alive %v: %+v", c.alive(), tt)
			}
			_ = c.Close()
			_ = far.Close()
		})
	}
}

// TestSilentStream runs in virtual time: a stream that brings nothing ends.
func TestSilentStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := memoryPipe("a", "b")
		began := time.Now()
		err := newConn(near, "b").Stream(context.Background(), &WatchEvents{}, func(any) error { return nil })
		if kindOf(err) != event.KindUnavailable || time.Since(began) != streamSilence {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		_ = far.Close()
	})
}

func TestPoolSharesAndGrows(t *testing.T) {
	both(t, func(t *testing.T, n Network) {
		gate := make(chan struct{})
		var in atomic.Int32
		addr, s := serve(t, n, ServerConfig{Handler: func(ctx context.Context, ss *Session, req any) (any, error) {
			in.Add(1)
			if _, ok := req.(*GetStats); ok {
				<-gate
			}
			return echoID(ctx, ss, req)
		}})
		conns := func() int {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.conns
		}
		p := NewPool(PoolConfig{Network: n, CrowdedAt: 2, MaxPerPeer: 3})
		defer p.Close()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if _, err := p.Call(context.Background(), addr, &Flush{}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := conns(); got < 1 || got > 3 {
			t.Errorf("%d connections", got)
		}
		for range 20 {
			wg.Go(func() {
				if _, err := p.Call(context.Background(), addr, &GetStats{}); err != nil {
					t.Error(err)
				}
			})
		}
		close(gate)
		wg.Wait()
		if got := conns(); got > 3 {
			t.Errorf("%d connections", got)
		}
	})
}

// TestPoolRedialsOnce: a connection that broke while it was unused costs the next call nothing.
func TestPoolRedialsOnce(t *testing.T) {
	both(t, func(t *testing.T, n Network) {
		l := listen(t, n)
		addr := l.Addr().String()
		start := func(l net.Listener) *Server {
			s := NewServer(ServerConfig{Handler: echoID, Log: quiet()})
			go func() { _ = s.Serve(context.Background(), l) }()
			return s
		}
		p := NewPool(PoolConfig{Network: n})
		defer p.Close()
		for i := range 3 {
			s := start(l)
			if _, err := p.Call(t.Context(), addr, &Flush{}); err != nil {
				t.Fatalf("start %d: %v", i, err)
			}
			c, err := p.get(t.Context(), addr)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			<-c.ctx.Done() // broken, and the pool has not looked at it yet
			if l, err = n.Listen(addr); err != nil {
				t.Fatal(err)
			}
		}
		_ = l.Close()
		if _, err := p.Call(t.Context(), addr, &Flush{}); kindOf(err) != event.KindUnavailable {
			t.Errorf("nobody there: %v", err)
		}
		if _, err := p.Dial(t.Context(), addr); kindOf(err) != event.KindUnavailable {
			t.Errorf("nobody there: %v", err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.peers) != 0 {
			t.Error("an address without connections is remembered")
		}
	})
}

// TestPoolReplacesAConnectionUnderACall: a call that waits for its turn on a connection that breaks goes to a new one; those
// that were sent say so. It runs in virtual time to see that all wait.
func TestPoolReplacesAConnectionUnderACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewMemory()
		l, err := n.Listen("s:1")
		if err != nil {
			t.Fatal(err)
		}
		kill := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for first := true; ; first = false {
				c, err := l.Accept()
				if err != nil {
					return
				}
				r := rawReader(c)
				greet(c, r)
				if first {
					<-kill
					_ = c.Close()
					continue
				}
				wg.Go(func() {
					for {
						if _, _, err := r.next(); err != nil {
							_ = c.Close()
							return
						}
						_, _ = c.Write(frameOf(t, FlushOk{}))
					}
				})
			}
		})
		p := NewPool(PoolConfig{Network: n, MaxPerPeer: 1})
		var kinds sync.Map
		for i := range maxInFlight + 5 {
			wg.Go(func() {
				_, err := p.Call(context.Background(), "s:1", &Flush{})
				kinds.Store(i, kindOf(err))
			})
		}
		synctest.Wait()
		close(kill)
		synctest.Wait()
		count := map[event.Kind]int{}
		kinds.Range(func(_, k any) bool { count[k.(event.Kind)]++; return true })
		if count[event.KindUnknownOutcome] != maxInFlight || count[""] != 5 {
			t.Errorf("%v", count)
		}
		_ = p.Close()
		_ = l.Close()
		wg.Wait()
	})
}

func TestPoolClose(t *testing.T) {
	both(t, func(t *testing.T, n Network) {
		in := make(chan struct{}, 2)
		addr, _ := serve(t, n, ServerConfig{Handler: func(ctx context.Context, _ *Session, _ any) (any, error) {
			in <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		p := NewPool(PoolConfig{Network: n})
		own, err := p.Dial(t.Context(), addr)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 2)
		go func() { _, err := p.Call(context.Background(), addr, &GetStats{}); done <- err }()
		go func() {
			done <- p.Stream(context.Background(), addr, &WatchEvents{}, func(any) error { return nil })
		}()
		<-in
		<-in
		_ = p.Close()
		for range 2 {
			if err := <-done; kindOf(err) != event.KindUnknownOutcome {
				t.Error(err)
			}
		}
		if own.alive() {
			t.Error("a dialled connection outlives its pool")
		}
		for _, err := range []error{
			func() error { _, err := p.Call(t.Context(), addr, &Flush{}); return err }(),
			func() error { _, err := p.Dial(t.Context(), addr); return err }(),
			p.Stream(t.Context(), addr, &WatchEvents{}, func(any) error { return nil }),
		} {
			if kindOf(err) != event.KindUnavailable {
				t.Errorf("after Close: %v", err)
			}
		}
	})
}

// TestPoolClosesIdleConnections runs in virtual time.
func TestPoolClosesIdleConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewMemory()
		l, err := n.Listen("s:1")
		if err != nil {
			t.Fatal(err)
		}
		s := NewServer(ServerConfig{Log: quiet(), Handler: func(ctx context.Context, ss *Session, req any) (any, error) {
			if _, ok := req.(*GetStats); ok {
				time.Sleep(time.Hour)
			}
			return echoID(ctx, ss, req)
		}})
		var wg sync.WaitGroup
		wg.Go(func() { _ = s.Serve(context.Background(), l) })
		p := NewPool(PoolConfig{Network: n, Idle: time.Minute})
		if _, err := p.Call(t.Context(), "s:1", &GetStats{}); err != nil {
			t.Errorf("a connection in use is closed: %v", err)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		s.mu.Lock()
		if s.conns != 0 {
			t.Error("an unused connection lives on")
		}
		s.mu.Unlock()
		if _, err := p.Call(t.Context(), "s:1", &Flush{}); err != nil {
			t.Error(err)
		}
		_ = p.Close()
		_ = s.Close()
		wg.Wait()
	})
}

func TestUnexpectedReply(t *testing.T) {
	addr, _ := serve(t, TCP(), ServerConfig{Handler: echoID})
	p := NewPool(PoolConfig{})
	defer p.Close()
	if _, err := Call[StatsOk](t.Context(), p, addr, &GetStats{}); kindOf(err) != event.KindInternal || !strings.Contains(err.Error(), "FlushOk") {
		t.Error(err)
	}
}
