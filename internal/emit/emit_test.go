package emit

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// receiver is a grid as an emitter sees it.
type receiver struct {
	t *testing.T

	mu    sync.Mutex
	took  []uint64 // the counts in the readings it took, in their order
	sends int
	fails func(ctx context.Context, send int) error // nil: never
}

func (r *receiver) send(ctx context.Context, events []transport.EmittedEvent) error {
	r.mu.Lock()
	r.sends++
	fails, n := r.fails, r.sends
	r.mu.Unlock()
	if len(events) == 0 || len(events) > MaxBatch {
		r.t.Errorf("%d readings at once", len(events))
	}
	if fails != nil {
		if err := fails(ctx, n); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range events {
		body, err := event.DecodeBody(e.Type, e.Body)
		if err != nil {
			r.t.Error(err)
			continue
		}
		switch b := body.(type) {
		case event.StorageMetrics:
			r.took = append(r.took, b.ConceptCount)
		case event.QueryPerformance:
			r.took = append(r.took, uint64(b.QueryDepth))
		}
	}
	return nil
}

func (r *receiver) taken() []uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.took)
}

func (r *receiver) asked() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sends
}

func (r *receiver) turn(fails func(context.Context, int) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fails = fails
}

func kind(k event.Kind) func(context.Context, int) error {
	return func(context.Context, int) error { return &event.Error{Kind: k} }
}

// inBubble runs f with an emitter of one lane, in virtual time.
func inBubble(t *testing.T, size int, f func(t *testing.T, r *receiver, e *Emitter, lane *Lane[event.StorageMetrics])) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{t: t}
		e, lane := started(r, size, slog.DiscardHandler)
		defer e.Close()
		f(t, r, e, lane)
	})
}

func started(r *receiver, size int, log slog.Handler) (*Emitter, *Lane[event.StorageMetrics]) {
	cfg := DefaultConfig()
	cfg.Send, cfg.Log = r.send, slog.New(log)
	e := New(cfg)
	lane := NewLane[event.StorageMetrics](e, size)
	e.Start()
	return e, lane
}

func metrics(n uint64) event.StorageMetrics {
	return event.StorageMetrics{NodeID: "node-1", ShardID: "shard-0", ConceptCount: n}
}

func numbers(from, to uint64) (all []uint64) {
	for n := from; n <= to; n++ {
		all = append(all, n)
	}
	return all
}

func want(t *testing.T, what string, got, want []uint64) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: took %v, want %v", what, got, want)
	}
}

func wantDropped(t *testing.T, e *Emitter, want Dropped) {
	t.Helper()
	want.Type = event.TypeStorageMetrics
	if got := e.Dropped()[0]; got != want {
		t.Errorf("dropped %+v, want %+v", got, want)
	}
}

// TestReadingsArrive: all of them, in their order, within a round, however many; and none is sent for nothing.
func TestReadingsArrive(t *testing.T) {
	const many = 3*MaxBatch + 7
	inBubble(t, many, func(t *testing.T, r *receiver, e *Emitter, lane *Lane[event.StorageMetrics]) {
		for n := range uint64(many) {
			lane.Emit(metrics(n + 1))
		}
		time.Sleep(e.cfg.Every)
		synctest.Wait()
		want(t, "after one round", r.taken(), numbers(1, many))
		time.Sleep(time.Hour)
		if n := r.asked(); n != 4 {
			t.Errorf("%d readings took %d requests, want 4", many, n)
		}
		wantDropped(t, e, Dropped{})
	})
}

// TestFullLaneDoesNotBlock: while nobody answers, Emit returns at once and what has no room is counted; a lane is also the bound of
// what leaves in one round.
func TestFullLaneDoesNotBlock(t *testing.T) {
	inBubble(t, 4, func(t *testing.T, r *receiver, e *Emitter, lane *Lane[event.StorageMetrics]) {
		r.turn(func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() })
		begun := time.Now()
		for n := range uint64(100) {
			lane.Emit(metrics(n + 1))
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("100 readings took %v", took)
		}
		wantDropped(t, e, Dropped{Full: 96})
		time.Sleep(e.cfg.Every + e.cfg.Timeout)
		synctest.Wait()
		wantDropped(t, e, Dropped{Full: 96, Unknown: 4})
		r.turn(nil)
		for n := range uint64(25) { // several times in each round: at one instant a round and a reading may come in either order
			for range 50 {
				lane.Emit(metrics(n + 1))
			}
			time.Sleep(e.cfg.Every * 2 / 5)
		}
		time.Sleep(e.cfg.Every)
		synctest.Wait()
		if got := len(r.taken()); got < 40 || got > 44 {
			t.Errorf("%d readings left in 11 s, 4 in each", got)
		}
	})
}

