package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sutra-grid/sutra-grid/bench/growth"
	"github.com/sutra-grid/sutra-grid/bench/servers"
	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/load"
	"github.com/sutra-grid/sutra-grid/transport"
)

// What watchers are told, and how long they may take.
const (
	watchedRate   = 20 // settings/s: 1,000 watchers then get as many events as a core encodes and decodes well within its time
	watchedSize   = 256
	watchPatience = time.Minute
)

// arrival is an event at a watcher.
type arrival struct {
	seq uint64
	at  time.Time
}

// audience is watchers of settings.
type audience struct {
	clients []*client.Client
	heard   [][]arrival // by watcher, each written by its own goroutine
	there   sync.WaitGroup
	count   atomic.Int64 // deliveries
	stop    context.CancelCauseFunc
	ended   sync.WaitGroup
	ctx     context.Context // ends with stop, or with the first watch that fails
}

// gather starts watchers, in turn at the masters, and waits until each has heard of its master.
func gather(ctx context.Context, masters []string, n int) (*audience, error) {
	a := &audience{heard: make([][]arrival, n)}
	a.ctx, a.stop = context.WithCancelCause(ctx)
	for i := range masters {
		c, err := client.New(client.Config{Masters: slices.Concat(masters[i:], masters[:i])})
		if err != nil {
			return nil, errors.Join(err, a.close())
		}
		a.clients = append(a.clients, c)
	}
	a.there.Add(n)
	for i := range n {
		a.ended.Go(func() { a.watch(i) })
	}
	there := make(chan struct{})
	go func() { a.there.Wait(); close(there) }()
	select {
	case <-there:
	case <-time.After(watchPatience):
		return nil, errors.Join(fmt.Errorf("%d watches were not all begun within %s", n, watchPatience), a.close())
	case <-a.ctx.Done():
	}
	if a.ctx.Err() != nil { // a watch that failed is there no longer
		return nil, errors.Join(context.Cause(a.ctx), a.close())
	}
	return a, nil
}

// watch is one watcher.
func (a *audience) watch(i int) {
	var once sync.Once
	defer once.Do(a.there.Done)
	filter := event.Filter{Types: []event.Type{event.TypeSettingChanged}}
	err := a.clients[i%len(a.clients)].WatchEvents(a.ctx, client.EventPosition{}, filter, func(step client.Events) error {
		now := time.Now()
		for _, e := range step.Events {
			a.heard[i] = append(a.heard[i], arrival{e.Seq, now})
		}
		a.count.Add(int64(len(step.Events)))
		once.Do(a.there.Done)
		return nil
	})
	if err != nil {
		a.stop(fmt.Errorf("watcher %d: %w", i, err))
	}
}

// await waits until so many deliveries were made.
func (a *audience) await(deliveries int64) error {
	limit, tick := time.NewTimer(watchPatience), time.NewTicker(50*time.Millisecond)
	defer limit.Stop()
	defer tick.Stop()
	for a.count.Load() < deliveries {
		select {
		case <-tick.C:
		case <-limit.C:
			return fmt.Errorf("%d of %d events were delivered within %s", a.count.Load(), deliveries, watchPatience)
		case <-a.ctx.Done():
			return context.Cause(a.ctx)
		}
	}
	return nil
}

// close ends the watches. What was heard may be read afterwards.
func (a *audience) close() error {
	a.stop(nil)
	a.ended.Wait()
	var errs []error
	for _, c := range a.clients {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// growWatchers is the series of watchers.
func growWatchers(ctx context.Context, g *grower) error {
	return g.onGrid(ctx, servers.Shape{Agents: 1, Shards: 1, Replicas: 1}, func(grid *servers.Grid) error {
		for _, size := range g.want.sizes(growth.WatchersID) {
			if err := g.watched(ctx, grid, size); err != nil {
				return errAt(size, err)
			}
		}
		return nil
	})
}

// watched measures one writer and so many watchers.
func (g *grower) watched(ctx context.Context, grid *servers.Grid, size int) error {
	_, leader, err := grid.Leader(ctx)
	if err != nil {
		return err
	}
	followers := slices.DeleteFunc(slices.Clone(grid.Masters), func(addr string) bool { return addr == leader })
	a, err := gather(ctx, append(followers, leader), size)
	if err != nil {
		return err
	}
	w := newSettingWriter(leader, grid.Masters)
	defer w.pool.Close()
	plan := g.plan(1, time.Duration(g.rounds)*g.short())
	plan.Rate = watchedRate
	began := time.Now()
	r, err := drive(ctx, plan, w.write)
	if err == nil {
		err = a.await(int64(len(w.answered)) * int64(size))
	}
	took := time.Since(began)
	var seen footprints
	if err == nil {
		seen, err = look(ctx, grid) // the watchers are still there
	}
	if err = errors.Join(err, a.close()); err != nil {
		return err
	}
	lags := lagsOf(a.heard, w.answered, began.Add(plan.Warmup))
	p := g.point(size, seen, growth.Master)
	p.Set(growth.P50, r.Latency.P50)
	p.Set(growth.P99, r.Latency.P99)
	p.Set("lag_p50_ms", quantile(lags, 0.5))
	p.Set("lag_p99_ms", quantile(lags, 0.99))
	p.Set("delivered_per_second", float64(a.count.Load())/took.Seconds())
	return g.add(p)
}

// settingWriter commits settings, one after the other, and remembers when each was answered.
type settingWriter struct {
	pool     *transport.Pool
	masters  *transport.Masters
	answered map[uint64]time.Time // by seq
}

func newSettingWriter(leader string, masters []string) *settingWriter {
	w := &settingWriter{pool: transport.NewPool(transport.PoolConfig{MaxPerPeer: 1}), answered: map[uint64]time.Time{}}
	w.masters = transport.NewMasters(slices.Concat([]string{leader}, masters), w.pool)
	return w
}

// write is an Op of one worker.
func (s *settingWriter) write(ctx context.Context, w *load.Worker) error {
	body, err := event.AppendBody(nil, event.SettingChanged{Key: "bench.watched", Value: load.Text(w.Rand, watchedSize)})
	if err != nil {
		return err
	}
	ok, err := transport.As[transport.ProposeOk](s.masters.Call(ctx, &transport.Propose{Actor: "bench", Type: event.TypeSettingChanged, Body: body}))
	if err == nil {
		s.answered[ok.Seq] = time.Now()
	}
	return err
}

// lagsOf are the deliveries' times behind the writer's answers from a moment on, ms, ascending. What arrived before the answer has none.
func lagsOf(heard [][]arrival, answered map[uint64]time.Time, from time.Time) (lags []float64) {
	for _, one := range heard {
		for _, e := range one {
			if answer, known := answered[e.seq]; known && !answer.Before(from) {
				lags = append(lags, max(millis(e.at.Sub(answer)), 0))
			}
		}
	}
	slices.Sort(lags)
	return lags
}

// quantile is the value at a share of ascending ones; NaN of none.
func quantile(ascending []float64, share float64) float64 {
	if len(ascending) == 0 {
		return math.NaN()
	}
	return ascending[int(share*float64(len(ascending)-1))]
}
