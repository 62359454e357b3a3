package dev

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sutra-grid/sutra-grid/agent"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/transport"
)

// observer finds out from the grid itself whether it is whole. What the masters remember of an earlier run is not enough: agents are
// asked what they run, and every shard is asked something only its leader can answer.
type observer struct {
	cfg     Config
	layout  layout
	pool    *transport.Pool
	masters *transport.Masters
	board   *board
	events  *child
	news    chan struct{} // holds one element when something may have changed
}

// The time limits of one look. The grid's own retries work inside them, so a look often ends just when what it waits for comes true.
const (
	masterLimit = 5 * time.Second
	askLimit    = 2 * time.Second
	statsLimit  = 8 * time.Second
)

func newObserver(cfg Config, l layout, b *board, events *child) *observer {
	pool := transport.NewPool(transport.PoolConfig{})
	return &observer{cfg: cfg, layout: l, pool: pool, masters: transport.NewMasters(l.grids(), pool), board: b, events: events, news: make(chan struct{}, 1)}
}

func (o *observer) close() error { return o.pool.Close() }

// notify says that something may have changed.
func (o *observer) notify() {
	select {
	case o.news <- struct{}{}:
	default:
	}
}

// followMap keeps the shard map current, for dev.json and as news, until ctx ends.
func (o *observer) followMap(ctx context.Context) error {
	return o.forever(ctx, func() any { return &transport.WatchShardMap{Epoch: o.epoch()} }, func(msg any) error {
		m, err := transport.As[transport.ShardMapOk](msg, nil)
		if err != nil {
			return err
		}
		if old := o.board.shards.Swap(&m.Map); old == nil || old.Epoch != m.Map.Epoch {
			o.board.changed()
		}
		o.notify()
		return nil
	})
}

func (o *observer) epoch() event.Position {
	if m := o.board.shards.Load(); m != nil {
		return m.Epoch
	}
	return event.Position{}
}

// followEvents turns every event of the grid into news, until ctx ends.
func (o *observer) followEvents(ctx context.Context) error {
	return o.forever(ctx, func() any { return &transport.WatchEvents{} }, func(any) error { o.notify(); return nil })
}

// forever holds a stream from the masters until ctx ends.
func (o *observer) forever(ctx context.Context, req func() any, fn func(any) error) error {
	var pause transport.Backoff
	for ctx.Err() == nil {
		_ = o.masters.Stream(ctx, req, fn) // a master that refuses may be starting: another attempt follows
		_ = pause.Wait(ctx, 0)             // ctx ends the loop
	}
	return nil
}

// progressEvery is how often people are told what is waited for.
const progressEvery = 10 * time.Second

// awaitReady looks whenever there is news, until the grid is whole or ctx ends.
func (o *observer) awaitReady(ctx context.Context, out *printer) (nodes int, err error) {
	progress := time.NewTicker(progressEvery)
	defer progress.Stop()
	var missing error
	for {
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-progress.C:
			out.say("still waiting: %v", missing)
			continue
		case <-o.news:
		}
		if nodes, missing = o.look(ctx); missing == nil {
			return nodes, nil
		}
	}
}

// look tells what is missing, in the order in which it comes to be.
func (o *observer) look(ctx context.Context) (nodes int, missing error) {
	select {
	case <-o.events.ready:
	default:
		return 0, fmt.Errorf("event storage does not listen yet")
	}
	status, err := ask[transport.ClusterStatus](ctx, masterLimit, func(ctx context.Context) (any, error) {
		return o.masters.Call(ctx, &transport.GetClusterStatus{})
	})
	if err != nil {
		return 0, fmt.Errorf("the masters' status: %w", err)
	}
	if err := o.whole(status); err != nil {
		return 0, err
	}
	if nodes, err = o.askAgents(ctx); err != nil {
		return 0, err
	}
	return nodes, o.askStorage(ctx)
}

// whole judges what the masters say.
func (o *observer) whole(s *transport.ClusterStatus) error {
	switch {
	case s.Status != "ok" || s.Leader == "":
		return fmt.Errorf("the masters have no leader")
	case int(s.HealthyAgents) < o.cfg.Agents:
		return fmt.Errorf("%d of %d agents are healthy", s.HealthyAgents, o.cfg.Agents)
	case len(s.Shards) < o.cfg.Shards:
		return fmt.Errorf("%d of %d shards are placed", len(s.Shards), o.cfg.Shards)
	}
	for _, h := range s.Shards {
		switch {
		case h.State != shardmap.Formed || h.Leader == "":
			return fmt.Errorf("%s is %s and has no leader", h.ShardID, h.State)
		case h.Live < h.Want:
			return fmt.Errorf("%s has %d of %d replicas", h.ShardID, h.Live, h.Want)
		}
	}
	return nil
}

// askAgents asks every agent what it runs.
func (o *observer) askAgents(ctx context.Context) (nodes int, err error) {
	for _, a := range o.layout.agents {
		r, err := ask[transport.ListNodesOk](ctx, askLimit, func(ctx context.Context) (any, error) {
			return o.pool.Call(ctx, a.address, &transport.ListNodes{})
		})
		if err != nil {
			return 0, fmt.Errorf("ask %s for its nodes: %w", a.id, err)
		}
		if len(r.Nodes) == 0 {
			return 0, fmt.Errorf("%s runs no node yet", a.id)
		}
		for _, n := range r.Nodes {
			if n.Status != string(agent.Running) {
				return 0, fmt.Errorf("%s of %s is %s", n.NodeID, a.id, n.Status)
			}
			nodes++
		}
	}
	return nodes, nil
}

// askStorage asks event storage whether it is well, and all shards for their counts, which takes the leader of each.
func (o *observer) askStorage(ctx context.Context) error {
	health, err := ask[transport.HealthCheckOk](ctx, askLimit, func(ctx context.Context) (any, error) {
		return o.pool.Call(ctx, o.layout.events, &transport.HealthCheck{})
	})
	if err == nil && !health.Healthy {
		err = fmt.Errorf("it says %s", health.Status)
	}
	if err != nil {
		return fmt.Errorf("ask event storage: %w", err)
	}
	if _, err := ask[transport.StatsOk](ctx, statsLimit, func(ctx context.Context) (any, error) {
		return o.masters.Call(ctx, &transport.GetStats{})
	}); err != nil {
		return fmt.Errorf("ask all shards: %w", err)
	}
	return nil
}

func ask[T any](ctx context.Context, limit time.Duration, call func(context.Context) (any, error)) (*T, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return transport.As[T](call(ctx))
}

// watch runs the two streams in a group.
func (o *observer) watch(ctx context.Context, g *errgroup.Group) {
	g.Go(func() error { return o.followMap(ctx) })
	g.Go(func() error { return o.followEvents(ctx) })
}
