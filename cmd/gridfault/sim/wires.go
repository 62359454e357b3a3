package sim

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sutra-grid/sutra-grid/transport"
)

// wires is the links between all hosts: the usual ones, changed by all effects in force.
type wires struct {
	net     *transport.Memory
	effects atomic.Pointer[[]*effect] // in force; changed with mu held

	mu   sync.Mutex
	all  []string                     // guarded by mu; hosts in order of birth
	grid map[string]bool              // guarded by mu; hosts of the grid, the others are clients
	now  map[[2]string]transport.Link // guarded by mu; as set
}

// effect is one fault of the network: how it changes which links, and how often that was felt.
type effect struct {
	on     func(from, to string) bool
	change func(*transport.Link)
	counts func(transport.Passage) bool // what proves it, of the links it is on
	met    atomic.Int64

	idle     string        // an address whose host may have nothing to say and nothing to hear, all the while; "": none
	patience time.Duration // what it takes to show that the effect is there, with a word to it
}

// usual is a link of a data centre.
func usual() transport.Link {
	return transport.Link{Delay: 300 * time.Microsecond, Jitter: 400 * time.Microsecond}
}

func newWires(net *transport.Memory, trace *Trace) *wires {
	w := &wires{net: net, grid: map[string]bool{}, now: map[[2]string]transport.Link{}}
	w.effects.Store(&[]*effect{})
	net.Watch(func(p transport.Passage) {
		if p.Fate == transport.Delivered {
			trace.delivered(p)
		}
		for _, e := range *w.effects.Load() {
			if e.on(p.From, p.To) && e.counts(p) {
				e.met.Add(1)
			}
		}
	})
	return w
}

// join adds a host; one that is there stays.
func (w *wires) join(host string, ofGrid bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if slices.Contains(w.all, host) {
		return
	}
	w.all, w.grid[host] = append(w.all, host), ofGrid
	w.applyLocked()
}

// clients is the hosts that are not the grid's, in order of birth.
func (w *wires) clients() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, h := range w.all {
		if !w.grid[h] && h != adminHost {
			out = append(out, h)
		}
	}
	return out
}

func (w *wires) begin(e *effect) {
	w.mu.Lock()
	defer w.mu.Unlock()
	with := append(slices.Clone(*w.effects.Load()), e)
	w.effects.Store(&with)
	w.applyLocked()
}

func (w *wires) end(e *effect) {
	w.mu.Lock()
	defer w.mu.Unlock()
	without := slices.DeleteFunc(slices.Clone(*w.effects.Load()), func(o *effect) bool { return o == e })
	w.effects.Store(&without)
	w.applyLocked()
}

// heal ends all effects.
func (w *wires) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.effects.Store(&[]*effect{})
	w.applyLocked()
}

// applyLocked sets the links that are not as they should be. What the rig itself asks is never hurt.
func (w *wires) applyLocked() {
	for _, from := range w.all {
		for _, to := range w.all {
			if from == to {
				continue
			}
			l := usual()
			for _, e := range *w.effects.Load() {
				if from != adminHost && to != adminHost && e.on(from, to) {
					e.change(&l)
				}
			}
			ends := [2]string{from, to}
			if l != w.now[ends] {
				w.now[ends] = l
				w.net.SetLink(from, to, l)
			}
		}
	}
}
