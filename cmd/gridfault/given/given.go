// Package given is rig G of the fault suite: a grid that was there before, and that others use meanwhile.
//
//	addresses --Open: who are you?--> Layout, what cannot be judged from here --> workloads over TCP
//	Inject --> PROGRAM begin NAME ... Heal --> PROGRAM end NAME --> its first line is the proof
//
// It starts no process of the grid and ends none: faults are those of a program of the user's, or there are none.
//
// Invariants:
//   - Nothing is written or changed but by workloads, and by that program.
//   - Behind every `begin`, one that failed too, comes one `end`: by Heal, else by Inject or by Close, also when the caller's context is over.
//   - What cannot be judged here is said in the layout, with the reason, and never taken for sound.
//
// The package tells the time by the wall; it imports of the grid its network and its ids.
package given

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Config says which grid, and who makes faults happen to it.
type Config struct {
	Masters []string // grid addresses, host:port; of all masters, or those that are missing are not judged
	Hook    string   // path of the program that makes faults; empty: there are none
}

// Validate reports everything that is wrong with how it was called.
func (c *Config) Validate() error {
	var faults []error
	if len(c.Masters) == 0 {
		faults = append(faults, errors.New("grid: no address; want those of its masters, host:port,host:port"))
	}
	for i, a := range c.Masters {
		host, port, err := net.SplitHostPort(a)
		if err != nil || host == "" || port == "" {
			faults = append(faults, fmt.Errorf("grid: %q; want the grid address of a master, host:port", a))
		}
		if slices.Contains(c.Masters[:i], a) {
			faults = append(faults, fmt.Errorf("grid: %s is there twice", a))
		}
	}
	if c.Hook != "" {
		info, err := os.Stat(c.Hook)
		if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			faults = append(faults, fmt.Errorf("hook: %s is no program that can be run", c.Hook))
		}
	}
	return errors.Join(faults...)
}

// Bounds of what is asked.
const (
	askLimit     = 5 * time.Second // of one question
	asked        = 16              // at once
	mostContents = 100_000         // concepts: every replica reads all it has to compare itself with others
	classGrid    = "grid"          // of the grid's own event storage
)

// Grid is a grid that was found; it implements rig.Grid.
type Grid struct {
	cfg    Config
	id     string
	layout rig.Layout
	pool   *transport.Pool

	mu      sync.Mutex
	lasting *lasting // guarded by mu: the fault that was begun and not ended; nil: none is
	closed  bool     // guarded by mu
}

var _ rig.Grid = (*Grid)(nil)

// unfit is a grid on which nothing can be run as asked for: the same to a caller as a machine that cannot do it.
type unfit struct{ error }

func unfitf(format string, args ...any) error { return unfit{fmt.Errorf(format, args...)} }

// Is makes it a kind of rig.ErrUnsupported.
func (unfit) Is(target error) bool { return target == rig.ErrUnsupported }

// Unwrap is the error without that.
func (u unfit) Unwrap() error { return u.error }

// Open finds out what the grid consists of, by what its masters say. Every address must answer; otherwise, and when the grid cannot be
// loaded, the error is one of rig.ErrUnsupported.
func Open(ctx context.Context, cfg Config) (*Grid, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	g := &Grid{cfg: cfg, pool: transport.NewPool(transport.PoolConfig{Network: transport.TCP()}), layout: rig.Layout{Given: &rig.Given{}}}
	if err := g.find(ctx); err != nil {
		return nil, errors.Join(err, g.pool.Close())
	}
	return g, nil
}

// find fills in the layout.
func (g *Grid) find(ctx context.Context) error {
	for _, a := range g.cfg.Masters {
		if err := g.master(ctx, a); err != nil {
			return err
		}
	}
	masters := transport.NewMasters(g.cfg.Masters, g.pool)
	status, err := ask[transport.ClusterStatus](ctx, masters, &transport.GetClusterStatus{})
	if err == nil && status.Status != "ok" {
		err = errors.New(status.Reason)
	}
	if err != nil {
		return unfitf("grid %s does not serve: %w", g.id, err)
	}
	for _, m := range status.Masters {
		if !slices.ContainsFunc(g.layout.Masters, func(known rig.Member) bool { return known.ID == m.ID }) {
			g.leaveOut("what %s says: its address was not given", m.ID)
		}
	}
	if err := g.events(ctx, masters); err != nil {
		return err
	}
	return g.shards(ctx, masters)
}

// ask asks any master.
func ask[T any](ctx context.Context, masters *transport.Masters, req any) (*T, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	return transport.As[T](masters.Call(ctx, req))
}

// askAt asks who is at an address.
func askAt[T any](ctx context.Context, g *Grid, address string, req any) (*T, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	return transport.As[T](g.pool.Call(ctx, address, req))
}

