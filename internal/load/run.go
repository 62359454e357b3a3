package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// MaxInFlight bounds Plan.InFlight: each is a goroutine here and a request in the grid's queues.
const MaxInFlight = 1 << 16

// grace is how long an open loop goes on behind its end with what was due before it; what is not sent by then is counted as unsent.
const grace = 10 * time.Second

// Plan says how to make load.
type Plan struct {
	InFlight int           // requests under way at once, 1 to MaxInFlight
	Rate     float64       // requests due a second; 0: a closed loop, as fast as answers come
	Warmup   time.Duration // load that is not measured
	Duration time.Duration // load that is measured; over 0
	Seed     uint64        // of the workers' Rand
	Progress func(Second)  // called each second, by one goroutine; nil: nobody looks
}

func (p *Plan) validate() error {
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	check(p.InFlight >= 1 && p.InFlight <= MaxInFlight, "%d requests in flight: want 1 to %d", p.InFlight, MaxInFlight)
	check(p.Rate >= 0 && p.Rate <= 1e7, "rate %g: want 0 (as fast as it goes) to 10,000,000 requests/s", p.Rate)
	check(p.Duration > 0, "duration %s: want more than 0", p.Duration)
	check(p.Warmup >= 0, "warm-up %s: want at least 0", p.Warmup)
	return errors.Join(faults...)
}

// Op makes one request and returns when it is answered. It is called by all workers at once, each with its own Worker.
type Op func(ctx context.Context, w *Worker) error

// Worker is what one of the goroutines that send has of its own.
type Worker struct {
	Index int        // 0 to InFlight-1
	Rand  *rand.Rand // of Plan.Seed and Index
	N     uint64     // requests it made before this one
}

// NewWorker is worker number index of a seed, for who sends requests in a way of his own.
func NewWorker(seed uint64, index int) *Worker {
	return &Worker{Index: index, Rand: rand.New(rand.NewPCG(seed, uint64(index)))}
}

// Run makes load until its time is over or ctx ends, which is not an error: the report is then of the time there was. The error is one
// of the plan. Requests that fail are counted in the report.
func Run(ctx context.Context, p Plan, op Op) (*Report, error) {
	if err := p.validate(); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	began := time.Now()
	r := &run{plan: p, op: op, began: began, from: began.Add(p.Warmup), to: began.Add(p.Warmup + p.Duration)}
	r.rec = newRecorder(r.from, r.to)
	var workers, watch sync.WaitGroup
	over := make(chan struct{})
	watch.Go(func() { r.watch(over) })
	for i := range p.InFlight {
		w := NewWorker(p.Seed, i)
		workers.Go(func() {
			if p.Rate > 0 {
				r.open(ctx, w)
			} else {
				r.closed(ctx, w)
			}
		})
	}
	workers.Wait()
	close(over)
	watch.Wait()
	return r.report(), nil
}

// run is one Run.
type run struct {
	plan            Plan
	op              Op
	rec             *recorder
	began, from, to time.Time // load begins; measured from … to
	next            atomic.Int64
	unsent          atomic.Uint64
}

// closed sends a request when the last one is answered. What is answered in the measured time counts.
func (r *run) closed(ctx context.Context, w *Worker) {
	for ctx.Err() == nil {
		sent := time.Now()
		if !sent.Before(r.to) {
			return
		}
		err := r.op(ctx, w)
		w.N++
		if err != nil && ctx.Err() != nil {
			return // we broke it off
		}
		now := time.Now()
		r.rec.add(w.Index, sample{counts: now, took: now.Sub(sent), err: err})
	}
}

// open sends what is due. What was due in the measured time counts, whenever it was answered.
func (r *run) open(ctx context.Context, w *Worker) {
	for ctx.Err() == nil {
		due := r.began.Add(time.Duration(float64(r.next.Add(1)-1) / r.plan.Rate * float64(time.Second)))
		if !due.Before(r.to) {
			return
		}
		from := due
		switch now := time.Now(); {
		case now.After(r.to.Add(grace)):
			r.unsent.Add(1)
			continue
		case now.Before(due):
			if !sleep(ctx, due.Sub(now)) {
				return
			}
			from = time.Now() // this worker was free: that the timer is late is not the grid's doing
		}
		err := r.op(ctx, w)
		w.N++
		if err != nil && ctx.Err() != nil {
			return
		}
		r.rec.add(w.Index, sample{counts: due, took: time.Since(from), err: err})
	}
}

// sleep waits; false: ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// watch tells of each second until the load is over.
func (r *run) watch(over <-chan struct{}) {
	if r.plan.Progress == nil {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-over:
			return
		case now := <-tick.C:
			r.plan.Progress(r.rec.second(now.Sub(r.began), !now.After(r.from)))
		}
	}
}

// report is of the time there was.
func (r *run) report() *Report {
	end := time.Now()
	if end.After(r.to) {
		end = r.to
	}
	rep := r.rec.report(max(end.Sub(r.from), 0))
	rep.Seed, rep.InFlight, rep.Rate, rep.Unsent = r.plan.Seed, r.plan.InFlight, r.plan.Rate, r.unsent.Load()
	return rep
}
