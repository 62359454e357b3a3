package fsm

import (
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// sunk is a grid of a level with a sink that acknowledged 20 of its events as store x; chains are those of its events.
func sunk(t fatal, level uint32) (r *replica, chains []event.Chain, sizes []uint64) {
	t.Helper()
	r = newReplica(t)
	r.must(event.IncarnationStarted{GridID: "g", Incarnation: event.Incarnation{N: 1}, Level: level})
	r.must(event.AgentRegistered{AgentID: "agent-1", MaxStorageNodes: 2})
	r.must(event.SinkAdded{Sink: "events", Address: "h:1", Class: "grid"})
	for r.m.View().Seq() < 30 {
		r.must(event.AgentHeartbeat{AgentID: "agent-1"})
	}
	chains, sizes = make([]event.Chain, 1), make([]uint64, 1)
	for i, e := range r.events(1) {
		chains, sizes = append(chains, e.Chain), append(sizes, sizes[i]+uint64(len(r.feed[i])))
	}
	r.must(event.FeedAcked{Sink: "events", SinkID: "x", Through: 20, Chain: chains[20]})
	return r, chains, sizes
}

// TestFeedRewound: only for the cursor it was made for, and then nothing that was acknowledged before counts any more.
func TestFeedRewound(t *testing.T) {
	r, chains, sizes := sunk(t, RewindLevel)
	good := event.FeedRewound{Sink: "events", To: 5, Chain: chains[5], From: 20, SinkID: "y", Replaces: "x", Size: sizes[5]}
	for name, tt := range map[string]struct {
		change func(*event.FeedRewound)
		want   event.Kind
	}{
		"unknown sink":              {func(b *event.FeedRewound) { b.Sink = "z" }, event.KindNotFound},
		"no id":                     {func(b *event.FeedRewound) { b.SinkID = "" }, event.KindInvalid},
		"an id too long":            {func(b *event.FeedRewound) { b.SinkID = strings.Repeat("y", maxID+1) }, event.KindInvalid},
		"another store":             {func(b *event.FeedRewound) { b.Replaces = "w" }, event.KindConflict},
		"another cursor":            {func(b *event.FeedRewound) { b.From = 19 }, event.KindConflict},
		"forward":                   {func(b *event.FeedRewound) { b.To = 21 }, event.KindInvalid},
		"another history":           {func(b *event.FeedRewound) { b.To = 20 }, event.KindInvalid},
		"a chain before the first":  {func(b *event.FeedRewound) { b.To, b.Size = 0, 0 }, event.KindInvalid},
		"bytes before the first":    {func(b *event.FeedRewound) { b.To, b.Chain = 0, event.Chain{} }, event.KindInvalid},
		"more bytes than there are": {func(b *event.FeedRewound) { b.Size = r.m.View().FeedBytes() + 1 }, event.KindInvalid},
	} {
		b := good
		tt.change(&b)
		wantKind(t, name, r.do(b), tt.want)
	}
	before := r.m.View()
	if c := before.Cursor("events"); c.Through != 20 || c.SinkID != "x" {
		t.Fatalf("what is refused changed the cursor: %+v", c)
	}
	want := Cursor{Sink: "events", SinkID: "y", Through: 5, Chain: chains[5]}
	if a := r.must(good); a.Value != 5 || a.Seq != before.Seq()+1 || r.m.View().Cursor("events") != want {
		t.Fatalf("%+v, %+v", a, r.m.View().Cursor("events"))
	}
	for _, late := range []event.FeedAcked{
		{Sink: "events", SinkID: "x", Through: 20, Chain: chains[20]}, {Sink: "events", SinkID: "x", Through: 25, Chain: chains[25]},
	} {
		wantKind(t, "an acknowledgement from before", r.do(late), event.KindConflict)
	}
	if a := r.must(good); a.Seq != 0 || r.m.View().Cursor("events") != want {
		t.Errorf("sent twice: %+v, %+v", a, r.m.View().Cursor("events"))
	}
	r.must(event.FeedAcked{Sink: "events", SinkID: "y", Through: 20, Chain: chains[20]})
	if a := r.must(good); a.Seq != 0 || a.Value != 20 || r.m.View().Cursor("events").Through != 20 {
		t.Errorf("sent again when the sink had gone on: %+v", a)
	}
	again := good
	again.SinkID, again.Replaces = "z", "x"
	wantKind(t, "late, of the store before", r.do(again), event.KindConflict)
	again.Replaces, again.To, again.Chain, again.Size = "y", 20, chains[20], sizes[20]
	r.must(again) // another store that holds as much
	r.must(event.SinkRemoved{Sink: "events"})
	r.must(event.SinkAdded{Sink: "events", Address: "h:1", Class: "grid"})
	again.From, again.Replaces, again.SinkID = 0, "", "w"
	wantKind(t, "before anything was acknowledged", r.do(again), event.KindConflict)
	checkReplay(t, r)
	if reborn(t, r.m.View()).View().LocalDigest() != r.m.View().LocalDigest() {
		t.Error("restored, the local state is another")
	}
}

// TestFeedRewoundTakesLevel3: below it the type does not exist.
func TestFeedRewoundTakesLevel3(t *testing.T) {
	r, chains, sizes := sunk(t, RewindLevel-1)
	b := event.FeedRewound{Sink: "events", To: 5, Chain: chains[5], From: 20, SinkID: "y", Replaces: "x", Size: sizes[5]}
	wantKind(t, "level 2", r.do(b), event.KindUnsupported)
	r.must(event.MasterJoined{MasterID: "master-1", Suffrage: "voter", Level: RewindLevel})
	r.must(event.LevelRaised{To: RewindLevel})
	r.must(b)
}

// TestRewoundBehindASlowerSink: the slower one stays the measure.
func TestRewoundBehindASlowerSink(t *testing.T) {
	r, chains, sizes := sunk(t, RewindLevel)
	r.must(event.SinkAdded{Sink: "slow", Address: "h:2", Class: "extern"})
	r.must(event.FeedAcked{Sink: "slow", SinkID: "s", Through: 3, Chain: chains[3]})
	before := r.m.View().Outbox()
	r.must(event.FeedRewound{Sink: "events", To: 5, Chain: chains[5], From: 20, SinkID: "y", Replaces: "x", Size: sizes[5]})
	if o := r.m.View().Outbox(); o.Events != before.Events+1 || o.Bytes-before.Bytes != uint64(len(last(r.feed))) {
		t.Errorf("rewound above the slower sink: %+v, before %+v", o, before)
	}
}

func last[T any](all []T) T { return all[len(all)-1] }

// TestRewoundBytes: the outbox counts what was rewound as not taken, until the sink is past the next mark.
func TestRewoundBytes(t *testing.T) {
	r, _, _ := sunk(t, RewindLevel)
	for r.m.View().Seq() < 3000 {
		r.must(event.AgentHeartbeat{AgentID: "agent-1"})
	}
	events := r.events(1)
	ack := func(sink, id string, through uint64) {
		r.must(event.FeedAcked{Sink: sink, SinkID: id, Through: through, Chain: events[through-1].Chain})
	}
	rewind := func(from, to uint64, id, replaces string) {
		size := uint64(0)
		for _, b := range r.feed[:to] {
			size += uint64(len(b))
		}
		r.must(event.FeedRewound{Sink: "events", To: to, Chain: events[to-1].Chain, From: from, SinkID: id, Replaces: replaces, Size: size})
		if o := r.m.View().Outbox(); o.Bytes < r.m.View().FeedBytes()-size {
			r.t.Fatalf("rewound to %d: %d bytes are not taken, at least %d are not", to, o.Bytes, r.m.View().FeedBytes()-size)
		}
	}
	ack("events", "x", 3000)
	rewind(3000, 100, "y", "x")
	if o := r.m.View().Outbox(); o.Events != r.m.View().Seq()-100 {
		t.Errorf("rewound to 100 of %d: %+v", r.m.View().Seq(), o)
	}
	ack("events", "y", 3000)
	for r.m.View().Seq() < 5000 {
		r.must(event.AgentHeartbeat{AgentID: "agent-1"})
	}
	events = r.events(1)
	ack("events", "y", 4500) // past the next mark the count is right again, to within 1,024 events
	per := r.m.View().FeedBytes() / 5000
	if o := r.m.View().Outbox(); o.Bytes/per > 500+backlogStride {
		t.Errorf("behind the next mark: %d events, %d bytes of about %d each", o.Events, o.Bytes, per)
	}
	checkReplay(t, r)
}
