// Package processes is rig P of the fault suite: a grid of the real programs as real processes, on machines that can be hurt.
//
//	machine = network namespace on one bridge + ext4 image on a loop device + its programs
//	master-1 … agent-1 (with its nodes) … events            <- namespaces and mounts
//	               switch (bridge, nft)                      <- cuts, losses
//	client addresses -- Grid.Network("w3-1") --> the grid
//
// Where namespaces or mounts are not permitted the machines share the loopback interface, each with an address of its own, and are plain
// directories; kinds of faults that need more are refused with rig.ErrUnsupported, which says what is missing.
//
// Invariants:
//   - A signal reaches only processes that this grid started: by a pidfd of a child of ours, or of a node that an agent of ours has on record.
//   - Nothing is made in the root network namespace, and nothing outlives Close but what Config.Dir held before. What a run leaves that
//     was killed itself carries that run's name, and the next Open removes it.
//   - A fault's effect is read from outside: the kernel's counters, exits, the process's own clock, what the masters answer.
//
// The package tells the time by the wall; it imports of the grid its network, its ids and the records of agents.
package processes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Config describes a grid of processes.
type Config struct {
	Programs string // the directory with gridmaster, gridagent and gridnode; built with -tags faults for kinds that need rig.NeedFaults
	Dir      string // a directory of the run's own is made in it, and removed by Close

	Masters, Agents, Shards, Replicas int

	SnapshotThreshold uint64 // entries between snapshots, of masters and of shards; 0: the programs' own
	TrailingLogs      uint64 // entries kept behind one; 0: the programs' own

	Env     []string     // NAME=value for every process
	Require []rig.Need   // Open fails when one of them is missing
	Plain   bool         // loopback and directories, whatever the machine permits
	Log     *slog.Logger // of the rig itself
}

// DefaultConfig is three masters and four agents: one more than a shard has voters, so that one can be replaced. Thresholds are so small
// that seconds of load bring snapshots and followers that need one.
func DefaultConfig() Config {
	return Config{Dir: os.TempDir(), Masters: 3, Agents: 4, Shards: 2, Replicas: 3, SnapshotThreshold: 200, TrailingLogs: 100, Log: slog.Default()}
}

// Validate reports everything that is wrong, each with its value and bound.
func (c *Config) Validate() error {
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	for _, p := range []string{"gridmaster", "gridagent", "gridnode"} {
		info, err := os.Stat(filepath.Join(c.Programs, p))
		check(err == nil && info.Mode()&0o111 != 0, "programs: no %s in %q; build it there: go build -tags faults -o DIR/ ./cmd/%s", p, c.Programs, p)
	}
	check(c.Dir != "", "dir: empty; want a directory")
	check(c.Masters == 1 || c.Masters == 3 || c.Masters == 5, "masters: %d; want 1, 3 or 5", c.Masters)
	check(c.Replicas == 1 || c.Replicas == 3 || c.Replicas == 5, "replicas: %d; want 1, 3 or 5", c.Replicas)
	check(c.Agents >= c.Replicas && c.Agents <= maxAgents, "agents: %d; want %d (one for each voter of a shard) to %d", c.Agents, c.Replicas, maxAgents)
	check(c.Shards >= 1 && c.Shards <= maxShards, "shards: %d; want 1 to %d", c.Shards, maxShards)
	check(c.TrailingLogs == 0 || c.TrailingLogs >= minTrailing, "trailing logs: %d; want at least %d", c.TrailingLogs, minTrailing)
	for _, v := range c.Env {
		check(settingForm.MatchString(v), "env: %q; want NAME=value", v)
	}
	check(c.Log != nil, "no log")
	return errors.Join(faults...)
}

// settingForm is how a variable of the environment is given.
var settingForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)

// The bounds: what two cores carry. minTrailing is what raftgroup insists on, and a little.
const (
	maxAgents   = 9
	maxShards   = 16
	minTrailing = 16
)

// openLimit is how long a grid may take to serve.
const openLimit = 30 * time.Second

// Grid is a running grid; it implements rig.Grid.
type Grid struct {
	cfg      Config
	run      run
	machines []*machine // masters, agents, event storage; started in this order
	net      *fabric    // nil: loopback
	lacks    map[rig.Need]string
	logs     *logs
	desk     *desk

	mu       sync.Mutex
	trial    *trial   // the fault that lasts
	troubles []string // that are not in logs: exits
	closed   bool
}

var _ rig.Grid = (*Grid)(nil)

