package load

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// within tells whether a figure is right to the recorder's three digits.
func within(got, want float64) bool { return math.Abs(got-want) <= 0.002*want+0.002 }

// TestClosedLoop: as many requests as answers allow, timed from when they were sent, and none outside the measured time.
func TestClosedLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := Run(t.Context(), Plan{InFlight: 4, Warmup: time.Second, Duration: 2 * time.Second, Seed: 7}, func(context.Context, *Worker) error {
			time.Sleep(10 * time.Millisecond)
			return nil
		})
		if err != nil || r.Done != 4*200 || r.Failed != 0 || r.Unsent != 0 || !within(r.PerSecond, 400) || !within(r.Seconds, 2) {
			t.Fatalf("%+v, %v", r, err)
		}
		if l := r.Latency; !within(l.P50, 10) || !within(l.P999, 10) || !within(l.Max, 10) || r.Seed != 7 || r.InFlight != 4 {
			t.Errorf("%+v", r)
		}
	})
}

// TestOpenLoopHidesNoStall: one stall of a second delays all that were due in it, and each is charged for its own wait.
func TestOpenLoopHidesNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int64
		r, err := Run(t.Context(), Plan{InFlight: 1, Rate: 100, Duration: 4 * time.Second}, func(context.Context, *Worker) error {
			if n.Add(1) == 101 {
				time.Sleep(time.Second)
			}
			return nil
		})
		if err != nil || r.Done != 400 || r.Unsent != 0 {
			t.Fatalf("%+v, %v", r, err)
		}
		// A hundred of 400 were due in the stall and waited 1 s, 0.99 s … 0.01 s; the others nothing.
		if l := r.Latency; !within(l.Max, 1000) || !within(l.P90, 600) || l.P50 > 0.01 || l.P99 < 950 {
			t.Errorf("%+v", l)
		}
	})
}

// TestOpenLoopKeepsItsRate, neither faster nor slower, and counts what was due and could not be sent.
func TestOpenLoopKeepsItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		r, err := Run(t.Context(), Plan{InFlight: 8, Rate: 50, Warmup: time.Second, Duration: 3 * time.Second}, func(context.Context, *Worker) error {
			time.Sleep(20 * time.Millisecond)
			return nil
		})
		if err != nil || r.Done != 150 || !within(r.PerSecond, 50) || !within(r.Latency.Max, 20) {
			t.Errorf("%+v, %v", r, err)
		}
		if took := time.Since(began); took > 4100*time.Millisecond {
			t.Errorf("took %s", took)
		}
		r, err = Run(t.Context(), Plan{InFlight: 1, Rate: 10, Duration: 10 * time.Second}, func(context.Context, *Worker) error {
			time.Sleep(time.Second) // a tenth of the rate
			return nil
		})
		if err != nil || r.Done+r.Unsent != 100 || r.Unsent < 75 || r.Latency.Max < 15_000 {
			t.Errorf("overloaded: %+v, %v", r, err)
		}
	})
}

// TestFailuresAreCounted by kind, apart from latencies; and progress tells of each second.
func TestFailuresAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seconds []Second
		r, err := Run(t.Context(), Plan{InFlight: 1, Warmup: time.Second, Duration: 3 * time.Second, Progress: func(s Second) { seconds = append(seconds, s) }},
			func(_ context.Context, w *Worker) error {
				time.Sleep(9990 * time.Microsecond)
				switch w.N % 10 {
				case 0:
					return fmt.Errorf("send: %w", &event.Error{Kind: event.KindBusy, Message: "full"})
				case 1, 2:
					return errors.New("broken")
				}
				return nil
			})
		if err != nil || r.Done != 210 || r.Failed != 90 || len(r.Failures) != 2 {
			t.Fatalf("%+v, %v", r, err)
		}
		if f := r.Failures; f[0].Kind != "other" || f[0].Count != 60 || f[1].Kind != string(event.KindBusy) || f[1].Count != 30 || f[1].Example == "" {
			t.Errorf("%+v", f)
		}
		if len(seconds) < 3 || !seconds[0].Warmup || seconds[2].Warmup || seconds[2].Done != 70 || seconds[2].Failed != 30 || !within(seconds[2].PerSecond, 70) {
			t.Errorf("%+v", seconds)
		}
	})
}

