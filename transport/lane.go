package transport

import (
	"context"
	"errors"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

const (
	// maxWaiting bounds the requests of a connection that are worked on or whose replies are not written yet.
	maxWaiting = 256
	// writeChunk is about how much goes into one write; larger messages go alone.
	writeChunk = 64 << 10
	// streamAhead is how many bytes of a stream may wait for the peer before Send waits too: thousands of slow readers must fit
	// into memory.
	streamAhead = 64 << 10
)

// lane keeps the replies of a connection in the order of its requests: a queue of slots, of which the front ones are
// written as soon as they have something. One goroutine writes all that is ready with one call.
type lane struct {
	conn     *serverConn
	handlers sync.WaitGroup
	writer   sync.WaitGroup // the goroutine that writes, from the first reply on: who never asks costs no goroutine
	started  bool           // of the writer; used by the reading goroutine only
	wake     chan struct{}  // capacity 1: the front has something to write, or the end has come
	room     chan struct{}  // capacity 1: a slot or bytes became free; the reading goroutine waits for it

	mu      sync.Mutex
	slots   []*slot
	running int   // slots not finished
	bytes   int64 // of requests in flight and replies not written
	ended   bool  // no more slots will be opened
	noPeer  bool  // the peer sends nothing more
	err     error // of a write: the peer is gone
}

func newLane(c *serverConn) *lane {
	return &lane{conn: c, wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// signal fills a channel of capacity 1.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// slot is one request's place in the order of replies. Guarded by lane.mu.
type slot struct {
	lane     *lane
	request  int64               // bytes of the request, until it is finished
	budget   *semaphore.Weighted // where they come from
	extended bool
	frames   [][]byte      // ready to be written
	waiting  int           // bytes in frames
	reserved int64         // bytes of Server.replies that its reply holds
	done     bool          // nothing will be added to frames
	streams  bool          // Send was called
	space    chan struct{} // capacity 1, made by the first Send: frames were taken
}

// start starts the writer.
func (l *lane) start() {
	if !l.started {
		l.started = true
		l.writer.Add(1)
		go func() {
			defer l.writer.Done()
			l.writeAll()
		}()
	}
}

// open waits for room and adds a slot for a request of size bytes.
func (l *lane) open(concurrent int, size int64) (*slot, error) {
	l.start()
	for {
		l.mu.Lock()
		if l.running < concurrent && len(l.slots) < maxWaiting && (l.bytes == 0 || l.bytes+size <= l.conn.server.limits.ConnBytes) {
			s := &slot{lane: l, request: size, extended: l.conn.extended}
			l.slots = append(l.slots, s)
			l.running++
			l.bytes += size
			l.mu.Unlock()
			return s, nil
		}
		l.mu.Unlock()
		select {
		case <-l.room:
		case <-l.conn.ctx.Done():
			return nil, context.Cause(l.conn.ctx)
		}
	}
}

// busy tells whether requests wait for their answers.
func (l *lane) busy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.slots) > 0
}

// finish ends a slot with its final reply, an error, or nothing more.
func (s *slot) finish(reply any, err error) {
	frame, reserved := s.encode(reply, err)
	l := s.lane
	s.budget.Release(s.request)
	l.mu.Lock()
	defer l.mu.Unlock()
	s.done = true
	s.reserved = reserved
	if frame != nil {
		s.addLocked(frame)
	}
	l.running--
	l.bytes -= s.request
	signal(l.room)
	if l.slots[0] == s {
		signal(l.wake)
	}
}

func (s *slot) addLocked(frame []byte) {
	s.frames = append(s.frames, frame)
	s.waiting += len(frame)
	s.lane.bytes += int64(len(frame))
}

// encode makes the frame of a reply. A large reply takes its bytes from the server's budget.
func (s *slot) encode(reply any, err error) (frame []byte, reserved int64) {
	switch {
	case err != nil:
		return appendErrorFrame(nil, asError(err), s.extended), 0
	case reply == nil:
		return nil, 0
	}
	if e, ok := reply.(*event.Error); ok {
		return appendErrorFrame(nil, e, s.extended), 0
	}
	frame, err = AppendFrame(nil, reply)
	if err != nil {
		return appendErrorFrame(nil, asError(err), s.extended), 0
	}
	n := int64(len(frame))
	if n <= writeChunk {
		return frame, 0
	}
	if !s.lane.conn.server.replies.TryAcquire(n) {
		// Unknown, not Busy: what was asked for has been done, only the answer cannot be held.
		e := &event.Error{Kind: event.KindUnknownOutcome, Op: "answer " + VariantName(reply),
			Message: "too many bytes of large replies in flight; ask again", RetryAfterMillis: 1000}
		return appendErrorFrame(nil, e, s.extended), 0
	}
	return frame, n
}

// send adds a message of a stream and waits while too much of it is unwritten.
func (s *slot) send(ctx context.Context, msg any) error {
	frame, err := AppendFrame(nil, msg)
	if err != nil {
		return err
	}
	l := s.lane
	for {
		l.mu.Lock()
		if s.space == nil {
			s.space, s.streams = make(chan struct{}, 1), true
		}
		switch {
		case l.err != nil:
			err := l.err
			l.mu.Unlock()
			return err
		case l.noPeer:
			l.mu.Unlock()
			return ErrPeerGone
		case s.waiting == 0 || s.waiting+len(frame) <= streamAhead:
			s.addLocked(frame)
			if l.slots[0] == s {
				signal(l.wake)
			}
			l.mu.Unlock()
			return nil
		}
		l.mu.Unlock()
		select {
		case <-s.space:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-l.conn.ctx.Done():
			return context.Cause(l.conn.ctx)
		}
	}
}

// farewell adds a last Error behind all replies.
func (l *lane) farewell(e *event.Error) {
	l.start()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &slot{lane: l, done: true}
	s.addLocked(appendErrorFrame(nil, e, l.conn.extended))
	l.slots = append(l.slots, s)
	signal(l.wake)
}

// peerEnded says that the peer sends nothing more. Replies are still written; streams end, as nobody is left who would
// end them.
func (l *lane) peerEnded() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noPeer = true
	for _, s := range l.slots {
		if s.streams && !s.done {
			l.conn.cancel(ErrPeerGone)
		}
	}
}

