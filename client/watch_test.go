package client

import (
	"errors"
	"slices"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// TestWatchTakesOnlyWhatContinuesIt: an event that comes twice, too early, or not at all, another history and a message that goes
// back end the watch; they do not reach the caller.
func TestWatchTakesOnlyWhatContinuesIt(t *testing.T) {
	ours, other := event.Incarnation{N: 1, Random: [8]byte{1}}, event.Incarnation{N: 1, Random: [8]byte{2}}
	message := func(last uint64, in event.Incarnation, seqs ...uint64) *transport.EventsOk {
		m := &transport.EventsOk{Last: last, Incarnation: in}
		for _, seq := range seqs {
			body := event.LevelRaised{To: 2}
			b, err := event.Seal(nil, event.Chain{}, &event.Envelope{Seq: seq, Type: body.Type(), Time: 1, Body: body})
			if err != nil {
				t.Fatal(err)
			}
			m.Events = append(m.Events, b)
		}
		return m
	}
	at := func(seq uint64) EventPosition { return EventPosition{Incarnation: ours, Seq: seq} }
	for name, tc := range map[string]struct {
		from EventPosition
		all  bool
		msg  any
		kind event.Kind
		next uint64
	}{
		"the next ones":                {at(5), true, message(7, ours, 5, 6, 7), "", 8},
		"a mark":                       {at(5), true, message(4, ours), "", 5},
		"from now, a mark":             {EventPosition{}, true, message(40, ours), "", 41},
		"from now, events":             {EventPosition{}, true, message(41, ours, 40, 41), "", 42},
		"filtered, some left out":      {at(5), false, message(20, ours, 7, 12), "", 21},
		"filtered, all left out":       {at(5), false, message(20, ours), "", 21},
		"one again":                    {at(5), true, message(5, ours, 4, 5), event.KindInternal, 0},
		"one again, filtered":          {at(5), false, message(5, ours, 4, 5), event.KindInternal, 0},
		"twice in a message":           {at(5), false, message(6, ours, 5, 5), event.KindInternal, 0},
		"a gap":                        {at(5), true, message(7, ours, 6, 7), event.KindInternal, 0},
		"a gap inside":                 {at(5), true, message(7, ours, 5, 7), event.KindInternal, 0},
		"a gap at the end":             {at(5), true, message(7, ours, 5, 6), event.KindInternal, 0},
		"a mark that skips":            {at(5), true, message(9, ours), event.KindInternal, 0},
		"a mark that goes back":        {at(5), false, message(3, ours), event.KindInternal, 0},
		"an event behind the end":      {at(5), false, message(5, ours, 6), event.KindInternal, 0},
		"another history":              {at(5), true, message(5, other, 5), event.KindOldIncarnation, 0},
		"an event that cannot be read": {at(5), true, &transport.EventsOk{Last: 5, Incarnation: ours, Events: [][]byte{{0xc1}}}, event.KindInternal, 0},
		"another message":              {at(5), true, &transport.FlushOk{}, event.KindInternal, 0},
	} {
		w := eventWatch{next: tc.from, all: tc.all}
		step, err := w.step(tc.msg)
		if tc.kind != "" {
			if !errors.Is(err, &event.Error{Kind: tc.kind}) {
				t.Errorf("%s: %v, want %s", name, err, tc.kind)
			}
			continue
		}
		if err != nil || step.Next != (EventPosition{ours, tc.next}) {
			t.Errorf("%s: %v, next %v", name, err, step.Next)
		}
	}
	trimmed := &event.Error{Kind: event.KindLagging, Oldest: 9, ResumeFrom: 4}
	if oldest, missed, ok := Oldest(trimmed); oldest != 9 || missed != 4 || !ok {
		t.Error(oldest, missed, ok)
	}
	if _, _, ok := Oldest(errors.New("no")); ok {
		t.Error("another error")
	}
}

// TestMapsComeForward: keep-alives and older maps do not reach the caller, and a watch asks for what is newer than it has.
func TestMapsComeForward(t *testing.T) {
	h := newMapHistory(mapAt(1, 5))
	var taken []uint64
	for _, seq := range []uint64{4, 5, 7, 7, 6, 9} {
		m := &transport.ShardMapOk{GridID: "g", Incarnation: event.Incarnation{N: 1}}
		m.Map.Epoch = mapAt(1, seq)
		got, newer, err := h.take(m)
		if err != nil {
			t.Fatal(err)
		}
		if newer {
			taken = append(taken, got.Map.Epoch.Seq)
		}
	}
	if req := h.request().(*transport.WatchShardMap); !slices.Equal(taken, []uint64{7, 9}) || req.Epoch != mapAt(1, 9) || req.Incarnation.N != 1 {
		t.Errorf("took %v, asks for %+v", taken, req)
	}
}
