package master

import (
	"sync"
	"time"
)

// drift is by how much log time may run faster or slower than monotonic time to come near the wall clock: 1/drift.
const drift = 10

// logClock is the leader's log clock (safety S17): monotonic time since it took office, begun at the later of its wall clock
// and the last log time. It follows the wall clock slowly, so a step of that is no jump of log time in either direction.
type logClock struct {
	read func() (monotonic time.Duration, wall int64)

	mu   sync.Mutex
	at   time.Duration // guarded by mu; monotonic time of the last reading
	time int64         // guarded by mu; log time then, µs
}

func newLogClock(time int64, read func() (monotonic time.Duration, wall int64)) *logClock {
	at, _ := read()
	return &logClock{read: read, at: at, time: time}
}

// machineClock is a log clock on this machine's monotonic clock and a wall clock.
func machineClock(wall func() time.Time) *logClock {
	start := time.Now()
	return newLogClock(wall().UnixMicro(), func() (time.Duration, int64) {
		return time.Since(start), wall().UnixMicro()
	})
}

// TakeOffice starts the clock for a term whose log ends at last, µs.
func (c *logClock) TakeOffice(last int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, wall := c.read()
	c.at, c.time = at, max(wall, last)
}

// Now is log time, never earlier than before within a term.
func (c *logClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, wall := c.read()
	passed := max(at-c.at, 0).Microseconds()
	c.at = at
	c.time += passed
	if behind := wall - c.time; behind > 0 {
		c.time += min(behind, passed/drift)
	} else {
		c.time -= min(-behind, passed/drift)
	}
	return time.UnixMicro(c.time)
}

// Behind is by how much the wall clock is ahead of log time.
func (c *logClock) Behind() time.Duration {
	now := c.Now().UnixMicro()
	_, wall := c.read()
	return time.Duration(wall-now) * time.Microsecond
}
