package transport

import (
	"sync"
	"sync/atomic"
)

// maxSpare bounds the goroutines of a server that wait for a request to handle.
const maxSpare = 256

// crew runs each function on a goroutine at once. One that is done takes the next function: it has the stack for it, which a new goroutine would
// have to grow, copying it each time.
type crew struct {
	work  chan func()  // to those that wait
	spare atomic.Int32 // how many wait
	all   sync.WaitGroup
}

func newCrew() *crew { return &crew{work: make(chan func())} }

// do does not wait for f.
func (c *crew) do(f func()) {
	select {
	case c.work <- f:
	default:
		c.all.Go(func() { c.run(f) })
	}
}

func (c *crew) run(f func()) {
	for ok := true; ok; c.spare.Add(-1) {
		f()
		f = nil // what it holds is not kept while nothing is to do
		if c.spare.Add(1) > maxSpare {
			ok = false
			continue
		}
		f, ok = <-c.work
	}
}

// end waits for all functions, behind the last do.
func (c *crew) end() {
	close(c.work)
	c.all.Wait()
}
