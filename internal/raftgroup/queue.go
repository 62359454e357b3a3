package raftgroup

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// proposal is one command on its way into the log.
type proposal struct {
	command []byte
	since   time.Time
	ticket  *ticket
	taken   bool // guarded by queue.mu; in an entry, or withdrawn

	done   chan struct{} // closed when result and err are set
	result Result
	err    error
}

func (p *proposal) resolve(r Result, err error) {
	p.result, p.err = r, err
	close(p.done)
	p.ticket.release()
}

// ticket is the room that a call's proposals take up in the queue's bound, given back when all of them are settled.
type ticket struct {
	room   *semaphore.Weighted
	weight int64
	left   atomic.Int64 // proposals not settled
}

func (t *ticket) release() {
	if t.left.Add(-1) == 0 {
		t.room.Release(t.weight)
	}
}

// weigh is the room that commands take up; more than all there is counts as all there is.
func weigh(commands [][]byte) int64 {
	total := int64(0)
	for _, c := range commands {
		total += int64(max(len(c), queueItem))
	}
	return min(total, queueBytes)
}

// queue holds proposals until an entry takes them: urgent ones in order, and telemetry, which may wait for company.
type queue struct {
	wake chan struct{} // capacity 1: something was added

	mu     sync.Mutex
	urgent []*proposal // guarded by mu
	lazy   []*proposal // guarded by mu
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

func (q *queue) add(lazy bool, ps ...*proposal) {
	q.mu.Lock()
	if lazy {
		q.lazy = append(q.lazy, ps...)
	} else {
		q.urgent = append(q.urgent, ps...)
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// withdraw takes a proposal back; false if an entry has it already.
func (q *queue) withdraw(p *proposal) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if p.taken {
		return false
	}
	p.taken, p.command = true, nil
	return true
}

// next waits for something to put into an entry, and returns as much as the bounds allow; nil when stop is closed.
func (q *queue) next(stop <-chan struct{}) []*proposal {
	timer := time.NewTimer(telemetryDelay)
	defer timer.Stop()
	for {
		runtime.Gosched() // those that come at the same time shall share an entry
		batch, wait := q.cut(time.Now())
		if len(batch) > 0 {
			return batch
		}
		timer.Reset(wait)
		select {
		case <-q.wake:
		case <-timer.C:
		case <-stop:
			return nil
		}
	}
}

// cut takes a batch, or says how long the oldest telemetry may still wait.
func (q *queue) cut(now time.Time) (batch []*proposal, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.urgent, q.lazy = withoutTaken(q.urgent), withoutTaken(q.lazy)
	wait = telemetryDelay
	if len(q.lazy) > 0 {
		wait = telemetryDelay - now.Sub(q.lazy[0].since)
	}
	b := batcher{}
	if len(q.lazy) > 0 && wait <= 0 {
		q.lazy = b.take(q.lazy)
	}
	q.urgent = b.take(q.urgent)
	if len(b.batch) > 0 {
		q.lazy = b.take(q.lazy)
	}
	return b.batch, wait
}

// drain takes all that is left; what was withdrawn, wherever it stands, has its answer already.
func (q *queue) drain() []*proposal {
	q.mu.Lock()
	defer q.mu.Unlock()
	var all []*proposal
	for _, p := range slices.Concat(q.urgent, q.lazy) {
		if !p.taken {
			p.taken = true
			all = append(all, p)
		}
	}
	q.urgent, q.lazy = nil, nil
	return all
}

// withoutTaken drops withdrawn proposals from the front, where cut looks.
func withoutTaken(ps []*proposal) []*proposal {
	for len(ps) > 0 && ps[0].taken {
		ps = ps[1:]
	}
	return ps
}

// batcher fills one entry.
type batcher struct {
	batch []*proposal
	bytes int
}

// take moves what fits from the front of ps and returns the rest. The first command always fits.
func (b *batcher) take(ps []*proposal) []*proposal {
	for len(ps) > 0 {
		p := ps[0]
		if !p.taken {
			if len(b.batch) == maxBatchCommands || len(b.batch) > 0 && b.bytes+len(p.command) > maxBatchBytes {
				return ps
			}
			p.taken = true
			b.batch = append(b.batch, p)
			b.bytes += len(p.command)
		}
		ps[0] = nil
		ps = ps[1:]
	}
	return nil
}
