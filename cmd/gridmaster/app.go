package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/master"
)

// Exit statuses.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2

	exitRemoved = 3 // from the grid, for good: starting it again is no use
)

// errUsage marks errors of the command line.
var errUsage = errors.New("see gridmaster --help")

// run is the whole program; it returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := program{once: serveOnce}
	if os.Getenv("GRID_READY_FD") == "3" {
		p.ready = os.NewFile(3, "ready")
	}
	return p.run(ctx, args, stdout, stderr)
}

// program is gridmaster with what it is started with beside flags.
type program struct {
	ready *os.File // where to say that it serves; nil: nobody asked

	once func(ctx context.Context, cfg master.Config, ready *os.File) error // runs a master until it ends
}

func (p program) run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	out := &lastWord{w: stderr}
	err := p.newApp(stdout, out).RunContext(ctx, args)
	if err == nil {
		return exitDone
	}
	out.say(fmt.Sprintf("gridmaster: %s\n", oneLine(err)))
	if errors.Is(err, errUsage) {
		return exitUsage
	}
	if errors.Is(err, master.ErrRemoved) {
		return exitRemoved
	}
	return exitFailed
}

// lastWord is standard error, with a last line behind which nothing comes: a master that failed is left as it stands, and what
// still runs in it would go on to complain.
type lastWord struct {
	mu   sync.Mutex
	w    io.Writer
	said bool // guarded by mu
}

// Write implements io.Writer.
func (l *lastWord) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.said {
		return len(p), nil
	}
	return l.w.Write(p)
}

func (l *lastWord) say(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said = true
	fmt.Fprint(l.w, line)
}

// oneLine joins an error's lines: whoever starts a master reads one.
func oneLine(err error) string { return strings.Join(strings.Split(err.Error(), "\n"), "; ") }

func (p program) newApp(stdout, stderr io.Writer) *cli.App {
	defaults := master.DefaultConfig()
	return &cli.App{
		Name:        "gridmaster",
		Usage:       "run one master of a Sutra Grid",
		Writer:      stdout,
		ErrWriter:   stderr,
		HideVersion: true,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "id", EnvVars: []string{"GRID_ID"}, Usage: "this master's id in --peers, for example master-1"},
			&cli.StringFlag{Name: "data", EnvVars: []string{"GRID_DATA"}, Usage: "data directory"},
			&cli.StringFlag{Name: "peers", EnvVars: []string{"GRID_PEERS"}, Usage: "all masters, the same list on each: `id=host:raft/http/grid,…`"},
			&cli.BoolFlag{Name: "bootstrap", EnvVars: []string{"GRID_BOOTSTRAP"}, Usage: "with an empty data directory: form a new grid with the peers"},
			&cli.BoolFlag{Name: "join", EnvVars: []string{"GRID_JOIN"}, Usage: "with an empty data directory: join the grid of the peers, when gridctl raft add has admitted this master"},
			&cli.UintFlag{Name: "shards", EnvVars: []string{"GRID_SHARDS"}, Value: uint(defaults.Shards), Usage: "shards of a new grid"},
			&cli.UintFlag{Name: "replicas", EnvVars: []string{"GRID_REPLICAS"}, Value: uint(defaults.Replicas), Usage: "replicas per shard of a new grid: 1, 3 or 5"},
			&cli.StringFlag{Name: "event-sink", EnvVars: []string{"GRID_EVENT_SINK"}, Usage: "`host:port` of a new grid's event storage"},
			&cli.StringFlag{Name: "log-store", EnvVars: []string{"GRID_LOG_STORE"}, Usage: "what an empty data directory gets its log in: wal or boltdb; one that is in use keeps its own (default: wal)"},
			&cli.Uint64Flag{Name: "snapshot-threshold", EnvVars: []string{"GRID_SNAPSHOT_THRESHOLD"}, Value: defaults.Raft.SnapshotThreshold, Usage: "take a snapshot after so many `ENTRIES` of the log"},
			&cli.Uint64Flag{Name: "trailing-logs", EnvVars: []string{"GRID_TRAILING_LOGS"}, Value: defaults.Raft.TrailingLogs, Usage: "keep so many `ENTRIES` behind a snapshot, for masters that are a little late"},
			&cli.DurationFlag{Name: "slow-request", EnvVars: []string{"GRID_SLOW_REQUEST"}, Value: defaults.Limits.Slow, Usage: "log requests on the grid port that take longer; 0 for none"},
			&cli.StringFlag{Name: "listen-raft", EnvVars: []string{"GRID_LISTEN_RAFT"}, Usage: "listen on `host:port` instead of the address in --peers"},
			&cli.StringFlag{Name: "listen-http", EnvVars: []string{"GRID_LISTEN_HTTP"}, Usage: "listen on `host:port` instead of the address in --peers"},
			&cli.StringFlag{Name: "listen-grid", EnvVars: []string{"GRID_LISTEN_GRID"}, Usage: "listen on `host:port` instead of the address in --peers"},
		},
		OnUsageError:   func(_ *cli.Context, err error, _ bool) error { return usage(err) },
		ExitErrHandler: func(*cli.Context, error) {},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usage(fmt.Errorf("unexpected argument %q", c.Args().First()))
			}
			cfg, err := configOf(c, slog.New(slog.NewTextHandler(stderr, nil)))
			if err != nil {
				return usage(err)
			}
			return p.serve(c.Context, cfg)
		},
	}
}

