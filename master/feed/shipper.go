package feed

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// ShipperConfig says what is shipped and where the sinks are found.
type ShipperConfig struct {
	Outbox  *Outbox
	View    func() *fsm.State      // this master's applied state
	Changed func() <-chan struct{} // closed when a newer state is published
	Propose func(ctx context.Context, c event.Command) (fsm.Answer, error)
	Pool    *transport.Pool
	Log     *slog.Logger // nil: slog.Default()

	AckInterval  time.Duration // between two feed_acked of a sink; 0: 1 s
	RetryFirst   time.Duration // until a sink that failed is tried again, growing; 0: 100 ms
	RetryMax     time.Duration // up to this; 0: 10 s
	RetryRefused time.Duration // until a refused sink is looked at again; 0: 30 s
}

// SinkState says what the shipper is doing about a sink.
type SinkState string

// The states of a sink.
const (
	SinkConnecting SinkState = "connecting" // first contact in this term
	SinkShipping   SinkState = "shipping"   // connected and verified; idle when Through is the newest event
	SinkRetrying   SinkState = "retrying"   // cannot be reached or answers errors; tried again with back-off
	SinkRefused    SinkState = "refused"    // it is not what it acknowledged, or needs events that are gone: an operator must look
)

// SinkStatus is what the leader knows of one sink.
type SinkStatus struct {
	Sink, Address string
	State         SinkState
	Through       uint64 // the newest event known to be durable there
	Error         string // of SinkRetrying and SinkRefused
}

// Shipper streams the outbox to every sink of the state. It exists on every master and runs on the leader.
type Shipper struct {
	cfg ShipperConfig

	mu     sync.Mutex
	status map[string]SinkStatus // guarded by mu; of the sinks with a worker
}

// NewShipper makes a shipper that does nothing until Run.
func NewShipper(c ShipperConfig) *Shipper {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	c.AckInterval = cmp.Or(c.AckInterval, time.Second)
	c.RetryFirst = cmp.Or(c.RetryFirst, 100*time.Millisecond)
	c.RetryMax = cmp.Or(c.RetryMax, 10*time.Second)
	c.RetryRefused = cmp.Or(c.RetryRefused, 30*time.Second)
	return &Shipper{cfg: c, status: map[string]SinkStatus{}}
}

// Status lists the sinks that are shipped to, ordered by name; empty on a master that does not lead.
func (s *Shipper) Status() []SinkStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]SinkStatus, 0, len(s.status))
	for _, st := range s.status {
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b SinkStatus) int { return cmp.Compare(a.Sink, b.Sink) })
	return out
}

// Run ships to every sink of the state, one worker each, until ctx (the leader's term) ends, and returns nil then. A worker
// starts when its sink is added and ends when it is removed or gets another address.
func (s *Shipper) Run(ctx context.Context) error {
	var g errgroup.Group
	workers := map[string]*worker{}
	defer func() {
		for _, w := range workers {
			w.stop(errors.New("the term has ended"))
		}
		_ = g.Wait() // workers report for themselves
	}()
	for {
		changed := s.cfg.Changed()
		s.reconcile(ctx, &g, workers)
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// reconcile makes the workers those of the state's sinks.
func (s *Shipper) reconcile(ctx context.Context, g *errgroup.Group, workers map[string]*worker) {
	want := map[string]string{}
	for sink := range s.cfg.View().Sinks() {
		want[sink.Name] = sink.Address
	}
	for name, w := range workers {
		if want[name] != w.address {
			w.stop(errors.New("the sink was removed or has another address"))
			delete(workers, name)
		}
	}
	for name, address := range want {
		if workers[name] != nil {
			continue
		}
		w := newWorker(ctx, s, name, address)
		workers[name] = w
		g.Go(func() error { w.run(); return nil })
	}
}

// report publishes a worker's status; nil removes it.
func (s *Shipper) report(w *worker, change func(*SinkStatus)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, ok := s.status[w.sink]
	if !ok || st.Address != w.address {
		st = SinkStatus{Sink: w.sink, Address: w.address, State: SinkConnecting}
	}
	change(&st)
	s.status[w.sink] = st
}

func (s *Shipper) forget(w *worker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status[w.sink].Address == w.address {
		delete(s.status, w.sink)
	}
}
