package storagenode

import (
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/storagenode/engine"
)

// doubts is a leader's watch over the attempts that are prepared at its shard (safety S8): how long this leader, by its
// own monotonic clock, has held each. A new leader starts anew. One goroutine uses it.
type doubts struct {
	after  time.Duration // held this long, an attempt is in doubt
	again  time.Duration // an inquiry without an answer is repeated after this long
	held   map[attempt]*doubt
	asking int // inquiries under way, at most maxAsking
}

// attempt names one execution of a transaction.
type attempt struct {
	txn   event.TxnID
	nonce uint64
}

// doubt is one attempt's next inquiry.
type doubt struct {
	next   time.Time
	asking bool
}

func newDoubts(after, again time.Duration) *doubts {
	return &doubts{after: after, again: again, held: map[attempt]*doubt{}}
}

// observe takes the present list of prepared attempts and returns those to inquire about now, and after how long the next
// one falls due if nothing changes; 0: none.
func (d *doubts) observe(now time.Time, prepared []engine.Prepared) (due []engine.Prepared, next time.Duration) {
	present := make(map[attempt]*doubt, len(prepared))
	for _, p := range prepared {
		key := attempt{p.TxnID, p.Attempt}
		h := d.held[key]
		if h == nil {
			h = &doubt{next: now.Add(d.after)}
		}
		present[key] = h
		if h.asking {
			continue
		}
		if !now.Before(h.next) {
			if d.asking < maxAsking { // else at the look that follows the next answer
				d.asking++
				h.asking = true
				due = append(due, p)
			}
			continue
		}
		if wait := h.next.Sub(now); next == 0 || wait < next {
			next = wait
		}
	}
	d.held = present
	return due, next
}

// answered ends an inquiry. If the attempt is still prepared at the next look, it is asked about again later.
func (d *doubts) answered(now time.Time, key attempt) {
	d.asking--
	if h := d.held[key]; h != nil {
		h.asking = false
		h.next = now.Add(d.again)
	}
}

// alarm is a timer that is only ever moved forward: work that keeps coming cannot put it off.
type alarm struct {
	*time.Timer
	at  time.Time
	set bool
}

func newAlarm() *alarm {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &alarm{Timer: t}
}

// within makes the alarm ring after d at the latest.
func (a *alarm) within(d time.Duration) {
	at := time.Now().Add(d)
	if a.set && !at.Before(a.at) {
		return
	}
	a.at, a.set = at, true
	a.Reset(d)
}

// rang says that the ring was heard.
func (a *alarm) rang() { a.set = false }

func (a *alarm) stop() { a.Stop() }
