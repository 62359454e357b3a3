package growth

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// The drawing, in pixels.
const (
	panelWidth, panelHeight = 390, 270
	leftEdge, rightEdge     = 62, 16 // of a panel's axes
	topEdge, bottomEdge     = 66, 44
	panelsAbreast           = 2
	titleHeight             = 26
)

// style serves light and dark pages: the ground stays clear, and a dark page gets lighter colours.
const style = `text{font:12px system-ui,sans-serif;fill:#4b5563}.t{font-weight:600}.h{font-size:14px;font-weight:600}.g{stroke:#8b949e;stroke-opacity:.3}.a{stroke:#8b949e}` +
	`.l{fill:none;stroke-width:2}.c0{stroke:#2563eb}.c1{stroke:#c2410c;stroke-dasharray:6 3}.c2{stroke:#15803d;stroke-dasharray:2 3}.c3{stroke:#9333ea;stroke-dasharray:9 3 2 3}` +
	`.m0{fill:#2563eb}.m1{fill:#c2410c}.m2{fill:#15803d}.m3{fill:#9333ea}` +
	`@media(prefers-color-scheme:dark){text{fill:#c9d1d9}.c0{stroke:#60a5fa}.c1{stroke:#fb923c}.c2{stroke:#4ade80}.c3{stroke:#c084fc}.m0{fill:#60a5fa}.m1{fill:#fb923c}.m2{fill:#4ade80}.m3{fill:#c084fc}}`

// linesMost is how many lines style tells apart.
const linesMost = 4

