package agent

import (
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// Verb is what an Action does.
type Verb string

// The verbs.
const (
	Start     Verb = "start"     // run a process
	Terminate Verb = "terminate" // ask the process to end
	Kill      Verb = "kill"      // end the process: it was asked, or given its time, in vain
	Discharge Verb = "discharge" // a node that is wanted no more and does not run: report it stopped
)

// Action is one step towards the desired state. Doing it again before it has shown its effect is harmless.
type Action struct {
	Verb Verb
	Node event.NodeID
}

// Actual is one node as it is, with what decides about its next step.
type Actual struct {
	Node     event.NodeID
	Wanted   bool
	Phase    Phase
	Due      time.Time // Crashed: when to start again. Starting, Stopping: when patience ends
	LeftDown bool      // it crashed too often and is not started again
}

// eventsPerNode is how many events one start of a node can cause at most: ready or failed, ended, left down or stopped.
const eventsPerNode = 3

// plan says what to do now: level-triggered, from what is wanted and what is, never from what changed. room is how many events
// the spool still takes. A start is put off while the spool might not hold what all nodes that are not stopped may have to report:
// blocked supervision is visible and heals by itself when masters can be reached, a dropped crash would be neither.
func plan(nodes []Actual, room int, now time.Time) []Action {
	var actions []Action
	reserved := 0
	for _, n := range nodes {
		if n.Phase != Stopped {
			reserved += eventsPerNode
		}
	}
	for _, n := range nodes {
		verb := step(n, now)
		if verb == Start {
			if n.Phase == Stopped {
				reserved += eventsPerNode
			}
			if reserved > room {
				continue
			}
		}
		if verb != "" {
			actions = append(actions, Action{verb, n.Node})
		}
	}
	return actions
}

// step is one node's next step; empty: none, or not yet.
func step(n Actual, now time.Time) Verb {
	due := !n.Due.After(now)
	switch {
	case n.Phase == Stopping && due:
		return Kill
	case n.Phase == Stopping:
		return ""
	case n.Wanted && n.Phase == Stopped:
		return Start
	case n.Wanted && n.Phase == Crashed && due && !n.LeftDown:
		return Start
	case n.Wanted && n.Phase == Starting && due:
		return Kill
	case !n.Wanted && n.Phase.alive():
		return Terminate
	case !n.Wanted && n.Phase == Crashed:
		return Discharge
	}
	return ""
}

// wake is when plan may have something to do without anything having happened; false: never.
func wake(nodes []Actual) (time.Time, bool) {
	var first time.Time
	found := false
	for _, n := range nodes {
		waits := n.Phase == Starting || n.Phase == Stopping || n.Phase == Crashed && n.Wanted && !n.LeftDown
		if waits && (!found || n.Due.Before(first)) {
			first, found = n.Due, true
		}
	}
	return first, found
}

// Restarts of a node that crashes: the first comes after about half a second, each further one after twice the time, up to half
// a minute, until the node has been well for a minute. After ten crashes in ten minutes it is left down: what is broken then does
// not heal by starting it, and its replicas are better placed elsewhere.
const (
	firstBackoff  = 500 * time.Millisecond
	maxBackoff    = 30 * time.Second
	healthyAfter  = 60 * time.Second
	crashLimit    = 10
	crashInterval = 10 * time.Minute
)

// backoff is the pause before the start that follows so many failures (1 or more); jitter in [0, 1) spreads it by a quarter to
// either side, so that nodes that crashed together do not start together for ever.
func backoff(failures int, jitter float64) time.Duration {
	d := maxBackoff
	if shift := failures - 1; shift < 6 {
		d = min(maxBackoff, firstBackoff<<shift)
	}
	return min(maxBackoff, time.Duration(float64(d)*(0.75+jitter/2)))
}

// crashes is a node's recent history.
type crashes struct {
	recent   []time.Time // not older than crashInterval
	failures int         // in a row, without a minute of health between
	ready    time.Time   // when it was last ready; zero: not since the last crash
}

// add notes a crash at now and says when to start again, or that the node is to be left down.
func (c *crashes) add(now time.Time, jitter float64) (due time.Time, leaveDown bool) {
	if !c.ready.IsZero() && now.Sub(c.ready) >= healthyAfter {
		c.failures = 0
	}
	c.ready = time.Time{}
	for len(c.recent) > 0 && now.Sub(c.recent[0]) > crashInterval {
		c.recent = c.recent[1:]
	}
	c.recent = append(c.recent, now)
	c.failures++
	return now.Add(backoff(c.failures, jitter)), len(c.recent) >= crashLimit
}
