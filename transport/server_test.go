package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/pack"
)

func hello(t testing.TB, c net.Conn, r *frameReader) *HelloOk {
	t.Helper()
	if _, err := c.Write(frameOf(t, &Hello{Version: 1, Features: []string{FeatureConcurrent}})); err != nil {
		t.Fatal(err)
	}
	ok, is := nextMessage(t, r).(*HelloOk)
	if !is {
		t.Fatal("no HelloOk")
	}
	return ok
}

func TestPlainClientIsServedOneByOne(t *testing.T) {
	both(t, func(t *testing.T, n Network) {
		var at, most atomic.Int32
		addr, _ := serve(t, n, ServerConfig{Handler: func(ctx context.Context, s *Session, req any) (any, error) {
			most.Store(max(most.Load(), at.Add(1)))
			defer at.Add(-1)
			runtime.Gosched()
			return echoID(ctx, s, req)
		}})
		c := dialRaw(t, n, addr)
		var all []byte
		for i := range 100 {
			all = append(all, frameOf(t, &QueryConcept{ConceptID: fmt.Sprint(i)})...)
		}
		if _, err := c.Write(all); err != nil {
			t.Fatal(err)
		}
		r := rawReader(c)
		for i := range 100 {
			if ok := nextMessage(t, r).(*QueryConceptOk); ok.ConceptID != fmt.Sprint(i) {
				t.Fatalf("reply %d is %s", i, ok.ConceptID)
			}
		}
		if most.Load() != 1 {
			t.Errorf("%d requests at once", most.Load())
		}
	})
}

// TestRepliesKeepOrder: handlers of one connection run at once after Hello, the last to end first, and replies come in order.
func TestRepliesKeepOrder(t *testing.T) {
	both(t, func(t *testing.T, n Network) {
		const count = 256
		arrived := make(chan struct{}, count)
		gates := make([]chan struct{}, count)
		for i := range gates {
			gates[i] = make(chan struct{})
		}
		addr, _ := serve(t, n, ServerConfig{Hello: func() HelloOk { return HelloOk{GridID: "g", Features: []string{"batch"}} },
			Handler: func(ctx context.Context, s *Session, req any) (any, error) {
				if !s.Extended() || s.Remote() == nil {
					return nil, errors.New("the session does not know Hello")
				}
				var i int
				_, _ = fmt.Sscan(req.(*QueryConcept).ConceptID, &i)
				arrived <- struct{}{}
				<-gates[i]
				return echoID(ctx, s, req)
			}})
		c := dialRaw(t, n, addr)
		r := rawReader(c)
		if ok := hello(t, c, r); ok.Version != 1 || ok.GridID != "g" || fmt.Sprint(ok.Features) != "[concurrent batch]" {
			t.Errorf("%+v", ok)
		}
		for i := range count {
			if _, err := c.Write(frameOf(t, &QueryConcept{ConceptID: fmt.Sprint(i)})); err != nil {
				t.Fatal(err)
			}
		}
		for range count {
			<-arrived // all at once
		}
		for i := range gates {
			close(gates[count-1-i])
		}
		for i := range count {
			if ok := nextMessage(t, r).(*QueryConceptOk); ok.ConceptID != fmt.Sprint(i) {
				t.Fatalf("reply %d is %s", i, ok.ConceptID)
			}
		}
	})
}

