package master

import (
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// silence judges by the leader's own monotonic clock how long each agent has been silent (safety S17). It knows nothing of
// wall clocks and nothing of other machines: a heartbeat counts when this leader sees it applied.
type silence struct {
	limits  Limits
	last    time.Duration // of the previous look; 0: there was none in this term
	seen    map[event.AgentID]sighting
	offline []time.Duration // when agents were declared offline, within the last window
}

// sighting is the newest heartbeat of an agent and when this leader first saw it.
type sighting struct {
	beat int64 // its log time
	at   time.Duration
}

// pulse is what silence looks at in an agent's record.
type pulse struct {
	id       event.AgentID
	beat     int64 // log time of the last heartbeat or registration
	unlogged bool  // there was one since the previous look that is not in the log
	degraded bool
	offline  bool
}

// verdict says that an agent was silent for longer than its state says.
type verdict struct {
	id      event.AgentID
	silent  time.Duration
	offline bool // otherwise degraded
}

func newSilence(limits Limits) *silence {
	return &silence{limits: limits, seen: map[event.AgentID]sighting{}}
}

// Look takes in the agents' present records and returns the verdicts due. now is monotonic time; excused says that this
// leader, not the agents, may have been the reason of the silence: then, as at the first look and after one that came late,
// every agent gets a full period of grace.
func (s *silence) Look(now time.Duration, agents []pulse, excused bool) []verdict {
	grace := excused || s.last == 0 || now-s.last > s.limits.Check+s.limits.Late
	s.last = now
	seen := make(map[event.AgentID]sighting, len(agents))
	var verdicts []verdict
	for _, a := range agents {
		was, known := s.seen[a.id]
		if !known || grace || was.beat != a.beat || a.unlogged {
			was = sighting{beat: a.beat, at: now}
		}
		seen[a.id] = was
		silent := now - was.at
		switch {
		case silent >= s.limits.Offline && !a.offline:
			verdicts = append(verdicts, verdict{id: a.id, silent: silent, offline: true})
		case silent >= s.limits.Degraded && !a.offline && !a.degraded:
			verdicts = append(verdicts, verdict{id: a.id, silent: silent})
		}
	}
	s.seen = seen
	return verdicts
}

// Excuse gives every agent a full period of grace at the next look.
func (s *silence) Excuse() { s.last = 0 }

// Declared remembers that an agent was declared offline.
func (s *silence) Declared(now time.Duration) { s.offline = append(s.offline, now) }

// Frozen tells whether more than a third of the agents went offline within one period: then something else than the agents
// is likely to blame, and nothing is placed anew because of it.
func (s *silence) Frozen(now time.Duration, agents int) bool {
	for len(s.offline) > 0 && now-s.offline[0] > s.limits.Offline {
		s.offline = s.offline[1:]
	}
	return 3*len(s.offline) > agents
}
