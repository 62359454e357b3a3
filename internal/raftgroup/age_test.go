package raftgroup

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/transport"
)

// TestFreshness: the state is as old as the request before the one whose commit index is applied, and no request makes it
// younger than that.
func TestFreshness(t *testing.T) {
	begun := time.Now()
	at := func(ms int) time.Time { return begun.Add(time.Duration(ms) * time.Millisecond) }
	var f freshness
	for _, step := range []struct {
		what                   string
		ms                     int
		term, commit           uint64
		appliedThen, appliedBy uint64
		held                   int // ms; -1: not known
	}{
		{"the first request has none before it", 0, 1, 10, 10, 10, -1},
		{"the second is known for the first", 50, 1, 10, 10, 10, 0},
		{"not before its commit index is applied", 100, 1, 20, 10, 19, 0},
		{"a later one does not push it aside", 150, 1, 30, 19, 20, 50},
		{"and then counts itself", 200, 1, 30, 30, 30, 150},
		{"a deposed leader's does not", 250, 0, 30, 30, 30, 150},
		{"a new leader's first has none before it", 300, 2, 30, 30, 30, 150},
		{"its second has", 350, 2, 31, 31, 31, 300},
	} {
		f.heard(at(step.ms), step.term, step.commit, step.appliedThen)
		held, known := f.since(step.appliedBy)
		if known != (step.held >= 0) || known && !held.Equal(at(step.held)) {
			t.Errorf("%s: held %v (%v), want %d ms", step.what, held.Sub(begun), known, step.held)
		}
	}
}

// TestAge: a follower's age stays small while it is in contact, and grows when it is cut off.
func TestAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3).start()
		defer c.stop()
		l := c.leader()
		f := c.others(l)[0]
		f.wait(l.must("a").Index)
		time.Sleep(time.Second)
		if age, known := l.group.Age(); age != 0 || !known {
			t.Errorf("the leader's state is %v old (%v)", age, known)
		}
		if age, known := f.group.Age(); !known || age > 4*lan().Commit {
			t.Errorf("an idle group's follower is %v old (%v)", age, known)
		}
		c.wire.isolate(f.owner, true)
		time.Sleep(10 * time.Second)
		if age, known := f.group.Age(); !known || age < 10*time.Second || age > 11*time.Second {
			t.Errorf("cut off for 10 s it is %v old (%v)", age, known)
		}
		c.wire.isolate(f.owner, false)
		f.wait(c.leader().must("b").Index)
		time.Sleep(time.Second)
		if age, known := f.group.Age(); !known || age > 4*lan().Commit {
			t.Errorf("back again it is %v old (%v)", age, known)
		}
	})
}