// Open starts a grid and returns when it serves: every shard has a leader and all its voters.
func Open(ctx context.Context, cfg Config) (*Grid, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("rig of processes: %w", err)
	}
	if err := sweep(cfg.Dir, cfg.Log); err != nil {
		return nil, fmt.Errorf("remove what earlier runs left: %w", err)
	}
	g := &Grid{cfg: cfg, logs: newLogs()}
	if err := g.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start a grid of processes: %w", err), g.Close())
	}
	return g, nil
}

func (g *Grid) open(ctx context.Context) error {
	var err error
	if g.run, err = newRun(g.cfg.Dir); err != nil {
		return err
	}
	if err := g.prepare(); err != nil {
		return err
	}
	if g.desk, err = newDesk(g); err != nil {
		return err
	}
	for _, m := range g.machines {
		if err := g.start(m); err != nil {
			return err
		}
	}
	limited, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	return g.desk.awaitWhole(limited)
}

// prepare makes the machines: addresses, namespaces, disks, files.
func (g *Grid) prepare() error {
	g.lacks = lacking(g.cfg)
	if !g.cfg.Plain && g.has(rig.NeedNetns) {
		var err error
		if g.net, err = newFabric(g.run, g.has(rig.NeedNft)); err != nil {
			return err
		}
	}
	if err := g.place(); err != nil {
		return err
	}
	for _, need := range g.cfg.Require {
		if why, missing := g.lacks[need]; missing {
			return fmt.Errorf("%s is required and missing here: %s", need, why)
		}
	}
	for need, why := range g.lacks {
		g.cfg.Log.Warn("this machine lacks something; faults that need it are refused", "need", need, "reason", why)
	}
	return nil
}

func (g *Grid) has(n rig.Need) bool { _, lacks := g.lacks[n]; return !lacks }

// Layout implements rig.Grid.
func (g *Grid) Layout() rig.Layout {
	l := rig.Layout{Shards: g.cfg.Shards, Replicas: g.cfg.Replicas}
	for _, m := range g.machines {
		switch m.role {
		case roleMaster:
			l.Masters = append(l.Masters, rig.Member{ID: m.masterID(), Address: m.grid})
		case roleAgent:
			l.Agents = append(l.Agents, m.agentID())
		case roleEvents:
			l.Events = m.grid
		}
	}
	return l
}

// Network implements rig.Grid. On the loopback interface all clients are one host.
func (g *Grid) Network(client string) transport.Network {
	if g.net == nil {
		return transport.TCP()
	}
	return &host{fabric: g.net, name: client}
}

// Lacks is what this machine does not permit, with the reasons.
func (g *Grid) Lacks() map[rig.Need]string { return g.lacks }

// Save ends all processes and copies their logs and data to a directory, which it makes, for whoever looks for the cause of a failure.
// The grid can only be closed then.
func (g *Grid) Save(dir string) error {
	g.mu.Lock()
	for _, m := range g.machines {
		m.met = true
	}
	g.mu.Unlock()
	if err := errors.Join(g.killAll(), os.MkdirAll(dir, 0o755)); err != nil {
		return fmt.Errorf("save the grid: %w", err)
	}
	if err := tool("cp", "-a", g.run.path("logs"), dir); err != nil {
		return fmt.Errorf("save the logs: %w", err)
	}
	for _, m := range g.machines {
		if err := tool("cp", "-a", "--sparse=always", m.data(), filepath.Join(dir, m.id)); err != nil {
			return fmt.Errorf("save the data of %s: %w", m.id, err)
		}
	}
	return nil
}

// Close implements rig.Grid: it ends what lasts of a fault, all processes, and frees namespaces, mounts and files. It may be called
// more than once, and on a grid that was opened in part, but not while Inject or Heal runs: end their context first.
func (g *Grid) Close() error {
	g.mu.Lock()
	t, closed := g.trial, g.closed
	g.trial, g.closed = nil, true
	g.mu.Unlock()
	if closed {
		return nil
	}
	var faults []error
	if t != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
		faults = append(faults, t.undo(ctx))
		cancel()
	}
	faults = append(faults, g.killAll())
	if g.desk != nil {
		faults = append(faults, g.desk.close())
	}
	g.logs.keep() // Trouble can still be asked
	for _, m := range g.machines {
		faults = append(faults, m.image.close())
	}
	if g.net != nil {
		faults = append(faults, g.net.close())
	}
	return errors.Join(append(faults, g.run.remove())...)
}

// closeLimit bounds the end of a fault that lasts when the grid is closed.
const closeLimit = 5 * time.Second
