package feed

import (
	"errors"
	"fmt"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// Rewinding (safety S10). A store that does not hold what was acknowledged for its sink, because it lost data or is another
// one, gets the feed again from the last event that it is sure to hold.
//
// Invariant: a cursor is at or below what the store of its id holds, whole and durable. An id is never used twice: with each
// rewind the log gives the store a new one, which is written there before anything is shipped. So a feed_acked from
// before, late or sent twice or of another term, is of an id that the cursor no longer has, and Apply refuses it. A feed_rewound is made for one
// cursor, place and id, and refused by any other: sent twice it changes nothing, and late it cannot throw back a sink that went on.
// A leader that ends between the decision and the write leaves a store with an old id: the next leader rewinds once more.

// lostError is why a sink is not what its cursor says.
type lostError struct{ text string }

func (e *lostError) Error() string { return e.text }

func lostf(format string, args ...any) error { return &lostError{fmt.Sprintf(format, args...)} }

// prove brings the cursor and the sink together: what it returns is a place behind which the sink may be shipped to, and the
// id by which it acknowledges.
func (w *worker) prove(conn *sinkConn, st *fsm.State) (cursor fsm.Cursor, err error) {
	cursor = st.Cursor(w.sink)
	cursor.SinkID, err = w.identify(conn, st.GridID(), cursor)
	if err == nil {
		err = w.verify(conn, cursor)
	}
	var lost *lostError
	if !errors.As(err, &lost) {
		return cursor, err
	}
	if cursor, err = w.rewind(conn, st, lost); err != nil {
		return cursor, err
	}
	return cursor, w.verify(conn, cursor)
}

// rewind has the log decide from where on the sink is shipped to again, and names the store as decided.
func (w *worker) rewind(conn *sinkConn, st *fsm.State, lost *lostError) (fsm.Cursor, error) {
	cursor := st.Cursor(w.sink)
	if st.Level() < fsm.RewindLevel {
		return cursor, refusef("%w; from level %d on it would be shipped to again", lost, fsm.RewindLevel)
	}
	// Each rewind is an event and sends much again: two stores that take turns at one address must not make it a habit.
	if !w.rewoundAt.IsZero() && time.Since(w.rewoundAt) < w.cfg.RetryRefused {
		return cursor, refusef("%w; it was rewound %s ago: does more than one store answer there, or one that forgets?", lost, time.Since(w.rewoundAt).Round(time.Second))
	}
	to, chain, err := w.common(conn, cursor.Through)
	if err != nil {
		return cursor, fmt.Errorf("%w: %w", err, lost)
	}
	size, err := w.sizeThrough(st, to)
	if err != nil {
		return cursor, fmt.Errorf("%w: %w", err, lost)
	}
	body := event.FeedRewound{Sink: w.sink, To: to, Chain: chain, From: cursor.Through, SinkID: newSinkID(), Replaces: cursor.SinkID, Size: size}
	w.rewoundAt = time.Now()
	if err := w.propose(body); err != nil {
		return cursor, fmt.Errorf("rewind the feed from %d to %d: %w", body.From, to, err)
	}
	w.log.Warn("a sink is shipped to again", "from", to+1, "acknowledged", body.From, "why", lost.text, "store", body.SinkID)
	return fsm.Cursor{Sink: w.sink, SinkID: body.SinkID, Through: to, Chain: chain}, w.rename(conn, st.GridID(), body.SinkID)
}

// rename gives the store its new id, and sees that it took it: a server that keeps the first content of a concept would be
// another store at each look.
func (w *worker) rename(conn *sinkConn, gridID, id string) error {
	if err := conn.name(gridID, id); err != nil {
		return err
	}
	held, err := conn.concept(idConcept(gridID))
	if err != nil {
		return err
	}
	if held.Content != id {
		return refusef("it keeps the id %s although it was given %s: delete its concept %s", held.Content, id, idConcept(gridID))
	}
	return nil
}

// common is the last event, not above through, that the sink is sure to hold whole and the outbox holds all events behind, and
// its chain value. Flushes are stored one behind the other, each whole before the next begins, so a store holds at any time all events
// through some place, a part of those of one flush behind it, and nothing else. The search ends on the border of what is held,
// at most one flush above that place.
func (w *worker) common(conn *sinkConn, through uint64) (uint64, event.Chain, error) {
	low := w.cfg.Outbox.First() - 1
	if low > through {
		return 0, event.Chain{}, refusef("it needs events from %d on: %w: the oldest is %d", through+1, ErrTrimmed, low+1)
	}
	if low > 0 {
		if has, err := w.holds(conn, low); err != nil {
			return 0, event.Chain{}, err
		} else if !has {
			return 0, event.Chain{}, refusef("it needs events below %d: %w", low, ErrTrimmed)
		}
	}
	held, missing := low, through+1
	for held+1 < missing {
		middle := held + (missing-held)/2
		has, err := w.holds(conn, middle)
		if err != nil {
			return 0, event.Chain{}, err
		}
		if has {
			held = middle
		} else {
			missing = middle
		}
	}
	if err := w.verifyNext(conn, held+1); err != nil {
		return 0, event.Chain{}, err
	}
	to := max(low, held-min(held, flushEvents))
	if to > low {
		if has, err := w.holds(conn, to); err != nil {
			return 0, event.Chain{}, err
		} else if !has { // it lost more than its end: everything is sent again
			to = low
		}
	}
	chain, err := w.chainAt(to)
	return to, chain, err
}

// holds tells whether the sink has an event; one that is not ours is refused.
func (w *worker) holds(conn *sinkConn, seq uint64) (bool, error) {
	held, err := chainIn(conn, seq)
	if err != nil || held == "" {
		return false, err
	}
	ours, err := w.chainAt(seq)
	if err != nil {
		return false, err
	}
	return true, sameChain(seq, held, ours)
}

// chainAt is the chain value behind an event of the outbox, or right before its first.
func (w *worker) chainAt(seq uint64) (event.Chain, error) {
	chain, err := w.cfg.Outbox.chainAt(seq)
	if errors.Is(err, ErrTrimmed) {
		err = refusef("%w", err)
	}
	return chain, err
}

// sizeThrough is the encoded length of the feed through an event: that of the state without what the outbox holds above.
func (w *worker) sizeThrough(st *fsm.State, seq uint64) (uint64, error) {
	if err := w.cfg.Outbox.Wait(w.ctx, st.Seq()); err != nil { // the state is published a moment before
		return 0, err
	}
	above, err := w.cfg.Outbox.Size(seq+1, st.Seq())
	switch {
	case errors.Is(err, ErrTrimmed):
		return 0, refusef("%w", err)
	case err != nil:
		return 0, err
	case above > st.FeedBytes():
		return 0, fmt.Errorf("%w: events %d to %d have %d bytes, the whole feed has %d", ErrBroken, seq+1, st.Seq(), above, st.FeedBytes())
	}
	return st.FeedBytes() - above, nil
}
