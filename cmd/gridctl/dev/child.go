package dev

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/agent/platform"
	"github.com/sutra-grid/sutra-grid/agent/platform/process"
)

// supervisor is what all children share.
type supervisor struct {
	cfg     Config
	adapter *process.Processes
	dirs    dirs
	record  *record
	out     *printer
	changed func()      // a pid changed
	fatal   func(error) // the grid cannot go on
	isReady func() bool // the grid was ready once
	since   func(time.Time) time.Duration
}

// child is one program that is kept running until it is told to end. Terminate and Kill also keep it from being started again.
type child struct {
	program
	*supervisor
	ctx    context.Context // ends with Terminate or Kill
	cancel context.CancelFunc
	ready  chan struct{} // closed when it was ready for the first time; only of a program that says so
	done   chan struct{} // closed when it has ended for good

	mu       sync.Mutex
	instance *platform.Instance // nil: it is down
}

// launch starts a child and the goroutine that keeps it running.
func (s *supervisor) launch(p program) *child {
	c := &child{program: p, supervisor: s, ready: make(chan struct{}), done: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	go c.run()
	return c
}

// Restarts: at once, unless the child did not live for a second; then the pause doubles up to five seconds.
const (
	shortLife  = time.Second
	firstPause = 250 * time.Millisecond
	maxPause   = 5 * time.Second
	// startTries is how many short lives in a row, before the grid was ever ready, show that the child cannot start at all.
	startTries = 4
)

// restartPause is how long to wait after a life of this length, when the wait before it was last.
func restartPause(lived, last time.Duration) time.Duration {
	if lived >= shortLife {
		return 0
	}
	return min(maxPause, max(firstPause, 2*last))
}

func (c *child) run() {
	defer close(c.done)
	defer c.cancel()
	var pause time.Duration
	keep := keepLogs // the first life of a run begins a new log, later ones go on with it
	for short := 0; c.wait(pause); keep = 0 {
		began := time.Now()
		exit, err := c.live(keep)
		if err != nil {
			c.fatal(fmt.Errorf("start %s: %w", c.id, err))
			return
		}
		if c.ctx.Err() != nil {
			return
		}
		lived := c.since(began)
		pause = restartPause(lived, pause)
		if short++; pause == 0 {
			short = 0
		}
		if short >= startTries && !c.isReady() {
			c.fatal(fmt.Errorf("%s does not start: %s (its log is %s)", c.id, lastLine(exit), c.dirs.log(c.id)))
			return
		}
		c.out.say("%s ended (%s) after %s; %s", c.id, how(exit), lived.Round(100*time.Millisecond), again(pause))
	}
}

func again(pause time.Duration) string {
	if pause == 0 {
		return "it is started again"
	}
	return fmt.Sprintf("it is started again in %s", pause)
}

// wait waits for the pause; false: the child is to end.
func (c *child) wait(pause time.Duration) bool {
	if pause == 0 {
		return c.ctx.Err() == nil
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.ctx.Done():
		return false
	}
}

// keepLogs is how many logs of earlier runs are kept.
const keepLogs = 5

// live is one life of the child, from its start to its end.
func (c *child) live(keep int) (platform.Exit, error) {
	in, err := c.adapter.Start(c.spec(keep), func(ref platform.Ref, _ int) error { return c.record.started(c.id, ref) })
	if err != nil {
		return platform.Exit{}, err
	}
	defer in.Close()
	c.mu.Lock()
	c.instance = in
	late := c.ctx.Err() != nil // told to end before there was anything to tell it to
	c.mu.Unlock()
	if late {
		if err := in.Terminate(); err != nil {
			return platform.Exit{}, err
		}
	}
	c.changed()
	var exit platform.Exit
	for n := range in.Notices {
		if n.Ready != nil {
			c.sayReady()
		} else {
			exit = *n.Exit
		}
	}
	c.mu.Lock()
	c.instance = nil
	c.mu.Unlock()
	c.changed()
	return exit, nil
}

func (c *child) spec(keep int) platform.Spec {
	return platform.Spec{Path: filepath.Join(c.cfg.Programs, c.name), Args: c.args, ReadyFile: c.dirs.ready(c.id), LogFile: c.dirs.log(c.id), KeepLogs: keep}
}

// sayReady is called by run's goroutine only.
func (c *child) sayReady() {
	select {
	case <-c.ready:
	default:
		close(c.ready)
		c.changed()
	}
}

// pid is 0 while the child is down.
func (c *child) pid() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.instance == nil {
		return 0
	}
	return c.instance.PID
}

// Terminate asks the child to end, and not to come back.
func (c *child) Terminate() error {
	return c.end(func(in *platform.Instance) error { return in.Terminate() })
}

// Kill ends the child, and keeps it from coming back.
func (c *child) Kill() error { return c.end(func(in *platform.Instance) error { return in.Kill() }) }

func (c *child) end(how func(*platform.Instance) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancel()
	if c.instance == nil {
		return nil
	}
	return how(c.instance)
}

// Close is part of platform.Handle; run closes its instance itself.
func (c *child) Close() {}

func targets(children []*child) []target {
	var list []target
	for _, c := range children {
		list = append(list, target{c.id, c, c.done})
	}
	return list
}

// how says how a child ended.
func how(e platform.Exit) string {
	switch {
	case e.OOM:
		return "out of memory"
	case e.Signal != "":
		return e.Signal
	case e.Code != nil:
		return fmt.Sprintf("exit status %d", *e.Code)
	}
	return "exit status unknown"
}

// lastLine is what a child said last.
func lastLine(e platform.Exit) string {
	text := strings.TrimSpace(e.Tail)
	if i := strings.LastIndexByte(text, '\n'); i >= 0 {
		text = text[i+1:]
	}
	if text == "" {
		return how(e)
	}
	return text
}
