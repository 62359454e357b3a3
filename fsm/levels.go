package fsm

import (
	"fmt"
	"strings"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// SettingLevelMax is the level above which the masters do not go by themselves: a whole number; not set, they raise the level
// as soon as every master supports a higher one. The state machine does not obey it, the leader does.
const SettingLevelMax = "level.max"

// minSkew is from where on a clock is worth an event: 1 s (safety S17).
const minSkew = 1000

// supported refuses an event that puts a level in force whose rules this version does not know.
func (s *State) supported(e *event.Envelope, level uint32) error {
	if level > s.supports {
		return fmt.Errorf("event %d puts level %d in force, this version supports %d: run a newer one", e.Seq, level, s.supports)
	}
	return nil
}

// decideLevelRaised asks the records of the masters, not this binary: all replicas have to give the same answer.
func decideLevelRaised(s *State, _ *event.Command, b event.LevelRaised) verdict {
	const op = "raise level"
	switch {
	case b.To == s.head.Level:
		return already(0)
	case b.To < s.head.Level:
		return refuse(event.KindConflict, op, "to %d: the grid is at %d, and the level is never lowered", b.To, s.head.Level)
	case s.masters.len() == 0:
		return refuse(event.KindRefused, op, "to %d: no master is on record", b.To)
	}
	var old []string
	for m := range s.masters.all() {
		if m.Level < b.To {
			old = append(old, fmt.Sprintf("%s supports %d", m.ID, m.Level))
		}
	}
	if len(old) > 0 {
		return refuse(event.KindRefused, op, "to %d: %s; run the newer version there first", b.To, strings.Join(old, ", "))
	}
	return accept(b)
}

func evolveLevelRaised(s *State, e *event.Envelope, b event.LevelRaised) error {
	if err := s.supported(e, b.To); err != nil {
		return err
	}
	s.head.Level = b.To
	return nil
}

func decideClockSkew(s *State, _ *event.Command, b event.ClockSkew) verdict {
	const op = "record clock skew"
	m, refused := s.knownMaster(op, b.MasterID)
	switch {
	case m == nil:
		return refused
	case -minSkew <= b.SkewMS && b.SkewMS <= minSkew:
		return refuse(event.KindInvalid, op, "%s: %d ms; want more than %d", b.MasterID, b.SkewMS, minSkew)
	}
	return accept(b)
}

// evolveClockSkew: it changes nothing but the feed.
func evolveClockSkew(*State, *event.Envelope, event.ClockSkew) error { return nil }
