package client

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Hedging: a read that takes longer than 95 of 100 of its kind did of late is sent a second time, to where its answer may come
// sooner, and the first answer counts. Writes never are.
const (
	// hedgeFloor is the least wait before a second request: below it the second one costs more than it saves.
	hedgeFloor = 10 * time.Millisecond
	// hedgeShare bounds the second requests: one for so many reads (5 %). When everything is slow, they must not make it slower.
	hedgeShare = 20
	// hedgeSaved bounds what was not used of that and is kept: more would be a storm after a calm.
	hedgeSaved = 10
)

// hedging is a client's allowance for second requests. It is safe for concurrent use.
type hedging struct {
	mu    sync.Mutex
	reads int // since the last second request was earned; guarded by mu
	saved int // second requests that may be sent; guarded by mu
	sent  uint64
	won   uint64 // whose answer came first
}

// read counts a read.
func (h *hedging) read() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.reads++; h.reads == hedgeShare {
		h.reads, h.saved = 0, min(h.saved+1, hedgeSaved)
	}
}

// take uses the allowance, if there is any.
func (h *hedging) take() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.saved == 0 {
		return false
	}
	h.saved--
	h.sent++
	return true
}

func (h *hedging) win() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.won++
}

// counts are the second requests so far, and those whose answer came first.
func (h *hedging) counts() (sent, won uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sent, h.won
}

// send sends one attempt to a node, and when it is a read that is late a second time. The attempt's answer is the first answer;
// when the first request fails its error is, as that one decides what is tried next.
func (s *shardCall) send(ctx context.Context, addr string, q *transport.Routed) (any, error) {
	c := s.client
	if !transport.ReadOnly(s.req.Request) {
		return c.pool.Call(ctx, addr, q)
	}
	c.hedges.read()
	late := c.latencies.p95(s.req.Request)
	if late == 0 {
		return s.timed(ctx, addr, q, c.pool.Call)
	}
	first, giveUp := context.WithCancel(ctx)
	defer giveUp()
	rest, stop := context.WithCancel(ctx)
	defer stop()
	var second any
	done := make(chan struct{})
	timer := time.AfterFunc(max(late, hedgeFloor)+time.Microsecond, func() { // what takes just as long is not late
		defer close(done)
		if reply, err := s.again(rest, addr, q); err == nil && reply != nil {
			second = reply
			giveUp()
		}
	})
	begun := time.Now()
	reply, err := s.timed(first, addr, q, c.pool.Call)
	if timer.Stop() {
		return reply, err
	}
	stop()
	<-done
	if err == nil || second == nil {
		return reply, err
	}
	c.hedges.win()
	c.latencies.took(addr, s.req.Request, time.Since(begun)) // at least
	return second, nil
}

// again sends the second request: to another replica when the read may be stale, to the leader when the map names another one by
// now, else to the same node over a connection that carries nothing: there it does not wait behind the replies that
// the first one waits for. nil: it is not sent.
func (s *shardCall) again(ctx context.Context, addr string, q *transport.Routed) (any, error) {
	c := s.client
	shard, ok := c.maps.Map().ByID(s.shard)
	if !ok || !c.hedges.take() {
		return nil, nil
	}
	if s.req.Consistency == Stale {
		if others := endpoints(shard, addr); len(others) > 0 {
			return s.timed(ctx, c.latencies.quicker(others, c.random), q, c.pool.Call)
		}
	} else if leader, ok := shard.Replica(shard.Leader); ok && leader.Endpoint != "" && leader.Endpoint != addr && s.hint == "" {
		return s.timed(ctx, leader.Endpoint, q, c.pool.Call)
	}
	return s.timed(ctx, addr, q, c.pool.CallApart)
}

// timed is a call whose time is noted.
func (s *shardCall) timed(ctx context.Context, addr string, q *transport.Routed, call func(context.Context, string, any) (any, error)) (any, error) {
	l := s.client.latencies
	begun := time.Now()
	reply, err := call(ctx, addr, q)
	if err == nil {
		l.took(addr, s.req.Request, time.Since(begun))
		return reply, nil
	}
	if errors.Is(ctx.Err(), context.Canceled) { // which says nothing of the node
		return nil, err
	}
	switch wireError(err).Kind {
	case event.KindUnavailable, event.KindUnknownOutcome:
		l.failed(addr, failureCosts)
	case event.KindDeadline:
		l.failed(addr, time.Since(begun))
	}
	return nil, err
}

// endpoints are the addresses of a shard's voters but one.
func endpoints(shard *shardmap.Shard, but string) (addrs []string) {
	for i := range shard.Replicas {
		if r := &shard.Replicas[i]; r.Role == shardmap.Voter && r.Endpoint != "" && r.Endpoint != but {
			addrs = append(addrs, r.Endpoint)
		}
	}
	return addrs
}
