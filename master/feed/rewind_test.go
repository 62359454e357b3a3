package feed

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// copyAt is a copy of the store as it was when it knew so many concepts, and the first more writes of what came next.
func (s *sinkStore) copyAt(concepts int, skip int) *sinkStore {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := newSinkStore()
	for i, id := range s.arrivals[:concepts] {
		if skip > 0 && i >= concepts-skip && i%2 == 0 && strings.HasPrefix(id, "event-") {
			continue // a part of the last flush
		}
		c.concepts[id], c.arrivals = s.concepts[id], append(c.arrivals, id)
	}
	for a, n := range s.edges {
		if c.concepts[a.SourceID] != nil && c.concepts[a.TargetID] != nil {
			c.edges[a] = n
		}
	}
	return c
}

// rewinds are the feed_rewound of the log.
func (l *log) rewinds() (all []event.FeedRewound) {
	for _, e := range l.events {
		if b, is := e.Body.(event.FeedRewound); is {
			all = append(all, b)
		}
	}
	return all
}

// TestSinkThatLostDataIsShippedToAgain: whatever is left of it, it ends up with every event, under a new id.
func TestSinkThatLostDataIsShippedToAgain(t *testing.T) {
	for i, tt := range []struct {
		name   string
		change func(s *sinkStore) *sinkStore
		least  uint64 // how far it is not thrown back below
	}{
		{"emptied", func(*sinkStore) *sinkStore { return newSinkStore() }, 0},
		{"emptied but for its id", func(s *sinkStore) *sinkStore {
			c := newSinkStore()
			c.concepts["grid-feed-grid"] = s.concepts["grid-feed-grid"]
			return c
		}, 0},
		{"an older copy", func(s *sinkStore) *sinkStore { return s.copyAt(1000, 0) }, 400},
		{"an older copy from the middle of a flush", func(s *sinkStore) *sinkStore { return s.copyAt(1000, 400) }, 100},
		{"another store that holds the same", func(s *sinkStore) *sinkStore {
			c := s.copyAt(len(s.arrivals), 0)
			other := *c.concepts["grid-feed-grid"]
			other.Content = "another"
			c.concepts["grid-feed-grid"] = &other
			return c
		}, 1000},
		{"a hole far below its end", func(s *sinkStore) *sinkStore {
			delete(s.concepts, event.ConceptID(1505))
			for seq := uint64(1000); seq < 1100; seq++ {
				delete(s.concepts, event.ConceptID(seq))
			}
			s.arrivals = slices.DeleteFunc(s.arrivals, func(id string) bool { return s.concepts[id] == nil })
			return s
		}, 0},
	} {
		plain := i%2 == 1
		synctest.Test(t, func(t *testing.T) {
			l, n, store := newLogAt(t, fsm.RewindLevel), transport.NewMemory(), newSinkStore()
			l.settings(1500)
			sink := serveSink(t, n, store, plain)
			s, _ := l.lead(n)
			time.Sleep(5 * time.Second)
			sink.stop()
			before := l.cursor()
			l.settings(5)
			store = tt.change(store)
			serveSink(t, n, store, plain)
			time.Sleep(20 * time.Second)
			store.holes = true // some of what it gets is not new to it
			l.shipped(store)
			all := l.rewinds()
			if len(all) != 1 || all[0].From != before.Through || all[0].Replaces != before.SinkID || all[0].To < tt.least {
				t.Fatalf("%s: %+v; the cursor was %+v", tt.name, all, before)
			}
			after := l.cursor()
			if after.Through != l.machine.View().Seq() || after.SinkID != all[0].SinkID || store.concepts["grid-feed-grid"].Content != after.SinkID {
				t.Errorf("%s: the cursor is %+v, the store %q", tt.name, after, store.concepts["grid-feed-grid"].Content)
			}
			if got := s.Status(); len(got) != 1 || got[0].State != SinkShipping {
				t.Errorf("%s: status %+v", tt.name, got)
			}
		})
	}
}

