package growth

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sutra-grid/sutra-grid/bench/report"
)

// The comments in docs/performance.md between which the report stands.
const (
	Begin = "<!-- growth: begin -->"
	End   = "<!-- growth: end -->"
)

// ErrMarkers: the document has not exactly one begin and behind it one end.
var ErrMarkers = errors.New("the document must have one line " + Begin + " and behind it one line " + End)

// Replace puts a section between the markers of a document; every other byte stays.
func Replace(document, section string) (string, error) {
	head, rest, found := strings.Cut(document, Begin)
	_, tail, ended := strings.Cut(rest, End)
	if !found || !ended || strings.Count(document, Begin) != 1 || strings.Count(document, End) != 1 {
		return "", ErrMarkers
	}
	return head + Begin + "\n" + section + End + tail, nil
}

// Section is the report of all series: a table and, once there are points, a plot of each, and the budgets. plots is the folder of the plots
// as the document links to it.
func Section(all []Series, plots string) string {
	var b strings.Builder
	for _, s := range Subjects() {
		series := Of(all, s.ID)
		fmt.Fprintf(&b, "### %s\n\n%s\n\n", s.Title, s.About)
		if len(series.Points) == 0 && series.Note == "" {
			b.WriteString("Not measured yet.\n\n")
			continue
		}
		if len(series.Points) > 0 {
			fmt.Fprintf(&b, "![%s](%s/%s.svg)\n\n", s.Title, plots, s.ID)
		}
		s.table(&b, series)
	}
	budgets(&b, all)
	return b.String()
}

// table writes a row for each size, measured or not, and of which runs they are.
func (s *Subject) table(b *strings.Builder, series Series) {
	fmt.Fprintf(b, "| %s |", s.Axis)
	for _, c := range s.Columns {
		fmt.Fprintf(b, " %s, %s |", c.Title, c.Unit)
	}
	b.WriteString("\n" + strings.Repeat("|---", len(s.Columns)+1) + "|\n")
	for _, p := range s.rows(series.Points) {
		fmt.Fprintf(b, "| %s |", report.Number(float64(p.Size)))
		for _, c := range s.Columns {
			text := "-"
			if v, ok := p.Figures[c.Key]; ok {
				text = report.Number(v)
			}
			fmt.Fprintf(b, " %s |", text)
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	for _, line := range origins(series.Points) {
		fmt.Fprintf(b, "%s\n", line)
	}
	if series.Note != "" {
		fmt.Fprintf(b, "The last run broke off: %s.\n", report.Cell(series.Note))
	}
	b.WriteString("\n")
}

// rows are the points, with an empty one for each size that was not measured.
func (s *Subject) rows(points []Point) []Point {
	rows := slices.Clone(points)
	for _, size := range slices.Concat(s.Sizes, s.Large) {
		if !slices.ContainsFunc(points, func(p Point) bool { return p.Size == size }) {
			rows = append(rows, Point{Size: size})
		}
	}
	slices.SortFunc(rows, func(a, b Point) int { return cmp.Compare(a.Size, b.Size) })
	return rows
}

// origins says for each run which sizes are of it.
func origins(points []Point) (lines []string) {
	type run struct{ version, date, machine string }
	var runs []run
	sizes := map[run][]string{}
	for _, p := range points {
		r := run{p.Version, p.Date, p.Machine}
		if sizes[r] == nil {
			runs = append(runs, r)
		}
		sizes[r] = append(sizes[r], short(float64(p.Size)))
	}
	for _, r := range runs {
		lines = append(lines, fmt.Sprintf("%s: version %s, %s, %s.", strings.Join(sizes[r], ", "), r.version, r.date, r.machine))
	}
	return lines
}

// short writes a size as axes have it.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return report.Number(v/1e6) + " M"
	case v >= 1e4:
		return report.Number(v/1e3) + " k"
	}
	return report.Number(v)
}

// budgets writes the table of budgets, and why each is what it is.
func budgets(b *strings.Builder, all []Series) {
	b.WriteString("### Memory budgets\n\nThe most that a process took in the series above, MiB: RSS as the kernel remembers its highest, heap as the highest of 30 looks over three seconds at " +
		"each size. A master's heap is Go's own figure; agents and nodes do not tell theirs, so theirs is all memory that is no file's, the stores' cache and memtables among it.\n\n" +
		"| component | while | heap: budget | highest | RSS: budget | highest | within |\n|---|---|---|---|---|---|---|\n")
	for _, budget := range Budgets() {
		v := budget.Judge(all)
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s |\n", v.Component, v.While, report.Number(v.Heap), v.HighHeap, report.Number(v.RSS), v.HighRSS, v)
	}
	b.WriteString("\n")
	for _, budget := range Budgets() {
		fmt.Fprintf(b, "- **%s, %s**: %s.\n", budget.Component, budget.While, budget.Why)
	}
	b.WriteString("\n")
}

// String is the figure, and where it was.
func (p Peak) String() string {
	if p.Series == "" {
		return "-"
	}
	return fmt.Sprintf("%s (%s, %s)", report.Number(p.MiB), p.Series, short(float64(p.Size)))
}
