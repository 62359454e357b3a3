package sim

import (
	"fmt"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	labels "github.com/sutra-grid/sutra-grid/internal/fault"
)

// traps stop processes at labelled steps of a transaction. A process that is stopped there goes on when it is let go: in a network that
// was cut meanwhile, or on a machine that is down.
type traps struct {
	mu  sync.Mutex
	set []*snare // guarded by mu; those that nobody has met yet
}

// snare waits for one process at one label.
type snare struct {
	label labels.Label
	at    string        // the host; "": any
	met   chan string   // gets the host that has met it
	free  chan struct{} // closed when it may go on
	open  func()        // closes free
}

func (t *traps) lay(label labels.Label, at string) *snare {
	one := &snare{label: label, at: at, met: make(chan string, 1), free: make(chan struct{})}
	one.open = sync.OnceFunc(func() { close(one.free) })
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set = append(t.set, one)
	return one
}

// clear takes away what was not met, and lets everybody go.
func (t *traps) clear(laid ...*snare) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set = nil
	for _, one := range laid {
		one.open()
	}
}

// pass is called by a process at each labelled step.
func (t *traps) pass(host string, label labels.Label) {
	t.mu.Lock()
	for i, one := range t.set {
		if one.label == label && (one.at == "" || one.at == host) {
			t.set = append(t.set[:i:i], t.set[i+1:]...)
			t.mu.Unlock()
			one.met <- host
			<-one.free
			return
		}
	}
	t.mu.Unlock()
}

// await waits until a process is stopped at the label.
func (one *snare) await(limit time.Duration) (host string, err error) {
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case host = <-one.met:
		return host, nil
	case <-late.C:
		return "", fmt.Errorf("nobody came to %s within %s", labels.Name(one.label), limit)
	}
}

// kill ends a process that may be stopped at a label: its machine is off the network when the label lets it go, and it is being ended.
func (c *court) kill(host string) (done func()) {
	if e := c.at(host); e != nil {
		c.world.kill(e)
		return func() {}
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		c.crash(event.MasterID(host))
	}()
	return func() { <-gone }
}

// at is the estate on a host; nil: it is a master's.
func (c *court) at(host string) *estate {
	for _, e := range c.settled {
		if e.host == host {
			return e
		}
	}
	return nil
}
