package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/storagenode"
)

// Exit statuses.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// readyVariable names the file descriptor on which the node says that it listens.
const readyVariable = "GRID_READY_FD"

// apiKeyVariable holds the embedding service's key: a flag would show it to everybody on the machine.
const apiKeyVariable = "GRID_EMBEDDING_API_KEY"

// env is what the program takes from its surroundings.
type env struct {
	stdout, stderr io.Writer
	getenv         func(string) string
	limitHeap      func(bytes int64) // Go's soft limit for the process
}

// usageError is a wrong call.
type usageError struct{ error }

// run is the whole program; it returns the exit status.
func run(ctx context.Context, args []string, e env) int {
	err := newApp(e).RunContext(ctx, args)
	if err == nil {
		return exitDone
	}
	fmt.Fprintf(e.stderr, "gridnode: %s\n", oneLine(err))
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

// oneLine is the error's text for one line of a terminal or a log.
func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

func newApp(e env) *cli.App {
	return &cli.App{
		Name:            "gridnode",
		Usage:           "one storage node of a Sutra Grid, or a stand-alone one",
		HideVersion:     true,
		HideHelpCommand: true,
		Writer:          e.stdout,
		ErrWriter:       e.stderr,
		Flags:           flags(),
		Commands:        offlineCommands(e),
		OnUsageError:    func(_ *cli.Context, err error, _ bool) error { return usageError{err} },
		ExitErrHandler:  func(*cli.Context, error) {},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usageError{fmt.Errorf("unexpected argument %q", c.Args().First())}
			}
			cfg, err := configOf(c, e)
			if err == nil {
				err = keepMemory(c, e, &cfg)
			}
			if err != nil {
				return usageError{err}
			}
			return serve(c.Context, cfg, e)
		},
	}
}

func flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "data", Usage: "the node's `DIR`; alone it is made when it is absent or empty"},
		&cli.StringFlag{Name: "listen", Usage: "`HOST:PORT` for clients and replicas alike; port 0 takes a free one"},
		&cli.BoolFlag{Name: "events", Usage: "run alone as event storage"},
		&cli.StringFlag{Name: "node-id", Usage: "in a grid: this node's `ID`, given by the masters"},
		&cli.StringFlag{Name: "agent-id", Usage: "in a grid: the `ID` of the agent that runs it"},
		&cli.StringSliceFlag{Name: "masters", Usage: "in a grid: the masters' grid ports, `HOST:PORT,…`"},
		&cli.StringFlag{Name: "grid-id", Usage: "in a grid: its `ID`"},
		&cli.BoolFlag{Name: "init", Usage: "in a grid: the node never ran, its directory may be made"},
		&cli.UintFlag{Name: "dimension", Value: uint(storagenode.DefaultConfig().Dimension), Usage: "components of every vector"},
		&cli.UintFlag{Name: "cache-mb", EnvVars: []string{"GRID_CACHE_MB"}, Value: uint(storagenode.DefaultConfig().CacheBytes >> 20), Usage: "`MIB` of memory for blocks of the stores, all replicas together; the process takes up to 300 MiB more, and its vector indexes"},
		&cli.StringFlag{Name: "memory-limit", EnvVars: []string{"GRID_MEMORY_LIMIT"}, Usage: "of the whole process, `SIZE` like 512MiB; a quarter of it, or --cache-mb, is cache. It is soft: vectors that need more take more"},
		&cli.StringFlag{Name: "embedding-endpoint", EnvVars: []string{"GRID_EMBEDDING_ENDPOINT"}, Usage: "`URL` of an OpenAI-compatible embeddings service; without it the built-in embedder"},
		&cli.StringFlag{Name: "embedding-model", EnvVars: []string{"GRID_EMBEDDING_MODEL"}, Usage: "the service's `MODEL`"},
		&cli.DurationFlag{Name: "embedding-timeout", EnvVars: []string{"GRID_EMBEDDING_TIMEOUT"}, Value: storagenode.DefaultConfig().Embedding.Timeout, Usage: "for one answer of the service, retries included"},
		&cli.StringFlag{Name: "log-store", EnvVars: []string{"GRID_LOG_STORE"}, Usage: "what replicas made from now on keep their log in: wal or boltdb; the others keep theirs (default: wal)"},
		&cli.Uint64Flag{Name: "snapshot-threshold", EnvVars: []string{"GRID_SNAPSHOT_THRESHOLD"}, Value: storagenode.DefaultConfig().Groups.SnapshotThreshold, Usage: "a replica takes a snapshot after so many `ENTRIES` of its log"},
		&cli.Uint64Flag{Name: "trailing-logs", EnvVars: []string{"GRID_TRAILING_LOGS"}, Value: storagenode.DefaultConfig().Groups.TrailingLogs, Usage: "and keeps so many `ENTRIES` behind it, for replicas that are a little late"},
		&cli.Int64Flag{Name: "catchup-mb-per-second", EnvVars: []string{"GRID_CATCHUP_MB_PER_SECOND"}, Value: storagenode.DefaultConfig().CatchUpBytesPerSecond >> 20, Usage: "how fast the states that new replicas on other nodes begin with leave this one, in `MiB` per second, all together"},
		&cli.DurationFlag{Name: "slow-request", EnvVars: []string{"GRID_SLOW_REQUEST"}, Value: storagenode.DefaultConfig().SlowRequest, Usage: "log requests that take longer; 0 for none"},
		&cli.StringFlag{Name: "log-level", Value: "info", Usage: "debug, info, warn or error"},
	}
}

