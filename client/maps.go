package client

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/transport"
)

// MapSource gives the newest known shard map. Both methods are safe for concurrent use.
type MapSource interface {
	// Map is the present map, never nil; its Base is 0 while none is known.
	Map() *shardmap.Map
	// WaitNewer returns when Map's epoch is above the given one, or with ctx's error.
	WaitNewer(ctx context.Context, epoch event.Position) error
}

// mapWatch keeps a map by watching the masters. The map only moves forward: by incarnation, then by seq.
type mapWatch struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	current *shardmap.Map // never changed, only replaced
	newer   chan struct{} // closed when current is replaced
}

func startMapWatch(masters *transport.Masters, log *slog.Logger) *mapWatch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &mapWatch{cancel: cancel, done: make(chan struct{}), current: &shardmap.Map{}, newer: make(chan struct{})}
	go func() {
		defer close(w.done)
		err := masters.Stream(ctx, w.request, w.receive)
		if ctx.Err() == nil {
			log.Error("the watch of the shard map ended", "err", err)
		}
	}()
	return w
}

func (w *mapWatch) request() any { return &transport.WatchShardMap{Epoch: w.Map().Epoch} }

func (w *mapWatch) receive(msg any) error {
	r, ok := msg.(*transport.ShardMapOk)
	if !ok {
		return fmt.Errorf("WatchShardMap was answered with %s", transport.VariantName(msg))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if newerThan(r.Map.Epoch, w.current.Epoch) {
		w.current = &r.Map
		close(w.newer)
		w.newer = make(chan struct{})
	}
	return nil
}

func newerThan(a, b event.Position) bool { return a.N > b.N || a.N == b.N && a.Seq > b.Seq }

// Map is the newest map received.
func (w *mapWatch) Map() *shardmap.Map {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.current
}

// WaitNewer waits for the stream.
func (w *mapWatch) WaitNewer(ctx context.Context, epoch event.Position) error {
	for {
		w.mu.Lock()
		current, newer := w.current, w.newer
		w.mu.Unlock()
		if newerThan(current.Epoch, epoch) {
			return nil
		}
		select {
		case <-newer:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *mapWatch) close() {
	w.cancel()
	<-w.done
}

// shardMap is the present map; it waits for the first one.
func (c *Client) shardMap(ctx context.Context) (*shardmap.Map, error) {
	m := c.maps.Map()
	for len(m.Shards) == 0 || len(m.Shards) < int(m.Base) {
		if err := c.maps.WaitNewer(ctx, m.Epoch); err != nil {
			return nil, &event.Error{Kind: event.KindUnavailable, Op: "find the shard map",
				Message: "no complete shard map before the deadline; are the masters reachable and enough nodes running?"}
		}
		m = c.maps.Map()
	}
	return m, nil
}
