package transport

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// attemptTimeout is how long one master may take over a request that is safe to send again; then another one is asked. A
// follower holds a request while there is no leader, so this is longer than an election.
const attemptTimeout = 3 * time.Second

// Masters calls any of the grid's masters: it stays with the one that answered last, and goes round when that one fails.
// It is the only place that decides which calls to masters are repeated. It is safe for concurrent use.
type Masters struct {
	addrs []string
	pool  *Pool

	mu   sync.Mutex
	next int // index of the address to use
}

// NewMasters makes a caller of the masters at addrs, over connections of pool.
func NewMasters(addrs []string, pool *Pool) *Masters {
	return &Masters{addrs: addrs, pool: pool}
}

// Addrs is the list as it was given.
func (m *Masters) Addrs() []string { return m.addrs }

// pick is the address to use now.
func (m *Masters) pick() (string, error) {
	if len(m.addrs) == 0 {
		return "", &event.Error{Kind: event.KindInvalid, Op: "call masters", Message: "no master's address is configured"}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.addrs[m.next%len(m.addrs)], nil
}

// leave moves on from addr, unless somebody else did already.
func (m *Masters) leave(addr string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.addrs[m.next%len(m.addrs)] == addr {
		m.next++
	}
}

// verdict is what an error of a call means for the next attempt.
type verdict struct {
	again bool // send it again …
	safe  bool // … but only when repeating it is safe, as it may have happened
	leave bool // … to another master

	declined bool // not sent again, and it says nothing of an earlier attempt
}

// masterVerdicts is the retry table of calls to masters; kinds that are not in it are final.
var masterVerdicts = map[event.Kind]verdict{
	event.KindUnavailable:    {again: true, leave: true},
	event.KindNotLeader:      {again: true, leave: true},
	event.KindTooStale:       {again: true, leave: true},
	event.KindBusy:           {again: true},
	event.KindFeedFull:       {declined: true},
	event.KindUnknownOutcome: {again: true, safe: true, leave: true},
	event.KindDeadline:       {again: true, safe: true, leave: true},
}

// Call sends req to a master and repeats it, with jittered back-off, until it is answered, the answer is final, or ctx
// ends; then the last error is returned. A command that takes a request id and has none gets one, by the clock of the first master
// that is there, and keeps it over all attempts (safety S5). What may have happened is repeated only when Retryable(req), and is
// not reported as a failure because later attempts did not get through.
func (m *Masters) Call(ctx context.Context, req any) (any, error) {
	var wait Backoff
	var maybe *event.Error // of an attempt that may have taken effect
	final := func(e *event.Error) error {
		if v := masterVerdicts[e.Kind]; maybe == nil || !v.again && !v.declined || v.safe {
			return e
		}
		return &event.Error{Kind: event.KindUnknownOutcome, Op: maybe.Op, Message: fmt.Sprintf("%s; then: %s", maybe.Message, e.Error())}
	}
	for attempt := 1; ; attempt++ {
		addr, err := m.pick()
		if err != nil {
			return nil, err
		}
		reply, err := m.once(ctx, addr, &req)
		if err == nil {
			return reply, nil
		}
		e := asError(err)
		v := masterVerdicts[e.Kind]
		if v.safe && !ReadOnly(req) {
			maybe = e
		}
		if v.leave { // also when there is no time left: whoever asks next need not wait for it again
			m.leave(addr)
		}
		if !v.again || v.safe && !Retryable(req) || ctx.Err() != nil {
			return nil, final(e)
		}
		if v.leave {
			if attempt%len(m.addrs) != 0 { // another one may well be there: ask it at once
				continue
			}
		}
		if wait.Wait(ctx, time.Duration(e.RetryAfterMillis)*time.Millisecond) != nil {
			return nil, final(e)
		}
	}
}

// once is one attempt, with a time-out of its own when it can be repeated.
func (m *Masters) once(ctx context.Context, addr string, req *any) (any, error) {
	with, err := identified(*req, func() (int64, error) { return m.pool.clock(ctx, addr) })
	if err != nil {
		return nil, err
	}
	*req = with
	if Retryable(with) && len(m.addrs) > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, attemptTimeout)
		defer cancel()
	}
	return m.pool.Call(ctx, addr, with)
}

// Stream holds a stream from any master: when it breaks, it is begun again, after a jittered pause, at the next one with what
// req makes then (from the position fn has reached). It returns when ctx ends (nil), when fn returns an error (ErrStop: nil), or
// when a master refuses for a reason that another attempt does not change. What one master no longer has, another one may have
// (KindTrimmed, KindLagging): that is returned only when no address answered otherwise in a whole round.
func (m *Masters) Stream(ctx context.Context, req func() any, fn func(msg any) error) error {
	var wait Backoff
	var round trimmedRound
	for {
		addr, err := m.pick()
		if err != nil {
			return err
		}
		var own error // of fn: it ends the stream for good
		err = m.pool.Stream(ctx, addr, req(), func(msg any) error {
			wait.Reset()
			round = trimmedRound{brought: true}
			own = fn(msg)
			return own
		})
		switch {
		case errors.Is(own, ErrStop):
			return nil
		case own != nil:
			return own
		case ctx.Err() != nil:
			return nil
		}
		e := asError(err)
		final, again := round.add(e, len(m.addrs))
		if final != nil {
			return fmt.Errorf("stream from master %s: %w", addr, final)
		}
		m.leave(addr)
		if again {
			continue
		}
		if wait.Wait(ctx, time.Duration(e.RetryAfterMillis)*time.Millisecond) != nil {
			return nil
		}
	}
}

// trimmedRound is what the masters said since a stream brought something.
type trimmedRound struct {
	brought bool // the attempt that brought it has not ended
	asked   int
	best    *event.Error // of those that no longer have the position, the one that has most
}

// add takes the end of one attempt among n masters: final ends the stream, again means another one can be asked at once.
func (r *trimmedRound) add(e *event.Error, n int) (final *event.Error, again bool) {
	trimmed := e.Kind == event.KindTrimmed || e.Kind == event.KindLagging
	if trimmed || !r.brought {
		r.asked++
	}
	r.brought = false
	if trimmed && (r.best == nil || e.Oldest < r.best.Oldest) {
		r.best = e
	}
	switch {
	case r.best != nil && r.asked >= n:
		return r.best, false
	case !trimmed && !masterVerdicts[e.Kind].again:
		return e, false
	}
	return nil, trimmed
}
