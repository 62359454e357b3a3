package transport

import (
	"sync"
	"testing"
	"testing/synctest"
)

// TestCrew: nobody waits for another one's function, goroutines are used again, and few wait for work.
func TestCrew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew()
		var all sync.WaitGroup
		release := make(chan struct{})
		const n = 2 * maxSpare
		all.Add(n)
		for range n { // all under way at once
			c.do(func() {
				defer all.Done()
				<-release
			})
		}
		synctest.Wait()
		close(release)
		all.Wait()
		synctest.Wait()
		if spare := c.spare.Load(); spare != maxSpare {
			t.Errorf("%d goroutines wait for work, want %d", spare, maxSpare)
		}
		hold := make(chan struct{})
		c.do(func() { <-hold })
		synctest.Wait()
		if spare := c.spare.Load(); spare != maxSpare-1 {
			t.Errorf("%d goroutines wait for work while one works, want %d", spare, maxSpare-1)
		}
		close(hold)
		c.end()
		if spare := c.spare.Load(); spare != 0 {
			t.Errorf("%d goroutines wait for work behind the end", spare)
		}
	})
}
