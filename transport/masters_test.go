package transport

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// grid is masters in virtual time, and who was asked in which order.
type grid struct {
	network *Memory
	addrs   []string
	pool    *Pool
	mu      sync.Mutex
	asked   []int
}

func (g *grid) note(i int) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, i)
	return len(g.asked)
}

// order is a copy of asked.
func (g *grid) order() []int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.asked)
}

// inGrid runs f with n masters whose handler gets the master's number and how many requests there were in all.
func inGrid(t *testing.T, n int, handler func(ctx context.Context, s *Session, req any, master, nth int) (any, error), f func(t *testing.T, g *grid, m *Masters)) {
	synctest.Test(t, func(t *testing.T) {
		g := &grid{network: NewMemory()}
		var wg sync.WaitGroup
		var servers []*Server
		for i := range n {
			l, err := g.network.Listen(fmt.Sprintf("master-%d:7002", i))
			if err != nil {
				t.Fatal(err)
			}
			g.addrs = append(g.addrs, l.Addr().String())
			s := NewServer(ServerConfig{Log: quiet(), Handler: func(ctx context.Context, s *Session, req any) (any, error) {
				return handler(ctx, s, req, i, g.note(i))
			}})
			servers = append(servers, s)
			wg.Go(func() { _ = s.Serve(context.Background(), l) })
		}
		g.pool = NewPool(PoolConfig{Network: g.network})
		f(t, g, NewMasters(g.addrs, g.pool))
		_ = g.pool.Close()
		for _, s := range servers {
			_ = s.Close()
		}
		wg.Wait()
	})
}

// TestMastersRetryTable walks over every kind: is it repeated, for what is safe and for what is not, and where.
func TestMastersRetryTable(t *testing.T) {
	safe, unsafe := &ListAgents{}, &Forward{}
	type want struct{ safe, unsafe []int } // masters asked until an answer or the end
	once, next, same := []int{0}, []int{0, 1}, []int{0, 0}
	table := map[event.Kind]want{
		event.KindUnavailable: {next, next}, event.KindNotLeader: {next, next}, event.KindBusy: {same, same},
		event.KindUnknownOutcome: {next, once}, event.KindDeadline: {next, once},
	}
	for _, kind := range []event.Kind{event.KindInvalid, event.KindTooLarge, event.KindNotFound, event.KindUnknownAgent, event.KindConflict,
		event.KindRefused, event.KindNotLeader, event.KindWrongShard, event.KindMoving, event.KindBusy, event.KindLocked, event.KindAborted,
		event.KindPrecondition, event.KindInDoubt, event.KindDeadline, event.KindUnavailable, event.KindUnknownOutcome, event.KindExpired,
		event.KindFromTheFuture, event.KindIDReused, event.KindTooOld, event.KindNeedsTxn, event.KindTrimmed, event.KindLagging, event.KindOldIncarnation,
		event.KindUnsupported, event.KindInternal} {
		w, repeated := table[kind]
		if !repeated {
			w = want{once, once}
		}
		for req, asked := range map[any][]int{safe: w.safe, unsafe: w.unsafe} {
			inGrid(t, 2, func(_ context.Context, _ *Session, _ any, _, nth int) (any, error) {
				if nth == 1 {
					return nil, &event.Error{Kind: kind, Message: "first"}
				}
				return &FlushOk{}, nil
			}, func(t *testing.T, g *grid, m *Masters) {
				_, err := m.Call(t.Context(), req)
				if !slices.Equal(g.order(), asked) {
					t.Errorf("%s, %T: asked %v, want %v", kind, req, g.order(), asked)
				}
				if len(asked) == 1 && kindOf(err) != kind || len(asked) == 2 && err != nil {
					t.Errorf("%s, %T: %v", kind, req, err)
				}
			})
		}
	}
}

// TestMastersMakeRequestIDs: a command gets one request id and one time of issue for all its attempts, by the clock of the first
// master that is there; a caller's own are kept, and what is idempotent by content gets none.
func TestMastersMakeRequestIDs(t *testing.T) {
	own := event.RequestID{9}
	for _, tt := range []struct {
		req  any
		made bool
	}{
		{&Propose{Type: event.TypeSettingChanged}, true}, {&RegisterAgent{AgentID: "a"}, true}, {&UnregisterAgent{AgentID: "a"}, true}, {&Txn{}, true},
		{&RegisterAgent{AgentID: "a", RequestID: own, Issued: 7}, false}, {&Propose{Type: event.TypeShardLeaderChanged}, false}, {&Heartbeat{}, false},
	} {
		var ids []event.RequestID
		var times []int64
		inGrid(t, 2, func(_ context.Context, _ *Session, req any, _, nth int) (any, error) {
			if id, issued := identity(req); id != nil {
				ids, times = append(ids, *id), append(times, *issued)
			}
			if nth == 1 {
				return nil, &event.Error{Kind: event.KindUnknownOutcome, Message: "first"}
			}
			return &FlushOk{}, nil
		}, func(t *testing.T, _ *grid, m *Masters) {
			if _, err := m.Call(t.Context(), tt.req); err != nil {
				t.Errorf("%+v: %v", tt.req, err)
			}
		})
		was, _ := identity(tt.req)
		switch {
		case was == nil:
		case len(ids) != 2 || ids[0] != ids[1] || times[0] != times[1]:
			t.Errorf("%T: ids %v, issued %v", tt.req, ids, times)
		case tt.made && (ids[0].IsZero() || times[0] <= 0 || !was.IsZero()), !tt.made && (ids[0] != own || times[0] != 7):
			t.Errorf("%T: sent with %v, issued %d; given with %v", tt.req, ids[0], times[0], was)
		}
	}
}

