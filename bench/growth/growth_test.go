package growth

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// measured is a point at which every figure of a subject is value.
func measured(s Subject, size int, value float64) Point {
	p := Point{Size: size, Version: "v1", Date: "2026-01-01T00:00:00Z", Machine: "machine"}
	for _, c := range s.Columns {
		p.Set(c.Key, value)
	}
	return p
}

// TestSubjects: every line of a plot is a column of its subject, all lines of a panel have one unit, and styles tell them apart.
func TestSubjects(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Subjects() {
		if seen[s.ID] || s.Title == "" || s.Axis == "" || s.About == "" || len(s.Sizes) < 3 || !slices.IsSorted(slices.Concat(s.Sizes, s.Large)) {
			t.Errorf("%+v", s)
		}
		seen[s.ID] = true
		for _, p := range s.Panels {
			if len(p.Keys) == 0 || len(p.Keys) > linesMost {
				t.Errorf("%s, %s has %d lines", s.ID, p.Title, len(p.Keys))
			}
			for _, key := range p.Keys {
				if c := s.column(key); c.Unit == "" || c.Unit != s.column(p.Keys[0]).Unit {
					t.Errorf("%s, %s: %+v", s.ID, p.Title, c)
				}
			}
		}
	}
}

func TestFiguresAreRounded(t *testing.T) {
	var p Point
	p.Set("a", 12345.678)
	p.Set("b", math.NaN())
	if _, there := p.Figures["b"]; there || p.Figures["a"] != 12350 {
		t.Errorf("%v", p.Figures)
	}
}