func TestErrorReplies(t *testing.T) {
	whole := &event.Error{Kind: event.KindNotLeader, Op: "write", Message: "ask node-2", Leader: "node-2"}
	addr, _ := serve(t, TCP(), ServerConfig{Handler: func(_ context.Context, _ *Session, req any) (any, error) {
		switch req.(type) {
		case *GetStats:
			return nil, whole
		case *Flush:
			return nil, fmt.Errorf("on shard-1: %w", whole)
		case *HealthCheck:
			panic("out of cheese")
		case *RaftPeers:
			return whole, nil
		case *GetShardMap:
			return nil, context.DeadlineExceeded
		case *ListNodes:
			return nil, context.Canceled
		case *ListAgents:
			return struct{ no, message int }{}, nil
		}
		return nil, errors.New("odd")
	}})
	c := dialConn(t, TCP(), addr)
	tests := []struct {
		req  any
		kind event.Kind
		want string
	}{
		{&GetStats{}, event.KindNotLeader, "write: ask node-2"}, {&Flush{}, event.KindNotLeader, "on shard-1: write: ask node-2"},
		{&HealthCheck{}, event.KindInternal, "out of cheese"}, {&RaftPeers{}, event.KindNotLeader, "ask node-2"},
		{&GetShardMap{}, event.KindDeadline, "deadline"}, {&ListNodes{}, event.KindUnknownOutcome, "canceled"},
		{&ListAgents{}, event.KindInternal, "no message"}, {&AssociationTypes{}, event.KindInternal, "odd"},
	}
	for _, tt := range tests {
		_, err := c.Call(t.Context(), tt.req)
		var e *event.Error
		if !errors.As(err, &e) || e.Kind != tt.kind || !strings.Contains(e.Error(), tt.want) || e.Kind == event.KindNotLeader && e.Leader != "node-2" {
			t.Errorf("%T: %+v", tt.req, err)
		}
	}
	plain := dialRaw(t, TCP(), addr)
	_, _ = plain.Write(frameOf(t, &GetStats{}))
	payload, _, err := rawReader(plain).next()
	want, _ := appendError(nil, whole, false)
	if err != nil || !bytes.Equal(payload, want) {
		t.Errorf("plain: %x, %v", payload, err)
	}
}

func TestBadFramesCostNothingButAnError(t *testing.T) {
	both(t, func(t *testing.T, n Network) {
		addr, _ := serve(t, n, ServerConfig{Handler: echoID})
		for _, withHello := range []bool{false, true} {
			c := dialRaw(t, n, addr)
			r := rawReader(c)
			if withHello {
				hello(t, c, r)
			}
			for _, bad := range []string{"\x00\x00\x00\x00", "\x00\x00\x00\x01\xc1", "\x00\x00\x00\x03abc", "\x00\x00\x00\x02\x81\xa5"} {
				_, _ = c.Write([]byte(bad))
				if e, ok := nextMessage(t, r).(*event.Error); !ok || withHello != (e.Kind == event.KindInvalid || e.Kind == event.KindUnsupported) {
					t.Errorf("%q: %+v", bad, e)
				}
			}
			_, _ = c.Write(frameOf(t, &QueryConcept{ConceptID: "still"}))
			if ok, is := nextMessage(t, r).(*QueryConceptOk); !is || ok.ConceptID != "still" {
				t.Error("the connection did not live on")
			}
		}
	})
}

// TestHelloRules: only first, and no later version than is spoken.
func TestHelloRules(t *testing.T) {
	addr, _ := serve(t, TCP(), ServerConfig{Handler: echoID})
	c := dialRaw(t, TCP(), addr)
	r := rawReader(c)
	hello(t, c, r)
	_, _ = c.Write(frameOf(t, &Hello{Version: 1}))
	if e, ok := nextMessage(t, r).(*event.Error); !ok || e.Kind != event.KindInvalid {
		t.Errorf("second Hello: %v", e)
	}
	late := dialRaw(t, TCP(), addr)
	_, _ = late.Write(frameOf(t, &Hello{Version: 2}))
	if e, ok := nextMessage(t, rawReader(late)).(*event.Error); !ok || !strings.Contains(e.Message, "version 2") {
		t.Errorf("version 2: %v", e)
	}
}

// claim is the header of a frame of n bytes with the beginning of a payload.
func claim(n uint32, payload []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, n), payload...)
}

