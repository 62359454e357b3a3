// Package gateway lets a plain Sutra client talk to the whole grid through one master, as if it were one storage node.
//
//	storage request ------> client library with this master's own shard map -> shard leaders -> merged reply
//	Routed, of a client that reaches no replica -> the same, one shard
//
// Invariants: it holds no state and no retry policy of its own (that is the client library's), and every request ends
// at a deadline. It imports client, fsm for the map and transport; never master.
package gateway

import (
	"cmp"
	"context"
	"time"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Config says through what the gateway works.
type Config struct {
	Client  *client.Client // made with LocalMap and this master's transaction coordinator
	Timeout time.Duration  // of a request that names none; 0: client.DefaultDeadline
}

// maxTimeout bounds what a transaction may ask for.
const maxTimeout = time.Minute

// Gateway answers requests of the storage protocol.
type Gateway struct{ cfg Config }

// New makes a gateway.
func New(c Config) *Gateway {
	c.Timeout = cmp.Or(c.Timeout, client.DefaultDeadline)
	return &Gateway{cfg: c}
}

// Handle answers one request of the storage protocol; it is a transport.Handler. A Routed one is sent on to its shard, for a client
// that cannot reach it. Requests of other protocols are refused with KindUnsupported.
func (g *Gateway) Handle(ctx context.Context, _ *transport.Session, req any) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, g.timeout(req))
	defer cancel()
	if q, ok := req.(*transport.Routed); ok {
		return result(g.cfg.Client.Forward(ctx, q))
	}
	return g.cfg.Client.Do(ctx, req)
}

// result keeps a nil reply from becoming a reply that is not nil.
func result(ok *transport.RoutedOk, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return ok, nil
}

// timeout is what the request asks for, within maxTimeout.
func (g *Gateway) timeout(req any) time.Duration {
	var millis uint32
	switch r := req.(type) {
	case *transport.Txn:
		millis = r.TimeoutMillis
	case *transport.Query:
		millis = r.TimeoutMillis
	case *transport.Routed:
		millis = r.TimeoutMillis
	}
	if millis == 0 {
		return g.cfg.Timeout
	}
	return min(time.Duration(millis)*time.Millisecond, maxTimeout)
}

// LocalMap is a client's map source that reads this master's applied state: no watch, no copy. changed is closed when a
// newer map is published.
func LocalMap(view func() *fsm.State, changed func() <-chan struct{}) client.MapSource {
	return localMap{view, changed}
}

type localMap struct {
	view    func() *fsm.State
	changed func() <-chan struct{}
}

// Map is the map of the applied state.
func (m localMap) Map() *shardmap.Map { return m.view().ShardMap() }

// WaitNewer waits until the applied state has a map above epoch.
func (m localMap) WaitNewer(ctx context.Context, epoch event.Position) error {
	for {
		changed := m.changed()
		if epoch.Less(m.Map().Epoch) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
