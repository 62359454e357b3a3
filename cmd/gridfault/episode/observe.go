package episode

import (
	"context"
	"time"

	"github.com/sutra-grid/sutra-grid/transport"
)

// lookEvery is how often it is asked who leads the masters.
const lookEvery = 200 * time.Millisecond

// led is who led the masters from a moment on; "": nobody that could be asked.
type led struct {
	at  time.Duration
	who string
}

// observe notes who leads the masters until ctx ends. It is for people who read the timeline: no rule depends on it.
func (r *run) observe(ctx context.Context) error {
	pool := transport.NewPool(transport.PoolConfig{Network: r.grid.Network("observer")})
	var addrs []string
	for _, m := range r.grid.Layout().Masters {
		addrs = append(addrs, m.Address)
	}
	masters := transport.NewMasters(addrs, pool)
	for wait(ctx, lookEvery) == nil {
		limit, cancel := context.WithTimeout(ctx, lookEvery)
		who := ""
		if status, err := transport.As[transport.ClusterStatus](masters.Call(limit, &transport.GetClusterStatus{})); err == nil {
			who = string(status.Leader)
		}
		cancel()
		if n := len(r.leaders); ctx.Err() == nil && (n == 0 || r.leaders[n-1].who != who) {
			r.leaders = append(r.leaders, led{time.Since(r.begun), who})
		}
	}
	return pool.Close()
}
