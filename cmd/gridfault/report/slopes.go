package report

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/episode"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/internal/trend"
)

// SlopesFile is what a soak leaves.
const SlopesFile = "slopes.json"

// window is of which the lowest reading counts: longer than memory takes to be collected.
const window = time.Minute

// Slope is how one measure of a process went over a soak: the trend of the second half of the samples, when caches are warm and the logs
// have been cut.
type Slope struct {
	Process string  `json:"process"`
	Measure string  `json:"measure"`
	First   float64 `json:"first"`
	Last    float64 `json:"last"`
	PerHour float64 `json:"per_hour"`
	Samples int     `json:"samples"`
}

// measures are what slopes are taken of.
var measures = []struct {
	name string
	of   func(rig.Usage) float64
}{
	{"goroutines", func(u rig.Usage) float64 { return float64(u.Goroutines) }},
	{"files", func(u rig.Usage) float64 { return float64(u.Files) }},
	{"heap_bytes", func(u rig.Usage) float64 { return float64(u.HeapBytes) }},
	{"rss_bytes", func(u rig.Usage) float64 { return float64(u.RSSBytes) }},
	{"disk_bytes", func(u rig.Usage) float64 { return float64(u.DiskBytes) }},
}

// Slopes is those of all processes and measures that were seen.
func Slopes(samples []episode.Sample) []Slope {
	var names []string
	for _, s := range samples {
		for _, u := range s.Processes {
			if !slices.Contains(names, u.Process) {
				names = append(names, u.Process)
			}
		}
	}
	slices.Sort(names)
	var out []Slope
	for _, name := range names {
		for _, m := range measures {
			var points []trend.Point
			for _, s := range samples {
				for _, u := range s.Processes {
					if u.Process == name && m.of(u) > 0 {
						points = append(points, trend.Point{At: s.At, Value: m.of(u)})
					}
				}
			}
			if n := len(points); n > 0 {
				out = append(out, Slope{name, m.name, points[0].Value, points[n-1].Value, trend.Slope(trend.Lowest(points[n/2:], window)), n})
			}
		}
	}
	return out
}

// WriteSlopes stores the slopes in dir, and shows them.
func WriteSlopes(dir string, out io.Writer, samples []episode.Sample) error {
	all := Slopes(samples)
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, SlopesFile), append(b, '\n'), 0o644); err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "PROCESS\tMEASURE\tFIRST\tLAST\tPER HOUR\t")
	for _, s := range all {
		fmt.Fprintf(table, "%s\t%s\t%.0f\t%.0f\t%+.0f\t\n", s.Process, s.Measure, s.First, s.Last, s.PerHour)
	}
	return table.Flush()
}