// TestRewindIsRefused: where going on would hide a loss or mix histories; nothing is sent and nothing decided.
func TestRewindIsRefused(t *testing.T) {
	trim := func(l *log) {
		if err := l.outbox.Trim(l.machine.View().Seq()); err != nil {
			l.t.Fatal(err)
		}
	}
	foreign := func(s *sinkStore, seq uint64) {
		other := *s.concepts[event.ConceptID(seq)]
		other.Metadata = &transport.Metadata{Attributes: map[string]string{"chain": strings.Repeat("0", 64)}}
		s.concepts[event.ConceptID(seq)] = &other
	}
	for _, tt := range []struct {
		name   string
		change func(l *log, s *sinkStore)
		want   string
	}{
		{"emptied, and the feed's beginning is gone", func(l *log, s *sinkStore) { trim(l); clear(s.concepts) }, "trimmed"},
		{"behind, of another history", func(l *log, s *sinkStore) {
			last := l.cursor().Through
			delete(s.concepts, event.ConceptID(last))
			for seq := uint64(1); seq < last; seq++ {
				foreign(s, seq)
			}
		}, "another history"},
		{"another store, of another history at the cursor", func(l *log, s *sinkStore) {
			s.concepts["grid-feed-grid"].Content = "another"
			foreign(s, l.cursor().Through)
		}, "another history"},
		{"another store, of another history behind the cursor", func(l *log, s *sinkStore) {
			s.concepts["grid-feed-grid"].Content = "another"
			last := l.cursor().Through
			s.concepts[event.ConceptID(last+1)] = s.concepts[event.ConceptID(last)]
			foreign(s, last+1)
		}, "another history"},
	} {
		synctest.Test(t, func(t *testing.T) {
			l, n, store := newLogAt(t, fsm.RewindLevel), transport.NewMemory(), newSinkStore()
			sink := serveSink(t, n, store, false)
			s, _ := l.lead(n)
			time.Sleep(5 * time.Second)
			sink.stop()
			l.settings(5)
			tt.change(l, store)
			cursor, writes := l.cursor(), store.requests
			serveSink(t, n, store, false)
			time.Sleep(time.Minute)
			synctest.Wait()
			if got := s.Status(); len(got) != 1 || got[0].State != SinkRefused || !strings.Contains(got[0].Error, tt.want) {
				t.Errorf("%s: status %+v", tt.name, got)
			}
			if store.requests != writes || l.cursor() != cursor || len(l.rewinds()) > 0 {
				t.Errorf("%s: it was shipped to: %+v", tt.name, l.rewinds())
			}
		})
	}
}

// TestRewindAcrossTerms ends the term at every step of a rewind, and the answer to it is lost; an acknowledgement from before
// comes at every step. The sink ends up whole, and the cursor never passes what it lacks.
func TestRewindAcrossTerms(t *testing.T) {
	for step := range 12 {
		synctest.Test(t, func(t *testing.T) {
			l, n, store := newLogAt(t, fsm.RewindLevel), transport.NewMemory(), newSinkStore()
			l.settings(20)
			sink := serveSink(t, n, store, false)
			_, end := l.lead(n)
			time.Sleep(5 * time.Second)
			sink.stop()
			old := l.cursor()
			late := event.FeedAcked{Sink: "events", SinkID: old.SinkID, Through: old.Through, Chain: old.Chain}
			store = store.copyAt(10, 0)
			ends := make(chan struct{}, 1)
			n0 := 0
			store.fault = func(int, any) mishap {
				if n0++; n0 == step {
					ends <- struct{}{}
					return cuts
				}
				return none
			}
			l.refuse = func(c event.Command) error {
				if c.Type == event.TypeFeedRewound && step == 0 {
					step = -1
					return errors.New("no answer")
				}
				if c.Actor == "late" {
					return nil
				}
				return ackedTooEarly(c, store)
			}
			serveSink(t, n, store, false)
			for range 3 {
				select {
				case <-ends:
				case <-time.After(100 * time.Millisecond):
				}
				end()
				if a, err := l.propose(t.Context(), *event.NewCommand("late", late)); err != nil || len(l.rewinds()) > 0 && a.Err == nil {
					t.Fatalf("step %d: an acknowledgement from before: %+v, %v", step, a, err)
				}
				_, end = l.lead(n)
			}
			time.Sleep(2 * time.Minute)
			store.holes = true
			l.shipped(store)
			if all := l.rewinds(); len(all) == 0 || len(all) > 3 || l.cursor().Through != l.machine.View().Seq() {
				t.Errorf("step %d: %+v, cursor %+v", step, all, l.cursor())
			}
		})
	}
}

// TestRewindIsNotAHabit: stores that take turns at one address, or one that keeps its first id, cost an event each 30 s at most.
func TestRewindIsNotAHabit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, n, store := newLogAt(t, fsm.RewindLevel), transport.NewMemory(), newSinkStore()
		sink := serveSink(t, n, store, false)
		s, _ := l.lead(n)
		time.Sleep(5 * time.Second)
		for range 40 {
			sink.stop()
			sink = serveSink(t, n, newSinkStore(), false)
			l.settings(1)
			time.Sleep(3 * time.Second)
		}
		if got := len(l.rewinds()); got < 2 || got > 5 {
			t.Errorf("%d rewinds in two minutes; status %+v", got, s.Status())
		}
	})
}
