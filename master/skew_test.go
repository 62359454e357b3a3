package master

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// TestClocks: who is off by the majority's clock, said once; who leads instead.
func TestClocks(t *testing.T) {
	said := func(id event.ReplicaID, ahead, trip time.Duration) voice {
		return voice{replica: id, ahead: ahead, trip: trip}
	}
	const s = time.Second
	for _, tt := range []struct {
		name    string
		replies []voice // the leader is a
		log     time.Duration
		want    string
	}{
		{"all right", []voice{said("a", 0, 0), said("b", s/4, 0), said("c", -s/4, 0)}, 0, "[] "},
		{"a follower is off", []voice{said("a", 0, 0), said("b", 0, 0), said("c", 3*s, 0)}, 0, "[{c 3000}] "},
		{"an answer that took long proves nothing", []voice{said("a", 0, 0), said("b", 0, 0), said("c", 3*s/2, 2*s)}, 0, "[] "},
		{"the leader is off", []voice{said("a", 0, 0), said("b", 4*s, 0), said("c", 4*s, 0)}, 0, "[{a -4000}] "},
		{"the leader is far off", []voice{said("a", 0, 0), said("b", 20*s, 0), said("c", 20*s+s/2, 0)}, 0, "[{a -20000}] b"},
		{"nobody is right", []voice{said("a", 0, 0), said("b", 20*s, 0), said("c", 40*s, 0)}, 0, "[{a -20000} {c 20000}] b"},
		{"no majority answers", []voice{said("a", 0, 0)}, 0, "[] "},
		{"off log time alone", []voice{said("a", 0, 0), said("b", 0, 0), said("c", 0, 0)}, -30 * s, "[{a -30000}] "},
	} {
		k := &clocks{self: "a", told: map[event.ReplicaID]bool{}}
		events, instead := k.Look(3, tt.replies, tt.log)
		if got := fmt.Sprint(events, " ", instead); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		if again, _ := k.Look(3, tt.replies, tt.log); len(again) > 0 {
			t.Errorf("%s: said again: %v", tt.name, again)
		}
	}
	k := &clocks{self: "a", told: map[event.ReplicaID]bool{}}
	off := []voice{said("a", 0, 0), said("b", 0, 0), said("c", 2*s, 0)}
	for i, c := range []time.Duration{2 * s, 7 * s / 10, 2 * s, s / 10, 2 * s} {
		off[2].ahead = c
		if events, _ := k.Look(3, off, 0); (len(events) > 0) != (i == 0 || i == 4) {
			t.Errorf("look %d: %v", i, events)
		}
	}
}

// TestALeaderWhoseClockJumps: it is on record, and another master leads; log time has not jumped.
func TestALeaderWhoseClockJumps(t *testing.T) {
	var mu sync.Mutex
	off := map[event.MasterID]time.Duration{}
	c := newCluster(t, func(cfg *Config) {
		id := cfg.ID
		cfg.Limits.Check = 50 * time.Millisecond
		cfg.seams.wall = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return time.Now().Add(off[id])
		}
	})
	c.start(c.ids()...)
	leader, followers := c.leader()
	c.feed(leader, 1, until(event.TypeLeaderElected, 1)) // log time has begun
	from := c.up[leader].core.replica.View().Seq() + 1
	mu.Lock()
	off[leader] = time.Hour
	mu.Unlock()
	elected := func(all []*event.Envelope) bool {
		for _, e := range all {
			if b, is := e.Body.(event.LeaderElected); is && b.MasterID != leader {
				return true
			}
		}
		return false
	}
	skews := 0
	for _, e := range c.feed(followers[0], from, elected) {
		if b, is := e.Body.(event.ClockSkew); is && b.MasterID == leader && b.SkewMS > 3599e3 {
			skews++
		}
		if ahead := e.Time - time.Now().UnixMicro(); ahead > (5 * time.Minute).Microseconds() {
			t.Errorf("event %d is %v ahead of time", e.Seq, time.Duration(ahead)*time.Microsecond)
		}
	}
	if skews == 0 {
		t.Errorf("the skew of %s is not on record", leader)
	}
}