func TestFramesOverTheLimit(t *testing.T) {
	gridName := pack.AppendString([]byte{0x81}, "Heartbeat")
	storageName := pack.AppendString([]byte{0x81}, "LearnConcept")
	fill := make([]byte, 128)
	both(t, func(t *testing.T, n Network) {
		addr, _ := serve(t, n, ServerConfig{Handler: echoID})
		for _, tt := range []struct {
			name  string
			bytes []byte
			want  string
		}{
			{"over all limits", claim(MaxStorageFrame+1, fill), "104857601"}, {"4 GiB", claim(1<<32-1, nil), "4294967295"},
			{"grid variant", claim(MaxGridFrame+1, append(gridName, fill...)), "16777217"}, {"unknown variant", claim(MaxGridFrame+1, fill), "16777217"},
			{"bare name", claim(MaxGridFrame+1, append(pack.AppendString(nil, "ListAgents"), fill...)), "16777217"},
		} {
			c := dialRaw(t, n, addr)
			first := frameOf(t, &QueryConcept{ConceptID: "before"})
			_, _ = c.Write(append(first, tt.bytes...))
			for range 100 { // still under way when the server has decided: it must not be answered with a reset
				if _, err := c.Write(make([]byte, 1<<10)); err != nil {
					t.Errorf("%s: %v", tt.name, err)
					break
				}
			}
			r := rawReader(c)
			if ok, is := nextMessage(t, r).(*QueryConceptOk); !is || ok.ConceptID != "before" {
				t.Errorf("%s: the request before it is not answered", tt.name)
			}
			if e, ok := nextMessage(t, r).(*event.Error); !ok || !strings.Contains(e.Message, tt.want) || !strings.Contains(e.Message, "over the limit") {
				t.Errorf("%s: %v", tt.name, e)
			}
			if _, _, err := r.next(); err != io.EOF {
				t.Errorf("%s: the connection lives: %v", tt.name, err)
			}
		}
		c := dialRaw(t, n, addr)
		_, _ = c.Write(claim(MaxGridFrame+1, append(storageName, fill...)))
		_ = c.(halfCloser).CloseWrite()
		if e, ok := nextMessage(t, rawReader(c)).(*event.Error); !ok || !strings.Contains(e.Message, "inside a frame") {
			t.Errorf("a storage variant over 16 MiB is not read: %v", e)
		}
	})
}

func TestLargeFrames(t *testing.T) {
	both(t, func(t *testing.T, n Network) {
		addr, s := serve(t, n, ServerConfig{Handler: func(_ context.Context, _ *Session, req any) (any, error) {
			return &QueryConceptOk{Found: true, Content: req.(*LearnConcept).Content}, nil
		}})
		c := dialConn(t, n, addr)
		content := strings.Repeat("0123456789abcdef", 2<<20>>4)
		for _, size := range []int{smallFrame - 200, smallFrame, smallFrame + 1, 2 * smallFrame, len(content)} {
			ok, err := As[QueryConceptOk](c.Call(t.Context(), &LearnConcept{ConceptID: "a", Content: content[:size]}))
			if err != nil || ok.Content != content[:size] {
				t.Fatalf("%d bytes: %v", size, err)
			}
		}
		_, err := c.Call(t.Context(), &EmitEvents{Events: []EmittedEvent{{Body: make([]byte, MaxGridFrame)}}})
		if !errors.Is(err, &event.Error{Kind: event.KindTooLarge}) {
			t.Errorf("a request over its limit is sent: %v", err)
		}
		_ = c.Close()
		_ = s.Close()
		if !s.admission.bytes.TryAcquire(s.limits.RequestBytes) || !s.admission.urgent.TryAcquire(reservedBytes) || !s.replies.TryAcquire(s.limits.ReplyBytes) {
			t.Error("bytes in flight are not given back")
		}
		s.admission.bytes.Release(s.limits.RequestBytes)
		s.admission.urgent.Release(reservedBytes)
		s.replies.Release(s.limits.ReplyBytes)
	})
}

