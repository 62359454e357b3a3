package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/bench/report"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/emit"
	"github.com/sutra-grid/sutra-grid/internal/load"
	"github.com/sutra-grid/sutra-grid/transport"
)

// readings is how many events an emitter sends at once: what internal/emit sends at most.
const readings = emit.MaxBatch

// shipRates are tried in turn, events/s, until event storage does not keep up.
var shipRates = [...]float64{1_000, 2_500, 5_000, 10_000, 15_000, 20_000, 30_000, 40_000, 60_000}

// ship is P8: readings as nodes emit them, at a rate, while event storage is at most a second behind.
func (a *arena) ship(ctx context.Context) (report.Row, error) {
	row := a.row("P8", "events/s")
	row.Rounds = 1
	best, reason := 0.0, "the highest rate tried"
	for _, rate := range shipRates {
		s, err := a.sustain(ctx, rate)
		if err != nil {
			return row, err
		}
		a.say("P8, %.0f events/s asked for: %s", rate, s)
		if s.behind >= time.Second || s.unsent > 0 {
			reason = fmt.Sprintf("at %.0f/s asked for it ends: %s", rate, s)
			break
		}
		best = s.committed
	}
	if err := a.grid.AwaitShipped(ctx, shipPatience); err != nil {
		return row, err
	}
	cost := emitCost()
	row.SetAlone([]float64{best})
	row.Met = best >= 0.98*30_000 && cost.NsPerOp() <= 300 && cost.AllocsPerOp() == 0
	row.Note = fmt.Sprintf("readings in batches of %d as nodes send them; %s; Emit: %d ns, %d allocations", readings, reason, cost.NsPerOp(), cost.AllocsPerOp())
	return row, nil
}

// sustained is what became of a rate.
type sustained struct {
	committed, shipped float64       // events/s
	unsent             uint64        // requests that were due and found nobody to send them
	behind             time.Duration // event storage, at worst
}

// String says it in words.
func (s sustained) String() string {
	return fmt.Sprintf("%.0f/s committed, %.0f/s shipped meanwhile, event storage at most %s behind", s.committed, s.shipped, s.behind)
}

// atRate is how long a rate is kept up: long enough for event storage to fall behind.
const atRate = 4 * time.Second

// sustain keeps a rate up for a while.
func (a *arena) sustain(ctx context.Context, rate float64) (s sustained, err error) {
	if err := a.grid.AwaitShipped(ctx, shipPatience); err != nil {
		return s, err
	}
	emit, done, err := a.emitter()
	if err != nil {
		return s, err
	}
	defer done()
	_, _, from, err := a.grid.Lag(ctx)
	if err != nil {
		return s, err
	}
	p := a.plan(inFlight, max(a.short(), atRate))
	p.Rate = rate / readings
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	var watchErr error
	wg.Go(func() { s.behind, watchErr = a.worstLag(watching) })
	began := time.Now()
	r, err := drive(ctx, p, emit)
	took := time.Since(began)
	stop()
	wg.Wait()
	_, _, to, lagErr := a.grid.Lag(ctx)
	if err := errors.Join(err, watchErr, lagErr); err != nil {
		return s, err
	}
	s.unsent, s.committed, s.shipped = r.Unsent, r.PerSecond*readings, float64(to-from)/took.Seconds()
	return s, nil
}

// emitter gives an Op that hands readings over as a node does, and what ends its connections.
func (a *arena) emitter() (emit load.Op, done func(), err error) {
	batch, err := readingBatch()
	if err != nil {
		return nil, nil, err
	}
	f := newFleet(a.grid)
	emit = func(ctx context.Context, w *load.Worker) error {
		ok, err := transport.As[transport.EmitTelemetryOk](f.of(w).Call(ctx, &transport.EmitTelemetry{Actor: "node-1", Events: batch}))
		if err == nil && ok.Taken != readings {
			return fmt.Errorf("%d of %d readings were taken: %s", ok.Taken, readings, ok.Reason)
		}
		return err
	}
	return emit, func() { _ = f.close() }, nil // closing breaks connections that nobody uses any more
}

// worstLag looks four times a second how old the oldest event is that event storage does not have, until ctx ends.
func (a *arena) worstLag(ctx context.Context) (worst time.Duration, err error) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return worst, nil
		case <-tick.C:
			_, age, _, err := a.grid.Lag(ctx)
			if err != nil && ctx.Err() == nil {
				return worst, err
			}
			worst = max(worst, age)
		}
	}
}

func readingBatch() ([]transport.EmittedEvent, error) {
	body, err := event.AppendBody(nil, event.QueryPerformance{NodeID: "node-1", QueryType: event.QueryGet, LatencyMS: 1})
	if err != nil {
		return nil, err
	}
	batch := make([]transport.EmittedEvent, readings)
	for i := range batch {
		batch[i] = transport.EmittedEvent{Type: event.TypeQueryPerformance, Body: body}
	}
	return batch, nil
}

// emitCost is what Emit takes of its caller's time, when there is room and a worker that empties the lane.
func emitCost() testing.BenchmarkResult {
	return testing.Benchmark(func(b *testing.B) {
		cfg := emit.DefaultConfig()
		cfg.Every, cfg.Log = time.Microsecond, slog.New(slog.DiscardHandler)
		cfg.Send = func(context.Context, []transport.EmittedEvent) error { return nil }
		e := emit.New(cfg)
		lane := emit.NewLane[event.QueryPerformance](e, readings)
		e.Start()
		defer e.Close()
		body := event.QueryPerformance{NodeID: "node-1", QueryType: event.QueryGet, LatencyMS: 1}
		b.ReportAllocs()
		for b.Loop() {
			lane.Emit(body)
		}
	})
}