// configOf reads the flags. --node-id makes the node part of a grid.
func configOf(c *cli.Context, e env) (storagenode.Config, error) {
	cfg := storagenode.DefaultConfig()
	cfg.Data, cfg.Listen, cfg.Events = c.String("data"), c.String("listen"), c.Bool("events")
	for _, name := range []string{"data", "listen"} {
		if c.String(name) == "" {
			return cfg, fmt.Errorf("--%s is missing", name)
		}
	}
	cfg.Dimension = uint32(min(c.Uint("dimension"), math.MaxUint32)) // Validate has the bound
	cfg.CacheBytes = int64(min(c.Uint("cache-mb"), 1<<20)) << 20
	cfg.Embedding.URL, cfg.Embedding.Model, cfg.Embedding.Timeout = c.String("embedding-endpoint"), c.String("embedding-model"), c.Duration("embedding-timeout")
	cfg.CatchUpBytesPerSecond = min(max(c.Int64("catchup-mb-per-second"), 0), 1<<30) << 20 // Validate has the lower bound
	cfg.Groups.LogStore = raftgroup.LogStore(c.String("log-store"))
	cfg.Groups.SnapshotThreshold, cfg.Groups.TrailingLogs = c.Uint64("snapshot-threshold"), c.Uint64("trailing-logs")
	cfg.SlowRequest = c.Duration("slow-request")
	cfg.Embedding.APIKey = e.getenv(apiKeyVariable)
	if cfg.Embedding.URL == "" && c.IsSet("embedding-model") {
		return cfg, errors.New("--embedding-model needs --embedding-endpoint")
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.String("log-level"))); err != nil {
		return cfg, fmt.Errorf("--log-level %q: want debug, info, warn or error", c.String("log-level"))
	}
	cfg.Log = slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{Level: level}))
	for _, name := range []string{"node-id", "agent-id", "masters", "grid-id", "init"} {
		if c.IsSet(name) {
			cfg.Grid = &storagenode.Grid{
				ID: c.String("grid-id"), NodeID: event.NodeID(c.String("node-id")), AgentID: event.AgentID(c.String("agent-id")),
				Masters: c.StringSlice("masters"), Init: c.Bool("init"),
			}
		}
	}
	return cfg, cfg.Validate()
}

// serve runs the node until ctx ends or its disk fails.
func serve(ctx context.Context, cfg storagenode.Config, e env) error {
	n, err := storagenode.Open(cfg)
	if err != nil {
		return err
	}
	if err := ready(n, e.getenv(readyVariable)); err != nil {
		return errors.Join(err, n.Close())
	}
	if err := n.Wait(ctx); err != nil {
		// A failed disk may hang whatever is closed: the process leaves at once, the log and its replicas have the data.
		return err
	}
	return n.Close()
}

// ready tells who started the node where it listens, on the file descriptor that the environment names.
func ready(n *storagenode.Node, descriptor string) error {
	if descriptor == "" {
		return nil
	}
	fd, err := strconv.ParseUint(descriptor, 10, 31)
	if err != nil || fd < 3 {
		return fmt.Errorf("%s=%s: want a file descriptor above 2", readyVariable, descriptor)
	}
	f := os.NewFile(uintptr(fd), readyVariable)
	_, err = fmt.Fprintf(f, "ready %s %s\n", n.Addr(), n.StoreID())
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("say that the node is ready: %w", err)
	}
	return nil
}
