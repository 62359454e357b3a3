package fsm

import (
	"slices"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// CheckLevel is the level from which states are compared (safety S9, S13).
const CheckLevel = 2

const (
	// CheckStride is the distance of the entries behind which replicas' states are compared.
	CheckStride = 1024
	// ChecksKept is how many Checks a replica keeps: one that is 65,536 entries late can still be compared.
	ChecksKept = 64
)

// Check is a replica's state behind every entry up to Index, a multiple of CheckStride. Replicas with the same log have the
// same Checks, whatever batches and restarts they applied it in.
type Check struct {
	Index  uint64 // of the raft log
	Seq    uint64 // of the last event
	Chain  event.Chain
	Digest [32]byte
	Local  [32]byte
}

// StateCheck is the last comparison on record: history.
type StateCheck struct {
	Index  uint64            `wire:"index"`
	Digest [32]byte          `wire:"digest"`
	Local  [32]byte          `wire:"local"`
	Differ []event.ReplicaID `wire:"differ"`
	Seq    uint64            `wire:"seq"` // of the event
}

// Checks are the newest at most ChecksKept, in order; those from before the last Restore are unknown. Safe for any
// goroutine; the slice must not be changed.
func (m *Machine) Checks() []Check { return *m.checks.Load() }

// Differs is the first comparison in the log, since the last Restore, that this machine's own state does not pass; nil: none.
// It says nothing about the state and changes nothing in it. For the goroutine that calls Apply.
func (m *Machine) Differs() *event.StateChecked { return m.differs }

// compare looks at a comparison before it is decided: a state that differs may well refuse it.
func (r *run) compare(body event.Body) {
	b, ok := body.(event.StateChecked)
	if !ok || r.differs != nil || len(b.Agree) <= len(b.Differ) {
		return
	}
	for _, c := range slices.Concat(r.known, r.checks) {
		if c.Index == b.AtIndex && (c.Digest != b.Digest || c.Local != b.LocalDigest) {
			r.differs = &b
		}
	}
}

// LastCheck is the last comparison on record; its Index is 0 when there was none.
func (s *State) LastCheck() StateCheck { return s.check }

// check takes note of the state if the entry at index is the first behind multiples of CheckStride: the state is then the one
// behind each of them, whether or not they are entries of this machine.
func (r *run) check(index uint64) {
	s := r.s
	first := max((s.mark.RaftIndex+CheckStride-1)/CheckStride, 1) * CheckStride
	last := (index - 1) / CheckStride * CheckStride
	if last < first {
		return
	}
	if last-first >= ChecksKept*CheckStride {
		first = last - (ChecksKept-1)*CheckStride
	}
	c := Check{Seq: s.head.Seq, Chain: s.head.Chain, Digest: s.Digest(), Local: s.LocalDigest()}
	for c.Index = first; c.Index <= last; c.Index += CheckStride {
		r.checks = append(r.checks, c)
	}
}

// keep publishes new checks behind the old ones.
func (m *Machine) keep(more []Check) {
	if len(more) == 0 {
		return
	}
	all := slices.Concat(m.Checks(), more)
	all = slices.Clone(all[max(0, len(all)-ChecksKept):])
	m.checks.Store(&all)
}

func decideStateChecked(s *State, _ *event.Command, b event.StateChecked) verdict {
	const op = "record state check"
	switch {
	case b.AtIndex == 0 || b.AtIndex%CheckStride != 0 || b.AtIndex >= s.mark.RaftIndex:
		return refuse(event.KindInvalid, op, "entry %d: want a multiple of %d below %d", b.AtIndex, CheckStride, s.mark.RaftIndex)
	case b.AtIndex == s.check.Index:
		return already(s.check.Seq)
	case b.AtIndex < s.check.Index:
		return refuse(event.KindConflict, op, "entry %d: entry %d was checked already", b.AtIndex, s.check.Index)
	case b.AtSeq > s.head.Seq:
		return refuse(event.KindInvalid, op, "event %d is behind the last event %d", b.AtSeq, s.head.Seq)
	case len(b.Agree) <= len(b.Differ) || len(b.Agree) > maxMasters:
		return refuse(event.KindInvalid, op, "%d agree and %d differ: want a majority", len(b.Agree), len(b.Differ))
	}
	named := append(slices.Clone(b.Agree), b.Differ...)
	slices.Sort(named)
	for i, id := range named {
		if badID(id.Owner()) != "" || len(id) > maxID || i > 0 && named[i-1] == id {
			return refuse(event.KindInvalid, op, "replica %q is not one, or named twice", id)
		}
	}
	return accept(b)
}

func evolveStateChecked(s *State, e *event.Envelope, b event.StateChecked) error {
	s.check = StateCheck{Index: b.AtIndex, Digest: b.Digest, Local: b.LocalDigest, Differ: b.Differ, Seq: e.Seq}
	return nil
}
