package master

import "sync"

// backlog counts heartbeats that have arrived and are not applied yet. The leader declares nobody silent while some have
// been waiting since its previous look: it is the leader that is slow then (safety S17).
type backlog struct {
	mu      sync.Mutex
	look    uint64            // guarded by mu; looks so far
	waiting map[uint64]uint64 // guarded by mu; heartbeats in work by the look in which they arrived, no zeros
}

func newBacklog() *backlog { return &backlog{waiting: map[uint64]uint64{}} }

// begin counts an arrival; the returned func, called once, its end.
func (b *backlog) begin() (end func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	arrived := b.look
	b.waiting[arrived]++
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.waiting[arrived]--; b.waiting[arrived] == 0 {
			delete(b.waiting, arrived)
		}
	}
}

// stale begins a new look and tells whether something that had arrived before the previous one is still waiting.
func (b *backlog) stale() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	old := false
	for arrived := range b.waiting {
		old = old || arrived < b.look
	}
	b.look++
	return old
}