// master finds out who is at an address.
func (g *Grid) master(ctx context.Context, address string) error {
	status, err := askAt[transport.ClusterStatus](ctx, g, address, &transport.GetClusterStatus{Reading: transport.Reading{Consistency: transport.Stale}})
	if err != nil {
		return unfitf("%s does not answer as a master does: %w", address, err)
	}
	if status.GridID == "" {
		return unfitf("the master at %s is starting", address)
	}
	self, err := askAt[transport.FeedStatus](ctx, g, address, &transport.GetFeed{Local: true})
	if err != nil {
		return unfitf("the master at %s does not say which one it is: %w", address, err)
	}
	if g.id == "" {
		g.id = status.GridID
	}
	if g.id != status.GridID {
		return unfitf("%s is of grid %s, %s is of grid %s", g.cfg.Masters[0], g.id, address, status.GridID)
	}
	for _, m := range g.layout.Masters {
		if m.ID == self.MasterID {
			return unfitf("%s and %s are both %s", m.Address, address, m.ID)
		}
	}
	g.layout.Masters = append(g.layout.Masters, rig.Member{ID: self.MasterID, Address: address})
	return nil
}

// events finds event storage, as far as it can be reached from here.
func (g *Grid) events(ctx context.Context, masters *transport.Masters) error {
	feed, err := ask[transport.FeedStatus](ctx, masters, &transport.GetFeed{})
	if err != nil {
		return unfitf("grid %s does not say where its feed goes: %w", g.id, err)
	}
	why := "the grid has none"
	for _, s := range feed.Sinks {
		if s.Class != classGrid {
			continue
		}
		_, err := askAt[transport.QueryConceptOk](ctx, g, s.Address, &transport.QueryConcept{ConceptID: event.ConceptID(1)})
		if err == nil {
			g.layout.Events = s.Address
			return nil
		}
		why = fmt.Sprintf("%s does not answer here: %v", s.Address, err)
	}
	g.leaveOut("event storage: %s", why)
	if len(g.layout.Masters) == 1 {
		g.leaveOut("the feed: nobody but one master holds it here")
	}
	return nil
}

// shards counts the shards and their replicas, and tells whether what these hold can be compared.
func (g *Grid) shards(ctx context.Context, masters *transport.Masters) error {
	m, err := ask[transport.ShardMapOk](ctx, masters, &transport.GetShardMap{})
	if err != nil {
		return unfitf("grid %s does not tell its shards: %w", g.id, err)
	}
	g.layout.Shards, g.layout.Replicas = len(m.Map.Shards), int(m.Map.Replicas)
	nodes := map[string]event.NodeID{}
	for _, s := range m.Map.Shards {
		for _, r := range s.Replicas {
			if nodes[r.Endpoint] = r.NodeID; !slices.Contains(g.layout.Agents, r.AgentID) {
				g.layout.Agents = append(g.layout.Agents, r.AgentID)
			}
		}
	}
	if len(nodes) == 0 {
		return unfitf("grid %s has no shards that hold data yet", g.id)
	}
	stats, err := ask[transport.StatsOk](ctx, masters, &transport.GetStats{})
	if err != nil {
		return unfitf("a shard of grid %s does not serve: %w", g.id, err)
	}
	why := g.unreached(ctx, nodes)
	if stats.TotalConcepts > mostContents {
		why = fmt.Sprintf("%d concepts are more than the %d that each of them may be made to read", stats.TotalConcepts, mostContents)
	}
	if g.layout.Given.Contents = why == ""; why != "" {
		g.leaveOut("what replicas of shards hold: %s", why)
	}
	return nil
}

// unreached is which node does not answer here, and why; empty: all do.
func (g *Grid) unreached(ctx context.Context, nodes map[string]event.NodeID) string {
	var asking errgroup.Group
	asking.SetLimit(asked)
	for endpoint, node := range nodes {
		asking.Go(func() error {
			if _, err := askAt[transport.HealthCheckOk](ctx, g, endpoint, &transport.HealthCheck{}); err != nil {
				return fmt.Errorf("%s does not answer here: %w", node, err)
			}
			return nil
		})
	}
	if err := asking.Wait(); err != nil {
		return err.Error()
	}
	return ""
}

func (g *Grid) leaveOut(format string, args ...any) {
	g.layout.Given.LeftOut = append(g.layout.Given.LeftOut, fmt.Sprintf(format, args...))
}

// String is the grid in a line.
func (g *Grid) String() string {
	var masters []string
	for _, m := range g.layout.Masters {
		masters = append(masters, fmt.Sprintf("%s at %s", m.ID, m.Address))
	}
	return fmt.Sprintf("grid %s: %s; shards: %d, replicas of each: %d", g.id, strings.Join(masters, ", "), g.layout.Shards, g.layout.Replicas)
}

// Layout implements rig.Grid.
func (g *Grid) Layout() rig.Layout { return g.layout }

// Network implements rig.Grid. All clients are this host.
func (g *Grid) Network(string) transport.Network { return transport.TCP() }

// Trouble implements rig.Grid: what processes say is not heard here.
func (g *Grid) Trouble() []string { return nil }

// Usage implements rig.Grid: what processes use is not seen here.
func (g *Grid) Usage() ([]rig.Usage, error) { return nil, nil }

// Close implements rig.Grid: it ends a fault that lasts, and our connections. It must not be called while Inject or Heal runs.
func (g *Grid) Close() error {
	g.mu.Lock()
	l := g.lasting
	g.lasting, g.closed = nil, true
	g.mu.Unlock()
	var err error
	if l != nil {
		_, err = l.end(context.Background())
	}
	return errors.Join(err, g.pool.Close())
}
