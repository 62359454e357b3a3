package load

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Tally adds up the seconds of a part of a run. Zero is empty. Its latencies are exact, not a mean of the seconds' own. What is answered
// within the last second of a run may be in none: Report has it.
type Tally struct {
	Done, Failed uint64

	latencies *hdrhistogram.Histogram
}

// Add counts a second.
func (t *Tally) Add(s Second) {
	t.Done, t.Failed = t.Done+s.Done, t.Failed+s.Failed
	if s.latencies == nil {
		return
	}
	if t.latencies == nil {
		t.latencies = newHistogram()
	}
	t.latencies.Merge(s.latencies)
}

// Latency is that of all that was done; zero of nothing.
func (t *Tally) Latency() Latency {
	if t.latencies == nil {
		return Latency{}
	}
	return latency(t.latencies)
}

func latency(h *hdrhistogram.Histogram) Latency {
	return Latency{P50: millis(h, 50), P90: millis(h, 90), P99: millis(h, 99), P999: millis(h, 99.9), Max: float64(h.Max()) / 1e3, Mean: h.Mean() / 1e3}
}

func quantile(h *hdrhistogram.Histogram, q float64) time.Duration {
	return time.Duration(h.ValueAtQuantile(q)) * time.Microsecond
}

func millis(h *hdrhistogram.Histogram, q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1e3 }
