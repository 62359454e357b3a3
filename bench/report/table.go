package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Table is RESULTS.md: the rows, with what each is, and what the run that wrote it was.
func Table(subjects []Subject, rows []Row, about []string) string {
	var b strings.Builder
	b.WriteString("# Measured\n\nWritten by `make bench` (docs/performance.md says what each row is and how it is measured).\n\n")
	for _, line := range about {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	b.WriteString("\n| id | measure | ours | peer | ratio | spread | target | met |\n|---|---|---|---|---|---|---|---|\n")
	for i, r := range rows {
		met := "**no**"
		switch {
		case !r.Measured():
			met = "-"
		case r.Met:
			met = "yes"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s |\n", r.ID, Cell(subjects[i].Measure), value(r.Value, r.Unit), value(r.Peer, r.Unit), value(r.Ratio, ""),
			spread(r.Spread), Cell(r.Target), met)
	}
	b.WriteString("\n## Notes\n\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "- **%s** %s", r.ID, Cell(r.Note))
		if r.Date != "" {
			fmt.Fprintf(&b, " (%s, %s, %d rounds, %s)", r.Version, r.Date, r.Rounds, r.Machine)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// Cell keeps a text on its line and in its column.
func Cell(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", "\\|")
}

func value(v *float64, unit string) string {
	if v == nil {
		return "-"
	}
	return strings.TrimSpace(Number(*v) + " " + unit)
}

func spread(s *[2]float64) string {
	if s == nil {
		return "-"
	}
	return Number(s[0]) + " to " + Number(s[1])
}

// Number writes thousands with commas and what is small with its digits.
func Number(v float64) string {
	if math.Abs(v) < 1000 {
		return strconv.FormatFloat(v, 'g', 4, 64)
	}
	s := strconv.FormatFloat(math.Round(math.Abs(v)), 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	if v < 0 {
		s = "-" + s
	}
	return s
}
