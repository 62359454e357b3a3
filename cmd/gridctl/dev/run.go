package dev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/sutra-grid/sutra-grid/agent/platform/process"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
)

// grid is a running development grid.
type grid struct {
	cfg     Config
	out     *printer
	layout  layout
	dir     *datadir.Dir
	record  *record
	left    survivors
	board   *board
	fleet   *fleet
	watcher *observer
	context *contextFile // nil: there is no place for it

	masters, agents []*child
	events          *child
	ending          atomic.Bool
}

// Run runs a grid until ctx ends, and then stops it; it returns nil after an orderly end. An error before the grid was ready, or one
// that ends it, is one line. What happens meanwhile is said on out.
func Run(ctx context.Context, cfg Config, out *printer) error {
	if err := cfg.Validate(); err != nil {
		return usage(err)
	}
	began := time.Now()
	g, err := prepare(cfg, out)
	if err != nil {
		return err
	}
	failing, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	watching, stopWatching := context.WithCancel(context.Background())
	defer stopWatching()
	loops, watching := errgroup.WithContext(watching)
	if err := g.launch(fail); err != nil {
		return errors.Join(err, g.finish())
	}
	g.follow(watching, loops)
	context.AfterFunc(watching, func() { fail(nil) }) // a loop that fails ends the run; its error is the loops'
	err = g.serve(failing, began)
	if ctx.Err() != nil || errors.Is(err, context.Canceled) {
		err = nil // told to end, or by a loop, whose error follows
	}
	g.ending.Store(true)
	err = errors.Join(err, g.stop())
	stopWatching()
	return errors.Join(err, loops.Wait(), g.finish())
}

// prepare takes the data directory, ends what an earlier run left in it, and finds the ports free.
func prepare(cfg Config, out *printer) (*grid, error) {
	root, err := filepath.Abs(cfg.Data)
	if err != nil {
		return nil, err
	}
	dir, err := datadir.Lock(root)
	if err != nil {
		return nil, err
	}
	g := &grid{cfg: cfg, out: out, layout: newLayout(cfg, root), dir: dir}
	if err := g.clear(); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return g, nil
}

// clear makes the directory ready for this run.
func (g *grid) clear() error {
	if err := removeFile(g.layout.dirs.devFile()); err != nil {
		return err
	}
	// Nodes whose agent dies become our children, so that their end is noticed and they do not stay as zombies.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the reaper of orphaned nodes: %w", err)
	}
	adapter := process.New(g.cfg.Hold...)
	g.left = survivors{adapter: adapter, out: g.out}
	var err error
	if g.record, err = openRecord(g.layout.dirs.record()); err != nil {
		return err
	}
	if err := g.endSurvivors(); err != nil {
		return err
	}
	if g.cfg.Fresh {
		if err := g.erase(); err != nil {
			return err
		}
	}
	if err := g.record.claim(g.cfg.shape()); err != nil {
		return err
	}
	if g.context, err = newContextFile(g.layout); err != nil {
		g.out.say("gridctl will need --master: no place for its context file: %v", err)
	}
	return g.layout.checkPorts()
}

// endSurvivors ends them in the order of any stop. There are as many as the earlier run had, not as this one will have.
func (g *grid) endSurvivors() error {
	cfg := g.cfg
	if had := g.record.shape(); had != (shape{}) {
		cfg.Masters, cfg.Agents = had.Masters, had.Agents
	}
	l := newLayout(cfg, g.layout.dirs.root)
	return errors.Join(
		g.left.endChildren(g.record, l.agentPrograms(cfg), agentPatience),
		g.left.endNodes(l.agentPrograms(cfg), nodePatience),
		g.left.endChildren(g.record, l.masterPrograms(cfg), masterPatience),
		g.left.endChildren(g.record, []program{l.eventsProgram()}, eventsPatience))
}

// erase deletes what a grid keeps in its directory, and nothing else.
func (g *grid) erase() error {
	for _, name := range []string{"masters", "agents", "events", "logs"} {
		if err := os.RemoveAll(g.dir.Path(name)); err != nil {
			return err
		}
	}
	return g.record.forget()
}

// launch starts all children. They find each other in any order.
func (g *grid) launch(fail func(error)) error {
	agents := g.layout.agentPrograms(g.cfg)
	for _, a := range agents { // the fleet watches them from the start
		if err := os.MkdirAll(a.data, 0o755); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(g.dir.Path("logs"), 0o755); err != nil {
		return err
	}
	g.board = newBoard(g.layout)
	s := &supervisor{cfg: g.cfg, adapter: g.left.adapter, dirs: g.layout.dirs, record: g.record, out: g.out, changed: g.board.changed,
		fatal: fail, isReady: g.board.ready.Load, since: time.Since}
	g.fleet = newFleet(s, agents, g.ending.Load)
	g.events = s.launch(g.layout.eventsProgram())
	for _, p := range g.layout.masterPrograms(g.cfg) {
		g.masters = append(g.masters, s.launch(p))
	}
	for _, p := range agents {
		g.agents = append(g.agents, s.launch(p))
	}
	g.board.masters, g.board.agents, g.board.fleet = g.masters, g.agents, g.fleet
	g.watcher = newObserver(g.cfg, g.layout, g.board, g.events)
	return nil
}

// follow starts what watches the grid.
func (g *grid) follow(ctx context.Context, loops *errgroup.Group) {
	loops.Go(func() error { return g.fleet.follow(ctx) })
	loops.Go(func() error { return g.board.keep(ctx, g.watcher.notify) })
	g.watcher.watch(ctx, loops)
}

// serve waits until the grid is ready, says so, and then until ctx ends; the error is why, if it was no request.
func (g *grid) serve(ctx context.Context, began time.Time) error {
	nodes, err := g.watcher.awaitReady(ctx, g.out)
	if err != nil {
		return err
	}
	if g.context != nil {
		if err := g.context.write(); err != nil {
			g.out.say("gridctl will need --master: its context file cannot be written: %v", err)
		}
	}
	g.out.table(g.board.content(), g.dir.Path())
	g.out.say("ready after %s: %d masters, %d agents, %d nodes, %d shards x %d replicas; Ctrl-C stops it",
		time.Since(began).Round(100*time.Millisecond), g.cfg.Masters, g.cfg.Agents, nodes, g.cfg.Shards, g.cfg.Replicas)
	g.board.ready.Store(true)
	g.board.changed()
	<-ctx.Done()
	return context.Cause(ctx)
}

// stop ends everything in order: agents with their nodes, nodes whose agent is dead, masters, and event storage last, so that the masters
// can ship until their own end.
func (g *grid) stop() error {
	g.out.say("stopping")
	errs := []error{
		g.left.endTargets(targets(g.agents), agentPatience),
		g.left.endNodes(g.layout.agentPrograms(g.cfg), nodePatience),
		g.left.endTargets(targets(g.masters), masterPatience),
		g.left.endTargets(targets([]*child{g.events}), eventsPatience),
	}
	return errors.Join(errs...)
}

// finish takes back what tells others of the grid, and lets go of the directory.
func (g *grid) finish() error {
	var errs []error
	if g.watcher != nil {
		errs = append(errs, g.watcher.close())
	}
	if g.context != nil {
		errs = append(errs, g.context.remove())
	}
	errs = append(errs, removeFile(g.layout.dirs.devFile()), g.dir.Close())
	return errors.Join(errs...)
}
