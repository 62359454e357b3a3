package feed

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

func TestShipsEverythingInOrder(t *testing.T) {
	for _, plain := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			l, n, store := newLog(t), transport.NewMemory(), newSinkStore()
			l.settings(1500)
			serveSink(t, n, store, plain)
			s, _ := l.lead(n)
			time.Sleep(5 * time.Second)
			l.settings(3)
			time.Sleep(2 * time.Second)
			l.shipped(store)
			last := l.machine.View()
			if c := l.cursor(); c.Through != last.Seq() || c.Chain != last.Chain() || c.SinkID != store.concepts["grid-feed-grid"].Content || len(c.SinkID) != 32 {
				t.Errorf("plain %v: the cursor is %+v", plain, c)
			}
			if store.dirty && plain {
				t.Error("acknowledged behind the last Flush")
			}
			if got := slices.Contains(store.frames, "Batch"); got == plain {
				t.Errorf("plain %v: batches %v", plain, got)
			}
			want := SinkStatus{Sink: "events", Address: sinkAddress, State: SinkShipping, Through: last.Seq()}
			if got := s.Status(); len(got) != 1 || got[0] != want {
				t.Errorf("status %+v", got)
			}
		})
	}
}

// TestIdleGridBecomesQuiet: an acknowledgement is not shipped, so nothing follows it.
func TestIdleGridBecomesQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, n, store := newLog(t), transport.NewMemory(), newSinkStore()
		serveSink(t, n, store, false)
		l.lead(n)
		for range 30 { // ten events a second
			l.settings(1)
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		for i, at := range l.ackedAt[1:] {
			if gap := at.Sub(l.ackedAt[i]); gap < time.Second {
				t.Errorf("acknowledged %v after the one before", gap)
			}
		}
		frames, acks, index := len(store.frames), len(l.acks), l.index
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if len(store.frames) != frames || len(l.acks) != acks || l.index != index {
			t.Errorf("in five idle minutes: %d requests to the sink, %d acknowledgements", len(store.frames)-frames, len(l.acks)-acks)
		}
		if l.cursor().Through != l.machine.View().Seq() {
			t.Error("the last events are not acknowledged")
		}
	})
}

// TestSinkFaults breaks each of the first writes in every way. Nothing is lost, nothing comes out of order, and nothing is
// acknowledged before it is there.
func TestSinkFaults(t *testing.T) {
	for _, plain := range []bool{false, true} {
		for _, f := range []mishap{refuses, cuts, deafens} {
			for at := 1; at < 20; at++ {
				synctest.Test(t, func(t *testing.T) {
					l, n, store := newLog(t), transport.NewMemory(), newSinkStore()
					store.fault = func(n int, _ any) mishap {
						if n == at || n == at+7 {
							return f
						}
						return none
					}
					l.settings(2)
					l.refuse = func(c event.Command) error { return ackedTooEarly(c, store) }
					serveSink(t, n, store, plain)
					l.lead(n)
					time.Sleep(time.Minute)
					l.shipped(store)
					if l.cursor().Through != l.machine.View().Seq() {
						t.Errorf("fault %d at write %d: acknowledged through %d", f, at, l.cursor().Through)
					}
				})
			}
		}
	}
}

// ackedTooEarly fails when an acknowledged event is not whole in the sink.
func ackedTooEarly(c event.Command, store *sinkStore) error {
	ack, ok := c.Body.(event.FeedAcked)
	if !ok || ack.Through == 0 {
		return nil
	}
	store.mu.Lock()
	defer store.mu.Unlock()
	for a := range store.edges {
		if a.SourceID == event.ConceptID(ack.Through) && a.AssocType == 999 {
			return nil
		}
	}
	panic(fmt.Sprintf("event %d was acknowledged before it was stored", ack.Through))
}

// TestSinkComesLateAndRestarts: down at first, then up, down in the middle of the feed, and up again.
func TestSinkComesLateAndRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, n, store := newLog(t), transport.NewMemory(), newSinkStore()
		s, _ := l.lead(n)
		l.settings(10)
		time.Sleep(time.Minute)
		if got := s.Status(); len(got) != 1 || got[0].State != SinkRetrying || !strings.Contains(got[0].Error, "refused") {
			t.Errorf("status of a sink that is down: %+v", got)
		}
		for range 3 {
			sink := serveSink(t, n, store, false)
			l.settings(10)
			time.Sleep(20 * time.Second)
			l.shipped(store)
			sink.stop()
			l.settings(10)
			time.Sleep(30 * time.Second)
		}
		serveSink(t, n, store, false)
		time.Sleep(20 * time.Second)
		l.shipped(store)
	})
}

