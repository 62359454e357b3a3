package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// step is one fault, how long it lasts once it shows, and how long the grid is left alone behind it.
type step struct {
	fault      fault
	hold, rest time.Duration
	dice       uint64 // decides whom else it meets
}

func (s step) String() string {
	return fmt.Sprintf("%s for %s, then %s of peace", s.fault.name, s.hold, s.rest)
}

// fault is something that goes wrong. One that takes the leader away must be followed by another leader, or it proves nothing.
type fault struct {
	name   string
	leader bool // another leader must follow
	long   bool // lasts long enough for the log behind it to be cut
	do     func(w *world, leader event.MasterID, r *rand.Rand)
}

// faults are what a plan draws from.
var faults = []fault{
	{"kill the leader", true, false, func(w *world, l event.MasterID, _ *rand.Rand) { w.crash(l) }},
	{"cut the leader's power", true, false, func(w *world, l event.MasterID, _ *rand.Rand) {
		w.isolate(l, w.hosts)
		w.crash(l)
	}},
	{"isolate the leader from the masters", true, false, func(w *world, l event.MasterID, _ *rand.Rand) { w.isolate(l, w.masterHosts()) }},
	{"isolate the leader from everybody", true, false, func(w *world, l event.MasterID, _ *rand.Rand) { w.isolate(l, w.hosts) }},
	{"let nothing out of the leader", true, false, func(w *world, l event.MasterID, _ *rand.Rand) { w.cut([]string{string(l)}, w.masterHosts()) }},
	{"let nothing in to the leader", true, false, func(w *world, l event.MasterID, _ *rand.Rand) { w.cut(w.masterHosts(), []string{string(l)}) }},
	{"leave the leader with a minority", true, false, func(w *world, l event.MasterID, r *rand.Rand) { w.minority(l, r) }},
	{"reset the leader's connections", true, false, func(w *world, l event.MasterID, _ *rand.Rand) { w.refuse(string(l)) }},
	{"kill the leader and a minority of the others", true, false, func(w *world, l event.MasterID, r *rand.Rand) {
		w.crash(l)
		for _, id := range w.some(len(w.ids)/2-1, l, r) {
			w.crash(id)
		}
	}},
	{"kill the leader while event storage is away", true, false, func(w *world, l event.MasterID, _ *rand.Rand) {
		w.isolate(eventsHost, w.hosts)
		w.crash(l)
	}},
	{"kill the leader on slow links", true, false, func(w *world, l event.MasterID, r *rand.Rand) {
		w.slow(r)
		w.crash(l)
	}},
	{"kill the leader, and its successor while it comes back", true, false, func(w *world, l event.MasterID, _ *rand.Rand) {
		_, term := w.tap.leader()
		w.crash(l)
		if next, _, err := w.leader(term); err == nil {
			w.start(l)
			w.crash(next)
		}
	}},
	{"let the leader's links flap", true, false, func(w *world, l event.MasterID, r *rand.Rand) {
		_, term := w.tap.leader()
		for _, now := w.tap.leader(); now == term; _, now = w.tap.leader() {
			w.isolate(l, w.masterHosts())
			time.Sleep(time.Duration(50+r.IntN(400)) * time.Millisecond)
			w.heal()
			time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
		}
	}},
	{"kill all masters at once", true, false, func(w *world, _ event.MasterID, _ *rand.Rand) {
		for _, id := range w.ids {
			w.crash(id)
		}
		w.restart()
	}},
	{"kill a follower", false, false, func(w *world, l event.MasterID, r *rand.Rand) { w.crash(w.some(1, l, r)[0]) }},
	{"isolate a follower", false, false, func(w *world, l event.MasterID, r *rand.Rand) { w.isolate(w.some(1, l, r)[0], w.hosts) }},
	{"kill a follower for long", false, true, func(w *world, l event.MasterID, r *rand.Rand) { w.crash(w.some(1, l, r)[0]) }},
	{"isolate a follower for long", false, true, func(w *world, l event.MasterID, r *rand.Rand) { w.isolate(w.some(1, l, r)[0], w.hosts) }},
	{"slow links", false, false, func(w *world, _ event.MasterID, r *rand.Rand) { w.slow(r) }},
	{"restart an agent", false, false, func(w *world, _ event.MasterID, r *rand.Rand) { w.homesteads[r.IntN(agents)].reopen() }},
	{"restart event storage", false, false, func(w *world, _ event.MasterID, _ *rand.Rand) {
		w.stopEvents()
		w.startEvents()
	}},
}

// manyLosses is what a plan has that is long enough for faults that last.
const manyLosses = 20

// plan is the steps of a run that takes the leader away so many times. Every sixth step or so leaves it alone.
func plan(seed uint64, losses int) []step {
	r := rand.New(rand.NewPCG(seed, 1))
	var with, without []fault
	for _, f := range faults {
		if f.leader {
			with = append(with, f)
		} else if !f.long || losses >= manyLosses {
			without = append(without, f)
		}
	}
	var steps []step
	for losses > 0 {
		s := step{fault: with[r.IntN(len(with))], dice: r.Uint64()}
		if r.IntN(6) == 0 {
			s.fault = without[r.IntN(len(without))]
		} else {
			losses--
		}
		s.hold = time.Duration(100+r.IntN(1500)) * time.Millisecond
		if s.fault.long {
			s.hold += 40 * time.Second // a snapshot is due every 15 to 30 s
		}
		s.rest = time.Duration(100+r.IntN(1200)) * time.Millisecond
		steps = append(steps, s)
	}
	return steps
}

func listing(steps []step) string {
	var b strings.Builder
	for i, s := range steps {
		fmt.Fprintf(&b, "%4d  %s\n", i+1, s)
	}
	return b.String()
}

// isolate cuts a host off in both directions.
func (w *world) isolate(host any, from []string) {
	h := fmt.Sprint(host)
	w.cut([]string{h}, from)
	w.cut(from, []string{h})
}

// minority cuts the masters in two, the leader on the smaller side.
func (w *world) minority(l event.MasterID, r *rand.Rand) {
	small := []string{string(l)}
	for _, id := range w.some((len(w.ids)-1)/2-1, l, r) {
		small = append(small, string(id))
	}
	for _, host := range w.masterHosts() {
		inside := false
		for _, s := range small {
			inside = inside || s == host
		}
		if !inside {
			w.cut(small, []string{host})
			w.cut([]string{host}, small)
		}
	}
}

// refuse resets what a host has to do with other masters, and refuses more.
func (w *world) refuse(host string) {
	for _, other := range w.masterHosts() {
		if other != host {
			w.net.SetLink(host, other, transport.Link{Refuse: true})
			w.net.SetLink(other, host, transport.Link{Refuse: true})
		}
	}
}

// slow makes the links between masters slow and narrow, below what costs a leader its lease.
func (w *world) slow(r *rand.Rand) {
	for _, a := range w.masterHosts() {
		for _, b := range w.masterHosts() {
			if a != b {
				w.net.SetLink(a, b, transport.Link{Delay: time.Duration(1+r.IntN(20)) * time.Millisecond, Jitter: 10 * time.Millisecond, Bandwidth: 1 << 20})
			}
		}
	}
}

// some is n masters other than one.
func (w *world) some(n int, not event.MasterID, r *rand.Rand) []event.MasterID {
	var out []event.MasterID
	for _, i := range r.Perm(len(w.ids)) {
		if len(out) < n && w.ids[i] != not {
			out = append(out, w.ids[i])
		}
	}
	return out
}
