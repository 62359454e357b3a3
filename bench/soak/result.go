package soak

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/sutra-grid/sutra-grid/internal/load"
)

// Result is SOAK.json.
type Result struct {
	Version string `json:"version"`
	Date    string `json:"date"` // RFC 3339
	Machine string `json:"machine"`
	About   string `json:"about"` // the grid and the mix of requests

	Length    float64      `json:"length"` // seconds
	BrokenOff bool         `json:"broken_off"`
	Peak      Peak         `json:"peak"`
	Rate      float64      `json:"rate"` // requests/s that were due
	Load      *load.Report `json:"load"`
	WorstLag  Lag          `json:"worst_lag"`

	Verdict Verdict  `json:"verdict"`
	Rules   []Rule   `json:"rules"`
	Parts   []Part   `json:"parts"`
	Minutes []Part   `json:"minutes"`
	Growths []Growth `json:"growths"`
}

// Fill judges a run and writes down what is known of it.
func (res *Result) Fill(r *Run) {
	res.Length, res.BrokenOff, res.Rate, res.Load, res.Parts, res.Minutes = r.Length.Seconds(), r.BrokenOff, r.Load.Rate, r.Load, r.Parts, r.Minutes
	res.Growths, res.Rules = Judge(r)
	res.Verdict = Held(res.Rules)
	for _, s := range r.Samples {
		if s.Lag != nil {
			res.WorstLag.Events, res.WorstLag.Seconds = max(res.WorstLag.Events, s.Lag.Events), max(res.WorstLag.Seconds, s.Lag.Seconds)
			res.WorstLag.Through = s.Lag.Through
		}
	}
}

// Encode is the text of SOAK.json: each rule, part and growth on a line of its own, as a growth has a hundred figures.
func (res *Result) Encode() ([]byte, error) {
	text, err := json.Marshal(res)
	lines := strings.NewReplacer(`[{"`, "[\n{\"", `},{"`, "},\n{\"").Replace(string(text))
	return []byte(lines + "\n"), err
}

// Table is SOAK.md.
func (res *Result) Table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Soak\n\nWritten by `make soak` (docs/performance.md says what is done and how it is judged). %s\n\n", res.sentence())
	fmt.Fprintf(&b, "- version %s, %s, %s\n- %s\n", res.Version, res.Date, res.Machine, res.About)
	fmt.Fprintf(&b, "- peak: %s requests/s answered in a closed loop of %.0f s, %s/s sustained (until event storage had all events)\n", round(res.Peak.Answered), res.Peak.Seconds, round(res.Peak.Sustained))
	fmt.Fprintf(&b, "- load: %s requests/s by the clock for %.0f s, seed %d; p50 %.2f ms, p99 %.2f ms, max %.1f ms; event storage at worst %s events and %.2f s behind\n",
		round(res.Rate), res.Load.Seconds, res.Load.Seed, res.Load.Latency.P50, res.Load.Latency.P99, res.Load.Latency.Max, round(res.WorstLag.Events), res.WorstLag.Seconds)
	b.WriteString("\n| rule | verdict | |\n|---|---|---|\n")
	for _, r := range res.Rules {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", r.Name, strong(r.Verdict), cell(r.Text))
	}
	b.WriteString("\n| minutes | requests/s | failed | p50 ms | p99 ms | p99.9 ms | max ms |\n|---|---|---|---|---|---|---|\n")
	for _, p := range res.Parts {
		if p.Done+p.Failed == 0 {
			continue // it was broken off before
		}
		l := p.Latency
		fmt.Fprintf(&b, "| %.1f to %.1f | %.0f | %d | %.2f | %.2f | %.2f | %.1f |\n", p.From/60, p.To/60, float64(p.Done)/max(p.To-p.From, 1e-3), p.Failed, l.P50, l.P99, l.P999, l.Max)
	}
	b.WriteString("\nBehind the first quarter, in which caches fill; `first` and `last` are the lowest of the first and the last sixth of what is left.\n\n")
	b.WriteString("| process | measure | first | last | an hour | grown | allowed | verdict |\n|---|---|---|---|---|---|---|---|\n")
	for _, g := range res.Growths {
		allowed, verdict := g.show(g.Allowed), strong(g.Verdict)
		if g.Verdict == Unjudged {
			allowed, verdict = "-", g.Why
		} else if g.Why != "" {
			verdict += ": " + g.Why
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s |\n", g.Process, g.Measure, g.show(g.First), g.show(g.Last), g.signed(g.PerHour), g.signed(g.Grown), allowed, verdict)
	}
	return b.String()
}

// Broken names the rules that are.
func (res *Result) Broken() (names []string) { return res.with(Broken) }

func (res *Result) with(v Verdict) (names []string) {
	for _, r := range res.Rules {
		if r.Verdict == v {
			names = append(names, r.Name)
		}
	}
	return names
}

// sentence is the verdict in words.
func (res *Result) sentence() string {
	off := ""
	if res.BrokenOff {
		off = fmt.Sprintf("Broken off after %.0f s of %.0f. ", res.Load.Seconds, res.Length)
	}
	names := strings.Join(res.with(res.Verdict), ", ")
	switch res.Verdict {
	case Holds:
		return off + "**Every rule holds.**"
	case Broken:
		return off + "**Broken: " + names + ".**"
	default:
		return off + "No rule is broken; not judged: " + names + "."
	}
}

// Lines tells of each rule, the broken ones last, where they are seen.
func (res *Result) Lines() (lines []string) {
	for _, v := range []Verdict{Holds, Unjudged, Broken} {
		for _, r := range res.Rules {
			if r.Verdict == v {
				lines = append(lines, fmt.Sprintf("%s %s: %s", r.Name, r.Verdict, r.Text))
			}
		}
	}
	return lines
}

// show writes a figure in its unit.
func (g *Growth) show(v float64) string {
	switch g.Unit {
	case "MiB":
		return strconv.FormatFloat(v/(1<<20), 'f', 1, 64) + " MiB"
	case "s":
		return strconv.FormatFloat(v, 'f', 2, 64) + " s"
	case "":
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return round(v) + " " + g.Unit
}

func (g *Growth) signed(v float64) string {
	if v < 0 {
		return g.show(v)
	}
	return "+" + g.show(v)
}

func round(v float64) string { return strconv.FormatFloat(v, 'f', 0, 64) }

func strong(v Verdict) string {
	if v == Broken {
		return "**" + string(v) + "**"
	}
	return string(v)
}

// cell keeps a text in its cell.
func cell(s string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ").Replace(s)
}