// TestMerge: a run replaces the sizes that it measured; others, and other series, stay with their own version; a size of a short try goes.
func TestMerge(t *testing.T) {
	old := []Series{{ID: StorageID, Note: "full", Points: []Point{{Size: 7, Version: "try"}, {Size: 10_000, Version: "v1"}, {Size: 10_000_000, Version: "v1"}}},
		{ID: MastersID, Points: []Point{{Size: 77, Version: "try"}}}, {ID: "gone"}}
	all := Merge(Subjects(), old, Series{ID: StorageID, Points: []Point{{Size: 100_000, Version: "v2"}, {Size: 10_000, Version: "v2"}}})
	var got []string
	for _, p := range Of(all, StorageID).Points {
		got = append(got, short(float64(p.Size))+" "+p.Version)
	}
	if want := []string{"10 k v2", "100 k v2", "10 M v1"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if len(all) != len(Subjects()) || Of(all, StorageID).Note != "" || len(Of(all, MastersID).Points) != 1 {
		t.Errorf("%+v", all)
	}
}

// TestFile: what is written is read again, and no file is no error.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "GROWTH.json")
	if all, err := Read(path); err != nil || all != nil {
		t.Errorf("no file: %v, %v", all, err)
	}
	p := measured(masters(), 10_000, 1.5)
	p.Memory = []Memory{{Master, 20, 80}}
	text, err := Encode([]Series{{ID: MastersID, Points: []Point{p}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	all, err := Read(path)
	if got := Of(all, MastersID); err != nil || len(got.Points) != 1 || got.Points[0].Figures[P50] != 1.5 || got.Points[0].Memory[0] != p.Memory[0] || got.Points[0].Version != "v1" {
		t.Errorf("%+v, %v", all, err)
	}
	if err := os.WriteFile(path, text[:20], 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a torn file: %v", err)
	}
}

// TestReplace: all but what stands between the markers stays, byte for byte, also a second time.
func TestReplace(t *testing.T) {
	head, tail := "# Title\r\n\n text \n"+Begin, End+"\ntail without an end of line"
	once, err := Replace(head+"old\n"+tail, "new\n")
	if err != nil || once != head+"\nnew\n"+tail {
		t.Errorf("%q, %v", once, err)
	}
	if again, err := Replace(once, "new\n"); err != nil || again != once {
		t.Errorf("%q, %v", again, err)
	}
	for _, bad := range []string{"", Begin, End, End + Begin, Begin + Begin + End, Begin + End + End} {
		if _, err := Replace(bad, "new"); !errors.Is(err, ErrMarkers) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestSection: a row for each size, measured or not; whose figures they are; why there are no more.
func TestSection(t *testing.T) {
	if text := Section(nil, "growth"); strings.Count(text, "Not measured yet.") != len(Subjects()) || strings.Count(text, "| not measured yet |") != len(Budgets()) || strings.Contains(text, ".svg") {
		t.Errorf("of nothing:\n%s", text)
	}
	first, later := measured(storage(), 10_000, 1234.5), measured(storage(), 100_000, 0.25)
	delete(first.Figures, Disk)
	later.Version = "v2"
	text := Section([]Series{{ID: StorageID, Note: "at 1000000: disk | full", Points: []Point{first, later}}}, "growth")
	for _, want := range []string{
		"![Storage: concepts in one shard](growth/storage.svg)\n",
		"| concepts | loaded, concepts/s | get p50, ms |",
		"\n| 10,000 | 1,235 | 1,235 | 1,235 | 1,235 | 1,235 | 1,235 | 1,235 | - |\n| 100,000 | 0.25 |",
		"\n| 1,000,000 | - | - | - | - | - | - | - | - |\n| 10,000,000 | - |",
		"\n10 k: version v1, 2026-01-01T00:00:00Z, machine.\n100 k: version v2,",
		"The last run broke off: at 1000000: disk \\| full.\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, Begin) || !strings.HasSuffix(text, "\n") {
		t.Error("a section does not fit between the markers")
	}
}

// TestBudgets: the highest of all points in the budget's series counts, one of the two is enough to fail, and other series and components do not.
func TestBudgets(t *testing.T) {
	b := Budget{Component: Master, Series: []string{AgentsID}, Heap: 200, RSS: 300}
	point := func(size int, component string, heap, rss float64) Point {
		return Point{Size: size, Memory: []Memory{{component, heap, rss}}}
	}
	for _, c := range []struct {
		name               string
		series             Series
		heap, rss, verdict string
	}{
		{"nothing", Series{ID: AgentsID}, "-", "-", "not measured yet"},
		{"another component", Series{ID: AgentsID, Points: []Point{point(1, Node, 999, 999)}}, "-", "-", "not measured yet"},
		{"another series", Series{ID: MastersID, Points: []Point{point(1, Master, 999, 999)}}, "-", "-", "not measured yet"},
		{"at the budget", Series{ID: AgentsID, Points: []Point{point(10, Master, 200, 60), point(20_000, Master, 50, 300)}}, "200 (agents, 10)", "300 (agents, 20 k)", "yes, but sizes are missing"},
		{"all sizes", Series{ID: AgentsID, Points: []Point{point(100, Master, 1, 2), point(1000, Master, 3, 4), point(10_000, Master, 5, 6)}}, "5 (agents, 10 k)", "6 (agents, 10 k)", "yes"},
		{"heap over it", Series{ID: AgentsID, Points: []Point{point(10, Master, 201, 250)}}, "201 (agents, 10)", "250 (agents, 10)", "**no**"},
		{"RSS over it", Series{ID: AgentsID, Points: []Point{point(10, Master, 20, 301)}}, "20 (agents, 10)", "301 (agents, 10)", "**no**"},
	} {
		v := b.Judge([]Series{c.series})
		if v.HighHeap.String() != c.heap || v.HighRSS.String() != c.rss || v.String() != c.verdict {
			t.Errorf("%s: %s, heap %s, RSS %s", c.name, v, v.HighHeap, v.HighRSS)
		}
	}
	// Each component has a budget for what is measured, and a reason.
	for _, component := range []string{Master, Agent, Node, Events} {
		for _, s := range Subjects() {
			if !slices.ContainsFunc(Budgets(), func(b Budget) bool {
				return b.Component == component && slices.Contains(b.Series, s.ID) && b.Why != "" && b.RSS > b.Heap
			}) {
				t.Errorf("%s has no budget in %s", component, s.ID)
			}
		}
	}
}

// elements reads an SVG as XML and counts its elements by name.
func elements(t *testing.T, svg string) map[string]int {
	t.Helper()
	count := map[string]int{}
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return count
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		if e, is := token.(xml.StartElement); is {
			count[e.Name.Local]++
			for _, a := range e.Attr {
				if strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") {
					t.Errorf("%s has %s=%q", e.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
	}
}

// TestPlots are well-formed, whatever the figures are: a mark for each of them, a line for each column of a panel, small.
func TestPlots(t *testing.T) {
	for _, s := range Subjects() {
		var points []Point
		lines := 0
		for _, p := range s.Panels {
			lines += len(p.Keys)
		}
		for i, size := range slices.Concat(s.Sizes, s.Large) {
			points = append(points, measured(s, size, 0.7*math.Pow(9, float64(i))))
		}
		count := elements(t, Plot(s, points))
		if count["circle"] != lines*len(points) || count["polyline"] != lines || count["style"] != 1 {
			t.Errorf("%s: %v", s.ID, count)
		}
		if n := len(Plot(s, points)); n > 24<<10 {
			t.Errorf("%s has %d bytes", s.ID, n)
		}
		delete(points[1].Figures, s.Panels[0].Keys[0])
		if got := elements(t, Plot(s, points)); got["circle"] != count["circle"]-1 || got["polyline"] != lines {
			t.Errorf("%s without a figure: %v", s.ID, got)
		}
	}
	odd := Subject{ID: "odd", Title: `a < b & "c"`, Axis: "<axis>", Columns: []Column{{"v", "<v>", "m&s"}}, Panels: []Panel{{"log", []string{"v"}, false}, {"linear", []string{"v"}, true}}}
	for _, points := range [][]Point{nil, {{Size: 5}}, {{Size: 5, Figures: map[string]float64{"v": 0}}}, {{Size: 0, Figures: map[string]float64{"v": 1}}, {Size: 1, Figures: map[string]float64{"v": 0}}}} {
		elements(t, Plot(odd, points))
	}
}

// TestScales: values lie between the axes' ends in their order, a zero at the lower end, and ticks are at round values.
func TestScales(t *testing.T) {
	point := func(v float64) Point { return Point{Figures: map[string]float64{"v": v}} }
	for _, c := range []struct {
		values []float64
		linear bool
		ticks  []float64
	}{
		{[]float64{0.3, 7}, false, []float64{0.1, 0.2, 0.5, 1, 2, 5, 10}},
		{[]float64{0, 3, 90_000}, false, []float64{1, 10, 100, 1000, 10_000, 100_000}},
		{[]float64{10}, false, []float64{10, 20, 50, 100}},
		{[]float64{700, 4100}, true, []float64{0, 2000, 4000, 6000}},
		{nil, true, []float64{0, 0.5, 1}},
	} {
		var points []Point
		for _, v := range c.values {
			points = append(points, point(v))
		}
		s := valuesScale(Panel{Keys: []string{"v"}, Linear: c.linear}, points)
		if len(s.ticks) != len(c.ticks) && c.values != nil {
			t.Errorf("%v: ticks %v, want %v", c.values, s.ticks, c.ticks)
			continue
		}
		last := s.at(0)
		for i, v := range c.values {
			if math.Abs(s.ticks[i]-c.ticks[i]) > 1e-9*c.ticks[i] {
				t.Errorf("%v: ticks %v, want %v", c.values, s.ticks, c.ticks)
			}
			if at := s.at(v); at < s.at1 || at > s.at0 || at > last {
				t.Errorf("%v is drawn at %v", v, at)
			} else {
				last = at
			}
		}
	}
	sizes := sizesScale([]Point{{Size: 1}, {Size: 100}, {Size: 1000}})
	if a, b, c := sizes.at(1), sizes.at(100), sizes.at(1000); math.Abs((b-a)-2*(c-b)) > 1e-6 || a >= b || len(sizes.ticks) != 3 {
		t.Errorf("%v, %v, %v", a, b, c)
	}
}
