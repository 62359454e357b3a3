package load

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// Latencies are kept in microseconds with three digits; what is longer than an hour counts as an hour.
const (
	shortest = 1
	longest  = int64(time.Hour / time.Microsecond)
	digits   = 3
)

// cells spread the recorder's locks.
const cells = 8

// sample is one request that has ended.
type sample struct {
	counts time.Time // it counts if this is in the measured time
	took   time.Duration
	err    error
}

// recorder collects samples.
type recorder struct {
	from, to time.Time
	last     time.Time // when second was called last; of its one caller
	cells    [cells]cell
}

type cell struct {
	mu       sync.Mutex
	second   *hdrhistogram.Histogram // since the last call of recorder.second
	missed   uint64                  // failures since then
	total    *hdrhistogram.Histogram // of what counts and did not fail
	failed   uint64
	failures map[string]*Failure
}

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(shortest, longest, digits) }

func newRecorder(from, to time.Time) *recorder {
	r := &recorder{from: from, to: to, last: time.Now()}
	for i := range r.cells {
		c := &r.cells[i]
		c.second, c.total, c.failures = newHistogram(), newHistogram(), map[string]*Failure{}
	}
	return r
}

// add records a sample of a worker.
func (r *recorder) add(worker int, s sample) {
	counts := !s.counts.Before(r.from) && s.counts.Before(r.to)
	us := min(max(s.took.Microseconds(), shortest), longest)
	c := &r.cells[worker%cells]
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.err != nil {
		c.missed++
		if counts {
			c.fail(s.err)
		}
		return
	}
	_ = c.second.RecordValue(us) // within its bounds
	if counts {
		_ = c.total.RecordValue(us)
	}
}

// fail counts an error under its kind, and keeps the first of each.
func (c *cell) fail(err error) {
	kind := "other"
	var e *event.Error
	if errors.As(err, &e) {
		kind = string(e.Kind)
	}
	c.failed++
	f := c.failures[kind]
	if f == nil {
		f = &Failure{Kind: kind, Example: err.Error()}
		c.failures[kind] = f
	}
	f.Count++
}

// second is what happened since it was called last.
func (r *recorder) second(at time.Duration, warmup bool) Second {
	all := newHistogram()
	s := Second{At: at, Warmup: warmup}
	for i := range r.cells {
		c := &r.cells[i]
		c.mu.Lock()
		all.Merge(c.second)
		s.Failed += c.missed
		c.second.Reset()
		c.missed = 0
		c.mu.Unlock()
	}
	now := time.Now()
	s.Done = uint64(all.TotalCount())
	s.PerSecond = float64(s.Done) / max(now.Sub(r.last).Seconds(), 1e-3)
	s.P50, s.P99, s.latencies = quantile(all, 50), quantile(all, 99), all
	r.last = now
	return s
}

// report adds up what was measured within a time.
func (r *recorder) report(measured time.Duration) *Report {
	all := newHistogram()
	rep := &Report{Seconds: measured.Seconds(), Failures: []Failure{}}
	kinds := map[string]Failure{}
	for i := range r.cells {
		c := &r.cells[i]
		c.mu.Lock()
		all.Merge(c.total)
		rep.Failed += c.failed
		for kind, f := range c.failures {
			sum := kinds[kind]
			kinds[kind] = Failure{Kind: kind, Count: sum.Count + f.Count, Example: cmp.Or(sum.Example, f.Example)}
		}
		c.mu.Unlock()
	}
	for _, f := range kinds {
		rep.Failures = append(rep.Failures, f)
	}
	slices.SortFunc(rep.Failures, func(a, b Failure) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Kind, b.Kind))
	})
	rep.Done = uint64(all.TotalCount())
	if measured > 0 {
		rep.PerSecond = float64(rep.Done) / measured.Seconds()
	}
	rep.Latency = latency(all)
	return rep
}
