package soak

import (
	"time"

	"github.com/sutra-grid/sutra-grid/internal/load"
)

// Usage is what one process uses. What it does not tell is 0.
type Usage struct {
	Process    string
	Heap       float64 // bytes, the lowest since the last sample
	Goroutines float64
	Files      float64 // open, without Store
	Store      float64 // open tables and log segments of stores
	RSS        float64 // bytes
	Disk       float64 // bytes
}

// Lag is how far event storage is behind.
type Lag struct {
	Events, Seconds float64
	Through         uint64 // the last event that it has
}

// Sample is one look at a grid.
type Sample struct {
	At        time.Duration // since the load began
	Processes []Usage       // those that could be looked at
	Lag       *Lag          // nil: nobody said
}

// Part is a part of the load by time.
type Part struct {
	From    float64      `json:"from"` // seconds since the load began
	To      float64      `json:"to"`
	Done    uint64       `json:"done"`
	Failed  uint64       `json:"failed"`
	Latency load.Latency `json:"latency_ms"`
}

// PartOf is a part with what was counted in it.
func PartOf(from, to time.Duration, t *load.Tally) Part {
	return Part{From: from.Seconds(), To: to.Seconds(), Done: t.Done, Failed: t.Failed, Latency: t.Latency()}
}

// Parts is in how many parts of equal length a run is looked at: ten minutes of an hour.
const Parts = 6

// Peak is what the grid does at most, by the same mix of requests.
type Peak struct {
	Answered  float64 `json:"answered"`  // requests/s of a closed loop
	Sustained float64 `json:"sustained"` // the same requests by the time until event storage had all of their events
	Seconds   float64 `json:"seconds"`   // how long the closed loop was
}

// Run is what was measured.
type Run struct {
	Length    time.Duration // that it should have
	BrokenOff bool          // it ended before
	Load      *load.Report
	Samples   []Sample
	Parts     []Part   // Parts of Length
	Minutes   []Part   // of a minute each
	Restarts  []string // processes that ended on the way
}

// Ran is how long it was.
func (r *Run) Ran() time.Duration { return time.Duration(r.Load.Seconds * float64(time.Second)) }

// names lists the processes in the order in which they were seen.
func (r *Run) names() (names []string) {
	seen := map[string]bool{}
	for _, s := range r.Samples {
		for _, u := range s.Processes {
			if !seen[u.Process] {
				names, seen[u.Process] = append(names, u.Process), true
			}
		}
	}
	return names
}
