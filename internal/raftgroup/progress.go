package raftgroup

import (
	"container/heap"
	"context"
	"sync"
)

// progress is how far the FSM has come, for those who wait for an index.
type progress struct {
	mu      sync.Mutex
	index   uint64  // guarded by mu
	waiters waiters // guarded by mu; the smallest index first
}

func (p *progress) get() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.index
}

// set moves the index, usually up, and wakes who waited for it.
func (p *progress) set(index uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.index = index
	for len(p.waiters) > 0 && p.waiters[0].index <= index {
		close(heap.Pop(&p.waiters).(*waiter).done)
	}
}

// wait returns when index is reached, or with the cause when ctx ends.
func (p *progress) wait(ctx context.Context, index uint64) error {
	p.mu.Lock()
	if p.index >= index {
		p.mu.Unlock()
		return nil
	}
	w := &waiter{index: index, done: make(chan struct{})}
	heap.Push(&p.waiters, w)
	p.mu.Unlock()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.place >= 0 {
		heap.Remove(&p.waiters, w.place)
	}
	return context.Cause(ctx)
}

type waiter struct {
	index uint64
	done  chan struct{}
	place int // in the heap; -1: not any more
}

// waiters implements heap.Interface.
type waiters []*waiter

func (w waiters) Len() int           { return len(w) }
func (w waiters) Less(i, j int) bool { return w[i].index < w[j].index }
func (w waiters) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].place, w[j].place = i, j
}

// Push implements heap.Interface.
func (w *waiters) Push(x any) {
	e := x.(*waiter)
	e.place = len(*w)
	*w = append(*w, e)
}

// Pop implements heap.Interface.
func (w *waiters) Pop() any {
	old := *w
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*w = old[:len(old)-1]
	e.place = -1
	return e
}
