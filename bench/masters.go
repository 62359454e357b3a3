package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sutra-grid/sutra-grid/bench/report"
	"github.com/sutra-grid/sutra-grid/bench/servers"
	"github.com/sutra-grid/sutra-grid/internal/load"
)

// shipPatience is how long event storage may take for what a run has committed.
const shipPatience = 5 * time.Minute

// arena is a grid and etcd side by side.
type arena struct {
	*bench
	grid *servers.Grid
	etcd *servers.Etcd
}

// masters measures what the masters do: P1, P2, P3, P8.
func masters(ctx context.Context, b *bench) (rows []report.Row, err error) {
	a := &arena{bench: b}
	b.say("starting a grid of three masters, and etcd")
	if a.grid, err = servers.StartGrid(ctx, b.bin, b.dir, servers.Shape{Agents: 1, Shards: 1, Replicas: 1}); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.grid.Close()) }()
	if a.etcd, err = servers.StartEtcd(ctx, b.self, b.dir); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.etcd.Close()) }()
	return b.each(ctx, []measurement{{"P1", a.commits}, {"P2", a.oneClient}, {"P3", a.reads}, {"P8", a.ship}})
}

// quietly lets event storage come after us behind each run, so that shipping takes nothing from the peer.
func (a *arena) quietly(s side) side {
	return func(ctx context.Context) (float64, error) {
		v, err := s(ctx)
		if err != nil {
			return 0, err
		}
		return v, a.grid.AwaitShipped(ctx, shipPatience)
	}
}

// commits is P1.
func (a *arena) commits(ctx context.Context) (report.Row, error) {
	row := a.row("P1", "events/s")
	ours, err := a.prepared(ctx, a.grid, "feed", connections, load.Options{})
	if err != nil {
		return row, err
	}
	defer ours.Close()
	theirs, err := etcdAtLeader(ctx, a.etcd, connections)
	if err != nil {
		return row, err
	}
	defer theirs.close()
	var p50, p99, lag []float64
	mine := func(ctx context.Context) (float64, error) {
		r, err := drive(ctx, a.plan(inFlight, a.duration), ours.Do)
		if err != nil {
			return 0, err
		}
		events, _, _, err := a.grid.Lag(ctx)
		p50, p99, lag = append(p50, r.Latency.P50), append(p99, r.Latency.P99), append(lag, float64(events))
		return r.PerSecond, err
	}
	x, y, err := a.alternate(ctx, "P1", a.quietly(mine), a.throughput(theirs.put, inFlight, a.duration))
	if err != nil {
		return row, err
	}
	row.Set(report.Compare(x, y))
	row.Met = atLeast(row.Ratio, 6)
	row.Note = fmt.Sprintf("%s: puts of the same values, same connections; ours p50 %.2f ms, p99 %.2f ms; event storage is %.0f events behind at the end of a run",
		etcdVersion(), report.Median(p50), report.Median(p99), report.Median(lag))
	return row, nil
}

// oneClient is P2.
func (a *arena) oneClient(ctx context.Context) (report.Row, error) {
	row := a.row("P2", "ms")
	ours, err := a.prepared(ctx, a.grid, "feed", 1, load.Options{})
	if err != nil {
		return row, err
	}
	defer ours.Close()
	theirs, err := etcdAtLeader(ctx, a.etcd, 1)
	if err != nil {
		return row, err
	}
	defer theirs.close()
	x, y, err := a.alternate(ctx, "P2", a.latency(ours.Do, a.short()), a.latency(theirs.put, a.short()))
	if err != nil {
		return row, err
	}
	row.Set(report.Compare(x, y))
	row.Met = atMost(row.Ratio, 0.7)
	row.Note = etcdVersion() + ", p50 of one client"
	if sync, err := syncFloor(a.dir); err == nil {
		floor := millis(sync) + millis(tripFloor())
		row.Note += fmt.Sprintf("; the floor, one fdatasync and one round trip, is %.3f ms: ours is %.1f times that", floor, *row.Value/floor)
	}
	return row, nil
}

// reads is P3: the figures are of reads alone, the note has those with writes.
func (a *arena) reads(ctx context.Context) (report.Row, error) {
	row := a.row("P3", "reads/s")
	theirs, err := etcdAtLeader(ctx, a.etcd, connections)
	if err != nil {
		return row, err
	}
	defer theirs.close()
	if err := theirs.fill(ctx); err != nil {
		return row, err
	}
	var mixed report.Comparison
	for _, writes := range []float64{0, 0.1} {
		ours, err := load.NewRegistry(load.Target{Masters: a.grid.Masters, Connections: connections}, load.Options{Seed: a.seed}, writes)
		if err != nil {
			return row, err
		}
		if err := ours.Prepare(ctx); err != nil {
			return row, errors.Join(err, ours.Close())
		}
		x, y, err := a.alternate(ctx, fmt.Sprintf("P3, %.0f %% writes", 100*writes), a.quietly(a.throughput(ours.Do, inFlight, a.short())),
			a.throughput(theirs.get(writes), inFlight, a.short()))
		if err := errors.Join(err, ours.Close()); err != nil {
			return row, err
		}
		if mixed = report.Compare(x, y); writes == 0 {
			row.Set(mixed)
		}
	}
	row.Met = atLeast(row.Ratio, 10) && mixed.Ratio >= 5
	row.Note = fmt.Sprintf("%s; with 10 %% writes %.0f/s, %.2f × etcd's %.0f/s (%.2f to %.2f)", etcdVersion(), mixed.Value, mixed.Ratio, mixed.Peer, mixed.Spread[0], mixed.Spread[1])
	return row, nil
}

// atLeast and atMost judge a figure that there may not be.
func atLeast(v *float64, bound float64) bool { return v != nil && *v >= bound }
func atMost(v *float64, bound float64) bool  { return v != nil && *v <= bound }
