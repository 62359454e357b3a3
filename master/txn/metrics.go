package txn

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// Metrics count what the coordinators of one registry do; docs/transactions.md has the table.
type Metrics struct {
	ended    *prometheus.CounterVec   // by result and reason
	attempts prometheus.Counter       // that began to prepare
	retries  prometheus.Counter       // of these, those that were not a transaction's first
	undone   prometheus.Counter       // attempts dropped after a participant may have prepared them
	phases   *prometheus.HistogramVec // by phase
	writes   *prometheus.CounterVec   // transactions of one shard, by result
	inquired *prometheus.CounterVec   // inquiries, by answer
	repeated prometheus.Counter       // transactions that were answered from what is known of their id
}

// NewMetrics makes them and registers them with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "grid_txn_ended_total",
			Help: "Transactions that this master answered, by result (committed, aborted, unknown, refused) and reason."}, []string{"result", "reason"}),
		attempts: prometheus.NewCounter(prometheus.CounterOpts{Name: "grid_txn_attempts_total", Help: "Attempts of transactions over several shards."}),
		retries:  prometheus.NewCounter(prometheus.CounterOpts{Name: "grid_txn_retries_total", Help: "Attempts that followed another one of the same transaction."}),
		undone:   prometheus.NewCounter(prometheus.CounterOpts{Name: "grid_txn_undone_total", Help: "Attempts that were prepared somewhere, or may have been, and were dropped."}),
		phases: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "grid_txn_phase_seconds",
			Help: "Time of the phases of transactions: prepare, decide and finish of one attempt; single, a whole write of one shard.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)}, []string{"phase"}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "grid_txn_single_total",
			Help: "Transactions of one shard that were sent as one write, by result: done, refused, several (an end lives elsewhere: several shards after all)."}, []string{"result"}),
		inquired: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "grid_txn_in_doubt_total",
			Help: "Participants' questions about attempts in doubt, by answer: committed, aborted (before), stopped (by asking), failed."}, []string{"answer"}),
		repeated: prometheus.NewCounter(prometheus.CounterOpts{Name: "grid_txn_repeated_total", Help: "Transactions that were sent again, and answered from what is known of them."}),
	}
	for _, answer := range []string{"committed", "aborted", "stopped", "failed"} { // there from the beginning
		m.inquired.WithLabelValues(answer)
	}
	for _, result := range []string{"done", "refused", "several"} {
		m.writes.WithLabelValues(result)
	}
	if reg != nil {
		reg.MustRegister(m.ended, m.attempts, m.retries, m.undone, m.phases, m.writes, m.inquired, m.repeated)
	}
	return m
}

// phase observes the time since begin.
func (m *Metrics) phase(name string, begin time.Time) {
	m.phases.WithLabelValues(name).Observe(time.Since(begin).Seconds())
}

// wrote counts one write of a transaction of one shard.
func (m *Metrics) wrote(begin time.Time, err error) {
	switch {
	case err == nil:
		m.phase("single", begin)
		m.writes.WithLabelValues("done").Inc()
	case errors.Is(err, &event.Error{Kind: event.KindNeedsTxn}):
		m.writes.WithLabelValues("several").Inc()
	default:
		m.writes.WithLabelValues("refused").Inc()
	}
}

// answered counts one transaction's end.
func (m *Metrics) answered(err error) {
	result, reason := verdict(err)
	m.ended.WithLabelValues(result, reason).Inc()
}

// verdict is what an answer says: committed; aborted, surely; unknown; or refused before anything was tried.
func verdict(err error) (result, reason string) {
	if err == nil {
		return "committed", ""
	}
	var e *event.Error
	if !errors.As(err, &e) {
		return "unknown", string(event.KindInternal)
	}
	switch e.Kind {
	case event.KindAborted, event.KindPrecondition:
		return "aborted", Reason(err)
	case event.KindInvalid, event.KindTooLarge, event.KindUnsupported, event.KindFromTheFuture, event.KindIDReused, event.KindRefused,
		event.KindFeedFull, event.KindBusy, event.KindLocked, event.KindUnavailable, event.KindNotLeader, event.KindMoving, event.KindWrongShard:
		return "refused", string(e.Kind)
	}
	return "unknown", string(e.Kind)
}

// ErrDeadline is in the error of a transaction that was aborted because its time was up, for another reason than a conflict.
var ErrDeadline = errors.New("its time was up")

// Reason is why a transaction was aborted, in one word: precondition, conflict (it met others until its time was up), deadline, aborted (it was,
// before), or the kind of a refusal. Of an error that came over the wire it does not tell deadline from aborted.
func Reason(err error) string {
	var e *event.Error
	switch {
	case !errors.As(err, &e):
		return string(event.KindInternal)
	case e.Kind == event.KindAborted && e.OpNumber > 0:
		return "conflict"
	case errors.Is(err, ErrDeadline):
		return "deadline"
	}
	return string(e.Kind)
}