// TestLeaderChanges: each term ships from the acknowledged cursor, whatever the one before had sent.
func TestLeaderChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, n, store := newLog(t), transport.NewMemory(), newSinkStore()
		serveSink(t, n, store, false)
		for i := range 20 {
			_, end := l.lead(n)
			l.settings(20)
			time.Sleep(time.Duration(i*37) * time.Millisecond)
			end()
		}
		l.lead(n)
		time.Sleep(5 * time.Second)
		l.shipped(store)
		ids := map[string]bool{}
		for _, a := range l.acks {
			ids[a.SinkID] = true
		}
		if len(ids) != 1 {
			t.Errorf("the sink was known by %d ids", len(ids))
		}
	})
}

// TestSinkThatChangedIsNotShippedTo: what a sink acknowledged must be there, and be ours (safety S10).
func TestSinkThatChangedIsNotShippedTo(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(l *log, s *sinkStore)
		want   string
	}{
		{"emptied", func(_ *log, s *sinkStore) { clear(s.concepts) }, "its data is lost"},
		{"replaced", func(_ *log, s *sinkStore) { s.concepts["grid-feed-grid"].Content = "another" }, "another store answers"},
		{"behind its cursor", func(l *log, s *sinkStore) { delete(s.concepts, event.ConceptID(l.cursor().Through)) }, "it lost data"},
		{"another history at the cursor", func(l *log, s *sinkStore) {
			s.concepts[event.ConceptID(l.cursor().Through)].Metadata.Attributes["chain"] = strings.Repeat("0", 64)
		}, "another history"},
		{"another history behind the cursor", func(l *log, s *sinkStore) {
			other := *s.concepts[event.ConceptID(l.cursor().Through)]
			s.concepts[event.ConceptID(l.cursor().Through+1)] = &other
		}, "another history"},
		{"events that the outbox no longer has", func(l *log, s *sinkStore) {
			if err := l.outbox.Trim(l.machine.View().Seq()); err != nil {
				l.t.Fatal(err)
			}
		}, "trimmed"},
	} {
		synctest.Test(t, func(t *testing.T) {
			l, n, store := newLog(t), transport.NewMemory(), newSinkStore()
			sink := serveSink(t, n, store, false)
			s, _ := l.lead(n)
			time.Sleep(5 * time.Second)
			sink.stop()
			l.settings(5)
			tt.change(l, store)
			before, cursor := maps.Clone(store.concepts), l.cursor()
			serveSink(t, n, store, false)
			time.Sleep(time.Minute)
			synctest.Wait()
			got := s.Status()
			if len(got) != 1 || got[0].State != SinkRefused || !strings.Contains(got[0].Error, tt.want) {
				t.Errorf("%s: status %+v", tt.name, got)
			}
			if !maps.Equal(before, store.concepts) || l.cursor() != cursor {
				t.Errorf("%s: it was shipped to", tt.name)
			}
		})
	}
}

// TestSinkIsMended: a refused sink is looked at again, and shipped to when it is what it was.
func TestSinkIsMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, n, store := newLog(t), transport.NewMemory(), newSinkStore()
		sink := serveSink(t, n, store, false)
		l.lead(n)
		time.Sleep(5 * time.Second)
		sink.stop()
		l.settings(5)
		wrong := serveSink(t, n, newSinkStore(), false)
		time.Sleep(time.Minute)
		wrong.stop()
		serveSink(t, n, store, false)
		time.Sleep(time.Minute)
		l.shipped(store)
	})
}

// TestSinksComeAndGo: a sink is shipped to while it is in the state, at the address it has there.
func TestSinksComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, n, store := newLog(t), transport.NewMemory(), newSinkStore()
		serveSink(t, n, store, false)
		l.must(event.SinkRemoved{Sink: "events"})
		s, _ := l.lead(n)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if len(store.concepts) > 0 || len(s.Status()) > 0 {
			t.Error("shipped to a sink that was removed")
		}
		l.must(event.SinkAdded{Sink: "late", Address: "nowhere:1", Class: "extern"})
		time.Sleep(5 * time.Second)
		l.must(event.SinkAdded{Sink: "late", Address: sinkAddress, Class: "extern"})
		time.Sleep(5 * time.Second)
		if c := l.machine.View().Cursor("late"); c.Through != l.machine.View().Seq() {
			t.Errorf("the cursor is at %d of %d", c.Through, l.machine.View().Seq())
		}
		l.must(event.SinkRemoved{Sink: "late"})
		time.Sleep(5 * time.Second)
		if len(s.Status()) > 0 {
			t.Errorf("status %+v", s.Status())
		}
	})
}

// TestLostAcknowledgement: the proposal's answer is lost; the sink is acknowledged all the same, a little later.
func TestLostAcknowledgement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, n, store := newLog(t), transport.NewMemory(), newSinkStore()
		lost := 0
		l.refuse = func(c event.Command) error {
			if c.Type == event.TypeFeedAcked && lost < 5 {
				lost++
				return errors.New("no answer")
			}
			return nil
		}
		serveSink(t, n, store, false)
		l.lead(n)
		time.Sleep(time.Minute)
		l.shipped(store)
		if lost != 5 || l.cursor().Through != l.machine.View().Seq() {
			t.Errorf("%d answers lost, cursor %d", lost, l.cursor().Through)
		}
	})
}
