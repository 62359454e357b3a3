package fsm

import (
	"bytes"
	"fmt"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// actorGrid is the actor of what the state machine derives.
const actorGrid = "grid"

// run is one call of Apply: it changes s and collects the records.
type run struct {
	s       *State
	meta    EntryMeta
	records []Record
	checks  []Check // of the multiples that were passed
	known   []Check // those from before
	differs *event.StateChecked
	buf     []byte // what is encoded to be hashed, or copied
}

func (r *run) entry(e Entry) ([]Answer, error) {
	s := r.s
	r.meta = e.Meta
	if e.Meta.Index <= s.mark.RaftIndex {
		return nil, fmt.Errorf("index %d is not behind %d", e.Meta.Index, s.mark.RaftIndex)
	}
	if e.Meta.Level > s.supports {
		return nil, fmt.Errorf("written at level %d, this version supports %d: run a newer one", e.Meta.Level, s.supports)
	}
	r.check(e.Meta.Index)
	s.mark.RaftIndex = e.Meta.Index
	s.mark.Time = max(s.mark.Time, e.Meta.Time)
	answers := make([]Answer, len(e.Commands))
	for i, raw := range e.Commands {
		c, err := event.DecodeCommand(raw)
		if err != nil {
			return nil, fmt.Errorf("command %d: %w", i, err)
		}
		if answers[i], err = r.command(c); err != nil {
			return nil, fmt.Errorf("command %d (%s): %w", i, c.Type, err)
		}
		answers[i].Epoch = s.head.Map.Epoch
	}
	return answers, nil
}

// command decides one command and records what it becomes.
func (r *run) command(c *event.Command) (Answer, error) {
	h, ok := handlers[c.Type]
	if !ok {
		return Answer{}, fmt.Errorf("no handler: a newer version wrote it")
	}
	c.Body = event.Clean(c.Body)
	r.compare(c.Body)
	if err := r.s.admissible(c, h); err != nil {
		return Answer{Err: err}, nil
	}
	switch {
	case c.Emitter != "":
		return r.emitted(c, h)
	case tabled(c):
		return r.once(c, h)
	}
	a, _, err := r.decide(c, h)
	return a, err
}

// admissible refuses what no handler has to look at.
func (s *State) admissible(c *event.Command, h handler) *event.Error {
	refused := func(kind event.Kind, message string) *event.Error {
		return &event.Error{Kind: kind, Op: "propose " + c.Type.String(), Message: message}
	}
	if h.decide == nil {
		return refused(event.KindInvalid, "the state machine derives this event; it cannot be proposed")
	}
	if h.level > s.head.Level && s.head.GridID != "" {
		return refused(event.KindUnsupported, fmt.Sprintf("it takes level %d, the grid is at %d: run this version on every master", h.level, s.head.Level))
	}
	if s.head.GridID == "" && c.Type != event.TypeIncarnationStarted {
		return refused(event.KindUnavailable, "the grid has not started; retry when it has a leader")
	}
	if err := event.Validate(c.Body); err != nil {
		return refused(event.KindInvalid, err.Error())
	}
	if c.Cause > s.head.Seq {
		return refused(event.KindInvalid, fmt.Sprintf("cause %d is behind the last event %d", c.Cause, s.head.Seq))
	}
	return nil
}

// decide asks the handler and records the event, if there is a new one, with all that follows from it. remember tells
// whether the answer is final: a retry must get the same one.
func (r *run) decide(c *event.Command, h handler) (a Answer, remember bool, err error) {
	v := h.decide(r.s, c)
	if v.err != nil {
		return Answer{Seq: v.seq, Value: v.value, Err: v.err}, !v.transient, nil
	}
	if v.body == nil {
		return Answer{Seq: v.seq, Value: v.value}, true, nil
	}
	if !c.Type.InFeed() {
		return r.unrecorded(c, v)
	}
	e := &event.Envelope{Cause: v.cause, Actor: c.Actor, RequestID: c.RequestID, Body: v.body}
	if c.Cause > 0 {
		e.Cause = c.Cause
	}
	if err := r.record(e); err != nil {
		if refusal := asRefusal(err); refusal != nil {
			return Answer{Err: refusal}, true, nil
		}
		return Answer{}, false, err
	}
	r.s.keepOutcome(c, e)
	return Answer{Seq: e.Seq, Value: v.value}, true, r.follow(e)
}

// unrecorded applies an event that has no place in the feed; what it brings about has.
func (r *run) unrecorded(c *event.Command, v verdict) (Answer, bool, error) {
	e := &event.Envelope{Type: c.Type, Time: r.s.mark.Time, Actor: c.Actor, Body: v.body}
	if err := handlers[c.Type].evolve(r.s, e); err != nil {
		return Answer{}, false, err
	}
	return Answer{Value: v.value}, true, r.follow(e)
}

// record gives an event its place and changes the state by it. After an error that is a refusal the state is as it was.
func (r *run) record(e *event.Envelope) error {
	s := r.s
	e.Seq = s.head.Seq + 1
	e.RaftIndex = r.meta.Index
	e.Type = e.Body.Type()
	e.Time = max(s.mark.Time, s.head.Time+1)
	b, err := event.Seal(r.buf[:0], s.head.Chain, e)
	if err != nil {
		return err
	}
	r.buf = b
	if err := s.evolve(e, len(b)); err != nil {
		return err
	}
	r.records = append(r.records, Record{Seq: e.Seq, Type: e.Type, Bytes: bytes.Clone(b)})
	return nil
}

// asRefusal is the error as an answer, when it is one about the command's content.
func asRefusal(err error) *event.Error {
	if e, ok := err.(*event.Error); ok && e.Kind == event.KindTooLarge {
		return e
	}
	return nil
}

// evolve changes the state by one event that has its place, of n encoded bytes.
func (s *State) evolve(e *event.Envelope, n int) error {
	h, ok := handlers[e.Type]
	if !ok {
		return fmt.Errorf("event %d (%s): no handler: a newer version wrote it", e.Seq, e.Type)
	}
	s.head.Seq, s.head.Chain, s.head.Time = e.Seq, e.Chain, e.Time
	s.head.FeedBytes += uint64(n)
	s.mark.Time = max(s.mark.Time, e.Time)
	if err := h.evolve(s, e); err != nil {
		return err
	}
	s.noteBacklog()
	return nil
}
