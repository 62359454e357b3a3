// Package sim is rig S: a whole grid in one process and in virtual time, which faults can hurt.
//
//	workloads --> transport.Memory: a host for each machine and each client, links that faults shape
//	                 |                    |                             |
//	              masters          agents and their nodes         event storage        the production assembly of each
//	                 |                    |                             |
//	              files of their own, on a disk for each machine (package disk); logs go to a tap
//
// It is opened inside a bubble of testing/synctest (package bubble makes one in a program), and everything in it ends with Close.
//
// Invariants: a process is what its program's main assembles, with its real stores, so what holds here was not arranged for the test; a
// killed process hands nothing over, and its last words reach nobody; faults change links, processes, disks and nothing else. A machine that
// loses its power says nothing from the moment on from which nothing reaches its disk, so it has acknowledged what comes back.
//
// What it cannot show: a process that is paused here is one that hears nothing and is heard by nobody, but its own clocks go on; all
// processes share one wall clock, and one heap. Nor a slow disk: a goroutine that sleeps where others wait for its mutex stops the bubble's
// clock for ever. The rig of processes is for those.
package sim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/sutra-grid/sutra-grid/agent/platform"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/disk"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/master"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Config describes a grid. Start from DefaultConfig.
type Config struct {
	Seed     uint64 // of the network's jitter, loss and breaks
	Dir      string // where the processes' files go; empty: in memory (/dev/shm) where that is possible
	Masters  int    // 3 or 5
	Shards   uint32
	Replicas uint32 // of each shard: 1, 3 or 5
	Agents   int    // each on a machine of its own, with one storage node; at least Replicas

	SnapshotThreshold uint64 // entries between snapshots of every group; few, so that they are taken, sent and restored all the time
	TrailingLogs      uint64 // entries kept behind one

	Trace *Trace // of what is delivered, and of faults; nil: none is kept
}

// DefaultConfig is the smallest grid that has everything: a majority to lose, transactions over shards, a machine to move a replica to.
func DefaultConfig() Config {
	return Config{Masters: 3, Shards: 2, Replicas: 3, Agents: 4, SnapshotThreshold: 120, TrailingLogs: 40}
}

// Validate reports everything that is wrong.
func (c *Config) Validate() error {
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	check(c.Masters == 3 || c.Masters == 5, "%d masters: want 3 or 5", c.Masters)
	check(c.Shards >= 1 && c.Shards <= 16, "%d shards: want 1 to 16", c.Shards)
	check(c.Replicas == 1 || c.Replicas == 3 || c.Replicas == 5, "%d replicas: want 1, 3 or 5", c.Replicas)
	check(c.Agents >= int(c.Replicas) && c.Agents <= 16, "%d agents: want one for each of %d replicas, at most 16", c.Agents, c.Replicas)
	check(c.SnapshotThreshold >= 20, "snapshot every %d entries: want 20 or more", c.SnapshotThreshold)
	check(c.TrailingLogs >= 20, "%d entries behind a snapshot: want 20 or more", c.TrailingLogs) // raftgroup's bound on what is in flight
	return errors.Join(faults...)
}

// The fixed places.
const (
	eventsHost = "events"
	eventsPort = "50052"
	adminHost  = "admin" // what the rig itself asks
)

// Grid is a running grid; it implements rig.Grid.
type Grid struct {
	cfg    Config
	dir    string
	layout rig.Layout
	peers  master.Peers
	net    *transport.Memory
	wires  *wires
	tap    *tap
	states *states
	pool   *transport.Pool // from adminHost
	points *points

	disks   map[string]*disk.Disk // by host
	unmount []func()              // of disks

	masters []*masterProcess
	events  *eventsProcess
	homes   []*home

	loose  sync.WaitGroup // processes that end by themselves, at a labelled point
	eyes   sync.WaitGroup // observers of masters
	closed sync.Once
	err    error // of the first Close
}

var _ rig.Grid = (*Grid)(nil)

// Open makes a grid and returns when it is whole: all nodes run, all shards are led, the masters are at the newest level. It must be
// called in a bubble; ctx bounds the opening.
func Open(ctx context.Context, cfg Config) (*Grid, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	dir, err := cfg.make()
	if err != nil {
		return nil, err
	}
	g := &Grid{cfg: cfg, dir: dir, net: transport.NewSeededMemory(cfg.Seed), tap: newTap(), states: newStates(), points: newPoints(), disks: map[string]*disk.Disk{}}
	g.wires = newWires(g.net, cfg.Trace)
	if err := g.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%w; the last lines of the logs:\n%s", err, g.tap.tail()), g.Close())
	}
	return g, nil
}

// place is where the files go.
func (c *Config) place() string {
	if c.Dir != "" {
		return c.Dir
	}
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return os.TempDir()
}

