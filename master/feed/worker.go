package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/transport"
)

// errRefused marks what only an operator can mend: shipping on would hide a loss (safety S10).
var errRefused = errors.New("the sink is not shipped to")

func refusef(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errRefused, fmt.Errorf(format, args...))
}

// worker ships to one sink during one term.
type worker struct {
	*Shipper
	sink, address string
	log           *slog.Logger
	ctx           context.Context // of the worker's life, ended by stop
	stop          context.CancelCauseFunc
	ackedAt       time.Time // when the last feed_acked was accepted; zero: not in this term
	sent          uint64    // the newest event that any session has sent
	rewoundAt     time.Time // when a feed_rewound was last proposed; zero: not in this term
}

func newWorker(ctx context.Context, s *Shipper, sink, address string) *worker {
	w := &worker{Shipper: s, sink: sink, address: address, log: s.cfg.Log.With("sink", sink, "address", address)}
	w.ctx, w.stop = context.WithCancelCause(ctx)
	return w
}

// run keeps a session with the sink until the worker is stopped. Each session starts at the acknowledged cursor, whatever
// the one before had reached.
func (w *worker) run() {
	defer w.forget(w)
	backoff := transport.Backoff{First: w.cfg.RetryFirst, Max: w.cfg.RetryMax}
	last := ""
	for w.ctx.Err() == nil {
		w.report(w, func(*SinkStatus) {})
		progress, err := w.session()
		if w.ctx.Err() != nil {
			return
		}
		w.failed(err, last)
		last = err.Error()
		if progress {
			backoff.Reset()
		}
		atLeast := time.Duration(0)
		if errors.Is(err, errRefused) {
			atLeast = w.cfg.RetryRefused
		}
		_ = backoff.Wait(w.ctx, atLeast) // the loop looks at the context
	}
}

// failed publishes why a session ended, and logs it unless the one before ended for the same reason.
func (w *worker) failed(err error, last string) {
	state, level := SinkRetrying, slog.LevelWarn
	if errors.Is(err, errRefused) {
		state, level = SinkRefused, slog.LevelError
	}
	w.report(w, func(st *SinkStatus) { st.State, st.Error = state, err.Error() })
	if err.Error() == last {
		level = slog.LevelDebug
	}
	w.log.Log(w.ctx, level, "shipping interrupted", "state", string(state), "error", err)
}

// session is one connection to the sink: it proves that the sink is the one the state knows and is not behind its cursor,
// or rewinds the cursor, then ships until something fails. A connection that breaks ends it, so nothing is ever shipped to an unproven store.
func (w *worker) session() (progress bool, err error) {
	conn, err := dialSink(w.ctx, w.cfg.Pool, w.address)
	if err != nil {
		return false, err
	}
	defer conn.close()
	cursor, err := w.prove(conn, w.cfg.View())
	if err != nil {
		return false, err
	}
	s := &stream{worker: w, conn: conn, sinkID: cursor.SinkID, acked: cursor.Through, through: cursor.Through, chain: cursor.Chain, writer: newWriter(w.sent)}
	w.report(w, func(st *SinkStatus) { st.State, st.Error, st.Through = SinkShipping, "", cursor.Through })
	err = s.run()
	return s.through > cursor.Through, err
}

// stream is a session that ships.
type stream struct {
	*worker
	conn    *sinkConn
	sinkID  string
	through uint64      // every event up to here is durable in the sink
	chain   event.Chain // at through
	acked   uint64      // proposed and accepted
	writer  *writer
}

// Bounds of one flush: enough to fill a few batches, little enough to acknowledge often.
const (
	flushEvents = 500
	flushBytes  = 4 << 20
)

func (s *stream) run() error {
	for {
		records, err := s.cfg.Outbox.Range(s.through+1, flushEvents, flushBytes)
		if errors.Is(err, ErrTrimmed) {
			return refusef("it needs events from %d on: %w", s.through+1, err)
		}
		if err != nil {
			return err
		}
		if len(records) == 0 {
			err = s.idle()
		} else {
			err = s.flush(records)
		}
		if err == nil && s.ackDue() <= 0 {
			err = s.ack()
		}
		if err != nil {
			return err
		}
	}
}

// idle waits for the next event, but no longer than until the last ones must be acknowledged.
func (s *stream) idle() error {
	ctx := s.ctx
	if s.through > s.acked {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.ackDue())
		defer cancel()
	}
	err := s.cfg.Outbox.Wait(ctx, s.through+1)
	if err != nil && s.ctx.Err() == nil && ctx.Err() != nil {
		return nil // time to acknowledge
	}
	return err
}

// ackDue is how long the acknowledgement may wait; with nothing to acknowledge it waits for ever.
func (s *stream) ackDue() time.Duration {
	if s.through == s.acked {
		return 1<<63 - 1
	}
	return s.cfg.AckInterval - time.Since(s.ackedAt)
}

// ack proposes how far the sink holds the feed durably. A lost answer is asked for again by the next one: Apply takes the
// maximum.
func (s *stream) ack() error {
	if err := fault.Err(fault.ShipAck); err != nil {
		return err
	}
	if err := s.proposeAck(s.sinkID, s.through, s.chain); err != nil {
		return err
	}
	fault.Point(fault.ShipAcked)
	s.acked = s.through
	return nil
}

// flush stores the records; then, and only then, they count as shipped.
func (s *stream) flush(records []fsm.Record) error {
	var newest *event.Envelope
	for _, r := range records {
		e, err := s.writer.add(r)
		if err != nil {
			return err
		}
		newest = e
	}
	if err := fault.Err(fault.ShipStore); err != nil {
		return err
	}
	s.sent = max(s.sent, newest.Seq)
	if err := s.conn.store(s.writer.take()); err != nil {
		return err
	}
	fault.Point(fault.ShipStored)
	s.through, s.chain = newest.Seq, newest.Chain
	s.report(s.worker, func(st *SinkStatus) { st.Through = s.through })
	return nil
}

func (w *worker) proposeAck(sinkID string, through uint64, chain event.Chain) error {
	if err := w.propose(event.FeedAcked{Sink: w.sink, SinkID: sinkID, Through: through, Chain: chain}); err != nil {
		return fmt.Errorf("acknowledge the feed through %d: %w", through, err)
	}
	w.ackedAt = time.Now()
	return nil
}

// propose returns nil when the event is decided as proposed, or was before.
func (w *worker) propose(body event.Body) error {
	answer, err := w.cfg.Propose(w.ctx, *event.NewCommand("feed", body))
	if err == nil && answer.Err != nil {
		err = answer.Err
	}
	return err
}
