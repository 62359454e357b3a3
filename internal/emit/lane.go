package emit

import (
	"sync/atomic"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// reason is why a reading was not handed over.
type reason int

const (
	none    reason = iota
	full           // its lane was
	stale          // older than MaxAge when its turn came
	unknown        // sent, and nobody knows whether it was taken
	refused        // for good
	noLevel        // the grid takes no readings yet
	reasons
)

// tally counts what one lane lost.
type tally struct {
	typ  event.Type
	lost [reasons]atomic.Uint64
}

func drop(batch []pending, why reason) {
	for _, p := range batch {
		p.tally.lost[why].Add(1)
	}
}

// Dropped is what became of readings of one type that were not handed over, since the start.
type Dropped struct {
	Type event.Type

	Full    uint64 // more came than one round takes
	Stale   uint64 // nobody took them in time
	Unknown uint64 // sent; nobody knows whether they were taken
	Refused uint64 // for good
	TooSoon uint64 // the grid's level has no readings yet
}

// Dropped lists the lanes in the order they were made.
func (e *Emitter) Dropped() []Dropped {
	all := make([]Dropped, len(e.lanes))
	for i, lane := range e.lanes {
		t := lane.counts()
		all[i] = Dropped{Type: t.typ, Full: t.lost[full].Load(), Stale: t.lost[stale].Load(), Unknown: t.lost[unknown].Load(),
			Refused: t.lost[refused].Load(), TooSoon: t.lost[noLevel].Load()}
	}
	return all
}

// source is a lane of any type.
type source interface {
	take(into []pending) ([]pending, error)
	counts() *tally
}

// Lane takes readings of one type.
type Lane[B event.Body] struct {
	queue chan taken[B]
	wake  chan<- struct{}
	tally tally
}

// taken is a reading and when it was emitted.
type taken[B event.Body] struct {
	at   time.Time
	body B
}

// NewLane adds a lane to an emitter that was not started. size is how many readings it holds, and so how many of the type leave in one
// Every.
func NewLane[B event.Body](e *Emitter, size int) *Lane[B] {
	var zero B
	l := &Lane[B]{queue: make(chan taken[B], size), wake: e.wake, tally: tally{typ: zero.Type()}}
	e.lanes = append(e.lanes, l)
	return l
}

// Emit takes a reading, or drops and counts it when the lane is full. It neither waits nor allocates. A nil Lane takes nothing.
func (l *Lane[B]) Emit(body B) {
	if l == nil {
		return
	}
	select {
	case l.queue <- taken[B]{time.Now(), body}:
	default:
		l.tally.lost[full].Add(1)
		return
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// take empties the lane of what it holds now; what comes meanwhile is for the next round. The error is of the last that has no form.
func (l *Lane[B]) take(into []pending) (_ []pending, err error) {
	for range len(l.queue) {
		t := <-l.queue
		p := pending{at: t.at, event: transport.EmittedEvent{Type: l.tally.typ}, tally: &l.tally}
		var bad error
		if p.event.Body, bad = event.AppendBody(nil, t.body); bad != nil {
			drop([]pending{p}, refused)
			err = bad
			continue
		}
		into = append(into, p)
	}
	return into, err
}

func (l *Lane[B]) counts() *tally { return &l.tally }
