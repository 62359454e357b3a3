package client

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/transport"
)

// What is remembered of how long reads took.
const (
	// ewmaWeight is the share of the newest reading in a node's average: smaller follows a node that becomes slow too late,
	// larger takes every hiccup for the node's nature.
	ewmaWeight = 0.2
	// ewmaFade halves what is remembered of a node that is not asked, so that it is tried again.
	ewmaFade = 10 * time.Second
	// failureCosts is what a node that could not be reached counts as: more than any answer that was waited for.
	failureCosts = attemptLimit
	// maxNodes bounds the averages. A grid has fewer nodes; what comes and goes is forgotten all at once.
	maxNodes = 4096

	// windowSize is how many readings of a kind of request its 95th percentile is of. Fewer make it jump, more make it late.
	windowSize = 128
	// windowStep is how many readings come between two looks at it.
	windowStep = 16
)

// latencies is how quick the nodes were of late, and how long each kind of read takes. It is safe for concurrent use.
type latencies struct {
	mu    sync.Mutex
	nodes map[string]*average // by address; guarded by mu
	kinds map[string]*window  // by variant; guarded by mu
}

// average is a node's exponentially weighted one.
type average struct {
	d  time.Duration
	at time.Time // of the last reading
}

// window is the last readings of one kind of request.
type window struct {
	last  [windowSize]time.Duration
	count int           // readings so far
	p95   time.Duration // as of the last multiple of windowStep; 0: too few readings
}

func newLatencies() *latencies {
	return &latencies{nodes: map[string]*average{}, kinds: map[string]*window{}}
}

// took notes that a node answered a read after d. Of one that was given up, because another answer came first, d is what it took at
// least.
func (l *latencies) took(addr string, req any, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noteLocked(addr, d)
	kind := transport.VariantName(req)
	w := l.kinds[kind]
	if w == nil {
		w = &window{}
		l.kinds[kind] = w
	}
	w.last[w.count%windowSize] = d
	if w.count++; w.count%windowStep == 0 {
		w.p95 = percentile95(w.last[:min(w.count, windowSize)])
	}
}

// failed notes that a node did not answer: for how long, or failureCosts when it could not be reached.
func (l *latencies) failed(addr string, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noteLocked(addr, d)
}

func (l *latencies) noteLocked(addr string, d time.Duration) {
	now := time.Now()
	a := l.nodes[addr]
	if a == nil {
		if len(l.nodes) == maxNodes {
			clear(l.nodes)
		}
		l.nodes[addr] = &average{d, now}
		return
	}
	a.d, a.at = time.Duration(ewmaWeight*float64(d)+(1-ewmaWeight)*float64(a.faded(now))), now
}

// faded is the average as it counts now.
func (a *average) faded(now time.Time) time.Duration {
	return time.Duration(float64(a.d) * math.Exp2(-float64(now.Sub(a.at))/float64(ewmaFade)))
}

func percentile95(readings []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(readings))
	return sorted[len(sorted)*95/100]
}

// p95 is the time within which 95 of 100 reads of the kind were answered of late; 0: too few are known.
func (l *latencies) p95(req any) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w := l.kinds[transport.VariantName(req)]; w != nil {
		return w.p95
	}
	return 0
}

// quicker picks the better of two of the addresses, drawn with random (rand.IntN). Two choices are nearly as good as the best of all, and
// do not send every client to one node. Nothing is known of a node counts as quick, so that it becomes known.
func (l *latencies) quicker(addrs []string, random func(n int) int) string {
	if len(addrs) == 1 {
		return addrs[0]
	}
	i := random(len(addrs))
	j := random(len(addrs) - 1)
	if j >= i {
		j++
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	known := func(addr string) time.Duration {
		if a := l.nodes[addr]; a != nil {
			return a.faded(now)
		}
		return 0
	}
	if known(addrs[j]) < known(addrs[i]) {
		return addrs[j]
	}
	return addrs[i]
}
