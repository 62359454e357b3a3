package soak

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/internal/load"
)

// shape is how a measure goes: its value at a share, 0 to 1, of a run.
type shape func(at float64) float64

const mib = 1 << 20

func flat(v float64) shape { return func(float64) float64 { return v } }

// saw rises to four times its foot and falls back, as a heap at GOGC 300 does, so many times.
func saw(foot, times float64) shape {
	return func(at float64) float64 { return foot * (1 + 3*math.Mod(at*times, 1)) }
}

// run is an hour, or another length, of one master at ease whose measures go as they are told to.
func run(length time.Duration, heap, goroutines, files, lag shape) *Run {
	const looks = 360
	r := &Run{Length: length, Load: &load.Report{Seconds: length.Seconds(), Done: 1000, Rate: 100}}
	for i := range looks {
		at := float64(i) / looks
		r.Samples = append(r.Samples, Sample{At: time.Duration(at * float64(length)),
			Processes: []Usage{{Process: "master-1", Heap: heap(at), Goroutines: goroutines(at), Files: files(at), RSS: 500 * mib, Disk: 1e9 * (1 + at)}},
			Lag:       &Lag{Events: 100 * lag(at), Seconds: lag(at), Through: uint64(100 * at * length.Seconds())}})
	}
	for i := range Parts {
		r.Parts = append(r.Parts, part(i, length, 10))
	}
	return r
}

func part(i int, length time.Duration, p99 float64) Part {
	sixth := length.Seconds() / Parts
	return Part{From: float64(i) * sixth, To: float64(i+1) * sixth, Done: 100, Latency: load.Latency{P50: 1, P99: p99, Max: 2 * p99}}
}

func calm(length time.Duration) *Run {
	return run(length, saw(100*mib, 77), flat(80), flat(40), flat(0.05))
}

// ruling is a rule's by its name.
func ruling(t *testing.T, r *Run, name string) Rule {
	t.Helper()
	_, rules := Judge(r)
	for _, rule := range rules {
		if rule.Name == name {
			return rule
		}
	}
	t.Fatalf("no rule %q in %+v", name, rules)
	return Rule{}
}

func TestAGridAtEaseHolds(t *testing.T) {
	growths, rules := Judge(calm(time.Hour))
	if Held(rules) != Holds || len(rules) != 8 {
		t.Errorf("%+v", rules)
	}
	for _, g := range growths {
		if told := g.Measure == "disk" || g.Measure == "rss"; told != (g.Verdict == Unjudged) || g.Verdict == Broken {
			t.Errorf("%+v", g)
		}
	}
}

// TestGrowth: what may be called so, and what may not.
func TestGrowth(t *testing.T) {
	leak := func(from, by float64) shape { // of a share of the run on, so much more at its end
		return func(at float64) float64 { return 1 + by*max(at-from, 0)/(1-from) }
	}
	times := func(v float64, a, b shape) shape { return func(at float64) float64 { return v * a(at) * b(at) } }
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		name string
		of   shape
		want Verdict
	}{
		{"flat", flat(100 * mib), Holds},
		{"a sawtooth of a period below a window", saw(100*mib, 77), Holds},
		{"a sawtooth of seven minutes", saw(100*mib, 60.0/7), Holds},
		{"a sawtooth on a leak", times(100*mib, saw(1, 77), leak(0, 0.5)), Broken},
		{"a leak", times(100*mib, flat(1), leak(0, 0.3)), Broken},
		{"a late leak, which the trend does not see", times(100*mib, flat(1), leak(0.8, 0.5)), Broken},
		{"a leak with one low look at the end, which from first to last does not see", func(at float64) float64 {
			if at > 0.99 {
				return 100 * mib
			}
			return 100 * mib * leak(0, 0.5)(at)
		}, Broken},
		{"caches that fill, and are full after ten minutes", func(at float64) float64 { return 100 * mib * min(1, 0.2+5*at) }, Holds},
		{"a step behind the settling time", func(at float64) float64 {
			if at < 0.5 {
				return 100 * mib
			}
			return 120 * mib
		}, Broken},
		{"one burst that ends", func(at float64) float64 {
			if at > 0.4 && at < 0.5 {
				return 300 * mib
			}
			return 100 * mib
		}, Holds},
		{"noise", func(float64) float64 { return 100 * mib * (1 + 0.3*rng.Float64()) }, Holds},
		{"less", times(100*mib, flat(1), leak(0, -0.5)), Holds},
		{"little of little", times(5*mib, flat(1), leak(0, 0.9)), Holds},
	} {
		r := run(time.Hour, c.of, flat(80), flat(40), flat(0.05))
		if got := ruling(t, r, "heap"); got.Verdict != c.want {
			t.Errorf("%s: %+v, want %s", c.name, got, c.want)
		}
	}
}

