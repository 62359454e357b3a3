package sim

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/master"
)

// masterProcess is one master, running or not.
type masterProcess struct {
	g  *Grid
	id event.MasterID

	mu   sync.Mutex
	run  *masterRun // guarded by mu; the last one, nil before the first start
	life int        // guarded by mu; of which of its disks: a removed replica's is not used again
}

// masterRun is one life of a master.
type masterRun struct {
	*master.Master
	voice *voice
	stop  context.CancelFunc // of the observer
	ended bool               // guarded by the process's mu; it was killed, or is being killed
	gone  chan struct{}      // closed when nothing of it is left
}

func (p *masterProcess) name() string { return string(p.id) }
func (p *masterProcess) host() string { return string(p.id) }

// running is the master, or nil.
func (p *masterProcess) running() *master.Master {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run == nil || p.run.ended {
		return nil
	}
	return p.run.Master
}

func (p *masterProcess) alive() bool { return p.running() != nil }

func (p *masterProcess) config(v *voice) master.Config {
	c := p.g.cfg
	cfg := master.DefaultConfig()
	cfg.ID, cfg.Dir, cfg.Peers = p.id, p.g.path(p.host(), p.life), p.g.peers
	cfg.Bootstrap, cfg.Join = p.life == 0, p.life > 0
	cfg.Network, cfg.EventSink = p.g.net.Host(p.host()), p.g.layout.Events
	cfg.Shards, cfg.Replicas = c.Shards, c.Replicas
	cfg.Raft.SegmentBytes = segmentBytes
	cfg.Raft.SnapshotThreshold, cfg.Raft.TrailingLogs, cfg.Raft.Timeouts.Snapshot = c.SnapshotThreshold, c.TrailingLogs, snapshotLook
	cfg.Log = p.g.log(v)
	cfg.Point = func(l fault.Label) { p.g.points.pass(p, l) }
	return cfg
}

const (
	// segmentBytes keeps the logs' preallocated files small.
	segmentBytes = 256 << 10

	// snapshotLook is how often logs are looked at: between two faults, so that what a snapshot has cut off is missed when it should be.
	snapshotLook = time.Second
)

// start implements process. A master of a new grid waits for the others, one that joins until it is admitted.
func (p *masterProcess) start(ctx context.Context) error {
	if p.alive() {
		return nil
	}
	p.mu.Lock()
	before := p.run
	v := p.g.tap.of(p.name())
	cfg := p.config(v)
	p.mu.Unlock()
	if before != nil {
		<-before.gone
	}
	p.g.net.Up(p.host())
	m, err := master.Open(ctx, cfg)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.id, err)
	}
	watch, stop := context.WithCancel(context.Background())
	r := &masterRun{Master: m, voice: v, stop: stop, gone: make(chan struct{})}
	p.mu.Lock()
	p.run = r
	p.mu.Unlock()
	p.g.eyes.Go(func() { p.observe(watch, r) })
	return nil
}

// observe compares every state that the master publishes with the others', until its end. One that cannot go on ends, as its program does.
func (p *masterProcess) observe(ctx context.Context, r *masterRun) {
	for {
		changed := r.Changed()
		if err := p.g.states.see(p.id, r.View()); err != nil {
			p.g.tap.report("%v", err)
		}
		select {
		case <-changed:
		case <-r.Done():
			if !errors.Is(r.Err(), master.ErrRemoved) {
				p.g.tap.report("%s cannot go on: %v", p.id, r.Err())
			}
			if err := p.kill(); err != nil {
				p.g.tap.report("%v", err)
			}
			return
		case <-ctx.Done():
			return
		}
	}
}

// kill implements process.
func (p *masterProcess) kill() error {
	p.mu.Lock()
	r := p.run
	first := r != nil && !r.ended
	if first {
		r.ended = true
	}
	p.mu.Unlock()
	if r == nil {
		return nil
	}
	if !first {
		<-r.gone
		return nil
	}
	defer close(r.gone)
	r.voice.mute.Store(true)
	p.g.net.Down(p.host())
	r.stop()
	if err := r.Abort(); err != nil {
		return fmt.Errorf("kill %s: %w", p.id, err)
	}
	p.g.states.forget(p.id)
	return nil
}

// up is the masters that run.
func (g *Grid) up() []*master.Master {
	var all []*master.Master
	for _, p := range g.masters {
		if m := p.running(); m != nil {
			all = append(all, m)
		}
	}
	return all
}

var errNoMaster = errors.New("no master runs")

// view is the newest state that a running master has.
func (g *Grid) view() (*fsm.State, error) {
	var newest *fsm.State
	for _, m := range g.up() {
		if v := m.View(); newest == nil || v.RaftIndex() > newest.RaftIndex() {
			newest = v
		}
	}
	if newest == nil {
		return nil, errNoMaster
	}
	return newest, nil
}

// leader is the master that leads, by the word of whoever knows the newest term.
func (g *Grid) leader() (p *masterProcess, term uint64, ok bool) {
	var id event.MasterID
	for _, m := range g.up() {
		if who, t, known := m.Leader(); known && t > term {
			id, term = who, t
		}
	}
	for _, p := range g.masters {
		if p.id == id {
			return p, term, p.alive()
		}
	}
	return nil, term, false
}

// until waits until the newest state of a running master is as wanted.
func (g *Grid) until(ctx context.Context, what string, right func(*fsm.State) bool) error {
	for {
		changed, v := g.changed()
		if v != nil && right(v) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("not %s: %w", what, context.Cause(ctx))
		}
	}
}

// changed is the newest state, and a channel closed when that master has a newer one; without a master it is never closed.
func (g *Grid) changed() (<-chan struct{}, *fsm.State) {
	var ahead *master.Master
	for _, m := range g.up() {
		if ahead == nil || m.View().RaftIndex() > ahead.View().RaftIndex() {
			ahead = m
		}
	}
	if ahead == nil {
		return nil, nil
	}
	changed := ahead.Changed()
	return changed, ahead.View()
}

// whole waits until everything runs: all nodes, every shard with a leader and all its voters, the masters at the newest level.
func (g *Grid) whole(ctx context.Context) error {
	return g.until(ctx, "a whole grid", func(s *fsm.State) bool {
		formed := 0
		for sh := range s.Shards() {
			if sh.Term == 0 || int(sh.Live) != len(sh.Voters) {
				return false
			}
			formed++
		}
		return s.Cluster().RunningNodes == uint32(g.cfg.Agents) && formed == int(g.cfg.Shards) && s.Level() == fsm.SupportedLevel
	})
}

// shipped waits until every sink has acknowledged all events that there are now.
func (g *Grid) shipped(ctx context.Context) error {
	v, err := g.view()
	if err != nil {
		return err
	}
	through := v.Seq()
	return g.until(ctx, fmt.Sprintf("event %d in event storage", through), func(v *fsm.State) bool {
		sinks := 0
		for s := range v.Sinks() {
			if v.Cursor(s.Name).Through < through {
				return false
			}
			sinks++
		}
		return sinks > 0
	})
}
