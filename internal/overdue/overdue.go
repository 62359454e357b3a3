// Package overdue tells when something takes too long, and not that the process itself has stood still meanwhile.
//
// A process that is stopped and goes on (SIGSTOP, a suspended or migrated machine, a throttled container) finds that its timers have expired, and that
// what it waited for is done and nobody was told of it yet. A disk whose answer lay ready is not a disk that hangs. So the last part of a
// limit begins only when the first is over and somebody has noticed: in it what is done can be told of.
//
// Invariant: late is called at most once, never before the limit has passed, and not when stop was called before.
package overdue

import (
	"sync/atomic"
	"time"
)

// Notice is the last part of a limit, in which what is done is told of.
const Notice = 250 * time.Millisecond

// After has late called, by a goroutine of its own, when limit has passed and stop was not called. A limit of less than two Notices is halved
// in place. stop may be called more than once, and by any goroutine.
func After(limit time.Duration, late func()) (stop func()) {
	notice := min(Notice, limit/2)
	var stopped atomic.Bool
	first := time.AfterFunc(limit-notice, func() {
		time.AfterFunc(notice, func() {
			if !stopped.Load() {
				late()
			}
		})
	})
	return func() {
		stopped.Store(true)
		first.Stop()
	}
}
