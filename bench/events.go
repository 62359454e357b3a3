package main

import (
	"context"
	"fmt"
	"time"

	"github.com/sutra-grid/sutra-grid/bench/report"
	"github.com/sutra-grid/sutra-grid/bench/servers"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/load"
	"github.com/sutra-grid/sutra-grid/transport"
)

// What P10 is about.
const (
	askedRows   = 100
	askedEvents = 10_000_000 // that the target speaks of
	shipLimit   = 2 * time.Hour
)

// eventQueries is P10, as far as it exists: there are no questions yet. The events come through the feed, which takes its time, so a run has as
// many as --events says.
func eventQueries(ctx context.Context, b *bench) ([]report.Row, error) {
	row := b.row("P10", "ms")
	err := b.onGrid(ctx, servers.Shape{Agents: 1, Shards: 1, Replicas: 1}, func(g *servers.Grid) error {
		b.say("P10: %d events through the feed", b.events)
		began := time.Now()
		if err := b.history(ctx, g); err != nil {
			return err
		}
		ended := time.Now() // of the events; event storage may have them later
		if err := g.AwaitShipped(ctx, shipLimit); err != nil {
			return err
		}
		dev, err := g.Dev()
		if err != nil {
			return err
		}
		pool := transport.NewPool(transport.PoolConfig{})
		defer pool.Close()
		half := began.Add(ended.Sub(began) / 2)
		ask := func(ctx context.Context, w *load.Worker) error {
			return askEvents(ctx, pool, dev.Events, w, [2]time.Time{half, ended})
		}
		var p99 []float64
		p50, err := b.repeat(ctx, "P10", func(ctx context.Context) (float64, error) {
			r, err := drive(ctx, b.plan(1, b.short()), ask)
			if err != nil {
				return 0, err
			}
			p99 = append(p99, r.Latency.P99)
			return r.Latency.P50, nil
		})
		if err != nil {
			return err
		}
		row.SetAlone(p50)
		row.Note = fmt.Sprintf("over %d events, where the target speaks of %d: newest %d of a type about one of %d processes in half of the time; p99 %.2f ms. Questions do not exist yet",
			b.events, askedEvents, askedRows, askedProcesses, report.Median(p99))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return []report.Row{b.done(row)}, nil
}

// history emits events.
func (b *bench) history(ctx context.Context, g *servers.Grid) error {
	f := newFleet(g)
	defer f.close()
	return times(ctx, (b.events+readings-1)/readings, connections, func(ctx context.Context, w *load.Worker) error {
		batch := make([]transport.EmittedEvent, readings)
		for i := range batch {
			body, err := event.AppendBody(nil, event.QueryPerformance{NodeID: askedProcess(w), QueryType: event.QueryGet, LatencyMS: 1})
			if err != nil {
				return err
			}
			batch[i] = transport.EmittedEvent{Type: event.TypeQueryPerformance, Body: body}
		}
		ok, err := transport.As[transport.EmitTelemetryOk](f.of(w).Call(ctx, &transport.EmitTelemetry{Actor: "bench", Events: batch}))
		if err == nil && ok.Taken != readings {
			return fmt.Errorf("%d of %d readings were taken: %s", ok.Taken, readings, ok.Reason)
		}
		return err
	})
}

// askedProcesses are what the events are about: readings are taken only of those that a grid has.
const askedProcesses = 4

func askedProcess(w *load.Worker) event.NodeID {
	return [askedProcesses]event.NodeID{"node-1", "master-1", "master-2", "master-3"}[w.Rand.IntN(askedProcesses)]
}

// askEvents asks event storage for the newest events of a type about a process, in a window.
func askEvents(ctx context.Context, pool *transport.Pool, addr string, w *load.Worker, window [2]time.Time) error {
	from, to := transport.Seconds(window[0].UnixMicro()), transport.Seconds(window[1].UnixMicro())
	r, err := transport.Call[transport.QueryByMetadataOk](ctx, pool, addr, &transport.QueryByMetadata{From: &from, To: &to, Order: "desc", Limit: askedRows,
		Attributes: map[string]string{"event_type": event.TypeQueryPerformance.String(), "entity": string(askedProcess(w))}})
	if err == nil && len(r.Items) != askedRows {
		return fmt.Errorf("%d events were found, want %d: raise --events", len(r.Items), askedRows)
	}
	return err
}