// TestMastersAreAway: what is fresh when they are back arrives, once; what is older is forgotten.
func TestMastersAreAway(t *testing.T) {
	inBubble(t, 100, func(t *testing.T, r *receiver, e *Emitter, lane *Lane[event.StorageMetrics]) {
		r.turn(kind(event.KindUnavailable))
		for n := range uint64(60) { // one a second
			lane.Emit(metrics(n + 1))
			time.Sleep(time.Second)
		}
		if r.asked() > 40 {
			t.Errorf("the masters were asked %d times in a minute", r.asked())
		}
		r.turn(nil)
		time.Sleep(2 * e.cfg.Pause)
		synctest.Wait()
		got := r.taken()
		if len(got) < 10 || len(got) > 20 || !slices.Equal(got, numbers(got[0], 60)) {
			t.Errorf("took %v", got)
		}
		wantDropped(t, e, Dropped{Stale: 60 - uint64(len(got))})
	})
}

// TestOutcomesOfASend: only what surely was not taken is sent again.
func TestOutcomesOfASend(t *testing.T) {
	for name, tt := range map[string]struct {
		first   func(context.Context, int) error
		took    []uint64
		dropped Dropped
	}{
		"no leader":  {kind(event.KindNotLeader), []uint64{1, 2}, Dropped{}},
		"busy":       {kind(event.KindBusy), []uint64{1, 2}, Dropped{}},
		"lost":       {kind(event.KindUnknownOutcome), []uint64{2}, Dropped{Unknown: 1}},
		"deadline":   {kind(event.KindDeadline), []uint64{2}, Dropped{Unknown: 1}},
		"not ours":   {func(context.Context, int) error { return errors.New("?") }, []uint64{2}, Dropped{Unknown: 1}},
		"refused":    {kind(event.KindRefused), []uint64{2}, Dropped{Refused: 1}},
		"invalid":    {kind(event.KindInvalid), []uint64{2}, Dropped{Refused: 1}},
		"level":      {kind(event.KindUnsupported), []uint64{2}, Dropped{TooSoon: 1}},
		"everything": {nil, []uint64{1, 2}, Dropped{}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 100, func(t *testing.T, r *receiver, e *Emitter, lane *Lane[event.StorageMetrics]) {
				r.fails = func(ctx context.Context, send int) error {
					if send == 1 && tt.first != nil {
						return tt.first(ctx, send)
					}
					return nil
				}
				lane.Emit(metrics(1))
				time.Sleep(e.cfg.Every + time.Millisecond)
				lane.Emit(metrics(2))
				time.Sleep(e.cfg.Later + 2*e.cfg.Every)
				want(t, name, r.taken(), tt.took)
				wantDropped(t, e, tt.dropped)
			})
		})
	}
}

// TestBelowTheLevel: a grid that takes no readings is asked now and then, and gets the fresh ones when it does.
func TestBelowTheLevel(t *testing.T) {
	inBubble(t, 10, func(t *testing.T, r *receiver, e *Emitter, lane *Lane[event.StorageMetrics]) {
		r.turn(kind(event.KindUnsupported))
		for range 600 {
			lane.Emit(metrics(1))
			time.Sleep(time.Second)
		}
		if n := r.asked(); n < 30 || n > 41 {
			t.Errorf("asked %d times in 10 minutes, want once in %v", n, e.cfg.Later)
		}
		r.turn(nil)
		time.Sleep(e.cfg.MaxAge + e.cfg.Later)
		before := len(r.taken())
		lane.Emit(metrics(2))
		time.Sleep(2 * e.cfg.Every)
		want(t, "when the level rose", r.taken()[before:], []uint64{2})
	})
}