// make makes a directory for the files. Its name is drawn from nothing: a draw that is repeated because of what another process left
// would change all that follow it.
func (c *Config) make() (string, error) {
	for n := 0; ; n++ {
		dir := filepath.Join(c.place(), fmt.Sprintf(dirPrefix+"%08d-%02d", os.Getpid(), n))
		if err := os.Mkdir(dir, 0o700); !errors.Is(err, fs.ErrExist) {
			return dir, err
		}
	}
}

func (g *Grid) open(ctx context.Context) error {
	if err := g.plan(); err != nil {
		return err
	}
	for _, m := range g.machines() {
		if err := g.furnish(m.host); err != nil {
			return fmt.Errorf("a disk for %s: %w", m.host, err)
		}
	}
	g.pool = transport.NewPool(transport.PoolConfig{Network: g.Network(adminHost)})
	if err := g.events.start(ctx); err != nil {
		return err
	}
	if err := g.startAll(ctx, each(g.masters)); err != nil {
		return err
	}
	if err := g.startAll(ctx, each(g.homes)); err != nil {
		return err
	}
	return g.whole(ctx)
}

// plan says what the grid consists of.
func (g *Grid) plan() (err error) {
	var list []string
	g.layout = rig.Layout{Events: eventsHost + ":" + eventsPort, Shards: int(g.cfg.Shards), Replicas: int(g.cfg.Replicas)}
	for i := range g.cfg.Masters {
		id := event.MasterID(fmt.Sprintf("master-%d", i+1))
		list = append(list, fmt.Sprintf("%s=%s:7000/7001/7002", id, id))
		g.layout.Masters = append(g.layout.Masters, rig.Member{ID: id, Address: string(id) + ":7002"})
		g.masters = append(g.masters, &masterProcess{g: g, id: id})
		g.wires.join(string(id), true)
	}
	g.events = &eventsProcess{g: g}
	g.wires.join(eventsHost, true)
	for i := range g.cfg.Agents {
		h := &home{g: g, id: event.AgentID(fmt.Sprintf("agent-%d", i+1)), tenants: map[platform.Ref]*tenant{}}
		g.layout.Agents = append(g.layout.Agents, h.id)
		g.homes = append(g.homes, h)
		g.wires.join(h.host(), true)
	}
	g.peers, err = master.ParsePeers(strings.Join(list, ","))
	return err
}

// Layout implements rig.Grid.
func (g *Grid) Layout() rig.Layout { return g.layout }

// Network implements rig.Grid.
func (g *Grid) Network(client string) transport.Network {
	g.wires.join(client, false)
	return g.net.Host(client)
}

// Trouble implements rig.Grid.
func (g *Grid) Trouble() []string { return g.tap.troubles() }

// Tail is the last lines of all logs, for a failure.
func (g *Grid) Tail() string { return g.tap.tail() }

// Close implements rig.Grid.
func (g *Grid) Close() error {
	g.closed.Do(func() {
		g.wires.heal()
		g.points.clear()
		g.loose.Wait()
		var errs []error
		for _, h := range g.homes {
			errs = append(errs, h.close())
		}
		for _, m := range g.masters {
			errs = append(errs, m.kill())
		}
		errs = append(errs, g.events.kill())
		if g.pool != nil {
			errs = append(errs, g.pool.Close())
		}
		g.eyes.Wait()
		for _, unmount := range g.unmount {
			unmount()
		}
		g.err = errors.Join(append(errs, os.RemoveAll(g.dir))...)
	})
	return g.err
}

// process is one process of the grid, or, of an agent, its machine's.
type process interface {
	name() string
	host() string
	alive() bool
	// start runs it on what its disk holds; one that runs stays as it is.
	start(ctx context.Context) error
	// kill ends it as kill -9 does; one that does not run stays so.
	kill() error
}

// each is a list of processes of one sort.
func each[P process](list []P) []process {
	all := make([]process, 0, len(list))
	for _, p := range list {
		all = append(all, p)
	}
	return all
}

// everything is all processes: masters, event storage, agents, nodes.
func (g *Grid) everything() []process {
	all := append(each(g.masters), g.events)
	for _, h := range g.homes {
		all = append(all, h, h.lodger())
	}
	return all
}

// startAll starts processes side by side: masters that form a grid wait for each other.
func (g *Grid) startAll(ctx context.Context, all []process) error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, p := range all {
		wg.Go(func() { errs[i] = p.start(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// path is the data directory of the program on a machine; life counts how often its disk was emptied.
func (g *Grid) path(host string, life int) string {
	return filepath.Join(g.dir, host, fmt.Sprintf("data-%d", life))
}

// log is a process's log.
func (g *Grid) log(v *voice) *slog.Logger { return slog.New(v) }