// TestEachMeasureIsJudged, and its rule names the process and both figures.
func TestEachMeasureIsJudged(t *testing.T) {
	rising := func(from, to float64) shape { return func(at float64) float64 { return from + (to-from)*at } }
	for name, r := range map[string]*Run{
		"heap":       run(time.Hour, rising(100*mib, 200*mib), flat(80), flat(40), flat(0)),
		"goroutines": run(time.Hour, flat(mib), rising(80, 140), flat(40), flat(0)),
		"files":      run(time.Hour, flat(mib), flat(80), rising(40, 90), flat(0)),
		"feed lag":   run(time.Hour, flat(mib), flat(80), flat(40), rising(0, 4)),
	} {
		_, rules := Judge(r)
		for _, rule := range rules {
			if want := rule.Name == name; want != (rule.Verdict == Broken) {
				t.Errorf("%s grows: %+v", name, rule)
			}
		}
		who := "master-1: from "
		if name == "feed lag" {
			who = "grid: from "
		}
		if got := ruling(t, calm(time.Hour), name); got.Verdict != Holds || got.Text != "no growth: "+strings.TrimSuffix(who, ": from ") {
			t.Errorf("at ease: %+v", got)
		}
		if text := ruling(t, r, name).Text; !strings.Contains(text, who) || !strings.Contains(text, "allowed") {
			t.Errorf("%s: %q", name, text)
		}
	}
}

// TestOneStep of connections, when a leader changes, is no growth; a second one is, and so is a leak of as much.
func TestOneStep(t *testing.T) {
	steps := func(at ...float64) shape {
		return func(now float64) float64 {
			v := 45.0
			for _, a := range at {
				if now > a {
					v += 46
				}
			}
			return v
		}
	}
	for _, c := range []struct {
		files shape
		want  Verdict
	}{{steps(0.4), Holds}, {steps(0.8), Holds}, {steps(0.4, 0.8), Broken}, {func(at float64) float64 { return 45 + 46*at }, Broken}} {
		r := run(time.Hour, flat(mib), flat(80), c.files, flat(0))
		if got := ruling(t, r, "files"); got.Verdict != c.want {
			t.Errorf("%+v, want %s", got, c.want)
		}
	}
	res := &Result{}
	if res.Fill(run(time.Hour, flat(mib), flat(80), steps(0.4), flat(0))); !strings.Contains(res.Table(), "| +46 | 16 | holds: one step") {
		t.Error(res.Table())
	}
}

func TestTail(t *testing.T) {
	for p99, want := range map[float64]Verdict{10: Holds, 13: Holds, 13.1: Broken, 2: Holds} {
		r := calm(time.Hour)
		r.Parts[Parts-1] = part(Parts-1, r.Length, p99)
		if got := ruling(t, r, "p99"); got.Verdict != want {
			t.Errorf("%v: %+v, want %s", p99, got, want)
		}
	}
	r := calm(time.Hour)
	r.Parts[Parts-1] = Part{}
	if got := ruling(t, r, "p99"); got.Verdict != Unjudged {
		t.Errorf("nothing in the last part: %+v", got)
	}
}

// TestTooShort is not judged, and is not said to hold: heaps of less than forty minutes, and all of a handful of looks.
func TestTooShort(t *testing.T) {
	r := calm(39 * time.Minute)
	if got := ruling(t, r, "heap"); got.Verdict != Unjudged || got.Text != "master-1: too short: it comes to rest after ten minutes, and those are a quarter of forty" {
		t.Errorf("%+v", got)
	}
	if got := ruling(t, r, "files"); got.Verdict != Holds {
		t.Errorf("%+v", got)
	}
	_, rules := Judge(r)
	if Held(rules) != Unjudged {
		t.Errorf("%+v", rules)
	}
	for _, n := range []int{0, 1, 5, 60} { // sixty are ten windows
		r := calm(time.Hour)
		r.Samples = r.Samples[180 : 180+n]
		for _, name := range []string{"heap", "goroutines", "files", "feed lag"} {
			if got := ruling(t, r, name); got.Verdict != Unjudged {
				t.Errorf("%d looks: %+v", n, got)
			}
		}
	}
}

