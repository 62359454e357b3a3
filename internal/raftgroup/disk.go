package raftgroup

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/internal/overdue"
)

var errHung = errors.New("the disk does not answer")

// disk runs the writes of one store, one after the other, and gives up on one that takes too long. The write itself cannot
// be ended; the latch sees to it that none follows, whatever becomes of it.
type disk struct {
	deadline time.Duration
	jobs     chan diskJob  // to the one goroutine that writes
	done     chan struct{} // closed when that goroutine has ended
	busy     atomic.Bool   // a write is under way
	hung     atomic.Bool   // one was given up on
}

// diskJob is one write.
type diskJob struct {
	run    func() error
	result chan error // capacity 1: nobody may be left to take it
}

func newDisk(deadline time.Duration) *disk {
	d := &disk{deadline: deadline, jobs: make(chan diskJob), done: make(chan struct{})}
	go d.write()
	return d
}

func (d *disk) write() {
	defer close(d.done)
	for j := range d.jobs {
		d.busy.Store(true)
		err := j.run()
		d.busy.Store(false)
		j.result <- err
	}
}

// within runs a write, and returns errHung at the deadline.
func (d *disk) within(run func() error) error {
	job := diskJob{run: run, result: make(chan error, 1)}
	deadline := d.deadline
	if fault.Broken(fault.WriteDeadlineOff) {
		deadline = math.MaxInt64
	}
	late := make(chan struct{})
	defer overdue.After(deadline, func() { close(late) })()
	select {
	case d.jobs <- job:
	case <-late:
		d.hung.Store(true)
		return fmt.Errorf("no answer to an earlier write within %v: %w", d.deadline, errHung)
	}
	select {
	case err := <-job.result:
		return err
	case <-late:
		d.hung.Store(true)
		return fmt.Errorf("no answer within %v: %w", d.deadline, errHung)
	}
}

// close waits for the write under way; false means that it still hangs, and that the store must be left as it is.
func (d *disk) close() bool {
	close(d.jobs)
	if d.hung.Load() && d.busy.Load() {
		return false
	}
	<-d.done
	return true
}
