package soak

import (
	"cmp"
	"slices"
	"time"

	"github.com/sutra-grid/sutra-grid/internal/trend"
)

// How growth is judged.
const (
	// settling is the share of a run behind which growth is judged: a quarter, fifteen minutes of an hour. Masters remember requests for
	// ten minutes, caches and memtables fill, the runtime finds its pace; all of it is bounded and over by then.
	settling = 4
	// memorySettles is what heaps need to come to rest: the ten minutes of the masters' memory. If the settling time is shorter, heaps
	// are shown and not judged.
	memorySettles = 10 * time.Minute
	// windows is of how many windows a run is; of each the lowest reading counts. Of an hour it is a minute: several collections.
	windows = 60
	// leastWindows must be judged: with fewer a slope is chance.
	leastWindows = 12
)

// What a measure may grow by until it is called growth: a share of its level, or the slack if that is more.
const (
	// heapShare: a heap's lowest of sixty looks lies up to a twentieth above what is live, at GOGC 300; twice that.
	heapShare = 0.10
	// heapSlack: the runtime's own steps, a log segment or a memtable's bookkeeping more; heaps of some MiB move by as much at rest.
	heapSlack = 8 << 20
	// countShare and countSlack, of goroutines and files: a connection has a few of each, and what is under way at the moment differs. A
	// leak of one in two minutes passes it within an hour.
	countShare = 0.05
	countSlack = 16
	// leaderFiles and leaderGoroutines are what a process may have more from first to last, once, if its trend is none: whoever begins to
	// lead gets the connections of all clients, 46 files or 130 goroutines with those of the mix, and who led before keeps them for a while.
	leaderFiles      = 64
	leaderGoroutines = 160
	// lagSeconds is what event storage may be behind at P8 and still keep up. In events it is as many as are stored in that time.
	lagSeconds = 1.0
)

// Grid is the name of what is measured of no process alone.
const Grid = "grid"

// measure is one thing that is looked at.
type measure struct {
	name, unit string
	of         func(u Usage) float64
	judged     bool
	share      float64
	slack      float64
	step       float64 // from first to last, beside share or slack
	settles    time.Duration
}

// measures are those of processes. RSS holds what the allocators keep and caches that fill over hours, up to their bounds; tables
// are a cache of at most 1,000 a store, and a log is cut by its number of entries, event storage's for the first time after a quarter of an hour; disk grows with what is stored. They are told, not judged.
var measures = []measure{
	{name: "heap", unit: "MiB", of: func(u Usage) float64 { return u.Heap }, judged: true, share: heapShare, slack: heapSlack, settles: memorySettles},
	{name: "goroutines", of: func(u Usage) float64 { return u.Goroutines }, judged: true, share: countShare, slack: countSlack, step: leaderGoroutines},
	{name: "files", of: func(u Usage) float64 { return u.Files }, judged: true, share: countShare, slack: countSlack, step: leaderFiles},
	{name: "store files", of: func(u Usage) float64 { return u.Store }},
	{name: "rss", unit: "MiB", of: func(u Usage) float64 { return u.RSS }},
	{name: "disk", unit: "MiB", of: func(u Usage) float64 { return u.Disk }},
}

// Growth is how one measure of a process went.
type Growth struct {
	Process string  `json:"process"`
	Measure string  `json:"measure"`
	Unit    string  `json:"unit"`     // of SOAK.md; here bytes are bytes
	First   float64 `json:"first"`    // the lowest of the first sixth of what is judged
	Last    float64 `json:"last"`     // and of the last
	PerHour float64 `json:"per_hour"` // the trend of the windows' lowest
	Grown   float64 `json:"grown"`    // by trend or from first to last, whichever is more
	Allowed float64 `json:"allowed"`
	Verdict Verdict `json:"verdict"`
	Why     string  `json:"why,omitempty"` // it was not judged, or holds nevertheless
	// Windows are the lowest readings of all windows, also of those in which the run settled.
	Windows []float64 `json:"windows"`
}

// grow looks at one series of a run. A trend alone would not see what begins to grow late, as it is the median of all pairs; from first
// to last alone would be at the mercy of two moments.
func grow(g Growth, m measure, points []trend.Point, length time.Duration) Growth {
	lowest := trend.Lowest(points, max(length/windows, time.Second))
	for _, p := range lowest {
		g.Windows = append(g.Windows, p.Value)
	}
	settled := length / settling
	behind := lowest[:0:0]
	for _, p := range lowest {
		if p.At >= settled {
			behind = append(behind, p)
		}
	}
	if len(behind) == 0 {
		g.Verdict, g.Why = Unjudged, "too short"
		return g
	}
	n := max(len(behind)/Parts, 1)
	g.First, g.Last = lowestOf(behind[:n]), lowestOf(behind[len(behind)-n:])
	g.PerHour = trend.Slope(behind)
	byTrend := g.PerHour * (behind[len(behind)-1].At - behind[0].At).Hours()
	g.Grown = max(byTrend, g.Last-g.First)
	g.Allowed = max(m.share*g.First, m.slack)
	switch {
	case !m.judged:
		g.Verdict, g.Why, g.Allowed = Unjudged, "told only", 0
	case len(behind) < leastWindows:
		g.Verdict, g.Why = Unjudged, "too short"
	case settled < m.settles:
		g.Verdict, g.Why = Unjudged, "too short: it comes to rest after ten minutes, and those are a quarter of forty"
	case byTrend > g.Allowed || g.Last-g.First > g.Allowed+m.step:
		g.Verdict = Broken
	case g.Grown > g.Allowed:
		g.Verdict, g.Why = Holds, "one step, as when it begins to lead"
	default:
		g.Verdict = Holds
	}
	return g
}

func lowestOf(points []trend.Point) float64 {
	return slices.MinFunc(points, func(a, b trend.Point) int { return cmp.Compare(a.Value, b.Value) }).Value
}
