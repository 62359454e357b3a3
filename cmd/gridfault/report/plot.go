package report

import (
	"fmt"
	"html/template"
	"math"
	"strings"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/episode"
)

// The drawing, in pixels.
const (
	plotWidth   = 1080
	leftEdge    = 60
	topEdge     = 22
	opsHeight   = 150
	delayHeight = 120
	gap         = 34
)

// plot is the timeline as shapes of an SVG.
type plot struct {
	Width, Height, Left    int
	OpsBase, DelayBase     int
	OpsHeight, DelayHeight int
	Bars                   []bar
	Bands                  []band
	Median, Worst          template.HTMLAttr // points of lines
	Leaders                []band
	Seconds                []tick
	OpsTop, DelayTop       string // what the upper edges stand for
	DelayMiddle            string
}

type bar struct {
	X, Y, W, H float64
	Class      string
	Title      string
}

type band struct {
	X, W  float64
	Row   int // names of neighbours stand in rows of their own
	Name  string
	Title string
}

type tick struct {
	X    float64
	Name string
}

// draw lays out a verdict's timeline.
func draw(v *episode.Verdict) plot {
	p := plot{Width: plotWidth, Left: leftEdge, OpsHeight: opsHeight, DelayHeight: delayHeight, OpsBase: topEdge + opsHeight, DelayBase: topEdge + opsHeight + gap + delayHeight}
	p.Height = p.DelayBase + 52
	n := len(v.Timeline)
	if n == 0 {
		return p
	}
	step := 250 * time.Millisecond
	if n > 1 {
		step = v.Timeline[1].At
	}
	length := v.Timeline[n-1].At + step
	at := func(d time.Duration) float64 {
		return leftEdge + float64(plotWidth-leftEdge-10)*float64(min(d, length))/float64(length)
	}
	p.ops(v.Timeline, step, at)
	p.delays(v.Timeline, step, at)
	for i, f := range v.Faults {
		p.Bands = append(p.Bands, band{at(f.Began), max(at(f.Healed)-at(f.Began), 1), i % 2, f.Name(),
			fmt.Sprintf("%s, %s to %s: %s %d, %s", f.Name(), seconds(f.Began), seconds(f.Healed), f.Proof.What, f.Proof.Count, f.Proof.Met)})
	}
	every := niceStep(length)
	for d := time.Duration(0); d <= length; d += every {
		p.Seconds = append(p.Seconds, tick{at(d), fmt.Sprintf("%g s", d.Seconds())})
	}
	return p
}

func (p *plot) ops(timeline []episode.Bucket, step time.Duration, at func(time.Duration) float64) {
	most := 1
	for _, b := range timeline {
		most = max(most, b.OK+b.Failed+b.Unknown)
	}
	p.OpsTop = fmt.Sprintf("%.0f/s", float64(most)/step.Seconds())
	leader := ""
	for _, b := range timeline {
		x, w := at(b.At), at(b.At+step)-at(b.At)
		y := float64(p.OpsBase)
		for _, part := range []struct {
			n    int
			name string
		}{{b.OK, "ok"}, {b.Failed, "fail"}, {b.Unknown, "unknown"}} {
			h := opsHeight * float64(part.n) / float64(most)
			if y -= h; part.n > 0 {
				p.Bars = append(p.Bars, bar{x, y, w, h, part.name, fmt.Sprintf("%s: %d %s", seconds(b.At), part.n, part.name)})
			}
		}
		if b.Leader != leader && b.Leader != "" {
			leader = b.Leader
			p.Leaders = append(p.Leaders, band{X: x, Name: leader, Row: len(p.Leaders) % 2})
		}
	}
}

// delays draws latencies on a logarithmic scale from 0.1 ms to 10 s.
func (p *plot) delays(timeline []episode.Bucket, step time.Duration, at func(time.Duration) float64) {
	p.DelayTop, p.DelayMiddle = "10 s", "32 ms"
	y := func(d time.Duration) float64 {
		share := math.Log10(max(float64(d)/float64(100*time.Microsecond), 1)) / 5
		return float64(p.DelayBase) - delayHeight*min(share, 1)
	}
	line := func(of func(episode.Bucket) time.Duration) template.HTMLAttr {
		var points strings.Builder
		for _, b := range timeline {
			if b.OK > 0 {
				fmt.Fprintf(&points, "%.1f,%.1f ", at(b.At+step/2), y(of(b)))
			}
		}
		return template.HTMLAttr(fmt.Sprintf("points=%q", points.String())) // digits only
	}
	p.Median = line(func(b episode.Bucket) time.Duration { return b.Median })
	p.Worst = line(func(b episode.Bucket) time.Duration { return b.Worst })
}

// niceStep is a round distance of some ten marks.
func niceStep(length time.Duration) time.Duration {
	for _, s := range []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute} {
		if length/s <= 14 {
			return s
		}
	}
	return time.Hour
}
