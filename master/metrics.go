package master

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/master/txn"
)

// stats counts what a master does, in a registry of its own: two masters fit in one process.
type stats struct {
	registry *prometheus.Registry
	accepted prometheus.Counter // proposals, by result
	refused  prometheus.Counter
	failed   prometheus.Counter

	feedDropped *prometheus.CounterVec // by class
	feedRefused prometheus.Counter

	requests *prometheus.CounterVec
	latency  *prometheus.HistogramVec
	watches  *watchStats
	txns     *txn.Metrics
}

func newStats() *stats {
	proposals := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "grid_proposals_total",
		Help: "Commands proposed through this master, by result: accepted, refused, failed."}, []string{"result"})
	s := &stats{
		registry: prometheus.NewRegistry(),
		accepted: proposals.WithLabelValues("accepted"),
		refused:  proposals.WithLabelValues("refused"),
		failed:   proposals.WithLabelValues("failed"),
		feedDropped: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "grid_feed_dropped_total",
			Help: "Events that this leader dropped because the outbox was over 80 % full, by class."}, []string{"class"}),
		feedRefused: prometheus.NewCounter(prometheus.CounterOpts{Name: "grid_feed_refused_total",
			Help: "Commands that this leader refused because the outbox was over 90 % full."}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "grid_http_requests_total",
			Help: "HTTP requests by route and status class."}, []string{"route", "class"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "grid_http_request_seconds",
			Help: "Time to answer HTTP requests by route.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16)}, []string{"route"}),
	}
	s.feedDropped.WithLabelValues(event.Telemetry.String()) // there from the beginning
	s.registry.MustRegister(proposals, s.feedDropped, s.feedRefused, s.requests, s.latency,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.watches = newWatchStats(s.registry)
	s.txns = txn.NewMetrics(s.registry)
	return s
}

// statusClasses are label values of grid_http_requests_total.
var statusClasses = [...]string{"", "1xx", "2xx", "3xx", "4xx", "5xx"}

func (s *stats) served(route string, status int, took time.Duration) {
	s.requests.WithLabelValues(route, statusClasses[status/100]).Inc()
	s.latency.WithLabelValues(route).Observe(took.Seconds())
}

func (s *stats) proposed(answer fsm.Answer, err error) {
	switch {
	case err != nil:
		s.failed.Inc()
	case answer.Err != nil:
		s.refused.Inc()
	default:
		s.accepted.Inc()
	}
}

// handler serves the registry; the master's own gauges are read when asked for.
func (s *stats) handler(current func() *core) http.Handler {
	s.registry.MustRegister(coreCollector{current: current})
	return promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{})
}

// gauge is one figure of the state of a master.
type gauge struct {
	desc *prometheus.Desc
	read func(c *core, s *fsm.State) float64
}

func newGauge(name, help string, read func(c *core, s *fsm.State) float64) gauge {
	return gauge{desc: prometheus.NewDesc(name, help, nil, nil), read: read}
}

// gauges is the table of what /metrics says about a serving master.
var gauges = []gauge{
	newGauge("grid_raft_leader", "1 on the master that leads.", func(c *core, _ *fsm.State) float64 { return oneIf(c.group.IsLeader()) }),
	newGauge("grid_raft_leader_known", "1 when this master knows a leader.", func(c *core, _ *fsm.State) float64 {
		_, _, known := c.group.Leader()
		return oneIf(known)
	}),
	newGauge("grid_raft_term", "Raft term.", func(c *core, _ *fsm.State) float64 {
		_, term, _ := c.group.Leader()
		return float64(term)
	}),
	newGauge("grid_raft_applied_index", "Raft index applied by the state machine.", func(c *core, _ *fsm.State) float64 { return float64(c.group.Applied()) }),
	newGauge("grid_seq", "Seq of the last event.", func(_ *core, s *fsm.State) float64 { return float64(s.Seq()) }),
	newGauge("grid_shard_map_epoch", "Seq of the last change of the shard map.", func(_ *core, s *fsm.State) float64 { return float64(s.Epoch().Seq) }),
	newGauge("grid_feed_lag_events", "Events that the slowest sink does not hold yet.", func(_ *core, s *fsm.State) float64 { return float64(feedLag(s)) }),
	newGauge("grid_outbox_bytes", "Encoded events in this master's outbox.", func(c *core, _ *fsm.State) float64 { return float64(c.replica.outbox.Bytes()) }),
	newGauge("grid_outbox_unsent_bytes", "Encoded events that some sink does not hold, to within 1,024 events.", func(_ *core, s *fsm.State) float64 { return float64(s.Outbox().Bytes) }),
	newGauge("grid_outbox_quota_bytes", "What the outbox may hold of unsent events: the setting feed.quota_mb.", func(_ *core, s *fsm.State) float64 { return float64(s.Outbox().Quota) }),
	newGauge("grid_feed_lag_seconds", "Age of the oldest event that the slowest sink does not hold.", func(c *core, s *fsm.State) float64 {
		through, some := ackedByAll(s)
		if !some {
			return 0
		}
		return c.behind(s, through).Seconds()
	}),
	newGauge("grid_agents", "Registered agents.", func(_ *core, s *fsm.State) float64 { return float64(s.Cluster().TotalAgents) }),
	newGauge("grid_agents_healthy", "Healthy agents.", func(_ *core, s *fsm.State) float64 { return float64(s.Cluster().HealthyAgents) }),
	newGauge("grid_nodes", "Storage nodes that should run.", func(_ *core, s *fsm.State) float64 { return float64(s.Cluster().TotalNodes) }),
	newGauge("grid_nodes_running", "Storage nodes that run.", func(_ *core, s *fsm.State) float64 { return float64(s.Cluster().RunningNodes) }),
	newGauge("grid_transactions_open", "Transactions that are decided and not completed.", func(_ *core, s *fsm.State) float64 { return float64(s.OpenTxnCount()) }),
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// sinkState is 1 for the state that each sink is in, on the leader.
var sinkState = prometheus.NewDesc("grid_feed_sink_state", "1 for the state a sink is in; only the leader ships.", []string{"sink", "state"}, nil)

// coreCollector reads the gauges from the serving master, if there is one yet.
type coreCollector struct{ current func() *core }

// Describe implements prometheus.Collector.
func (coreCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, g := range gauges {
		ch <- g.desc
	}
	ch <- sinkState
}

// Collect implements prometheus.Collector.
func (k coreCollector) Collect(ch chan<- prometheus.Metric) {
	c := k.current()
	if c == nil {
		return
	}
	s := c.replica.View()
	for _, g := range gauges {
		ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, g.read(c, s))
	}
	for _, sink := range c.shipper.Status() {
		ch <- prometheus.MustNewConstMetric(sinkState, prometheus.GaugeValue, 1, sink.Sink, string(sink.State))
	}
}
