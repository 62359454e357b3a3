package offline

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
)

// Step is one entry of the log and what it brought.
type Step struct {
	Entry  raftgroup.LogEntry // valid until the next step
	Events []fsm.Record       // accepted, in order of seq
	Before *fsm.State
	State  *fsm.State // behind the entry
}

// Replay rebuilds a master's state entry by entry, from a snapshot or from the beginning of the log.
type Replay struct {
	// From is where it begins: a snapshot's folder, or empty for the beginning of history.
	From string

	machine *fsm.Machine
	start   uint64 // the entry that the state behind From includes
	next    func() (raftgroup.LogEntry, bool)
	stop    func()
}

// Replay begins at the newest snapshot whose state is accepted, or, when none is and the log reaches back to its first
// entry, at the beginning. A snapshot that cannot be read is passed over if another start will do.
func (m *Master) Replay(accept func(*fsm.State) bool) (*Replay, error) {
	all, problems := m.log.Snapshots()
	for _, info := range all {
		snap, err := ReadSnapshot(info.Dir)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if accept(snap.State) {
			return m.replay(info.Dir, snap.State, snap.Index)
		}
	}
	if first := m.log.First(); first == 1 {
		return m.replay("", nil, 0)
	} else if len(problems) > 0 {
		return nil, fmt.Errorf("no snapshot to begin with, and the log begins at entry %d: %w", first, errors.Join(problems...))
	}
	return nil, notFound("replay", "%s does not reach back so far: its log begins at entry %d and its oldest snapshot is younger", m.Dir(), m.log.First())
}

// ReplayAll begins as early as it can: at the beginning of history, or at the oldest snapshot that the log continues.
func (m *Master) ReplayAll() (*Replay, error) {
	first := m.log.First()
	if first == 1 {
		return m.replay("", nil, 0)
	}
	all, problems := m.log.Snapshots()
	for _, info := range slices.Backward(all) {
		snap, err := ReadSnapshot(info.Dir)
		if err != nil {
			problems = append(problems, err)
		} else if snap.Index+1 >= first {
			return m.replay(info.Dir, snap.State, snap.Index)
		}
	}
	return nil, fmt.Errorf("%s: the log begins at entry %d and no snapshot leads up to it (%w)", m.Dir(), first, errors.Join(problems...))
}

func (m *Master) replay(from string, state *fsm.State, index uint64) (*Replay, error) {
	r := &Replay{From: from, machine: fsm.NewMachine(), start: index}
	if state != nil {
		if err := r.machine.Restore(state); err != nil {
			return nil, err
		}
	}
	r.next, r.stop = iter.Pull(m.log.Log(index+1, 0))
	return r, nil
}

// Start is the entry that the state before the first step includes; 0: none.
func (r *Replay) Start() uint64 { return r.start }

// State is the state behind the last step.
func (r *Replay) State() *fsm.State { return r.machine.View() }

// Step applies the next entry. io.EOF is the end of the log, a write that did not complete included. Damage is an error
// that says where; behind it there is no state.
func (r *Replay) Step() (Step, error) {
	e, ok := r.next()
	switch {
	case !ok || e.Torn:
		return Step{}, io.EOF
	case e.Damage != nil:
		return Step{}, damaged(e)
	case e.Index != r.start+1:
		return Step{}, fmt.Errorf("entry %d follows entry %d: entries between are lost", e.Index, r.start)
	}
	r.start = e.Index
	before := r.machine.View()
	s := Step{Entry: e, Before: before, State: before}
	if e.Kind != raftgroup.KindCommand || len(e.Entry.Commands) == 0 || e.Index <= before.RaftIndex() {
		return s, nil
	}
	_, records, err := r.machine.Apply(fsm.EntryMeta{Index: e.Index, Time: e.Entry.Time, Level: e.Entry.Level}, e.Entry.Commands)
	if err != nil {
		return Step{}, err
	}
	s.Events, s.State = records, r.machine.View()
	return s, nil
}

// Close ends the walk over the log.
func (r *Replay) Close() { r.stop() }

