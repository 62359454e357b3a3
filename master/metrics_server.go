package master

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sutra-grid/sutra-grid/transport"
)

// serves adds what the server of the grid port counts.
func (s *stats) serves(server *transport.Server) {
	s.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "grid_requests_running", Help: "Requests on the grid port that are being worked on, without watches."},
			func() float64 { return float64(server.Counters().Running) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "grid_requests_refused_total", Help: "Requests on the grid port that were refused as busy, because too many were being worked on."},
			func() float64 { return float64(server.Counters().Refused) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "grid_requests_slow_total", Help: "Requests on the grid port that took longer than --slow-request."},
			func() float64 { return float64(server.Counters().Slow) }))
}
