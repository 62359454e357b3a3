// Package emit hands readings (events of class T) over without holding up who takes them.
//
//	Lane.Emit -> bounded lane per type -> one worker: gather, forget what is old -> Send -> any master
//
// Invariants: Emit never waits and allocates nothing; a reading is sent again only when it surely was not taken, so it is in the feed at
// most once; none is sent that is older than MaxAge, for its event would say that it is of now; at most a lane's size of one type leaves
// in each Every; what is not handed over is counted, by type and reason. It knows events and the back-off, neither nodes nor masters.
package emit

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// MaxBatch is how many readings go into one Send.
const MaxBatch = 256

// Config says to whom an emitter sends, and how often. Start from DefaultConfig; Send and Log are the caller's.
type Config struct {
	// Send hands over 1 to MaxBatch readings, in order. Its error says what became of all of them: KindUnsupported, the grid takes no
	// readings yet; KindUnavailable, KindNotLeader or KindBusy, surely not taken; KindInvalid or KindRefused, not taken, and will not
	// be; any other, nobody knows. It is called by one goroutine and returns when its context ends.
	Send func(ctx context.Context, events []transport.EmittedEvent) error
	Log  *slog.Logger

	Every   time.Duration // from one round to the next
	MaxAge  time.Duration // of a reading that is still sent
	Timeout time.Duration // of one Send
	Pause   time.Duration // at most, while nobody takes anything
	Later   time.Duration // until a grid that takes no readings is asked again
	Report  time.Duration // at least, between two log lines about what was dropped
	Flush   time.Duration // how long Close waits for the last round
}

// DefaultConfig is for a component of a grid.
func DefaultConfig() Config {
	return Config{
		Every:   time.Second,      // shorter makes a request of each reading, longer makes the time of its event a lie
		MaxAge:  20 * time.Second, // for the same reason; and long enough for a change of leader
		Timeout: 5 * time.Second,
		Pause:   5 * time.Second,
		Later:   15 * time.Second,
		Report:  time.Minute,
		Flush:   500 * time.Millisecond,
	}
}

// Emitter sends what its lanes take. Lanes are made before Start; everything else is safe for concurrent use.
type Emitter struct {
	cfg   Config
	lanes []source
	wake  chan struct{} // holds one: some lane is not empty

	open    context.Context // ends when Close begins
	close   context.CancelFunc
	sending context.Context // ends when Close waits no longer
	cut     context.CancelFunc
	ended   chan struct{} // closed when the worker has ended

	waits    bool      // of the worker: the grid takes no readings yet, and that was logged
	reported uint64    // of the worker: dropped when it last logged
	lastLog  time.Time // of the worker
}

// New makes an emitter. It sends nothing before Start.
func New(cfg Config) *Emitter {
	e := &Emitter{cfg: cfg, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	e.open, e.close = context.WithCancel(context.Background())
	e.sending, e.cut = context.WithCancel(context.Background())
	return e
}

// Start begins to send. It is called once; Close ends it.
func (e *Emitter) Start() { go e.run() }

// Close sends what has been taken, once and for at most Flush, and ends the emitter; what is emitted later is dropped. A nil Emitter
// takes nothing and closes at once.
func (e *Emitter) Close() {
	if e == nil {
		return
	}
	e.close()
	flush := time.AfterFunc(e.cfg.Flush, e.cut)
	defer flush.Stop()
	<-e.ended
	e.cut()
}

// run works until Close, and then once more.
func (e *Emitter) run() {
	defer close(e.ended)
	for last := false; !last; {
		select {
		case <-e.wake:
		case <-e.open.Done():
		}
		e.pause(e.cfg.Every)
		last = e.open.Err() != nil
		e.deliver(e.gather())
		e.report()
	}
}

// pause waits; Close ends it.
func (e *Emitter) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-e.open.Done():
	}
}

// pending is a reading on its way.
type pending struct {
	at    time.Time
	event transport.EmittedEvent
	tally *tally
}

// gather takes what the lanes hold now.
func (e *Emitter) gather() []pending {
	var all []pending
	for _, lane := range e.lanes {
		var err error
		if all, err = lane.take(all); err != nil {
			e.cfg.Log.Error("readings cannot be encoded", "error", err)
		}
	}
	return all
}

// deliver sends readings until they are taken, lost or too old. While Close waits each is tried once more.
func (e *Emitter) deliver(all []pending) {
	wait := transport.Backoff{First: e.cfg.Pause / 16, Max: e.cfg.Pause}
	for {
		all = e.fresh(all)
		if len(all) == 0 {
			return
		}
		batch := all[:min(len(all), MaxBatch)]
		if why, over := e.send(batch); over {
			drop(batch, why)
			all = all[len(batch):]
			continue
		}
		if e.open.Err() != nil {
			drop(all, stale)
			return
		}
		e.report()
		e.pause(wait.Next())
	}
}

// fresh forgets what is too old.
func (e *Emitter) fresh(all []pending) []pending {
	left := all[:0]
	for i := range all {
		if time.Since(all[i].at) > e.cfg.MaxAge {
			drop(all[i:i+1], stale)
			continue
		}
		left = append(left, all[i])
	}
	return left
}

// send tries once. over: the batch is done with, and why says how it ended.
func (e *Emitter) send(batch []pending) (why reason, over bool) {
	events := make([]transport.EmittedEvent, len(batch))
	for i := range batch {
		events[i] = batch[i].event
	}
	ctx, cancel := context.WithTimeout(e.sending, e.cfg.Timeout)
	defer cancel()
	err := e.cfg.Send(ctx, events)
	if err == nil {
		e.waits = false
		return none, true
	}
	return e.failed(err)
}

// failed says what an error means for its batch.
func (e *Emitter) failed(err error) (why reason, over bool) {
	var told *event.Error
	if !errors.As(err, &told) {
		return unknown, true
	}
	switch told.Kind {
	case event.KindUnavailable, event.KindNotLeader, event.KindBusy:
		e.cfg.Log.Debug("readings are put off", "error", err)
		return none, false
	case event.KindUnsupported:
		if !e.waits {
			e.cfg.Log.Info("the grid takes no readings yet", "error", err)
		}
		e.waits = true
		e.pause(e.cfg.Later)
		return noLevel, true
	case event.KindInvalid, event.KindRefused:
		e.cfg.Log.Error("readings are refused", "error", err)
		return refused, true
	}
	return unknown, true
}

// report logs what was dropped, now and then. That the grid takes no readings yet is no loss.
func (e *Emitter) report() {
	dropped := e.Dropped()
	total := uint64(0)
	var attrs []any
	for _, d := range dropped {
		lost := d.Full + d.Stale + d.Unknown + d.Refused
		total += lost
		if lost > 0 {
			attrs = append(attrs, d.Type.String(), lost)
		}
	}
	if total == e.reported || !e.lastLog.IsZero() && time.Since(e.lastLog) < e.cfg.Report {
		return
	}
	e.reported, e.lastLog = total, time.Now()
	e.cfg.Log.Warn("readings were dropped", attrs...)
}
