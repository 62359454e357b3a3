package bubble

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// What can become of a job's process.
var (
	ErrCrashed = errors.New("the process ended")                   // a panic, a deadlock in the bubble, or killed from outside
	ErrHung    = errors.New("the process did not end in time")     // of the real clock; it was asked for its goroutines
	ErrMemory  = errors.New("the process takes too much memory")   // and was killed
	errLine    = errors.New("the child answered more than a line") // or less
)

// Batch says which jobs to do, and how.
type Batch struct {
	Path string   // the program, which calls Serve
	Args []string // with these arguments
	Env  []string // and these variables, beside those of this process; where Repeats is true, beside none

	Next func() (job []byte, more bool) // gives the jobs, each one line; never called by two at once

	Processes   int           // at once
	PerProcess  int           // jobs of one process at most; 0: no limit. 1 makes a job independent of those before it, as Repeats does
	Limit       time.Duration // of the real clock for one job
	MemoryBytes int64         // that a process may have in memory; 0: no limit
	Yields      bool          // the processes run when nobody else wants the processor (nice 19)
}

// Outcome is what became of one job.
type Outcome struct {
	Job    []byte
	Result []byte        // nil with Err
	Err    error         // wraps one of the errors above
	Output string        // what the process printed meanwhile: the beginning and the end
	Took   time.Duration // of the real clock
}

// Validate reports everything that is wrong.
func (b *Batch) Validate() error {
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	check(b.Path != "", "no program")
	check(b.Next != nil, "no jobs")
	check(b.Processes >= 1, "%d processes: want 1 or more", b.Processes)
	check(b.PerProcess >= 0, "%d jobs a process: must not be negative", b.PerProcess)
	check(b.Limit > 0, "limit of %s for a job: must be above 0", b.Limit)
	check(b.MemoryBytes >= 0, "memory of %d bytes: must not be negative", b.MemoryBytes)
	return errors.Join(faults...)
}

// Run does the jobs, and calls each with every outcome, one at a time, in the order in which they end. It returns when all are done, when
// ctx has ended (jobs under way then have no outcome), or when a process cannot be started.
func Run(ctx context.Context, b Batch, each func(Outcome)) error {
	if err := b.Validate(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &run{Batch: b, each: each}
	var wg sync.WaitGroup
	for range b.Processes {
		wg.Go(func() {
			if err := r.work(ctx); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// run is a batch under way.
type run struct {
	Batch
	mu   sync.Mutex
	over bool // guarded by mu; Next has no more
	each func(Outcome)
}

func (r *run) next() ([]byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return nil, false
	}
	job, more := r.Next()
	r.over = !more
	return job, more
}

func (r *run) done(o Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.each(o)
}

// work does jobs in one process after the other.
func (r *run) work(ctx context.Context) error {
	for ctx.Err() == nil {
		job, more := r.next()
		if !more {
			return nil
		}
		c, err := r.start()
		if err != nil {
			return err
		}
		for did := 1; ; did++ {
			o, err := c.do(ctx, job, r.Limit, r.MemoryBytes)
			if err != nil {
				return errors.Join(err, c.end())
			}
			r.done(o)
			if o.Err != nil || did == r.PerProcess || Repeats {
				break
			}
			if job, more = r.next(); !more {
				break
			}
		}
		if err := c.end(); err != nil {
			return err
		}
		if !more {
			return nil
		}
	}
	return context.Cause(ctx)
}
