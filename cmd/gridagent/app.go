package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/agent"
	"github.com/sutra-grid/sutra-grid/agent/platform/process"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
)

// holdCommand is the hidden command with which the agent starts nodes: see process.Hold.
const holdCommand = "hold"

// usageError is a wrong call: exit status 2.
type usageError struct{ error }

// run is the whole program.
func run(ctx context.Context, args []string, stderr io.Writer) int {
	err := newApp(stderr).RunContext(ctx, args)
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "gridagent: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
	if errors.As(err, new(usageError)) {
		return 2
	}
	return 1
}

func newApp(stderr io.Writer) *cli.App {
	return &cli.App{
		Name:           "gridagent",
		Usage:          "run the storage nodes that the masters assign to this machine",
		Writer:         stderr,
		ErrWriter:      stderr,
		HideVersion:    true,
		Flags:          flags(),
		OnUsageError:   func(_ *cli.Context, err error, _ bool) error { return usageError{err} },
		ExitErrHandler: func(*cli.Context, error) {},
		Commands: []*cli.Command{{
			Name: holdCommand, Hidden: true, SkipFlagParsing: true,
			Action: func(c *cli.Context) error { return process.Hold(c.Args().Slice()) },
		}},
		Action: func(c *cli.Context) error { return serve(c, stderr) },
	}
}

func flags() []cli.Flag {
	d := agent.DefaultConfig()
	return []cli.Flag{
		&cli.StringFlag{Name: "id", EnvVars: []string{"GRID_ID"}, Usage: "the agent's id, for ever: agent-1"},
		&cli.StringFlag{Name: "data", EnvVars: []string{"GRID_DATA"}, Usage: "the agent's directory; made if absent"},
		&cli.StringSliceFlag{Name: "masters", EnvVars: []string{"GRID_MASTERS"}, Usage: "grid ports of the masters, host:port,…"},
		&cli.StringFlag{Name: "listen", Value: ":8001", EnvVars: []string{"GRID_LISTEN"}, Usage: "the agent's own port; its nodes listen on the same host"},
		&cli.StringFlag{Name: "advertise-host", EnvVars: []string{"GRID_ADVERTISE_HOST"}, Usage: "the host others reach this machine by (default: the one it listens on, else the machine's name)"},
		&cli.StringFlag{Name: "node-ports", Value: "50053", EnvVars: []string{"GRID_NODE_PORTS"}, Usage: "where nodes listen: FROM-TO, or FROM for 100 ports"},
		&cli.UintFlag{Name: "max-storage-nodes", Value: uint(d.MaxStorageNodes), EnvVars: []string{"GRID_MAX_STORAGE_NODES"}, Usage: "how many nodes the masters may assign; 0: none"},
		&cli.StringFlag{Name: "gridnode", EnvVars: []string{"GRID_GRIDNODE"}, Usage: "the storage node's program (default: gridnode beside this one)"},
		&cli.StringFlag{Name: "log-store", EnvVars: []string{"GRID_LOG_STORE"}, Usage: "what replicas that its nodes make from now on keep their log in: wal or boltdb (default: wal)"},
		&cli.StringFlag{Name: "zone", EnvVars: []string{"GRID_ZONE"}, Usage: "the failure zone of this machine"},
		&cli.StringSliceFlag{Name: "label", EnvVars: []string{"GRID_LABEL"}, Usage: "NAME=VALUE, kept in the agent's record; may be repeated"},
		&cli.BoolFlag{Name: "stop-nodes-on-exit", EnvVars: []string{"GRID_STOP_NODES_ON_EXIT"}, Usage: "end the nodes with the agent (default: they go on, and the next run adopts them)"},
		&cli.DurationFlag{Name: "stop-patience", Value: d.StopPatience, EnvVars: []string{"GRID_STOP_PATIENCE"}, Usage: "from asking a node to end until it is killed"},
	}
}

// serve runs the agent until it is told to stop or cannot go on.
func serve(c *cli.Context, stderr io.Writer) error {
	if c.Args().Present() {
		return usageError{fmt.Errorf("unexpected argument %q", c.Args().First())}
	}
	cfg, err := config(c, stderr)
	if err != nil {
		return usageError{err}
	}
	a, err := agent.Open(cfg)
	if err != nil {
		return err
	}
	cfg.Log.Info("agent runs", "address", a.Addr(), "data", cfg.Data, "masters", cfg.Masters)
	select {
	case <-c.Context.Done():
		return a.Close()
	case <-a.Done():
		return errors.Join(a.Err(), a.Close())
	}
}

// config turns flags into a Config; what is wrong is a wrong call.
func config(c *cli.Context, stderr io.Writer) (agent.Config, error) {
	cfg := agent.DefaultConfig()
	self, err := os.Executable()
	if err != nil {
		return cfg, err
	}
	cfg.ID, cfg.Data, cfg.Masters = event.AgentID(c.String("id")), c.String("data"), c.StringSlice("masters")
	cfg.Listen, cfg.AdvertiseHost, cfg.Zone = c.String("listen"), c.String("advertise-host"), c.String("zone")
	cfg.MaxStorageNodes, cfg.StopNodesOnExit = uint32(c.Uint("max-storage-nodes")), c.Bool("stop-nodes-on-exit")
	cfg.StopPatience = c.Duration("stop-patience")
	cfg.Log = slog.New(slog.NewTextHandler(stderr, nil)).With("agent", cfg.ID)
	cfg.Platform = process.New(self, holdCommand)
	if cfg.GridNode = c.String("gridnode"); cfg.GridNode == "" {
		cfg.GridNode = filepath.Join(filepath.Dir(self), "gridnode")
	}
	if kind := raftgroup.LogStore(c.String("log-store")); kind != "" {
		if err := kind.Known(); err != nil {
			return cfg, fmt.Errorf("--log-store: %w", err)
		}
		cfg.NodeArgs = append(cfg.NodeArgs, "--log-store", string(kind))
	}
	if cfg.NodePorts, err = agent.ParsePortRange(c.String("node-ports")); err != nil {
		return cfg, fmt.Errorf("--node-ports: %w", err)
	}
	if cfg.Labels, err = labels(c.StringSlice("label")); err != nil {
		return cfg, err
	}
	if cfg.Data != "" { // an empty one is Validate's to refuse
		if cfg.Data, err = filepath.Abs(cfg.Data); err != nil {
			return cfg, err
		}
	}
	return cfg, cfg.Validate()
}

func labels(list []string) (map[string]string, error) {
	m := map[string]string{}
	for _, l := range list {
		name, value, ok := strings.Cut(l, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--label %q: want NAME=VALUE", l)
		}
		m[name] = value
	}
	return m, nil
}