// end says that no more slots will be opened, and waits until the last one is written.
func (l *lane) end() {
	l.mu.Lock()
	l.ended = true
	signal(l.wake)
	l.mu.Unlock()
	l.writer.Wait()
}

// writeAll writes replies until the last slot is written or the peer is gone.
func (l *lane) writeAll() {
	var chunk []byte
	for {
		frames, reserved, more := l.take()
		var err error
		if len(frames) > 0 {
			chunk, err = l.write(chunk[:0], frames)
			err = goneOr(err)
		}
		l.written(frames, reserved, err)
		if err != nil {
			l.conn.cancel(err) // ends reading and handlers
			l.discard()
			return
		}
		if len(frames) > 0 {
			continue
		}
		if !more {
			return
		}
		<-l.wake
		runtime.Gosched() // handlers that were woken together, by one commit, shall be written together
	}
}

// goneOr is why nothing more is written, for handlers.
func goneOr(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ErrStalled
	}
	return ErrPeerGone
}

// take removes what can be written now; more is false when nothing will come any more.
func (l *lane) take() (frames [][]byte, reserved int64, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := 0
	for len(l.slots) > 0 && taken < 4*writeChunk {
		s := l.slots[0]
		frames = append(frames, s.frames...)
		taken += s.waiting
		s.frames, s.waiting = nil, 0
		if s.space != nil {
			signal(s.space)
		}
		if !s.done {
			break
		}
		reserved += s.reserved
		l.slots[0] = nil
		l.slots = l.slots[1:]
	}
	return frames, reserved, len(l.slots) > 0 || !l.ended
}

// write writes frames with as few calls as they need; chunk is its buffer.
func (l *lane) write(chunk []byte, frames [][]byte) ([]byte, error) {
	flush := func(p []byte) error {
		if len(p) == 0 {
			return nil
		}
		if err := l.conn.armWrite(len(p)); err != nil {
			return err
		}
		_, err := l.conn.conn.Write(p)
		return err
	}
	for _, f := range frames {
		if len(chunk) > 0 && len(chunk)+len(f) > writeChunk {
			if err := flush(chunk); err != nil {
				return chunk, err
			}
			chunk = chunk[:0]
		}
		if len(f) > writeChunk {
			if err := flush(f); err != nil {
				return chunk, err
			}
			continue
		}
		chunk = append(chunk, f...)
	}
	return chunk, flush(chunk)
}

// written accounts for what was written, or could not be.
func (l *lane) written(frames [][]byte, reserved int64, err error) {
	n := int64(0)
	for _, f := range frames {
		n += int64(len(f))
	}
	l.conn.server.replies.Release(reserved)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bytes -= n
	l.err = err
	signal(l.room)
}

// discard takes and drops the replies of handlers that still run, until none is left.
func (l *lane) discard() {
	for {
		frames, reserved, more := l.take()
		l.written(frames, reserved, ErrPeerGone)
		if len(frames) > 0 {
			continue
		}
		if !more {
			return
		}
		<-l.wake
	}
}
