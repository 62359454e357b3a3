package offline

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sort"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// What two directories can first differ in.
const (
	DifferentCommand = "command"  // their logs hold different entries
	DifferentFeed    = "feed"     // one recorded another event than the other, or than its own log leads to
	DifferentState   = "state"    // the states rebuilt from equal logs differ
	DifferentSnap    = "snapshot" // a snapshot is not the state that its own log leads to
)

// Finding is the first place where two directories differ; a zero What means that they agree wherever both can be read.
type Finding struct {
	What    string
	Index   uint64 // of the log entry; 0: unknown
	Seq     uint64 // of the first event that is bad; 0: no event differs
	Message string // one sentence
	// Wrong is the directory whose record is not what its own log leads to; empty: that cannot be told.
	Wrong   string
	A, B    *Side
	Objects []Difference // of the states behind the difference, when both can be rebuilt

	// From and To are the entries that were compared, EventsFrom and EventsTo the recorded events.
	From, To, EventsFrom, EventsTo uint64
}

// Side is what one directory has at the place of a finding. Its entry and its event are copies.
type Side struct {
	Term      uint64
	Commands  [][]byte
	Event     []byte // as recorded, or as its log leads to; nil: none
	Digest    [32]byte
	Committed bool
}

// Bisect finds the first place where the histories of two masters of one grid differ: in their logs, in the events they
// recorded, or in the states that their logs lead to. Recorded events are compared by halving, because an equal chain value
// proves all that is before it equal; the logs are replayed side by side, entry by entry, in one pass.
func Bisect(a, b *Master) (Finding, error) {
	ia, ib := a.Identity(), b.Identity()
	if ia.GridID != ib.GridID || ia.Incarnation != ib.Incarnation {
		return Finding{}, &event.Error{Kind: event.KindRefused, Op: "bisect", Message: fmt.Sprintf("%s is of grid %s, %s of grid %s, or of another incarnation", a.Dir(), ia.GridID, b.Dir(), ib.GridID)}
	}
	recorded, err := bisectFeed(a, b)
	if err != nil {
		return Finding{}, err
	}
	p, err := newPair(a, b)
	if err != nil {
		if recorded.What != "" {
			return recorded, nil // what was recorded is enough to tell where
		}
		return Finding{}, err
	}
	defer p.close()
	found, err := p.run()
	if err != nil {
		return Finding{}, err
	}
	found.EventsFrom, found.EventsTo = recorded.EventsFrom, recorded.EventsTo
	if recorded.What != "" && (found.What == "" || recorded.Seq < found.Seq) {
		recorded.From, recorded.To = found.From, found.To
		return recorded, nil
	}
	return found, nil
}

// bisectFeed finds the first event that two outboxes record differently.
func bisectFeed(a, b *Master) (f Finding, err error) {
	firstA, lastA := a.outbox.Bounds()
	firstB, lastB := b.outbox.Bounds()
	first, last := max(firstA, firstB), min(lastA, lastB)
	f.EventsFrom, f.EventsTo = first, last
	if first > last {
		return f, nil
	}
	differs := func(seq uint64) bool {
		x, errX := a.outbox.Chain(seq)
		y, errY := b.outbox.Chain(seq)
		err = errors.Join(err, errX, errY)
		return x != y
	}
	n := sort.Search(int(last-first+1), func(i int) bool { return differs(first + uint64(i)) })
	if seq := first + uint64(n); seq <= last {
		f.What, f.Seq = DifferentFeed, seq
		f.Message = fmt.Sprintf("event %d is recorded differently", seq)
		if seq == first && first > 1 {
			f.Message = fmt.Sprintf("event %d is the first that both still hold, and they differ there already, or before", seq)
		}
		x, errX := a.outbox.Event(seq)
		y, errY := b.outbox.Event(seq)
		err = errors.Join(err, errX, errY)
		f.A, f.B = &Side{Event: x, Committed: true}, &Side{Event: y, Committed: true}
	}
	return f, err
}

