package fsm

import (
	"fmt"
	"sync/atomic"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// EntryMeta is what a log entry says about itself.
type EntryMeta struct {
	Index uint64 // in the raft log; increasing, with gaps
	Time  int64  // the leader's log clock when it proposed, unix µs
	Level uint32 // the level it was written at (safety S13)
}

// Entry is one entry of the masters' log.
type Entry struct {
	Meta     EntryMeta
	Commands [][]byte // each as event.AppendCommand wrote it
}

// Answer is what a command gets. Without Err it took effect: now, at Seq, or before (then Seq is where, or 0 when that is
// no longer known or the effect has no place in the feed).
type Answer struct {
	Seq   uint64
	Value uint64         // what the type gives back: an association type's number, a setting's version, a committed attempt
	Epoch event.Position // of the shard map behind the command
	Err   *event.Error
}

// Record is one accepted event for the feed.
type Record struct {
	Seq   uint64
	Type  event.Type
	Bytes []byte // the encoded envelope, chain included
}

// Machine applies the log. One goroutine calls Apply, Restore and Replay; View and Checks may be called by any.
type Machine struct {
	view     atomic.Pointer[State]   // published after each call
	checks   atomic.Pointer[[]Check] // likewise
	work     *State                  // ahead of view only inside a call
	supports uint32                  // the highest level whose rules it knows
	differs  *event.StateChecked     // the first comparison of the log that this state does not pass
	err      error                   // the first failure; the machine is dead from then on
}

// NewMachine is a machine at the beginning of history.
func NewMachine() *Machine { return NewMachineAt(SupportedLevel) }

// NewMachineAt is a machine that supports no level above the given one, as an earlier version did.
func NewMachineAt(level uint32) *Machine {
	m := &Machine{work: newState(), supports: level}
	m.work.supports = level
	m.checks.Store(&[]Check{})
	m.publish()
	return m
}

// View is the state behind the last Apply, Restore or Replay. It never changes.
func (m *Machine) View() *State { return m.view.Load() }

// Apply applies one entry: one answer per command, and the events that were accepted, in seq order. An error means that
// this replica cannot go on (an undecodable or unknown command, an index that does not increase, a level it does not
// support): it must stop, and nothing more is published.
func (m *Machine) Apply(meta EntryMeta, commands [][]byte) ([]Answer, []Record, error) {
	answers, records, err := m.ApplyBatch([]Entry{{Meta: meta, Commands: commands}})
	if err != nil {
		return nil, nil, err
	}
	return answers[0], records, nil
}

// ApplyBatch applies entries as if one by one, and publishes the state once.
func (m *Machine) ApplyBatch(entries []Entry) ([][]Answer, []Record, error) {
	if m.err != nil {
		return nil, nil, m.err
	}
	r := run{s: m.work, known: m.Checks()}
	answers := make([][]Answer, len(entries))
	for i, e := range entries {
		a, err := r.entry(e)
		if err != nil {
			m.err = fmt.Errorf("apply entry %d: %w", e.Meta.Index, err)
			return nil, nil, m.err
		}
		answers[i] = a
	}
	m.keep(r.checks)
	if m.differs == nil {
		m.differs = r.differs
	}
	m.publish()
	return answers, r.records, nil
}

// Supports says why the machine cannot go on from a state: it is of a level whose rules this version does not know.
func (m *Machine) Supports(s *State) error {
	if s.head.Level > m.supports {
		return fmt.Errorf("the state is of level %d, this version supports %d: run a newer one", s.head.Level, m.supports)
	}
	return nil
}

// Restore goes on from a state, which the caller gives up, or refuses one that it does not support and is as it was. The
// checks from before are forgotten.
func (m *Machine) Restore(s *State) error {
	if err := m.Supports(s); err != nil {
		return err
	}
	s.supports = m.supports
	m.work, m.err, m.differs = s, nil, nil
	m.checks.Store(&[]Check{})
	m.publish()
	return nil
}

// Replay goes on from records of the feed: encoded envelopes in seq order. It uses evolve alone; what was derived is in the
// feed. An error names the first record that does not follow; the machine is dead from then on.
func (m *Machine) Replay(records [][]byte) error {
	if m.err != nil {
		return m.err
	}
	for _, b := range records {
		if m.err = m.replayOne(b); m.err != nil {
			return m.err
		}
	}
	m.publish()
	return nil
}

func (m *Machine) replayOne(b []byte) error {
	s := m.work
	e, err := event.DecodeEnvelope(b)
	if err != nil {
		return fmt.Errorf("replay behind event %d: %w", s.head.Seq, err)
	}
	if e.Seq != s.head.Seq+1 {
		return fmt.Errorf("replay: event %d follows event %d", e.Seq, s.head.Seq)
	}
	h, err := event.HashRecord(b)
	if err != nil {
		return fmt.Errorf("replay event %d: %w", e.Seq, err)
	}
	if event.NextChain(s.head.Chain, h) != e.Chain {
		return fmt.Errorf("replay event %d: the chain is broken: it, or an event before it, is not what was recorded", e.Seq)
	}
	return s.evolve(e, len(b))
}

func (m *Machine) publish() {
	m.work.refreshMap()
	m.view.Store(m.work.copy())
}
