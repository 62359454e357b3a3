package master

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// ErrReinstall ends a master whose state is not the one that a majority of the masters has (safety S9). Its directory says
// so too: Open takes the state from another master before anything else.
var ErrReinstall = errors.New("this master's state is not the other masters'")

// service says whether this replica answers. What is not in service applies its log, so that it can hand leadership over,
// and tells nobody what comes of it.
type service struct {
	ready    <-chan struct{} // closed when handOver can be called
	handOver func()
	mark     func(event.StateChecked) error
	fatal    func(error)
	log      *slog.Logger

	leaving sync.WaitGroup
	left    atomic.Bool     // it is not in service, or stops
	on      context.Context // ends, with the reason, when it leaves service
	end     context.CancelCauseFunc
	stop    chan struct{} // closed by Close
}

func newService() *service {
	s := &service{stop: make(chan struct{})}
	s.on, s.end = context.WithCancelCause(context.Background())
	return s
}

// Err is why the replica is out of service, of kind unavailable; nil: it answers.
func (s *service) Err() error { return context.Cause(s.on) }

// While ends the context, with the reason, when the replica leaves service.
func (s *service) While(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	forget := context.AfterFunc(s.on, func() { cancel(s.Err()) })
	return ctx, func() {
		forget()
		cancel(nil)
	}
}

// Differ takes the replica out of service because of a comparison that its state does not pass. It returns before anything
// else is answered and does not wait for what follows, since Apply calls it: leadership is handed over, the directory is
// marked, and this master ends. One that is stopping already finds out again when it starts.
func (s *service) Differ(check event.StateChecked) {
	if !s.left.CompareAndSwap(false, true) {
		return
	}
	what := fmt.Sprintf("at entry %d its state differs from that of %v", check.AtIndex, check.Agree)
	s.end(&event.Error{Kind: event.KindUnavailable, Op: "serve", Message: "this master is out of service: " + what})
	s.log.Error("out of service", "reason", what)
	s.leaving.Go(func() {
		select {
		case <-s.ready:
			s.handOver()
		case <-s.stop:
		}
		if err := s.mark(check); err != nil {
			s.fatal(fmt.Errorf("%s: %w", what, err))
			return
		}
		s.fatal(fmt.Errorf("%w: %s", ErrReinstall, what))
	})
}

// Close waits until the replica has left, if it is leaving.
func (s *service) Close() error {
	s.left.Store(true)
	close(s.stop)
	s.leaving.Wait()
	return nil
}