// TestCloseHandsOver: what was taken is sent, but nobody waits long for it, and not at all for what is put off.
func TestCloseHandsOver(t *testing.T) {
	for name, tt := range map[string]struct {
		fails func(context.Context, int) error
		took  []uint64
		limit time.Duration
	}{
		"there":   {nil, []uint64{1, 2}, 0},
		"hanging": {func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() }, nil, DefaultConfig().Flush},
		"away":    {kind(event.KindUnavailable), nil, 0},
		"level":   {kind(event.KindUnsupported), nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &receiver{t: t, fails: tt.fails}
				e, lane := started(r, 10, slog.DiscardHandler)
				lane.Emit(metrics(1))
				lane.Emit(metrics(2))
				begun := time.Now()
				e.Close()
				if took := time.Since(begun); took != tt.limit {
					t.Errorf("it took %v, want %v", took, tt.limit)
				}
				want(t, name, r.taken(), tt.took)
				e.Close()
				lane.Emit(metrics(3)) // nobody is there; it must not block
			})
		})
	}
	var nobody *Emitter
	nobody.Close()
	var none *Lane[event.StorageMetrics]
	none.Emit(metrics(1))
}

// TestCloseWhileMastersAreAway: what waits for them is given up, what came since is tried once.
func TestCloseWhileMastersAreAway(t *testing.T) {
	inBubble(t, 10, func(t *testing.T, r *receiver, e *Emitter, lane *Lane[event.StorageMetrics]) {
		r.turn(kind(event.KindUnavailable))
		lane.Emit(metrics(1))
		time.Sleep(3 * e.cfg.Every)
		lane.Emit(metrics(2))
		r.turn(nil)
		e.Close()
		if got := r.taken(); !slices.Equal(got, []uint64{1, 2}) {
			t.Errorf("took %v", got)
		}
	})
}

// TestDropsAreReported: in one line, not more often than Report allows, by type; below the level nothing is lost.
func TestDropsAreReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines strings.Builder
		r := &receiver{t: t}
		e, lane := started(r, 1, slog.NewTextHandler(&lines, nil))
		for range 180 { // three minutes
			lane.Emit(metrics(1))
			lane.Emit(metrics(2))
			time.Sleep(time.Second)
		}
		e.Close()
		if n := strings.Count(lines.String(), "readings were dropped"); n < 3 || n > 4 || !strings.Contains(lines.String(), "storage_metrics=") {
			t.Errorf("%d lines in three minutes:\n%s", n, lines.String())
		}
		lines.Reset()
		r.turn(kind(event.KindUnsupported))
		e, lane = started(r, 10, slog.NewTextHandler(&lines, nil))
		for range 600 {
			lane.Emit(metrics(1))
			time.Sleep(2 * time.Second)
		}
		e.Close()
		if n := strings.Count(lines.String(), "\n"); strings.Count(lines.String(), "level=INFO") != 1 || n > 25 {
			t.Errorf("%d lines below the level:\n%s", n, lines.String())
		}
	})
}

// TestEmitAllocatesNothing: neither when there is room nor when there is none.
func TestEmitAllocatesNothing(t *testing.T) {
	e := New(DefaultConfig())
	storage, queries := NewLane[event.StorageMetrics](e, 64), NewLane[event.QueryPerformance](e, 64)
	m, q := metrics(1), event.QueryPerformance{NodeID: "node-1", QueryType: event.QueryGet, LatencyMS: 1}
	if n := testing.AllocsPerRun(1000, func() { storage.Emit(m); queries.Emit(q) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if d := e.Dropped(); d[0].Full == 0 || d[1].Full == 0 || d[1].Type != event.TypeQueryPerformance {
		t.Errorf("dropped %+v", d)
	}
}

func BenchmarkEmit(b *testing.B) {
	cfg := DefaultConfig()
	cfg.Every, cfg.Log = time.Microsecond, slog.New(slog.DiscardHandler)
	cfg.Send = func(context.Context, []transport.EmittedEvent) error { return nil }
	e := New(cfg)
	lane := NewLane[event.QueryPerformance](e, 256)
	e.Start()
	defer e.Close()
	body := event.QueryPerformance{NodeID: "node-1", QueryType: event.QueryGet, LatencyMS: 1}
	b.ReportAllocs()
	for b.Loop() {
		lane.Emit(body)
	}
}

// BenchmarkEmitFull is the cost of a reading that has no room.
func BenchmarkEmitFull(b *testing.B) {
	lane := NewLane[event.QueryPerformance](New(DefaultConfig()), 1)
	body := event.QueryPerformance{NodeID: "node-1", QueryType: event.QueryGet, LatencyMS: 1}
	b.ReportAllocs()
	for b.Loop() {
		lane.Emit(body)
	}
}