// TestTally: latencies of a part of a run are those of its requests, not of its seconds.
func TestTally(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var halves [2]Tally
		_, err := Run(t.Context(), Plan{InFlight: 1, Duration: 20 * time.Second, Progress: func(s Second) { halves[int(s.At/(11*time.Second))].Add(s) }},
			func(_ context.Context, w *Worker) error {
				took := 10 * time.Millisecond // and the sixth hundred ten times as long
				if s := w.N / 100; s == 5 {
					took *= 10
				}
				time.Sleep(took - time.Microsecond)
				if w.N == 42 {
					return errors.New("broken")
				}
				return nil
			})
		first, second := halves[0], halves[1]
		if err != nil || first.Failed != 1 || second.Failed != 0 || first.Done < 500 {
			t.Fatalf("%+v, %+v, %v", first, second, err)
		}
		if l := first.Latency(); !within(l.P50, 10) || !within(l.P99, 100) || !within(l.Max, 100) {
			t.Errorf("%+v", l)
		}
		if l := new(Tally).Latency(); l != (Latency{}) {
			t.Errorf("of nothing: %+v", l)
		}
	})
}

// TestBrokenOff: what ctx ends is no failure, and the report is of the time there was.
func TestBrokenOff(t *testing.T) {
	for _, rate := range []float64{0, 100} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			r, err := Run(ctx, Plan{InFlight: 2, Rate: rate, Duration: time.Hour}, func(ctx context.Context, _ *Worker) error {
				select {
				case <-time.After(10 * time.Millisecond):
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
			if err != nil || r.Failed != 0 || r.Done < 98 || !within(r.Seconds, 1) {
				t.Errorf("rate %g: %+v, %v", rate, r, err)
			}
		})
	}
}

// TestPlansAreChecked: every fault is named.
func TestPlansAreChecked(t *testing.T) {
	for _, p := range []Plan{{InFlight: 0, Duration: 1}, {InFlight: MaxInFlight + 1, Duration: 1}, {InFlight: 1}, {InFlight: 1, Duration: 1, Rate: -1}, {InFlight: 1, Duration: 1, Warmup: -1}} {
		if _, err := Run(t.Context(), p, nil); err == nil {
			t.Errorf("%+v is taken", p)
		}
	}
}

// TestSeedsDrawTheSame: for each worker, and other workers others.
func TestSeedsDrawTheSame(t *testing.T) {
	draw := func(seed uint64) [][]uint64 {
		all := make([][]uint64, 3)
		var mu sync.Mutex
		synctest.Test(t, func(t *testing.T) {
			_, err := Run(t.Context(), Plan{InFlight: 3, Duration: time.Second, Seed: seed}, func(_ context.Context, w *Worker) error {
				time.Sleep(200 * time.Millisecond)
				mu.Lock()
				defer mu.Unlock()
				all[w.Index] = append(all[w.Index], w.Rand.Uint64())
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
		return all
	}
	a, again, other := draw(1), draw(1), draw(2)
	for i := range a {
		if !slices.Equal(a[i], again[i]) || slices.Equal(a[i], other[i]) || slices.Equal(a[i], a[(i+1)%3]) {
			t.Errorf("worker %d: %v, %v, %v", i, a[i], again[i], other[i])
		}
	}
}

// TestWhatWorkloadsDraw: contents have their size, ids their seed, options their bounds.
func TestWhatWorkloadsDraw(t *testing.T) {
	w := NewWorker(3, 0)
	for _, size := range []int{1, 11, 12, 13, 256, 4096} {
		if s := Text(w.Rand, size); len(s) != size {
			t.Errorf("%d bytes, want %d", len(s), size)
		}
	}
	if first, second := Text(w.Rand, 64), Text(w.Rand, 64); first == second {
		t.Error("two texts are equal")
	}
	a, b := Options{Seed: 1}, Options{Seed: 2}
	if a.name(1) == b.name(1) || a.name(1) == a.name(2) {
		t.Error("ids are not told apart")
	}
	target := Target{Masters: []string{"127.0.0.1:1"}, Connections: 1}
	for _, o := range []Options{{Size: -1}, {Keys: -1}, {Batch: 1001}, {Dimension: 4096}, {K: 1001}} {
		if _, err := New("put", target, o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
	if _, err := New("none", target, Options{}); err == nil {
		t.Error("there is a workload of no name")
	}
	for _, name := range Names() {
		w, err := New(name.Name, target, Options{})
		if err != nil {
			t.Errorf("%s: %v", name.Name, err)
			continue
		}
		if err := w.Close(); err != nil || w.Weight() < 1 || name.About == "" {
			t.Errorf("%s: %v, weight %d", name.Name, err, w.Weight())
		}
	}
	if _, err := New("put", Target{Masters: target.Masters}, Options{}); err == nil {
		t.Error("no connections are taken")
	}
}