// TestTheRun itself is judged: requests that failed, processes that ended or were not seen, an end before its time.
func TestTheRun(t *testing.T) {
	for name, c := range map[string]struct {
		rule, says string
		harm       func(r *Run)
	}{
		"failed":     {"requests", "3 failed with busy, the first: full", func(r *Run) { r.Load.Failures = []load.Failure{{Kind: "busy", Count: 3, Example: "full"}} }},
		"unsent":     {"requests", "does not keep up", func(r *Run) { r.Load.Unsent = 7 }},
		"silent":     {"requests", "none was answered", func(r *Run) { r.Load.Done = 0 }},
		"restarted":  {"processes", "node-2 ended", func(r *Run) { r.Restarts = []string{"node-2"} }},
		"gone":       {"processes", "master-1 was seen in 180 of 360", func(r *Run) { unseen(r.Samples[180:]) }},
		"no lag":     {"processes", "the feed was seen in 0", func(r *Run) { unlagged(r.Samples) }},
		"broken off": {"length", "broken off after 1800 s", func(r *Run) { r.BrokenOff, r.Load.Seconds = true, 1800 }},
	} {
		r := calm(time.Hour)
		c.harm(r)
		if got := ruling(t, r, c.rule); got.Verdict != Broken || !strings.Contains(got.Text, c.says) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func unseen(samples []Sample) {
	for i := range samples {
		samples[i].Processes = nil
	}
}

func unlagged(samples []Sample) {
	for i := range samples {
		samples[i].Lag = nil
	}
}

// TestFiles: what is written says what was found, in words and for programs.
func TestFiles(t *testing.T) {
	r := run(time.Hour, func(at float64) float64 { return 100 * mib * (1 + at) }, flat(80), flat(40), flat(0.05))
	r.BrokenOff = true
	r.Load.Failures = []load.Failure{{Kind: "busy", Count: 3, Example: `a | b [{"x":1},{"y":2}]`}}
	r.Minutes = []Part{part(0, time.Hour, 10)}
	r.Parts[5] = Part{From: 3000, To: 3600}
	res := &Result{Version: "v1", Date: "today", Machine: "m", About: "a grid", Peak: Peak{Answered: 1000, Sustained: 800, Seconds: 60}}
	res.Fill(r)
	text := res.Table()
	for _, want := range []string{"**Broken: length, requests, heap.**", "Broken off after", "version v1, today, m\n", "800/s sustained", `a \| b`,
		"| heap | **broken** | master-1: from ", "| 0.0 to 10.0 |", "| master-1 | goroutines | 80 | 80 | +0 | +0 | 16 | holds |", "| grid | feed lag | 0.05 s |", "told only"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "50.0 to 60.0") {
		t.Error("a part that never was has a line")
	}
	out, err := res.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var again Result
	if err := json.Unmarshal(out, &again); err != nil || fmt.Sprint(again.Growths) != fmt.Sprint(res.Growths) || again.Verdict != Broken || again.Rules[1].Text != res.Rules[1].Text {
		t.Errorf("%+v, %v", again, err)
	}
	if lines := strings.Count(string(out), "\n"); lines < len(res.Growths) || lines > 100 {
		t.Errorf("%d lines", lines)
	}
	if lines := res.Lines(); !strings.HasPrefix(lines[len(lines)-1], "heap broken: master-1: from ") {
		t.Errorf("%q", lines)
	}
	res.Fill(calm(time.Hour))
	if text := res.Table(); !strings.Contains(text, "**Every rule holds.**") || len(res.Broken()) != 0 {
		t.Errorf("%s", text)
	}
	res.Fill(calm(time.Minute))
	if text := res.Table(); !strings.Contains(text, "not judged: heap.") {
		t.Errorf("%s", text)
	}
}
