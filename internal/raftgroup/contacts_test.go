package raftgroup

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestStuck: a follower that answers and takes nothing is stuck; one that was away is not when it comes back, but is if it then takes nothing.
func TestStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const gap, stall = time.Second, 5 * time.Second
		c := newContacts(gap, stall)
		answer := func(match uint64) bool {
			c.answered("f", 1, answer{match: match, last: 10})
			return c.of("f", 1).stuck
		}
		answers := func(match uint64, d time.Duration) (stuck bool) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(gap / 2) {
				stuck = answer(match)
			}
			return stuck
		}
		if answers(3, stall) {
			t.Error("stuck too soon")
		}
		if !answers(3, gap) {
			t.Error("it answers, takes nothing, and is not stuck")
		}
		if answer(4) {
			t.Error("it has taken something, and is stuck")
		}
		time.Sleep(3 * stall)
		if answer(4) {
			t.Error("stuck when it comes back")
		}
		if answers(4, stall) || !answers(4, gap) {
			t.Error("stuck too soon, or never, after it came back")
		}
	})
}
