package servers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Shape is a grid's. Masters are three, event storage is one, as ever.
type Shape struct{ Agents, Shards, Replicas int }

// Grid is a running development grid: `gridctl dev`, which starts the real programs with their defaults.
type Grid struct {
	Masters []string // grid addresses

	data  string
	child *child
	pool  *transport.Pool
}

// Dev is what of dev.json is of interest.
type Dev struct {
	Masters []struct {
		ID   event.MasterID `json:"id"`
		PID  int            `json:"pid"`
		HTTP string         `json:"http"`
		Grid string         `json:"grid"`
	} `json:"masters"`
	Agents []struct {
		ID  string `json:"id"`
		PID int    `json:"pid"`
	} `json:"agents"`
	Nodes []struct {
		ID    string `json:"id"`
		PID   int    `json:"pid"`
		Agent string `json:"agent"`
	} `json:"nodes"`
	Events string `json:"events"`
}

// How long a grid may take: a machine that is busy with the measuring of others is slow.
const (
	gridReady = 60 * time.Second
	gridEnd   = 30 * time.Second
)

// TraceGC makes every Go process print a line for each collection, which says what it left: processes without /metrics tell their heap so.
const TraceGC = "GODEBUG=gctrace=1"

// StartGrid starts a new grid with programs of bin and its data in dir, and waits until it is whole. env is what its processes have in
// their environment beside ours.
func StartGrid(ctx context.Context, bin, dir string, s Shape, env ...string) (*Grid, error) {
	dir, err := subdir(dir, "grid")
	if err != nil {
		return nil, err
	}
	base, err := freeBase()
	if err != nil {
		return nil, err
	}
	g := &Grid{data: filepath.Join(dir, "data"), pool: transport.NewPool(transport.PoolConfig{})}
	args := []string{"dev", "--data", g.data, "--base-port", strconv.Itoa(base), "--agents", strconv.Itoa(s.Agents),
		"--shards", strconv.Itoa(s.Shards), "--replicas", strconv.Itoa(s.Replicas)}
	// A context file of its own: the user's names the user's grid.
	g.child, err = launch(program{name: "gridctl dev", path: filepath.Join(bin, "gridctl"), args: args, env: append(env, "XDG_CONFIG_HOME="+dir),
		log: filepath.Join(dir, "dev.log"), ready: "ready", stop: syscall.SIGINT})
	if err != nil {
		return nil, err
	}
	if err := g.child.await(ctx, gridReady); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	dev, err := g.Dev()
	if err != nil {
		return nil, errors.Join(err, g.Close())
	}
	for _, m := range dev.Masters {
		g.Masters = append(g.Masters, m.Grid)
	}
	return g, nil
}

// Close ends the grid and deletes its data.
func (g *Grid) Close() error {
	err := g.child.end(syscall.SIGINT, gridEnd)
	return errors.Join(err, g.pool.Close(), os.RemoveAll(filepath.Dir(g.data)))
}

// Dev reads dev.json.
func (g *Grid) Dev() (Dev, error) {
	var d Dev
	text, err := os.ReadFile(filepath.Join(g.data, "dev.json"))
	if err == nil {
		err = json.Unmarshal(text, &d)
	}
	return d, err
}

// Ask sends a request to any master.
func Ask[T any](ctx context.Context, g *Grid, req any) (*T, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return transport.As[T](transport.NewMasters(g.Masters, g.pool).Call(ctx, req))
}

// Leader is the master that leads: its process and its grid address.
func (g *Grid) Leader(ctx context.Context) (pid int, addr string, err error) {
	status, err := Ask[transport.ClusterStatus](ctx, g, &transport.GetClusterStatus{})
	if err != nil {
		return 0, "", err
	}
	dev, err := g.Dev()
	if err != nil {
		return 0, "", err
	}
	for _, m := range dev.Masters {
		if m.ID == status.Leader && m.PID > 0 {
			return m.PID, m.Grid, nil
		}
	}
	return 0, "", fmt.Errorf("%q leads, and dev.json has no process of it", status.Leader)
}

// Lag is how far event storage is behind the feed.
func (g *Grid) Lag(ctx context.Context) (events uint64, age time.Duration, through uint64, err error) {
	s, err := Ask[transport.FeedStatus](ctx, g, &transport.GetFeed{})
	if err != nil {
		return 0, 0, 0, err
	}
	if len(s.Sinks) != 1 {
		return 0, 0, 0, fmt.Errorf("the grid has %d sinks, want its event storage", len(s.Sinks))
	}
	return s.Sinks[0].LagEvents, time.Duration(s.Sinks[0].LagMillis) * time.Millisecond, s.Sinks[0].Through, nil
}

// shipped is how few events behind is nothing: the feed's own acknowledgements and what an idle grid says.
const shipped = 100

// AwaitShipped waits until event storage has what was committed, so that shipping it takes nothing from what is measured next.
func (g *Grid) AwaitShipped(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return until(ctx, func() error {
		events, _, _, err := g.Lag(ctx)
		if err == nil && events > shipped {
			err = fmt.Errorf("event storage is %d events behind", events)
		}
		return err
	})
}

// AwaitWhole waits until every master answers a linearizable read, which takes a leader and that it has caught up.
func (g *Grid) AwaitWhole(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, addr := range g.Masters {
		if err := until(ctx, func() error {
			one, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			_, err := transport.Call[transport.ClusterStatus](one, g.pool, addr, &transport.GetClusterStatus{})
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// until tries ten times a second; the error is the last one before ctx ended.
func until(ctx context.Context, try func() error) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}
