package storagenode

import (
	"context"
	"sync"
	"time"
)

// pace spaces bytes out: all who wait for it together get no more than its rate. A burst is what one of them asks for.
type pace struct {
	perSecond int64 // bytes

	mu   sync.Mutex
	free time.Time // guarded by mu; when all that was granted has gone over
}

// wait returns when n bytes more may go, or with the cause of ctx. It does not pay back what is not used then.
func (p *pace) wait(ctx context.Context, n int) error {
	p.mu.Lock()
	now := time.Now()
	start := p.free
	if start.Before(now) {
		start = now
	}
	p.free = start.Add(time.Duration(float64(n) / float64(p.perSecond) * float64(time.Second)))
	p.mu.Unlock()
	timer := time.NewTimer(start.Sub(now))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