// pair replays two directories side by side.
type pair struct {
	a, b side
	from uint64 // the first entry that both have
}

// side is one of the two.
type side struct {
	m         *Master
	r         *Replay
	snapshots map[uint64]string // by index
	step      Step
}

func newSide(m *Master) (side, error) {
	r, err := m.ReplayAll()
	if err != nil {
		return side{}, err
	}
	s := side{m: m, r: r, snapshots: map[uint64]string{}}
	all, _ := m.Snapshots()
	for _, info := range all {
		s.snapshots[info.Index] = info.Dir
	}
	return s, nil
}

// newPair begins as early as both can: at the beginning, or each at its oldest snapshot, the one that is behind being
// brought forward to the other.
func newPair(a, b *Master) (*pair, error) {
	x, err := newSide(a)
	if err != nil {
		return nil, err
	}
	y, err := newSide(b)
	if err != nil {
		x.r.Close()
		return nil, err
	}
	return &pair{a: x, b: y}, nil
}

func (p *pair) close() {
	p.a.r.Close()
	p.b.r.Close()
}

// run replays both to the first difference or to the end of the shorter log.
func (p *pair) run() (Finding, error) {
	p.from = max(p.a.r.Start(), p.b.r.Start()) + 1
	for _, s := range []*side{&p.a, &p.b} {
		for s.r.Start() < p.from-1 {
			if done, err := s.advance(); err != nil {
				return Finding{}, err
			} else if done {
				return Finding{From: p.from, To: p.from - 1}, nil
			}
		}
	}
	if p.a.r.State().Digest() != p.b.r.State().Digest() {
		return p.found(DifferentState, p.a.r.State().Seq(), fmt.Sprintf("the states behind entry %d, where both can first be rebuilt, differ", p.from-1)), nil
	}
	for {
		endA, err := p.a.advance()
		if err != nil {
			return Finding{}, err
		}
		endB, err := p.b.advance()
		if err != nil {
			return Finding{}, err
		}
		if endA || endB {
			return Finding{From: p.from, To: min(p.a.r.Start(), p.b.r.Start())}, nil
		}
		if f := p.compare(); f.What != "" {
			return f, nil
		}
	}
}

// advance steps; true: the log ends.
func (s *side) advance() (bool, error) {
	step, err := s.r.Step()
	if err == io.EOF {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", s.m.Dir(), err)
	}
	s.step = step
	return false, nil
}

// compare looks at one entry of both.
func (p *pair) compare() Finding {
	x, y := &p.a.step, &p.b.step
	if f := p.compareEntries(); f.What != "" {
		return f
	}
	for i := range max(len(x.Events), len(y.Events)) {
		seq := x.Before.Seq() + uint64(i) + 1
		if i >= len(x.Events) || i >= len(y.Events) || !bytes.Equal(x.Events[i].Bytes, y.Events[i].Bytes) {
			return p.found(DifferentState, seq, fmt.Sprintf("the same commands lead to another event %d", seq))
		}
		if f := p.compareRecorded(i, seq); f.What != "" {
			return f
		}
	}
	if x.State.Digest() != y.State.Digest() {
		return p.found(DifferentState, x.State.Seq(), fmt.Sprintf("the same commands lead to another state behind event %d", x.State.Seq()))
	}
	return p.compareSnapshots()
}

func (p *pair) compareEntries() Finding {
	x, y := &p.a.step.Entry, &p.b.step.Entry
	if x.Kind == y.Kind && bytes.Equal(x.Data, y.Data) && x.Term == y.Term {
		return Finding{}
	}
	seq := uint64(0) // of the first event that comes out differently
	for i := range max(len(p.a.step.Events), len(p.b.step.Events)) {
		if i >= len(p.a.step.Events) || i >= len(p.b.step.Events) || !bytes.Equal(p.a.step.Events[i].Bytes, p.b.step.Events[i].Bytes) {
			seq = p.a.step.Before.Seq() + uint64(i) + 1
			break
		}
	}
	message := fmt.Sprintf("entry %d is another one: a %s of term %d and a %s of term %d", x.Index, x.Kind, x.Term, y.Kind, y.Term)
	if f := p.found(DifferentCommand, seq, message); f.A.Committed && f.B.Committed {
		return f
	} else {
		f.Message += "; it is not known to be committed in both: the tail of a deposed leader looks like this, and is replaced when that master starts"
		return f
	}
}

