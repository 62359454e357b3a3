package transport

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// gate is a handler that holds queries until it is opened, and answers everything else at once.
type gate struct {
	arrived chan struct{}
	open    chan struct{}
}

func newGate() *gate { return &gate{arrived: make(chan struct{}, 100), open: make(chan struct{})} }

func (g *gate) handle(ctx context.Context, s *Session, req any) (any, error) {
	switch req.(type) {
	case *WatchShardMap:
		return nil, s.Send(ctx, &ShardMapOk{})
	case *QueryConcept, *Routed:
		g.arrived <- struct{}{}
		select {
		case <-g.open:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if r, ok := req.(*Routed); ok {
		return &RoutedOk{Reply: r.Request}, nil
	}
	return &HealthCheckOk{Healthy: true}, nil
}

// callAlone asks over a connection of its own: a reply does not wait behind those of other requests.
func callAlone(t *testing.T, n Network, addr string, req any) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, err := DialConn(ctx, DialConfig{Network: n, Addr: addr, Plain: true})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Call(ctx, req)
	return err
}

// TestTooManyRequestsAreRefused: at once, with a time to ask again; what the grid lives by has room of its own, which is bounded
// too; streams do not count; and what was held is free again.
func TestTooManyRequestsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, g := NewMemory(), newGate()
		addr, server := serve(t, n, ServerConfig{Handler: g.handle, Limits: Limits{Requests: 3}})
		query := &QueryConcept{ConceptID: "a"}
		held := make(chan error, 4)
		hold := func(req any) {
			go func() { held <- callAlone(t, n, addr, req) }()
			select {
			case <-g.arrived:
			case <-time.After(time.Second):
				t.Fatalf("%T is not worked on", req)
			}
		}
		for range 3 {
			hold(query)
		}
		begun := time.Now()
		if err := callAlone(t, n, addr, query); err == nil || !strings.Contains(err.Error(), "too many requests") || time.Since(begun) != 0 {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		if err := callAlone(t, n, addr, &HealthCheck{}); err != nil {
			t.Errorf("health: %v", err)
		}
		p := NewPool(PoolConfig{Network: n})
		defer p.Close()
		if err := p.Stream(t.Context(), addr, &WatchShardMap{}, func(any) error { return ErrStop }); err != nil {
			t.Errorf("watch: %v", err)
		}
		hold(&Routed{Request: Any{Value: &Finish{}}})
		if err := callAlone(t, n, addr, &Heartbeat{}); err == nil {
			t.Error("the reserve has no bound")
		}
		_, err := p.Call(t.Context(), addr, query)
		if e := asError(err); e.Kind != event.KindBusy || e.RetryAfterMillis != uint32(busyRetry.Milliseconds()) {
			t.Errorf("%+v", e)
		}
		if c := server.Counters(); c.Running != 4 || c.Refused != 3 {
			t.Errorf("%+v", c)
		}
		close(g.open)
		for range 4 {
			if err := <-held; err != nil {
				t.Error(err)
			}
		}
		if err := callAlone(t, n, addr, query); err != nil || server.Counters().Running != 0 {
			t.Errorf("%v, %+v", err, server.Counters())
		}
	})
}

// TestHeartbeatsDoNotWaitForBytes: queries fill what requests may take, and the next one waits; a heartbeat does not.
func TestHeartbeatsDoNotWaitForBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, g := NewMemory(), newGate()
		addr, _ := serve(t, n, ServerConfig{Handler: g.handle, Limits: Limits{RequestBytes: 1000}})
		query := &QueryConcept{ConceptID: strings.Repeat("x", 500)}
		held := make(chan error, 2)
		for range 2 {
			go func() { held <- callAlone(t, n, addr, query) }()
		}
		synctest.Wait()
		if len(g.arrived) != 1 {
			t.Fatalf("%d queries are worked on", len(g.arrived))
		}
		begun := time.Now()
		if err := callAlone(t, n, addr, &Heartbeat{AgentID: "agent-1"}); err != nil || time.Since(begun) != 0 {
			t.Errorf("a heartbeat: %v after %v", err, time.Since(begun))
		}
		close(g.open)
		for range 2 {
			if err := <-held; err != nil {
				t.Error(err)
			}
		}
	})
}

// TestSlowRequestsAreLogged: each with what it was, who asked and how long it took, at a bounded rate that says what it leaves out.
func TestSlowRequestsAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		n := NewMemory()
		took := 2 * time.Second
		addr, server := serve(t, n, ServerConfig{Name: "storage", Slow: time.Second, Log: slog.New(slog.NewTextHandler(&out, nil)),
			Handler: func(_ context.Context, _ *Session, req any) (any, error) {
				time.Sleep(took)
				return nil, &event.Error{Kind: event.KindInDoubt, Message: "undecided"}
			}})
		p := NewPool(PoolConfig{Network: n})
		defer p.Close()
		q := &Routed{ShardID: "shard-3", RequestID: event.RequestID{0xab}, Request: Any{Value: &Write{}}}
		burst := func(requests int) string {
			out.Reset()
			done := make(chan error)
			for range requests {
				go func() { _, err := p.Call(t.Context(), addr, q); done <- err }()
			}
			for range requests {
				<-done
			}
			return out.String()
		}
		text := burst(15)
		if lines := strings.Count(text, "slow request"); lines != slowBurst || server.Counters().Slow != 15 {
			t.Errorf("%d lines for %d slow requests", lines, server.Counters().Slow)
		}
		for _, want := range []string{"request=Write", "shard=shard-3", "took=2s", "peer=", "request_id=ab", "undecided", "server=storage"} {
			if !strings.Contains(text, want) {
				t.Errorf("no %s in %s", want, text)
			}
		}
		if text := burst(1); !strings.Contains(text, "not_logged_before=5") {
			t.Errorf("the next line is %q", text)
		}
		took = 999 * time.Millisecond
		if text := burst(1); text != "" || server.Counters().Slow != 16 {
			t.Errorf("a quick one: %q", text)
		}
	})
}