// Plot draws a series as an SVG: a panel for each of the subject's, sizes on a logarithmic axis. A figure that is missing breaks no line.
func Plot(s Subject, points []Point) string {
	var b strings.Builder
	rows := (len(s.Panels) + panelsAbreast - 1) / panelsAbreast
	width, height := min(len(s.Panels), panelsAbreast)*panelWidth, titleHeight+rows*panelHeight
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`+"\n<title>%s</title>\n<style>%s</style>\n", width, height, width, height,
		html.EscapeString(s.Title), style)
	fmt.Fprintf(&b, `<text class="h" x="12" y="18">%s</text>`+"\n", html.EscapeString(s.Title))
	for i, p := range s.Panels {
		fmt.Fprintf(&b, `<g transform="translate(%d %d)">`+"\n", i%panelsAbreast*panelWidth, titleHeight+i/panelsAbreast*panelHeight)
		s.panel(&b, p, points)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// panel draws one panel in its own coordinates.
func (s *Subject) panel(b *strings.Builder, p Panel, points []Point) {
	unit := s.column(p.Keys[0]).Unit
	fmt.Fprintf(b, `<text class="t" x="12" y="16">%s, %s</text>`+"\n", html.EscapeString(p.Title), html.EscapeString(unit))
	x, y := sizesScale(points), valuesScale(p, points)
	for _, t := range y.ticks {
		at := y.at(t)
		fmt.Fprintf(b, `<line class="g" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/><text text-anchor="end" x="%d" y="%.1f">%s</text>`+"\n", leftEdge, panelWidth-rightEdge, at, at, leftEdge-6, at+4, short(t))
	}
	base := panelHeight - bottomEdge
	fmt.Fprintf(b, `<line class="a" x1="%d" x2="%d" y1="%d" y2="%d"/>`+"\n", leftEdge, panelWidth-rightEdge, base, base)
	for _, t := range x.ticks {
		fmt.Fprintf(b, `<line class="a" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/><text text-anchor="middle" x="%.1f" y="%d">%s</text>`+"\n", x.at(t), x.at(t), base, base+4, x.at(t), base+18, short(t))
	}
	fmt.Fprintf(b, `<text text-anchor="middle" x="%d" y="%d">%s</text>`+"\n", (leftEdge+panelWidth-rightEdge)/2, base+36, html.EscapeString(s.Axis))
	for i, key := range p.Keys {
		curve{i % linesMost, key, points}.draw(b, x, y)
		s.legend(b, i, key)
	}
}

// curve is one figure over the sizes.
type curve struct {
	look   int // of style, under linesMost
	key    string
	points []Point
}

// draw makes a line, and a mark at each point.
func (c curve) draw(b *strings.Builder, x, y scale) {
	var line, marks strings.Builder
	for _, p := range c.points {
		v, ok := p.Figures[c.key]
		if !ok {
			continue
		}
		px, py := x.at(float64(p.Size)), y.at(v)
		fmt.Fprintf(&line, "%.1f,%.1f ", px, py)
		fmt.Fprintf(&marks, `<circle class="m%d" cx="%.1f" cy="%.1f" r="3.5"><title>%s: %s</title></circle>`, c.look, px, py, short(float64(p.Size)), short(v))
	}
	fmt.Fprintf(b, `<polyline class="l c%d" points="%s"/>%s`+"\n", c.look, strings.TrimSpace(line.String()), marks.String())
}

// legend names a line; two stand beside each other.
func (s *Subject) legend(b *strings.Builder, i int, key string) {
	left, y := 12+i%2*(panelWidth/2), 32+i/2*15
	fmt.Fprintf(b, `<line class="l c%d" x1="%d" x2="%d" y1="%d" y2="%d"/><text x="%d" y="%d">%s</text>`+"\n", i%linesMost, left, left+24, y, y, left+30, y+4, html.EscapeString(s.column(key).Title))
}

// scale places values between two pixels.
type scale struct {
	from, to float64 // values; to is over from
	at0, at1 float64 // pixels
	log      bool
	ticks    []float64
}

// at is a value's pixel; what lies below the scale is drawn at its lower end, as a zero on a logarithmic one.
func (s scale) at(v float64) float64 {
	share := (v - s.from) / (s.to - s.from)
	if s.log {
		share = math.Log10(max(v, s.from)/s.from) / math.Log10(s.to/s.from)
	}
	return s.at0 + (s.at1-s.at0)*min(max(share, 0), 1)
}

// sizesScale has a tick at each size.
func sizesScale(points []Point) scale {
	s := scale{from: 1, to: 10, at0: leftEdge + 14, at1: panelWidth - rightEdge - 14, log: true}
	for i, p := range points {
		size := float64(max(p.Size, 1))
		if i == 0 {
			s.from = size
		}
		s.to = max(size, s.from*2) // one size alone stands at the left
		s.ticks = append(s.ticks, size)
	}
	return s
}

// valuesScale holds all values of a panel.
func valuesScale(p Panel, points []Point) scale {
	low, high := math.Inf(1), 0.0
	for _, point := range points {
		for _, key := range p.Keys {
			if v, ok := point.Figures[key]; ok && v > 0 {
				low, high = min(low, v), max(high, v)
			}
		}
	}
	s := scale{at0: panelHeight - bottomEdge, at1: topEdge, log: !p.Linear}
	if high == 0 {
		low, high = 1, 1
	}
	if p.Linear {
		step := linearStep(high)
		for s.to = 0; s.to < high; s.to += step {
			s.ticks = append(s.ticks, s.to)
		}
		s.ticks = append(s.ticks, s.to)
		return s
	}
	s.from, s.to = math.Pow(10, math.Floor(math.Log10(low))), math.Pow(10, math.Ceil(math.Log10(high)))
	if s.to <= s.from {
		s.to = 10 * s.from
	}
	s.ticks = decades(s.from, s.to)
	return s
}

// linearStep is a round distance of some four ticks.
func linearStep(high float64) float64 {
	rough := high / 4
	unit := math.Pow(10, math.Floor(math.Log10(rough)))
	for _, f := range []float64{1, 2, 5} {
		if f*unit >= rough {
			return f * unit
		}
	}
	return 10 * unit
}

// decades are the ticks of a logarithmic scale; where there are few, those at 2 and 5 are among them.
func decades(from, to float64) (ticks []float64) {
	steps := []float64{1, 2, 5}
	if to/from > 1100 {
		steps = steps[:1]
	}
	for d := from; d < to*0.99; d *= 10 {
		for _, f := range steps {
			ticks = append(ticks, d*f)
		}
	}
	return append(ticks, to)
}