func usage(err error) error { return fmt.Errorf("%w; %w", err, errUsage) }

func configOf(c *cli.Context, log *slog.Logger) (master.Config, error) {
	peers, err := master.ParsePeers(c.String("peers"))
	if err != nil {
		return master.Config{}, err
	}
	cfg := master.DefaultConfig()
	cfg.ID, cfg.Dir, cfg.Peers = event.MasterID(c.String("id")), c.String("data"), peers
	cfg.Bootstrap, cfg.Join = c.Bool("bootstrap"), c.Bool("join")
	cfg.Shards, cfg.Replicas, cfg.EventSink = narrow(c.Uint("shards")), narrow(c.Uint("replicas")), c.String("event-sink")
	cfg.ListenRaft, cfg.ListenHTTP, cfg.ListenGrid = c.String("listen-raft"), c.String("listen-http"), c.String("listen-grid")
	cfg.Raft.LogStore = raftgroup.LogStore(c.String("log-store"))
	cfg.Raft.SnapshotThreshold, cfg.Raft.TrailingLogs = c.Uint64("snapshot-threshold"), c.Uint64("trailing-logs")
	cfg.Limits.Slow = c.Duration("slow-request")
	cfg.Log = log.With("master", string(cfg.ID))
	return cfg, cfg.Validate()
}

// serve runs the master until ctx ends or it fails for good. One whose state is not the other masters' starts again in the
// same process, and takes theirs; master.Open refuses to do that over and over.
func (p program) serve(ctx context.Context, cfg master.Config) error {
	for {
		err := p.once(ctx, cfg, p.ready)
		if !errors.Is(err, master.ErrReinstall) || ctx.Err() != nil {
			return err
		}
		cfg.Log.Warn("starting again, to take the state from another master", "reason", err)
		p.ready = nil // announced already
	}
}

// serveOnce runs one master, from Open to Close.
func serveOnce(ctx context.Context, cfg master.Config, ready *os.File) error {
	m, err := master.Open(ctx, cfg)
	if err != nil {
		if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
			return nil // told to stop while it waited for its peers
		}
		return err
	}
	if err := announce(ready, m.GridAddr()); err != nil {
		return errors.Join(err, m.Close())
	}
	select {
	case <-ctx.Done():
		closed := make(chan error, 1)
		go func() { closed <- m.Close() }()
		select {
		case err := <-closed:
			return errors.Join(m.Err(), err)
		case <-m.Done(): // meanwhile
		}
	case <-m.Done():
		if errors.Is(m.Err(), master.ErrRemoved) || errors.Is(m.Err(), master.ErrReinstall) {
			return errors.Join(m.Err(), m.Close()) // nothing of it has failed
		}
	}
	return errors.Join(m.Err(), m.Abandon()) // without Close: the disk that failed may hang
}

// announce tells the starter, if it asked with GRID_READY_FD=3, that this master can be asked, and where.
func announce(ready *os.File, address string) error {
	if ready == nil {
		return nil
	}
	_, err := fmt.Fprintf(ready, "ready %s\n", address)
	if err := errors.Join(err, ready.Close()); err != nil {
		return fmt.Errorf("announce readiness: %w", err)
	}
	return nil
}

// narrow keeps a number that is far too large too large for validation to refuse.
func narrow(n uint) uint32 { return uint32(min(n, math.MaxUint32)) }
