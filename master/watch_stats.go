package master

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// stream is a kind of watch; each has room of its own, so that people who look at events cost no agent its assignments.
type stream int

const (
	streamEvents stream = iota
	streamShardMap
	streamAssignments
	streamKinds
)

// The watchers that one master serves at once. One of events that takes nothing holds about 0.25 MiB, so 1,024 hold a quarter
// of a GiB; more would let readers crowd the state out, fewer would not do for a grid whose every node has a tail. Maps and
// assignments are watched by every node, agent and client; they hold at most 64 KiB or one message each.
const (
	maxEventWatchers      = 1024
	maxMapWatchers        = 8192
	maxAssignmentWatchers = 4096
)

// tooManyPause is when a watcher that found no room should ask again.
const tooManyPause = 1000 // ms

// streamTraits is the table of the streams, by stream.
var streamTraits = [streamKinds]struct {
	label string // in metrics
	what  string // in errors
	limit int64
}{
	{"events", "events", maxEventWatchers}, {"shard_map", "the shard map", maxMapWatchers}, {"assignments", "assignments", maxAssignmentWatchers},
}

// watchStats counts watchers and why their streams ended.
type watchStats struct {
	now   [streamKinds]atomic.Int64
	ended *prometheus.CounterVec
}

func newWatchStats(registry prometheus.Registerer) *watchStats {
	w := &watchStats{ended: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "grid_watch_ended_total",
		Help: "Ended watches by stream and reason: left, stalled (the watcher took nothing), closing, or the kind of the error the watcher was told."},
		[]string{"stream", "reason"})}
	registry.MustRegister(w.ended)
	for i, s := range streamTraits {
		labels := prometheus.Labels{"stream": s.label}
		registry.MustRegister(
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "grid_watchers", Help: "Watches served by this master.", ConstLabels: labels},
				func() float64 { return float64(w.now[i].Load()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "grid_watchers_limit", Help: "Watches this master serves at most.", ConstLabels: labels},
				func() float64 { return float64(s.limit) }))
	}
	return w
}

// enter takes a place; leave must follow if there was one.
func (w *watchStats) enter(k stream) bool {
	if w.now[k].Add(1) > streamTraits[k].limit {
		w.leave(k)
		return false
	}
	return true
}

func (w *watchStats) leave(k stream) { w.now[k].Add(-1) }

// serve runs a stream in its place, and counts its end. A watcher that was cut off because it took nothing cannot be told, so
// the log is.
func (w *watches) serve(ctx context.Context, to sender, k stream, run func() error) error {
	traits := streamTraits[k]
	if !w.stats.enter(k) {
		w.stats.ended.WithLabelValues(traits.label, string(event.KindBusy)).Inc()
		return &event.Error{Kind: event.KindBusy, Op: "watch " + traits.what, RetryAfterMillis: tooManyPause,
			Message: fmt.Sprintf("%d watchers are served here, which is the limit; ask another master, or end some", traits.limit)}
	}
	defer w.stats.leave(k)
	err := run()
	reason := endOf(ctx, err)
	w.stats.ended.WithLabelValues(traits.label, reason).Inc()
	if reason == endStalled {
		w.log.Warn("a watcher took nothing for too long and was cut off", "stream", traits.label, "watcher", to.Remote().String())
	}
	return err
}

// Reasons beside the kinds of errors.
const (
	endStalled = "stalled"
	endLeft    = "left"
	endClosing = "closing"
)

// endOf is why a stream ended.
func endOf(ctx context.Context, err error) string {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	var told *event.Error
	switch {
	case errors.Is(err, transport.ErrStalled):
		return endStalled
	case errors.As(err, &told):
		return string(told.Kind)
	case errors.Is(err, transport.ErrPeerGone):
		return endLeft
	case ctx.Err() != nil:
		return endClosing
	}
	return string(event.KindInternal)
}