// compareRecorded compares the event that the logs lead to with what each outbox recorded.
func (p *pair) compareRecorded(i int, seq uint64) Finding {
	want := p.a.step.Events[i].Bytes
	for _, s := range []*side{&p.a, &p.b} {
		first, last := s.m.outbox.Bounds()
		if seq < first || seq > last {
			continue
		}
		got, err := s.m.outbox.Event(seq)
		if err == nil && bytes.Equal(got, want) {
			continue
		}
		f := p.found(DifferentFeed, seq, fmt.Sprintf("%s recorded another event %d than its own log leads to", s.m.Dir(), seq))
		if err != nil {
			f.Message = fmt.Sprintf("%s: event %d cannot be read: %v", s.m.Dir(), seq, err)
		}
		f.Wrong, f.A.Event, f.B.Event = s.m.Dir(), want, want
		if s == &p.a {
			f.A.Event = got
		} else {
			f.B.Event = got
		}
		f.Objects = p.objectsOf(f)
		return f
	}
	return Finding{}
}

// objectsOf is how the state would differ if each recorded event had been what happened.
func (p *pair) objectsOf(f Finding) []Difference {
	var states []*fsm.State
	for _, e := range [][]byte{f.A.Event, f.B.Event} {
		before, err := partly(p.a.step, f.Seq-1)
		if f.Seq-1 == p.a.step.Before.Seq() {
			before, err = p.a.step.Before, nil
		}
		if err != nil {
			return nil
		}
		m, err := machineAt(before)
		if err != nil {
			return nil
		}
		if err := m.Replay([][]byte{e}); err != nil {
			return nil // an event of another history does not fit
		}
		states = append(states, m.View())
	}
	return Diff(states[0], states[1])
}

// compareSnapshots compares the rebuilt state with a snapshot that ends at this entry.
func (p *pair) compareSnapshots() Finding {
	for _, s := range []*side{&p.a, &p.b} {
		dir, has := s.snapshots[s.step.Entry.Index]
		if !has {
			continue
		}
		snap, err := ReadSnapshot(dir)
		state := s.step.State
		if err == nil && snap.State.Digest() == state.Digest() && snap.State.LocalDigest() == state.LocalDigest() {
			continue
		}
		f := p.found(DifferentSnap, state.Seq(), fmt.Sprintf("%s is not the state that its own log leads to", dir))
		f.Wrong = s.m.Dir()
		if err != nil {
			f.Message = err.Error()
			return f
		}
		f.Objects = Diff(snap.State, state)
		return f
	}
	return Finding{}
}

func (p *pair) found(what string, seq uint64, message string) Finding {
	f := Finding{What: what, Index: max(p.a.r.Start(), p.from-1), Seq: seq, Message: message, A: p.a.at(seq), B: p.b.at(seq), From: p.from, To: p.a.r.Start()}
	f.Objects = Diff(p.a.r.State(), p.b.r.State())
	return f
}

// at is what this directory has at an event of the present step.
func (s *side) at(seq uint64) *Side {
	d := &Side{Term: s.step.Entry.Term, Digest: s.r.State().Digest(), Committed: s.step.Entry.Index <= s.m.Committed()}
	for _, c := range s.step.Entry.Entry.Commands {
		d.Commands = append(d.Commands, bytes.Clone(c))
	}
	for _, e := range s.step.Events {
		if e.Seq == seq {
			d.Event = e.Bytes
		}
	}
	return d
}
