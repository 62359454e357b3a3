package transport

import (
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

const (
	// reservedRequests is the share of Limits.Requests, one in so many, that is added for requests the grid lives by.
	reservedRequests = 8
	// reservedBytes is what their frames may take in all, beside Limits.RequestBytes.
	reservedBytes = 8 << 20
	// busyRetry is when a refused request is worth another try: a query or two later.
	busyRetry = 200 * time.Millisecond

	// slowBurst slow requests are logged at once, then one in slowEvery; how many were not is said with the next one.
	slowBurst = 10
	slowEvery = time.Second
)

// admission counts the requests that a server works on, in all, and refuses what is too much at once. Requests the grid lives
// by (heartbeats, health, elections' news, what ends transactions) have room of their own, so that they never wait behind
// queries; streams are bounded by who serves them. It is safe for concurrent use.
type admission struct {
	limit   int64               // Limits.Requests
	bytes   *semaphore.Weighted // Limits.RequestBytes
	urgent  *semaphore.Weighted // reservedBytes
	running atomic.Int64        // without streams
	refused atomic.Uint64
	slow    slowLog
}

// Counters is what a server has had to do, since it was made.
type Counters struct {
	Running int64  // requests being worked on now, without streams
	Refused uint64 // with KindBusy, because too many were
	Slow    uint64 // took longer than ServerConfig.Slow
}

// Counters reads the counters; each is right, but they are not of one moment.
func (s *Server) Counters() Counters {
	return Counters{Running: s.admission.running.Load(), Refused: s.admission.refused.Load(), Slow: s.admission.slow.seen.Load()}
}

// budget is where the bytes of a small frame come from.
func (a *admission) budget(payload []byte) *semaphore.Weighted {
	if v := variantAt(payload); v != nil && v.has(urgent) && len(payload) <= smallFrame {
		return a.urgent
	}
	return a.bytes
}

// enter takes a place for a request; leave must follow when there is no error.
func (a *admission) enter(req any) (leave func(), err error) {
	v, known := variantOf(req)
	if known && v.has(streaming) {
		return func() {}, nil
	}
	limit := a.limit
	if isUrgent(req) {
		limit += max(limit/reservedRequests, 1)
	}
	if a.running.Add(1) > limit {
		a.running.Add(-1)
		a.refused.Add(1)
		return nil, &event.Error{Kind: event.KindBusy, Op: VariantName(req), Message: "too many requests are being worked on here; ask again a little later",
			RetryAfterMillis: uint32(busyRetry.Milliseconds())}
	}
	return func() { a.running.Add(-1) }, nil
}

// isUrgent tells whether the grid lives by a request, also inside Routed.
func isUrgent(req any) bool {
	if r, ok := req.(*Routed); ok {
		req = r.Request.Value
	}
	v, ok := variantOf(req)
	return ok && v.has(urgent)
}

// slowLog says which requests took long, at a bounded rate.
type slowLog struct {
	log   *slog.Logger
	name  string
	after time.Duration // 0: nothing is slow
	seen  atomic.Uint64

	mu     sync.Mutex
	tokens int       // lines that may be written now; guarded by mu
	filled time.Time // when tokens were added last; guarded by mu
	silent int       // slow requests since the last line; guarded by mu
}

// done notes a request that was answered after took.
func (l *slowLog) done(from net.Addr, req any, took time.Duration, err error) {
	if l.after <= 0 || took < l.after {
		return
	}
	if v, ok := variantOf(req); ok && v.has(streaming) {
		return
	}
	l.seen.Add(1)
	silent, say := l.line(time.Now())
	if !say {
		return
	}
	attrs := []any{"server", l.name, "peer", from.String(), "took", took.Round(time.Millisecond), "not_logged_before", silent}
	if r, ok := req.(*Routed); ok {
		attrs = append(attrs, "shard", string(r.ShardID), "request_id", r.RequestID.String(), "request", VariantName(r.Request.Value))
	} else {
		attrs = append(attrs, "request", VariantName(req))
		if id, _ := identity(req); id != nil {
			attrs = append(attrs, "request_id", id.String())
		}
	}
	if err != nil {
		attrs = append(attrs, "err", err)
	}
	l.log.Warn("slow request", attrs...)
}

// line takes the right to write a line, and says how many were left out since the last one.
func (l *slowLog) line(now time.Time) (silent int, say bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.filled.IsZero() {
		l.tokens, l.filled = slowBurst, now
	}
	if n := int(now.Sub(l.filled) / slowEvery); n > 0 {
		l.tokens, l.filled = min(l.tokens+n, slowBurst), l.filled.Add(time.Duration(n)*slowEvery)
	}
	if l.tokens == 0 {
		l.silent++
		return 0, false
	}
	l.tokens--
	silent, l.silent = l.silent, 0
	return silent, true
}