// Rebuilt is a state with its place.
type Rebuilt struct {
	State     *fsm.State
	Index     uint64 // of the entry that its last event came with, or that was the last
	From      string // the snapshot it was rebuilt from; empty: the whole log
	Committed bool   // the entry is known to be committed
}

// StateAt rebuilds the state behind an event. In the middle of an entry the history is that behind the event; the local
// state (requests, heartbeats, cursors) is that before the entry, brought forward by the events alone.
func (m *Master) StateAt(seq uint64) (Rebuilt, error) {
	return m.rebuild(func(s *fsm.State) bool { return s.Seq() <= seq }, func(s Step) (*fsm.State, bool, error) {
		if s.State.Seq() < seq || s.Before.Seq() > seq {
			return nil, false, nil
		}
		state, err := partly(s, seq)
		return state, true, err
	}, seq)
}

// Last rebuilds the state behind the last entry of the log.
func (m *Master) Last() (Rebuilt, error) {
	return m.rebuild(func(*fsm.State) bool { return true }, nil, 0)
}

func (m *Master) rebuild(accept func(*fsm.State) bool, done func(Step) (*fsm.State, bool, error), seq uint64) (Rebuilt, error) {
	r, err := m.Replay(accept)
	if err != nil {
		return Rebuilt{}, err
	}
	defer r.Close()
	committed := m.Committed()
	if done != nil && r.State().Seq() == seq {
		return Rebuilt{State: r.State(), Index: r.Start(), From: r.From, Committed: r.Start() <= committed}, nil
	}
	for {
		s, err := r.Step()
		if err == io.EOF && done == nil {
			return Rebuilt{State: r.State(), Index: r.Start(), From: r.From, Committed: r.Start() <= committed}, nil
		}
		if err == io.EOF {
			return Rebuilt{}, notFound("rebuild the state", "the log of %s ends at event %d, before event %d", m.Dir(), r.State().Seq(), seq)
		}
		if err != nil {
			return Rebuilt{}, fmt.Errorf("rebuild the state behind event %d: %w", r.State().Seq(), err)
		}
		if done == nil {
			continue
		}
		if state, ok, err := done(s); ok || err != nil {
			return Rebuilt{State: state, Index: s.Entry.Index, From: r.From, Committed: s.Entry.Index <= committed}, err
		}
	}
}

// partly is the state behind one of the events of a step. The step's own states stay as they are.
func partly(s Step, seq uint64) (*fsm.State, error) {
	if s.State.Seq() == seq {
		return s.State, nil
	}
	m, err := machineAt(s.Before)
	if err != nil {
		return nil, err
	}
	for _, e := range s.Events {
		if e.Seq > seq {
			break
		}
		if err := m.Replay([][]byte{e.Bytes}); err != nil {
			return nil, err
		}
	}
	return m.View(), nil
}

// machineAt goes on from a copy of a state.
func machineAt(s *fsm.State) (*fsm.Machine, error) {
	m := fsm.NewMachine()
	return m, m.Restore(s.Copy())
}

// Mark is the state behind one event in figures.
type Mark struct {
	Seq, Index uint64
	Type       event.Type
	Digest     [32]byte // of the history
	Chain      event.Chain
}

// Marks visits every event from the replay's beginning on, rebuilt by evolve from the events alone. Its digest must be the
// one that decide and evolve led to, at the end of each entry; that they differ is an error.
func (m *Master) Marks(r *Replay, visit func(Mark) error) error {
	follower, err := machineAt(r.State())
	if err != nil {
		return err
	}
	for {
		s, err := r.Step()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		for _, e := range s.Events {
			if err := follower.Replay([][]byte{e.Bytes}); err != nil {
				return err
			}
			v := follower.View()
			if err := visit(Mark{Seq: e.Seq, Index: s.Entry.Index, Type: e.Type, Digest: v.Digest(), Chain: v.Chain()}); err != nil {
				return err
			}
		}
		if follower.View().Digest() != s.State.Digest() {
			return fmt.Errorf("entry %d: its events alone lead to another state than its commands: this version replays the feed wrongly", s.Entry.Index)
		}
	}
}
