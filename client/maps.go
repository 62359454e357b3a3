package client

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/transport"
)

// MapSource gives the newest known shard map. Both methods are safe for concurrent use.
type MapSource interface {
	// Map is the present map, never nil; its Base is 0 while none is known.
	Map() *shardmap.Map
	// WaitNewer returns when Map's epoch is above the given one, with ctx's error, or with an *event.Error when no map can
	// be had.
	WaitNewer(ctx context.Context, epoch event.Position) error
}

// mapWatch keeps a map by watching the masters, from the first use on. The map only moves forward, by incarnation and then
// by seq, and only within the grid it began with.
type mapWatch struct {
	masters *transport.Masters
	log     *slog.Logger
	ctx     context.Context
	cancel  context.CancelFunc
	start   sync.Once
	wg      sync.WaitGroup

	mu      sync.Mutex
	current *shardmap.Map // never changed, only replaced
	seen    mapHistory    // guards current's moving forward
	err     error         // why the masters refuse to be watched; nil: they do not
	changed chan struct{} // closed and replaced when current or err is
}

// The pauses between attempts to watch masters that refuse it.
const (
	firstWatchPause = 100 * time.Millisecond
	lastWatchPause  = 5 * time.Second
)

func newMapWatch(masters *transport.Masters, log *slog.Logger) *mapWatch {
	w := &mapWatch{masters: masters, log: log, current: &shardmap.Map{}, changed: make(chan struct{})}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w
}

func (w *mapWatch) close() {
	w.cancel()
	w.start.Do(func() {}) // not any more
	w.wg.Wait()
}

func (w *mapWatch) begin() {
	w.start.Do(func() { w.wg.Go(w.run) })
}

// run holds the stream. When the masters refuse it for good they are asked again after a pause, as configurations change;
// whoever waits meanwhile gets the refusal.
func (w *mapWatch) run() {
	pause := transport.Backoff{First: firstWatchPause, Max: lastWatchPause}
	for w.ctx.Err() == nil {
		err := w.masters.Stream(w.ctx, w.request, func(msg any) error {
			pause.Reset()
			return w.receive(msg)
		})
		if err == nil {
			return // closed
		}
		w.log.Warn("the masters refuse the watch of the shard map; asking again", "err", err)
		w.set(func() { w.err = err })
		if pause.Wait(w.ctx, 0) != nil {
			return
		}
		w.set(func() { w.err = nil })
	}
}

func (w *mapWatch) request() any {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen.request()
}

// set changes the state and wakes who waits for it.
func (w *mapWatch) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	close(w.changed)
	w.changed = make(chan struct{})
}

// receive takes a message of the stream.
func (w *mapWatch) receive(msg any) error {
	w.mu.Lock()
	m, newer, err := w.seen.take(msg)
	w.mu.Unlock()
	if err != nil {
		return err
	}
	w.set(func() {
		if newer {
			w.current = &m.Map
		}
	})
	return nil
}

// Map is the newest map received.
func (w *mapWatch) Map() *shardmap.Map {
	w.begin()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.current
}

// WaitNewer waits for the stream.
func (w *mapWatch) WaitNewer(ctx context.Context, epoch event.Position) error {
	w.begin()
	for {
		w.mu.Lock()
		newer, err, changed := epoch.Less(w.current.Epoch), w.err, w.changed
		w.mu.Unlock()
		switch {
		case newer:
			return nil
		case err != nil:
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-w.ctx.Done():
			return &event.Error{Kind: event.KindUnavailable, Op: "watch the shard map", Message: "the client is closed"}
		}
	}
}

// shardMap is the present map; it waits for the first one.
func (c *Client) shardMap(ctx context.Context) (*shardmap.Map, error) {
	m := c.maps.Map()
	for len(m.Shards) == 0 || len(m.Shards) < int(m.Base) {
		if err := c.maps.WaitNewer(ctx, m.Epoch); err != nil {
			var refusal *event.Error
			if errors.As(err, &refusal) {
				return nil, refusal
			}
			return nil, &event.Error{Kind: event.KindUnavailable, Op: "find the shard map",
				Message: "no complete shard map before the deadline; are the masters reachable and enough nodes running?"}
		}
		m = c.maps.Map()
	}
	return m, nil
}
