package fsm

import (
	"math"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// RewindLevel is the level from which a sink that lost data is shipped to again; below it, it is refused.
const RewindLevel = 3

const (
	maxSinks       = 16
	backlogStride  = 1024 // events between two backlog marks
	outboxFullPct  = 80   // of the quota: the cluster is degraded
	outboxClearPct = 75   // and is no longer below this
)

// backlogMark says how many bytes of the feed there are up to an event: local.
type backlogMark struct {
	Seq   uint64 `wire:"seq"`
	Bytes uint64 `wire:"bytes"`
}

func decideSinkAdded(s *State, _ *event.Command, b event.SinkAdded) verdict {
	const op = "add sink"
	if bad := badID(b.Sink); bad != "" {
		return refuse(event.KindInvalid, op, "sink %q: %s", b.Sink, bad)
	}
	if b.Address == "" || len(b.Address) > maxEndpoint {
		return refuse(event.KindInvalid, op, "sink %s: want an address of 1 to %d bytes", b.Sink, maxEndpoint)
	}
	if b.Class != "grid" && b.Class != "extern" {
		return refuse(event.KindInvalid, op, "sink %s: class %q, want grid or extern", b.Sink, b.Class)
	}
	old := s.sinks.get(b.Sink)
	switch {
	case old != nil && *old == Sink{Name: b.Sink, Address: b.Address, Class: b.Class}:
		return already(0)
	case old == nil && s.sinks.len() >= maxSinks:
		return refuse(event.KindRefused, op, "sink %s: there are %d sinks, the limit", b.Sink, maxSinks)
	}
	return accept(b)
}

func evolveSinkAdded(s *State, _ *event.Envelope, b event.SinkAdded) error {
	s.sinks.set(b.Sink, Sink{Name: b.Sink, Address: b.Address, Class: b.Class})
	return nil
}

func decideSinkRemoved(s *State, _ *event.Command, b event.SinkRemoved) verdict {
	if s.sinks.get(b.Sink) == nil {
		return refuse(event.KindNotFound, "remove sink", "sink %q is unknown", b.Sink)
	}
	return accept(b)
}

func evolveSinkRemoved(s *State, _ *event.Envelope, b event.SinkRemoved) error {
	s.sinks.delete(b.Sink)
	s.cursors.delete(b.Sink)
	s.trimBacklog()
	return nil
}

// decideFeedAcked: the cursor takes the maximum (safety S10). Answer.Value is where it stands behind it.
func decideFeedAcked(s *State, _ *event.Command, b event.FeedAcked) verdict {
	const op = "acknowledge feed"
	if s.sinks.get(b.Sink) == nil {
		return refuse(event.KindNotFound, op, "sink %q is unknown", b.Sink)
	}
	cur := s.Cursor(b.Sink)
	switch {
	case b.SinkID == "" || len(b.SinkID) > maxID:
		return refuse(event.KindInvalid, op, "sink %s: the id of its store is missing or too long", b.Sink)
	case cur.SinkID != "" && cur.SinkID != b.SinkID:
		return refuse(event.KindConflict, op, "sink %s: the cursor is of store %s, not of %s", b.Sink, cur.SinkID, b.SinkID)
	case b.Through > s.head.Seq:
		return refuse(event.KindInvalid, op, "sink %s: %d is behind the last event %d", b.Sink, b.Through, s.head.Seq)
	case b.Through == s.head.Seq && b.Chain != s.head.Chain, b.Through == cur.Through && cur.SinkID != "" && b.Chain != cur.Chain:
		return refuse(event.KindConflict, op, "sink %s holds another history: its chain at %d differs", b.Sink, b.Through)
	}
	if b.Through <= cur.Through && cur.SinkID != "" {
		return verdict{value: cur.Through}
	}
	v := accept(b)
	v.value = b.Through
	return v
}

func evolveFeedAcked(s *State, _ *event.Envelope, b event.FeedAcked) error {
	s.cursors.set(b.Sink, Cursor{Sink: b.Sink, SinkID: b.SinkID, Through: b.Through, Chain: b.Chain})
	s.trimBacklog()
	return nil
}

// decideFeedRewound: the cursor goes back, and the store behind the sink gets an id that it never had, so what was
// acknowledged before, and still comes, is refused. It is made for one cursor: any other refuses it.
func decideFeedRewound(s *State, _ *event.Command, b event.FeedRewound) verdict {
	const op = "rewind feed"
	if s.sinks.get(b.Sink) == nil {
		return refuse(event.KindNotFound, op, "sink %q is unknown", b.Sink)
	}
	cur := s.Cursor(b.Sink)
	switch {
	case b.SinkID == "" || len(b.SinkID) > maxID:
		return refuse(event.KindInvalid, op, "sink %s: the id of its store is missing or too long", b.Sink)
	case cur.SinkID == b.SinkID:
		return verdict{value: cur.Through} // it was, and has gone on
	case cur.SinkID == "":
		return refuse(event.KindConflict, op, "sink %s has not acknowledged anything", b.Sink)
	case cur.SinkID != b.Replaces || cur.Through != b.From:
		return refuse(event.KindConflict, op, "sink %s: from %d of store %s, but the cursor is at %d of store %s", b.Sink, b.From, b.Replaces, cur.Through, cur.SinkID)
	case b.To > b.From, b.To == b.From && b.Chain != cur.Chain, b.To == 0 && (b.Chain != event.Chain{} || b.Size != 0), b.Size > s.head.FeedBytes:
		return refuse(event.KindInvalid, op, "sink %s: event %d, with %d bytes through it, is no place of the feed from 0 to its cursor %d", b.Sink, b.To, b.Size, b.From)
	}
	v := accept(b)
	v.value = b.To
	return v
}

// evolveFeedRewound: the bytes between To and the next mark count as not taken until the sink is past that mark again.
func evolveFeedRewound(s *State, e *event.Envelope, b event.FeedRewound) error {
	if s.sinks.get(b.Sink) == nil {
		return unknown(e, "sink", b.Sink)
	}
	s.cursors.set(b.Sink, Cursor{Sink: b.Sink, SinkID: b.SinkID, Through: b.To, Chain: b.Chain})
	s.mark.AckedBytes = min(s.mark.AckedBytes, b.Size)
	return nil
}

// FeedBytes is the encoded length of all events of the feed so far.
func (s *State) FeedBytes() uint64 { return s.head.FeedBytes }

// acked is the greatest event that every sink holds; without a sink it is 0: the outbox keeps everything.
func (s *State) acked() uint64 {
	if s.sinks.len() == 0 {
		return 0
	}
	low := uint64(math.MaxUint64)
	for sink := range s.sinks.all() {
		low = min(low, s.Cursor(sink.Name).Through)
	}
	return low
}

// trimBacklog forgets the marks that every sink has passed.
func (s *State) trimBacklog() {
	acked := s.acked()
	if acked == s.head.Seq {
		s.mark.AckedBytes = s.head.FeedBytes
	}
	for {
		r, ok := s.backlog.tree.Min()
		if !ok || r.key > acked {
			return
		}
		s.mark.AckedBytes = max(s.mark.AckedBytes, r.cell.value.Bytes)
		s.backlog.delete(r.key)
	}
}

// noteBacklog sets a mark at every 1,024th event.
func (s *State) noteBacklog() {
	if s.head.Seq%backlogStride == 0 {
		s.backlog.set(s.head.Seq, backlogMark{Seq: s.head.Seq, Bytes: s.head.FeedBytes})
	}
}

// Outbox is what of the feed some sink does not hold yet.
func (s *State) Outbox() Outbox {
	return Outbox{Events: s.head.Seq - s.acked(), Bytes: s.head.FeedBytes - s.mark.AckedBytes, Quota: s.limits.quota, Full: s.mark.OutboxFull}
}

// noteOutbox tells whether the outbox has become full, or has room again.
func (s *State) noteOutbox() bool {
	used := s.head.FeedBytes - s.mark.AckedBytes
	full := used >= s.limits.quota/100*outboxFullPct
	if s.mark.OutboxFull {
		full = used >= s.limits.quota/100*outboxClearPct
	}
	changed := full != s.mark.OutboxFull
	s.mark.OutboxFull = full
	return changed
}