// TestBudgets: a large frame that does not fit is refused, not waited for; so is a large reply that cannot be held.
func TestBudgets(t *testing.T) {
	both(t, func(t *testing.T, n Network) {
		addr, _ := serve(t, n, ServerConfig{Limits: Limits{RequestBytes: 1 << 20, ReplyBytes: 100 << 10}, Handler: func(context.Context, *Session, any) (any, error) {
			return &QueryConceptOk{Content: string(make([]byte, 200<<10))}, nil
		}})
		c := dialConn(t, n, addr)
		_, err := c.Call(t.Context(), &GetStats{})
		if !errors.Is(err, &event.Error{Kind: event.KindUnknownOutcome}) || !strings.Contains(err.Error(), "large replies") {
			t.Errorf("reply: %v", err)
		}
		_, err = c.Call(t.Context(), &LearnConcept{Content: string(make([]byte, 2<<20))})
		if !errors.Is(err, &event.Error{Kind: event.KindBusy}) && !errors.Is(err, &event.Error{Kind: event.KindUnknownOutcome}) {
			t.Errorf("request: %v", err)
		}
	})
}

// TestGarbageIsCheap: a thousand connections of garbage and of claimed lengths at once, and the heap hardly grows.
func TestGarbageIsCheap(t *testing.T) {
	both(t, func(t *testing.T, n Network) {
		addr := startMux(t, n, nil, true)
		before := heap()
		var conns []net.Conn
		for i := range 1000 {
			c := dialRaw(t, n, addr)
			conns = append(conns, c)
			switch i % 4 {
			case 0:
				_, _ = c.Write(claim(1<<32-1, []byte("garbage")))
			case 1:
				_, _ = c.Write(claim(MaxStorageFrame, append(pack.AppendString([]byte{0x81}, "LearnConcept"), 0x96, 0xdb, 0xff, 0xff, 0xff, 0xff)))
			case 2:
				_, _ = c.Write(claim(MaxGridFrame, bytes.Repeat([]byte{0xdd}, 100)))
			default:
				_, _ = c.Write([]byte("\x00\x00\x00\x05\xdd\xff\xff\xff\xff"))
			}
		}
		for i, c := range conns { // every server side has looked at its bytes when it has answered or is waiting for more
			if i%4 == 0 || i%4 == 3 {
				_ = nextMessage(t, rawReader(c)).(*event.Error)
			}
		}
		const bound = 16 << 20 // both ends of all of them
		if grown := int64(heap()) - int64(before); grown > bound {
			t.Errorf("the heap grew by %d KiB", grown>>10)
		} else {
			t.Logf("the heap grew by %d KiB", grown>>10)
		}
	})
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

func TestTooManyConnections(t *testing.T) {
	both(t, func(t *testing.T, n Network) {
		addr, _ := serve(t, n, ServerConfig{Handler: echoID, Limits: Limits{ConnsPerPeer: 2, Conns: 3}})
		var open []*Conn
		for range 2 {
			open = append(open, dialConn(t, n, addr))
		}
		if c, err := DialConn(t.Context(), DialConfig{Network: n, Addr: addr}); err == nil {
			_ = c.Close()
			t.Error("a third connection of one peer is served")
		}
		for _, c := range open {
			if _, err := c.Call(t.Context(), &GetStats{}); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestHalfClosedClientGetsItsReplies: who has said everything and listens on is answered.
func TestHalfClosedClientGetsItsReplies(t *testing.T) {
	both(t, func(t *testing.T, n Network) {
		gate := make(chan struct{})
		addr, _ := serve(t, n, ServerConfig{Handler: func(ctx context.Context, s *Session, req any) (any, error) {
			<-gate
			return echoID(ctx, s, req)
		}})
		c := dialRaw(t, n, addr)
		_, _ = c.Write(append(frameOf(t, &QueryConcept{ConceptID: "1"}), frameOf(t, &QueryConcept{ConceptID: "2"})...))
		_ = c.(halfCloser).CloseWrite()
		close(gate)
		r := rawReader(c)
		for _, want := range []string{"1", "2"} {
			if ok, is := nextMessage(t, r).(*QueryConceptOk); !is || ok.ConceptID != want {
				t.Errorf("reply %s is %+v", want, ok)
			}
		}
		if _, _, err := r.next(); err != io.EOF {
			t.Error(err)
		}
	})
}

// TestHandlersEndWithTheirPeer: a peer that resets, and a stream whose reader leaves, cancel what works for them.
func TestHandlersEndWithTheirPeer(t *testing.T) {
	both(t, func(t *testing.T, n Network) {
		ended := make(chan error, 1)
		addr, _ := serve(t, n, ServerConfig{Handler: func(ctx context.Context, s *Session, _ any) (any, error) {
			if err := s.Send(ctx, &FlushOk{}); err != nil {
				ended <- err
				return nil, err
			}
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return nil, ctx.Err()
		}})
		c := dialRaw(t, n, addr)
		_, _ = c.Write(frameOf(t, &WatchEvents{}))
		if _, ok := nextMessage(t, rawReader(c)).(*FlushOk); !ok {
			t.Fatal("no message")
		}
		_ = c.Close()
		if err := <-ended; !errors.Is(err, ErrPeerGone) {
			t.Error(err)
		}
	})
}

func TestStreams(t *testing.T) {
	both(t, func(t *testing.T, n Network) {
		const count = 5000
		addr, _ := serve(t, n, ServerConfig{Handler: func(ctx context.Context, s *Session, req any) (any, error) {
			w := req.(*WatchEvents)
			for i := range uint64(count) {
				if err := s.Send(ctx, &EventsOk{Last: w.From + i, Events: [][]byte{make([]byte, 1000)}}); err != nil {
					return nil, err
				}
			}
			return nil, &event.Error{Kind: event.KindLagging, Message: "the end"}
		}})
		pool := NewPool(PoolConfig{Network: n})
		defer pool.Close()
		next := uint64(7)
		err := pool.Stream(t.Context(), addr, &WatchEvents{From: 7}, func(msg any) error {
			if m := msg.(*EventsOk); m.Last != next {
				return fmt.Errorf("%d, want %d", m.Last, next)
			}
			next++
			return nil
		})
		if next != 7+count || !errors.Is(err, &event.Error{Kind: event.KindLagging}) {
			t.Errorf("%d messages, %v", next-7, err)
		}
		seen := 0
		if err := pool.Stream(t.Context(), addr, &WatchEvents{}, func(any) error { seen++; return ErrStop }); err != nil || seen != 1 {
			t.Errorf("stopped: %v after %d", err, seen)
		}
		own := errors.New("own")
		if err := pool.Stream(t.Context(), addr, &WatchEvents{}, func(any) error { return own }); !errors.Is(err, own) {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if err := pool.Stream(ctx, addr, &WatchEvents{}, func(any) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// TestCloseIsNoDefect: what a server cuts off when it closes may be asked for elsewhere, whichever way the handler says that its ctx has ended.
func TestCloseIsNoDefect(t *testing.T) {
	for _, why := range []func(context.Context) error{context.Cause, context.Context.Err} {
		both(t, func(t *testing.T, n Network) {
			in := make(chan struct{})
			addr, s := serve(t, n, ServerConfig{Handler: func(ctx context.Context, _ *Session, _ any) (any, error) {
				close(in)
				<-ctx.Done()
				return nil, why(ctx)
			}})
			c := dialConn(t, n, addr)
			done := make(chan error, 1)
			go func() { _, err := c.Call(context.Background(), &WatchEvents{}); done <- err }()
			<-in
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			var e *event.Error
			if err := <-done; !errors.As(err, &e) || e.Kind != event.KindUnknownOutcome || !masterVerdicts[e.Kind].again {
				t.Errorf("cut off by its server: %v", err)
			}
		})
	}
}

// TestCloseAnswersFirst: closing cancels handlers, writes what they say, and then ends.
func TestCloseAnswersFirst(t *testing.T) {
	both(t, func(t *testing.T, n Network) {
		in := make(chan struct{})
		addr, s := serve(t, n, ServerConfig{Handler: func(ctx context.Context, _ *Session, _ any) (any, error) {
			close(in)
			<-ctx.Done()
			return nil, &event.Error{Kind: event.KindUnavailable, Message: context.Cause(ctx).Error()}
		}})
		c := dialConn(t, n, addr)
		idle := dialConn(t, n, addr)
		done := make(chan error, 1)
		go func() { _, err := c.Call(context.Background(), &GetStats{}); done <- err }()
		<-in
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err == nil || !strings.Contains(err.Error(), errServerClosed.Error()) {
			t.Error(err)
		}
		if _, err := idle.Call(t.Context(), &GetStats{}); err == nil {
			t.Error("answers after Close")
		}
		if err := s.Serve(t.Context(), listen(t, n)); err != nil {
			t.Errorf("Serve after Close: %v", err)
		}
	})
}

// TestDeadlinesOfAServer runs in virtual time: idle connections end, working ones do not, and a frame must come at a rate.
func TestDeadlinesOfAServer(t *testing.T) {
	bubble := func(t *testing.T, f func(t *testing.T, n Network, addr string, s *Server)) {
		synctest.Test(t, func(t *testing.T) {
			n := NewMemory()
			l, err := n.Listen("s:1")
			if err != nil {
				t.Fatal(err)
			}
			s := NewServer(ServerConfig{Log: quiet(), Handler: func(ctx context.Context, s *Session, req any) (any, error) {
				if _, ok := req.(*Flush); ok {
					return &QueryConceptOk{Content: string(make([]byte, 1<<20))}, nil
				}
				time.Sleep(time.Hour) // far beyond the idle limit
				return echoID(ctx, s, req)
			}})
			var wg sync.WaitGroup
			wg.Go(func() { _ = s.Serve(context.Background(), l) })
			f(t, n, "s:1", s)
			_ = s.Close()
			wg.Wait()
		})
	}
	took := func(c net.Conn) time.Duration {
		began := time.Now()
		_, _ = io.ReadAll(c)
		_ = c.Close()
		return time.Since(began)
	}
	dial := func(t *testing.T, n Network, addr string) net.Conn {
		c, err := n.Dial(context.Background(), addr)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	d := DefaultLimits()
	t.Run("idle", func(t *testing.T) {
		bubble(t, func(t *testing.T, n Network, addr string, s *Server) {
			if got := took(dial(t, n, addr)); got != d.Idle {
				t.Errorf("ended after %v", got)
			}
		})
	})
	t.Run("working", func(t *testing.T) {
		bubble(t, func(t *testing.T, n Network, addr string, s *Server) {
			c := dial(t, n, addr)
			_, _ = c.Write(frameOf(t, &GetStats{}))
			if got := took(c); got < time.Hour || got > time.Hour+d.Idle {
				t.Errorf("ended after %v", got)
			}
		})
	})
	t.Run("slow frame", func(t *testing.T) {
		bubble(t, func(t *testing.T, n Network, addr string, s *Server) {
			c := dial(t, n, addr)
			_, _ = c.Write(claim(10<<20, []byte("ab")))
			if got, want := took(c), d.Receive+10*time.Second; got < want || got > want+lingerTime {
				t.Errorf("ended after %v, want %v", got, want)
			}
		})
	})
	t.Run("peer that reads nothing", func(t *testing.T) {
		bubble(t, func(t *testing.T, n Network, addr string, s *Server) {
			c := dial(t, n, addr)
			_, _ = c.Write(frameOf(t, &Flush{}))
			time.Sleep(d.Send + 2*time.Second)
			synctest.Wait()
			s.mu.Lock()
			if s.conns != 0 {
				t.Error("a reply nobody takes keeps its connection")
			}
			s.mu.Unlock()
			_ = c.Close()
		})
	})
}
