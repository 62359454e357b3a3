package load

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/transport"
)

// MaxConnections bounds Target.Connections.
const MaxConnections = 1 << 10

// Target is the grid that is loaded.
type Target struct {
	Masters     []string // grid addresses; at least one must answer
	Connections int      // shared by all workers; 1 to MaxConnections
}

func (t Target) validate() error {
	if len(t.Masters) == 0 || t.Connections < 1 || t.Connections > MaxConnections {
		return fmt.Errorf("load: %d masters and %d connections: want at least one master, and 1 to %d connections", len(t.Masters), t.Connections, MaxConnections)
	}
	return nil
}

// asking bounds one question about the grid.
const asking = 10 * time.Second

// lines are connections to the masters, the leader first; the workers share them.
type lines struct {
	pools []*transport.Pool
	to    []*transport.Masters
}

// dialMasters finds the leader, so that no request takes a hop that its peers in a comparison do not take.
func dialMasters(ctx context.Context, t Target) (*lines, error) {
	if err := t.validate(); err != nil {
		return nil, err
	}
	pool := transport.NewPool(transport.PoolConfig{})
	defer pool.Close()
	addrs, err := leaderFirst(ctx, pool, t.Masters)
	if err != nil {
		return nil, err
	}
	l := &lines{}
	for range t.Connections {
		p := transport.NewPool(transport.PoolConfig{MaxPerPeer: 1})
		l.pools = append(l.pools, p)
		l.to = append(l.to, transport.NewMasters(addrs, p))
	}
	return l, nil
}

// leaderFirst is the masters' addresses with the leader's in front.
func leaderFirst(ctx context.Context, pool *transport.Pool, addrs []string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	status, err := transport.As[transport.ClusterStatus](transport.NewMasters(addrs, pool).Call(ctx, &transport.GetClusterStatus{}))
	if err != nil {
		return nil, fmt.Errorf("ask who leads: %w", err)
	}
	for i, addr := range addrs {
		who, err := transport.Call[transport.FeedStatus](ctx, pool, addr, &transport.GetFeed{Local: true})
		if err == nil && who.MasterID == status.Leader {
			return slices.Concat(addrs[i:], addrs[:i]), nil
		}
	}
	return addrs, nil // it is behind none of the addresses that were given
}

// of is a worker's line.
func (l *lines) of(w *Worker) *transport.Masters { return l.to[w.Index%len(l.to)] }

func (l *lines) close() error {
	var errs []error
	for _, p := range l.pools {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// stores are clients of the grid, one for each connection: a client shares one connection to a node as long as at most 64 requests
// are under way on it.
type stores []*client.Client

func openStores(t Target) (stores, error) {
	if err := t.validate(); err != nil {
		return nil, err
	}
	var all stores
	for range t.Connections {
		c, err := client.New(client.Config{Masters: t.Masters})
		if err != nil {
			return nil, errors.Join(err, all.close())
		}
		all = append(all, c)
	}
	return all, nil
}

// of is a worker's client.
func (s stores) of(w *Worker) *client.Client { return s[w.Index%len(s)] }

func (s stores) close() error {
	var errs []error
	for _, c := range s {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// shardMap asks for the map as it is now.
func shardMap(ctx context.Context, t Target) (*shardmap.Map, error) {
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	pool := transport.NewPool(transport.PoolConfig{})
	defer pool.Close()
	ok, err := transport.As[transport.ShardMapOk](transport.NewMasters(t.Masters, pool).Call(ctx, &transport.GetShardMap{}))
	if err != nil {
		return nil, fmt.Errorf("ask for the shard map: %w", err)
	}
	return &ok.Map, nil
}
