package raftgroup

import (
	"runtime"
	"sync"

	"github.com/sutra-grid/sutra-grid/internal/fault"
)

// latch remembers a replica's first failure. From then on no store does anything, the owner is told once, and raft's
// goroutines that would answer the error by a panic wait for Close instead: a panic would bury the cause under a stack.
type latch struct {
	told    func(error)   // Config.Fatal
	stopped chan struct{} // closed when raft has been told to stop

	mu      sync.Mutex
	cause   error // guarded by mu; the first failure
	running bool  // guarded by mu; false before Open has succeeded, and in Close
}

func newLatch(told func(error)) *latch {
	return &latch{told: told, stopped: make(chan struct{})}
}

// err is the first failure, or nil.
func (l *latch) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cause
}

// fail remembers err, unless there is a cause already, tells the owner if the replica is running, and returns the cause.
// While Open or Close are under way, their own results say it.
func (l *latch) fail(err error) error {
	if fault.Broken(fault.LatchOff) {
		return err
	}
	l.mu.Lock()
	if l.cause != nil {
		defer l.mu.Unlock()
		return l.cause
	}
	l.cause = err
	tell := l.running
	l.mu.Unlock()
	if tell {
		l.told(err)
	}
	return err
}

// arm says that the replica now runs; an error is what failed before.
func (l *latch) arm() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running = l.cause == nil
	return l.cause
}

// disarm says that raft has been told to stop; it lets go of the goroutines that park holds.
func (l *latch) disarm() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running = false
	close(l.stopped)
}

func (l *latch) isRunning() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.running
}

// park ends the calling goroutine of raft when the replica stops, with its deferred calls run. Before the replica runs, the
// caller is Open, which takes the error instead: park returns.
func (l *latch) park() {
	select {
	case <-l.stopped:
	default:
		if !l.isRunning() {
			return
		}
		<-l.stopped
	}
	runtime.Goexit()
}
