package sim

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/internal/fault"
)

// points are the labelled points at which a process of the grid is to fail: the steps of transactions, which processes tell of
// (Config.Point). What they do not tell of needs processes of their own.
type points struct {
	mu    sync.Mutex
	armed []*snare // guarded by mu
}

// snare is one armed point.
type snare struct {
	label  fault.Label
	action string
	delay  time.Duration
	skip   int           // passes that go by before one is met
	passes int64         // guarded by points.mu; that were met
	who    string        // guarded by points.mu; who met the first
	freed  chan struct{} // closed when what hangs goes on
}

func newPoints() *points { return &points{} }

// told lists the prefixes of labels that processes tell of.
func told(label string) bool {
	return strings.HasPrefix(label, "txn.") || strings.HasPrefix(label, "shard.")
}

// parseSnare reads what a fault says is to happen.
func parseSnare(f rig.Fault) (*snare, error) {
	s := &snare{freed: make(chan struct{}), skip: int(f.Dice % 8)}
	for _, l := range fault.Labels() {
		if l.Name == f.Label {
			s.label = l.Label
		}
	}
	switch {
	case s.label == 0:
		return nil, fmt.Errorf("fault point %q: there is none of that name", f.Label)
	case !told(f.Label):
		return nil, fmt.Errorf("fault point %s: %w", f.Label, rig.ErrUnsupported)
	}
	action, value, _ := strings.Cut(f.Action, "=")
	s.action = action
	switch {
	case (action == "crash" || action == "hang") && value == "":
		return s, nil
	case action == "delay":
		d, err := time.ParseDuration(value)
		if err != nil || d <= 0 {
			return nil, fmt.Errorf("fault point %s: %q: want delay=DURATION", f.Label, f.Action)
		}
		s.delay, s.skip = d, 0
		return s, nil
	case action == "error":
		return nil, fmt.Errorf("fault point %s: %s: %w", f.Label, f.Action, rig.ErrUnsupported)
	}
	return nil, fmt.Errorf("fault point %s: %q: want crash, hang or delay=DURATION", f.Label, f.Action)
}

// pass is called by a process at every labelled step. A crash cuts it off before the step goes on, and ends it beside.
func (ps *points) pass(p interface {
	process
	crash()
}, label fault.Label) {
	s := ps.meet(p.name(), label)
	if s == nil {
		return
	}
	switch s.action {
	case "crash":
		p.crash()
	case "hang":
		<-s.freed
	case "delay":
		time.Sleep(s.delay)
	}
}

// meet is the snare that this pass meets, or nil. One process crashes, or hangs, at a snare; all are late.
func (ps *points) meet(who string, label fault.Label) *snare {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, s := range ps.armed {
		switch {
		case s.label != label:
		case s.skip > 0:
			s.skip--
		case s.action == "delay" || s.passes == 0:
			if s.passes++; s.passes == 1 {
				s.who = who
			}
			return s
		}
	}
	return nil
}

func (ps *points) lay(s *snare) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.armed = append(ps.armed, s)
}

// lift takes a snare away and lets go what hangs in it.
func (ps *points) lift(s *snare) (passes int64, who string) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for i, o := range ps.armed {
		if o == s {
			ps.armed = append(ps.armed[:i:i], ps.armed[i+1:]...)
			close(s.freed)
			break
		}
	}
	return s.passes, s.who
}

// clear lifts all.
func (ps *points) clear() {
	ps.mu.Lock()
	all := ps.armed
	ps.mu.Unlock()
	for _, s := range all {
		ps.lift(s)
	}
}

// point injects a fault at a label.
func (g *Grid) point(_ context.Context, f rig.Fault) (*injected, error) {
	s, err := parseSnare(f)
	if err != nil {
		return nil, err
	}
	g.points.lay(s)
	in := &injected{met: f.Label}
	in.heal = func(ctx context.Context) error {
		in.count, in.met = g.points.lift(s)
		return g.revive(ctx)
	}
	return in, nil
}

// crash cuts the master off at once and ends it beside: it is called from within it.
func (p *masterProcess) crash() {
	p.g.net.Down(p.host())
	p.g.loose.Go(func() {
		if err := p.kill(); err != nil {
			p.g.tap.report("%v", err)
		}
	})
}

// crash does the same to a node.
func (l *lodger) crash() {
	t := l.h.present()
	if t == nil {
		return
	}
	if err := t.wire.Sever(); err != nil {
		l.h.g.tap.report("%s: %v", t.ref, err)
	}
	l.h.g.loose.Go(func() {
		if err := l.kill(); err != nil {
			l.h.g.tap.report("%v", err)
		}
	})
}
