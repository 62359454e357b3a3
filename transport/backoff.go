package transport

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff is a jittered exponential back-off: the n-th wait is drawn evenly from half of First·2ⁿ to all of it, and is at
// most Max. The zero value waits 10 ms first and at most 1 s.
type Backoff struct {
	First, Max time.Duration
	n          int
}

// Next is the next wait.
func (b *Backoff) Next() time.Duration {
	first, limit := b.First, b.Max
	if first <= 0 {
		first = 10 * time.Millisecond
	}
	if limit <= 0 {
		limit = time.Second
	}
	d := limit
	if b.n < 32 && first<<b.n < limit {
		d = first << b.n
	}
	b.n++
	return d/2 + rand.N(d/2+1)
}

// Reset starts again with First.
func (b *Backoff) Reset() { b.n = 0 }

// Wait waits for Next, or for atLeast if that is longer. It returns ctx's error when ctx ends first.
func (b *Backoff) Wait(ctx context.Context, atLeast time.Duration) error {
	t := time.NewTimer(max(b.Next(), atLeast))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
