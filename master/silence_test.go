package master

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestSilence plays looks at one-second steps; each step names what is unusual about it.
func TestSilence(t *testing.T) {
	limits := DefaultConfig().Limits
	type step struct {
		at      int // seconds
		beat    int64
		excused bool
		heard   bool // a heartbeat that is not in the log
	}
	every := func(from, to int, beat int64) []step {
		var steps []step
		for at := from; at <= to; at++ {
			steps = append(steps, step{at: at, beat: beat})
		}
		return steps
	}
	join := func(parts ...[]step) (all []step) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	for _, tt := range []struct {
		name  string
		steps []step
		want  string
	}{
		{"heartbeats come", join(every(1, 10, 1), every(11, 20, 2), every(21, 30, 3)), ""},
		{"degraded, then offline, each once", every(1, 50, 1), "degraded@16 offline@31"},
		{"a heartbeat in time starts anew", join(every(1, 15, 1), every(16, 31, 2)), "degraded@31"},
		{"a late look gives grace", join(every(1, 15, 1), every(20, 36, 1)), "degraded@35"},
		{"a look that is late within the tolerance does not", join(every(1, 13, 1), every(16, 17, 1)), "degraded@16"},
		{"an excused look gives grace", join(every(1, 14, 1), []step{{at: 15, beat: 1, excused: true}}, every(16, 31, 1)), "degraded@30"},
		{"a heartbeat outside the log starts anew", join(every(1, 14, 1), []step{{at: 15, beat: 1, heard: true}}, every(16, 31, 1)), "degraded@30"},
		{"an excused look declares nobody", join(every(1, 15, 1), []step{{at: 16, beat: 1, excused: true}, {at: 17, beat: 1, excused: true}}), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, agent := newSilence(limits), pulse{id: "agent-1"}
			var got []string
			for _, st := range tt.steps {
				agent.beat, agent.unlogged = st.beat, st.heard
				for _, v := range s.Look(time.Duration(st.at)*time.Second, []pulse{agent}, st.excused) {
					word := "degraded"
					if v.offline {
						word = "offline"
					}
					agent.degraded, agent.offline = !v.offline, v.offline
					got = append(got, fmt.Sprintf("%s@%d", word, st.at))
				}
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("verdicts %q, want %q", strings.Join(got, " "), tt.want)
			}
		})
	}
}

func TestSilenceFreezesPlacement(t *testing.T) {
	s := newSilence(DefaultConfig().Limits)
	s.Declared(100 * time.Second)
	if s.Frozen(101*time.Second, 3) {
		t.Error("one of three offline froze placement")
	}
	s.Declared(110 * time.Second)
	if !s.Frozen(111*time.Second, 3) {
		t.Error("two of three offline within 30 s did not freeze placement")
	}
	if s.Frozen(131*time.Second, 3) {
		t.Error("placement still frozen when only one fell into the last 30 s")
	}
}

func TestBacklogIsStaleOnlyWhenSomethingWaitsSinceThePreviousLook(t *testing.T) {
	b := newBacklog()
	old := b.begin()
	if b.stale() {
		t.Error("what arrived since the previous look is not stale")
	}
	fresh := b.begin()
	if !b.stale() {
		t.Error("what waited through a whole period is stale")
	}
	old()
	if !b.stale() {
		t.Error("the second arrival has waited through a whole period by now")
	}
	fresh()
	if b.stale() {
		t.Error("nothing waits")
	}
}
