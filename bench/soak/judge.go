package soak

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sutra-grid/sutra-grid/internal/trend"
)

// Verdict is what came of a rule.
type Verdict string

// The verdicts.
const (
	Holds    Verdict = "holds"
	Broken   Verdict = "broken"
	Unjudged Verdict = "not judged"
)

// tailRatio is how much longer the slowest hundredth may take at the end than at the beginning: the requirement's own figure.
const tailRatio = 1.3

// seenShare of its looks must have found a process, or what was not seen may have grown.
const seenShare = 0.9

// Rule is one of the requirements, of the run or of a measure.
type Rule struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	Text    string  `json:"text"` // what was seen
}

// Judge looks at a run.
func Judge(r *Run) (growths []Growth, rules []Rule) {
	for _, name := range r.names() {
		for _, m := range measures {
			var points []trend.Point
			for _, s := range r.Samples {
				for _, u := range s.Processes {
					if v := m.of(u); u.Process == name && v > 0 {
						points = append(points, trend.Point{At: s.At, Value: v})
					}
				}
			}
			if len(points) > 0 {
				growths = append(growths, grow(Growth{Process: name, Measure: m.name, Unit: m.unit}, m, points, r.Ran()))
			}
		}
	}
	growths = append(growths, lags(r)...)
	rules = []Rule{whole(r), requests(r), running(r), tail(r)}
	for _, name := range []string{"heap", "goroutines", "files", "feed lag"} {
		rules = append(rules, steady(name, growths))
	}
	return growths, rules
}

// Held tells what came of all rules together: one that is broken breaks all.
func Held(rules []Rule) Verdict {
	all := Holds
	for _, r := range rules {
		if r.Verdict == Broken || r.Verdict == Unjudged && all == Holds {
			all = r.Verdict
		}
	}
	return all
}

// lags are the growths of the feed's lag, in events and in seconds.
func lags(r *Run) []Growth {
	var events, seconds []trend.Point
	var first, last Sample
	for _, s := range r.Samples {
		if s.Lag == nil {
			continue
		}
		if first.Lag == nil {
			first = s
		}
		last = s
		events = append(events, trend.Point{At: s.At, Value: s.Lag.Events})
		seconds = append(seconds, trend.Point{At: s.At, Value: s.Lag.Seconds})
	}
	if len(events) == 0 {
		return nil
	}
	rate := 0.0 // events/s that were stored
	if took := (last.At - first.At).Seconds(); took > 0 {
		rate = float64(last.Lag.Through-first.Lag.Through) / took
	}
	return []Growth{
		grow(Growth{Process: Grid, Measure: "feed lag", Unit: "events"}, measure{judged: true, slack: lagSeconds * rate}, events, r.Ran()),
		grow(Growth{Process: Grid, Measure: "feed lag", Unit: "s"}, measure{judged: true, slack: lagSeconds}, seconds, r.Ran()),
	}
}

func whole(r *Run) Rule {
	rule := Rule{"length", Holds, r.Length.String()}
	if r.BrokenOff {
		rule.Verdict, rule.Text = Broken, fmt.Sprintf("broken off after %.0f s of %s", r.Ran().Seconds(), r.Length)
	}
	return rule
}

func requests(r *Run) Rule {
	rule := Rule{"requests", Holds, fmt.Sprintf("%d answered, none failed, none left unsent", r.Load.Done)}
	var faults []string
	for _, f := range r.Load.Failures {
		faults = append(faults, fmt.Sprintf("%d failed with %s, the first: %s", f.Count, f.Kind, f.Example))
	}
	if r.Load.Unsent > 0 {
		faults = append(faults, fmt.Sprintf("%d that were due could not be sent: the grid does not keep up with the rate", r.Load.Unsent))
	}
	switch {
	case len(faults) > 0:
		rule.Verdict, rule.Text = Broken, strings.Join(faults, "; ")
	case r.Load.Done == 0:
		rule.Verdict, rule.Text = Broken, "none was answered"
	}
	return rule
}

func running(r *Run) Rule {
	rule := Rule{"processes", Holds, "all ran from beginning to end"}
	var faults []string
	for _, name := range r.Restarts {
		faults = append(faults, name+" ended on the way")
	}
	seen := map[string]int{}
	for _, s := range r.Samples {
		for _, u := range s.Processes {
			seen[u.Process]++
		}
		if s.Lag != nil {
			seen["the feed"]++
		}
	}
	for _, name := range append(r.names(), "the feed") {
		if n := seen[name]; float64(n) < seenShare*float64(len(r.Samples)) {
			faults = append(faults, fmt.Sprintf("%s was seen in %d of %d looks", name, n, len(r.Samples)))
		}
	}
	switch {
	case len(r.Samples) == 0:
		rule.Verdict, rule.Text = Unjudged, "nobody looked"
	case len(faults) > 0:
		rule.Verdict, rule.Text = Broken, strings.Join(faults, "; ")
	}
	return rule
}

// tail compares the slowest hundredth of the first part with that of the last.
func tail(r *Run) Rule {
	rule := Rule{"p99", Unjudged, "too short"}
	if len(r.Parts) != Parts || r.Parts[0].Done == 0 || r.Parts[Parts-1].Done == 0 || r.BrokenOff {
		return rule
	}
	first, last := r.Parts[0].Latency.P99, r.Parts[Parts-1].Latency.P99
	rule.Text = fmt.Sprintf("%.2f ms in the first sixth, %.2f ms in the last: %.2f x, at most %.1f", first, last, last/first, tailRatio)
	rule.Verdict = Holds
	if last > tailRatio*first {
		rule.Verdict = Broken
	}
	return rule
}

// steady is the rule that a measure grows nowhere. What grew is named, from what to what, in which process.
func steady(name string, growths []Growth) Rule {
	rule := Rule{name, Holds, ""}
	var grew, held []string
	open := map[string][]string{} // why -> processes
	for _, g := range growths {
		switch {
		case g.Measure != name:
		case g.Verdict == Broken:
			grew = append(grew, fmt.Sprintf("%s: from %s to %s, by %s, allowed %s", g.Process, g.show(g.First), g.show(g.Last), g.show(g.Grown), g.show(g.Allowed)))
		case g.Verdict == Unjudged:
			open[g.Why] = append(open[g.Why], g.Process)
		default:
			held = append(held, g.Process)
		}
	}
	switch {
	case len(grew) > 0:
		rule.Verdict, rule.Text = Broken, strings.Join(grew, "; ")
	case len(open) > 0:
		var parts []string
		for _, why := range slices.Sorted(maps.Keys(open)) {
			parts = append(parts, listed(open[why])+": "+why)
		}
		rule.Verdict, rule.Text = Unjudged, strings.Join(parts, "; ")
	case len(held) == 0:
		rule.Verdict, rule.Text = Unjudged, "nobody tells"
	default:
		rule.Text = "no growth: " + listed(held)
	}
	return rule
}

// listed names processes, each once, that come in order.
func listed(names []string) string { return strings.Join(slices.Compact(names), ", ") }