func ok(context.Context, *Session, any, int, int) (any, error) { return &FlushOk{}, nil }

func TestMastersStayWithWhoAnswers(t *testing.T) {
	inGrid(t, 2, ok, func(t *testing.T, g *grid, _ *Masters) {
		m := NewMasters([]string{"dead:1", g.addrs[1], g.addrs[0]}, g.pool)
		began := time.Now()
		for range 3 {
			if _, err := m.Call(t.Context(), &ListAgents{}); err != nil {
				t.Error(err)
			}
		}
		if !slices.Equal(g.order(), []int{1, 1, 1}) || time.Since(began) != 0 || len(m.Addrs()) != 3 {
			t.Errorf("asked %v in %v", g.order(), time.Since(began))
		}
	})
	if _, err := NewMasters(nil, nil).Call(t.Context(), &ListAgents{}); kindOf(err) != event.KindInvalid {
		t.Error(err)
	}
}

// TestMastersLeaveOneThatHangs: an attempt that is safe to repeat has a time-out of its own.
func TestMastersLeaveOneThatHangs(t *testing.T) {
	hang := func(ctx context.Context, _ *Session, _ any, master, _ int) (any, error) {
		if master == 0 {
			<-ctx.Done()
		}
		return &FlushOk{}, nil
	}
	inGrid(t, 2, hang, func(t *testing.T, g *grid, m *Masters) {
		began := time.Now()
		if _, err := m.Call(t.Context(), &ListAgents{}); err != nil || time.Since(began) != attemptTimeout {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
	inGrid(t, 2, hang, func(t *testing.T, g *grid, m *Masters) { // also for whoever has less time, and asks once more
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := m.Call(ctx, &ListAgents{}); kindOf(err) != event.KindDeadline {
			t.Error(err)
		}
		began := time.Now()
		if _, err := m.Call(t.Context(), &ListAgents{}); err != nil || time.Since(began) != 0 {
			t.Errorf("asked once more: %v after %v", err, time.Since(began))
		}
	})
	inGrid(t, 2, hang, func(t *testing.T, g *grid, m *Masters) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := m.Call(ctx, &Forward{}); kindOf(err) != event.KindDeadline || len(g.order()) != 1 {
			t.Errorf("not safe to repeat: %v, asked %v", err, g.order())
		}
	})
}

// TestMastersUntilTheDeadline: nobody there is repeated with pauses until ctx ends, and an outcome that became unknown on the
// way stays unknown.
func TestMastersUntilTheDeadline(t *testing.T) {
	failing := func(_ context.Context, _ *Session, req any, _, nth int) (any, error) {
		if nth == 1 {
			return nil, &event.Error{Kind: event.KindUnknownOutcome, Message: "lost"}
		}
		return nil, &event.Error{Kind: event.KindUnavailable, Message: "no leader"}
	}
	for req, want := range map[any]event.Kind{&Txn{RequestID: event.RequestID{1}}: event.KindUnknownOutcome, &ListAgents{}: event.KindUnavailable} {
		inGrid(t, 3, failing, func(t *testing.T, g *grid, m *Masters) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			began := time.Now()
			_, err := m.Call(ctx, req)
			if took := time.Since(began); kindOf(err) != want || took != 10*time.Second {
				t.Errorf("%T: %v after %v", req, err, took)
			}
			if n := len(g.order()); n < 30 || n > 100 {
				t.Errorf("%d attempts in 10 s", n)
			}
		})
	}
}

// TestMastersBusy: who is busy says how long to wait.
func TestMastersBusy(t *testing.T) {
	inGrid(t, 2, func(_ context.Context, _ *Session, _ any, _, nth int) (any, error) {
		if nth == 1 {
			return nil, &event.Error{Kind: event.KindBusy, RetryAfterMillis: 700}
		}
		return &FlushOk{}, nil
	}, func(t *testing.T, g *grid, m *Masters) {
		began := time.Now()
		if _, err := m.Call(t.Context(), &Forward{}); err != nil || time.Since(began) != 700*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// TestMastersStreamGoesOn: a stream that breaks is begun again at the next master from where it was.
func TestMastersStreamGoesOn(t *testing.T) {
	inGrid(t, 3, func(ctx context.Context, s *Session, req any, master, nth int) (any, error) {
		from := req.(*WatchEvents).From
		switch nth {
		case 3:
			return nil, &event.Error{Kind: event.KindUnavailable, Message: "no leader"}
		case 4:
			return nil, &event.Error{Kind: event.KindLagging, Message: "too slow"} // here; the next one has it
		}
		for i := range uint64(3) {
			if err := s.Send(ctx, &EventsOk{Last: from + i}); err != nil {
				return nil, err
			}
		}
		return nil, &event.Error{Kind: event.KindUnknownOutcome, Message: "gone"}
	}, func(t *testing.T, g *grid, m *Masters) {
		next := uint64(1)
		err := m.Stream(t.Context(), func() any { return &WatchEvents{From: next} }, func(msg any) error {
			if last := msg.(*EventsOk).Last; last != next {
				return fmt.Errorf("%d, want %d", last, next)
			}
			if next++; next == 12 {
				return ErrStop
			}
			return nil
		})
		if err != nil || next != 12 || !slices.Equal(g.order(), []int{0, 1, 2, 0, 1, 2}) {
			t.Errorf("%v at %d, asked %v", err, next, g.order())
		}
	})
}

func TestMastersStreamEnds(t *testing.T) {
	refuse := func(context.Context, *Session, any, int, int) (any, error) {
		return nil, &event.Error{Kind: event.KindTrimmed, Message: "too old"}
	}
	inGrid(t, 2, refuse, func(t *testing.T, g *grid, m *Masters) {
		began := time.Now()
		if err := m.Stream(t.Context(), func() any { return &WatchEvents{} }, nil); kindOf(err) != event.KindTrimmed || len(g.order()) != 2 || time.Since(began) != 0 {
			t.Errorf("nobody has it: %v after %s, asked %v", err, time.Since(began), g.order())
		}
	})
	inGrid(t, 2, func(_ context.Context, _ *Session, _ any, master, _ int) (any, error) {
		return nil, &event.Error{Kind: event.KindTrimmed, Oldest: uint64(90 - 10*master)}
	}, func(t *testing.T, g *grid, _ *Masters) {
		m := NewMasters([]string{g.addrs[0], "dead:1", g.addrs[1]}, g.pool)
		var e *event.Error
		if err := m.Stream(t.Context(), func() any { return &WatchEvents{} }, nil); !errors.As(err, &e) || e.Oldest != 80 || len(g.order()) != 2 {
			t.Errorf("the one that has most: %v, asked %v", err, g.order())
		}
	})
	inGrid(t, 2, func(context.Context, *Session, any, int, int) (any, error) {
		return nil, &event.Error{Kind: event.KindOldIncarnation, Message: "another history"}
	}, func(t *testing.T, g *grid, m *Masters) {
		if err := m.Stream(t.Context(), func() any { return &WatchEvents{} }, nil); kindOf(err) != event.KindOldIncarnation || len(g.order()) != 1 {
			t.Errorf("%v, asked %v", err, g.order())
		}
	})
	send := func(ctx context.Context, s *Session, _ any, _, _ int) (any, error) {
		return nil, errors.Join(s.Send(ctx, &EventsOk{}), func() error { <-ctx.Done(); return ctx.Err() }())
	}
	inGrid(t, 2, send, func(t *testing.T, g *grid, m *Masters) {
		own := errors.New("own")
		if err := m.Stream(t.Context(), func() any { return &WatchEvents{} }, func(any) error { return own }); !errors.Is(err, own) {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if err := m.Stream(ctx, func() any { return &WatchEvents{} }, func(any) error { cancel(); return nil }); err != nil {
			t.Errorf("cancelled: %v", err)
		}
	})
}

func TestBackoff(t *testing.T) {
	b := Backoff{First: 100 * time.Millisecond, Max: time.Second}
	for range 3 {
		for i, top := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
			if d := b.Next(); d < top*time.Millisecond/2 || d > top*time.Millisecond {
				t.Errorf("wait %d is %v", i, d)
			}
		}
		b.Reset()
	}
	for range 100 {
		if d := (&Backoff{n: 1000}).Next(); d > time.Second {
			t.Errorf("%v", d)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := new(Backoff).Wait(t.Context(), time.Minute); err != nil || time.Since(began) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := new(Backoff).Wait(ctx, time.Minute); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}
