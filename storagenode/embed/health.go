package embed

import (
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// A service is degraded when of at least minResults results in the window half or more are failures. Then it is tried once
// per ProbeInterval, everything else is refused at once; the first success makes it healthy again, with an empty window.
const (
	minResults   = 4
	degradedFrom = 0.5
)

// health judges a service by its last results. Safe for concurrent use.
type health struct {
	cfg      *Config
	endpoint string

	mu        sync.Mutex
	results   []bool // success, the oldest first; at most Window
	known     bool   // healthy was reported and nothing since
	degraded  bool
	reason    string    // of degraded
	nextProbe time.Time // of degraded
	hits      uint64    // texts found in the cache
	asked     uint64    // texts looked up there
}

func newHealth(cfg *Config, endpoint string) *health { return &health{cfg: cfg, endpoint: endpoint} }

// admit refuses an attempt while the service is degraded and it is not time for a probe.
func (h *health) admit(now time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.degraded {
		return nil
	}
	if wait := h.nextProbe.Sub(now); wait > 0 {
		err := failed(event.KindUnavailable, "the embedding service at %s is degraded (%s): retry later", h.endpoint, h.reason)
		err.RetryAfterMillis = uint32(wait.Milliseconds()) + 1
		return err
	}
	h.nextProbe = now.Add(h.cfg.ProbeInterval)
	return nil
}

// note takes one attempt's result; nil is a success. Reports are made under the lock, so that they come in order.
func (h *health) note(err *event.Error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.degraded && err == nil {
		h.degraded, h.known, h.results = false, false, nil
	}
	if len(h.results) == h.cfg.Window {
		h.results = h.results[1:]
	}
	h.results = append(h.results, err == nil)
	rate := h.errorRate()
	switch {
	case err == nil && !h.known:
		h.known = true
		if report := h.cfg.Reports.Healthy; report != nil {
			report(Healthy{Instance: h.cfg.Instance, Endpoint: h.endpoint, SuccessRate: 1 - rate, CacheHitRate: h.hitRate()})
		}
	case err != nil && !h.degraded && len(h.results) >= minResults && rate >= degradedFrom:
		h.degraded, h.known, h.reason = true, false, err.Message
		h.nextProbe = time.Now().Add(h.cfg.ProbeInterval)
		if report := h.cfg.Reports.Degraded; report != nil {
			report(Degraded{Instance: h.cfg.Instance, Endpoint: h.endpoint, ErrorRate: rate, Reason: h.reason})
		}
	}
}

// looked counts texts looked up in the cache.
func (h *health) looked(hits, texts int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hits += uint64(hits)
	h.asked += uint64(texts)
}

func (h *health) errorRate() float64 {
	bad := 0
	for _, ok := range h.results {
		if !ok {
			bad++
		}
	}
	return float64(bad) / float64(len(h.results))
}

func (h *health) hitRate() float64 {
	if h.asked == 0 {
		return 0
	}
	return float64(h.hits) / float64(h.asked)
}
