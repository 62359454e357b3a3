package load

import (
	"fmt"
	"io"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Report is what a Run measured. Its JSON is that of `gridctl bench -o json`.
type Report struct {
	Seed      uint64    `json:"seed"`
	InFlight  int       `json:"in_flight"`
	Rate      float64   `json:"rate"` // asked for, requests/s; 0: as fast as answers came
	Seconds   float64   `json:"seconds"`
	Done      uint64    `json:"done"`
	Failed    uint64    `json:"failed"`
	Unsent    uint64    `json:"unsent"`     // due, and not sent within 10 s of the end
	PerSecond float64   `json:"per_second"` // Done by Seconds
	Latency   Latency   `json:"latency_ms"` // of Done
	Failures  []Failure `json:"failures"`   // by kind, the most frequent first
}

// Latency is a distribution, in milliseconds, to three digits.
type Latency struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
	Mean float64 `json:"mean"`
}

// Failure is the errors of one kind.
type Failure struct {
	Kind    string `json:"kind"` // event.Kind, or "other"
	Count   uint64 `json:"count"`
	Example string `json:"example"` // the first
}

// Second is one second of a Run, for whoever looks.
type Second struct {
	At        time.Duration // since the load began
	Warmup    bool
	Done      uint64
	Failed    uint64
	PerSecond float64
	P50, P99  time.Duration

	latencies *hdrhistogram.Histogram // for Tally
}

// String is a progress line.
func (s Second) String() string {
	text := fmt.Sprintf("%4.0f s  %9.0f/s  p50 %-9v p99 %v", s.At.Seconds(), s.PerSecond, s.P50, s.P99)
	if s.Failed > 0 {
		text += fmt.Sprintf("  %d failed", s.Failed)
	}
	if s.Warmup {
		text += "  (warm-up)"
	}
	return text
}

// Write tells people of a report.
func (r *Report) Write(w io.Writer) error {
	how := "closed loop"
	if r.Rate > 0 {
		how = fmt.Sprintf("open loop, %.0f/s asked for", r.Rate)
	}
	_, err := fmt.Fprintf(w, "%d requests in %.1f s: %.0f/s (%s, %d in flight, seed %d)\nlatency ms: p50 %.3f  p90 %.3f  p99 %.3f  p99.9 %.3f  max %.3f\n",
		r.Done, r.Seconds, r.PerSecond, how, r.InFlight, r.Seed, r.Latency.P50, r.Latency.P90, r.Latency.P99, r.Latency.P999, r.Latency.Max)
	for _, f := range r.Failures {
		if err == nil {
			_, err = fmt.Fprintf(w, "failed: %d %s, the first: %s\n", f.Count, f.Kind, f.Example)
		}
	}
	if err == nil && r.Unsent > 0 {
		_, err = fmt.Fprintf(w, "not sent: %d that were due; the grid does not keep up with the rate\n", r.Unsent)
	}
	return err
}
