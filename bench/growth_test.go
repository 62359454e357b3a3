package main

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/bench/growth"
	"github.com/sutra-grid/sutra-grid/bench/report"
)

// TestEverySeriesIsMeasured: each subject by one function, and no other.
func TestEverySeriesIsMeasured(t *testing.T) {
	subjects := growth.Subjects()
	for _, s := range subjects {
		if growthSeries()[s.ID] == nil {
			t.Errorf("nothing measures %s", s.ID)
		}
	}
	if n := len(growthSeries()); n != len(subjects) {
		t.Errorf("%d series, %d subjects", n, len(subjects))
	}
	if remembered := growth.Subjects()[0]; remembered.ID != growth.MastersID || !slices.Equal(remembered.Sizes, sizes[:]) {
		t.Errorf("P15 and its series have other sizes: %v, %v", sizes, remembered.Sizes)
	}
}

// TestGrowthFlags: what is no series is refused, and sizes are the subject's unless others are given.
func TestGrowthFlags(t *testing.T) {
	if ids, err := seriesOf([]string{"shards", " agents"}); err != nil || !slices.Equal(ids, []string{"shards", "agents"}) {
		t.Errorf("%v, %v", ids, err)
	}
	if _, err := seriesOf([]string{"P15"}); err == nil {
		t.Error("P15 is taken for a series")
	}
	for _, bad := range []string{"storage", "storage=", "storage=0", "storage=x", "nothing=5"} {
		if _, err := sizesOf([]string{bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	given, err := sizesOf([]string{"storage=500", "storage=20", "storage=500"})
	if err != nil {
		t.Fatal(err)
	}
	o := growthOptions{given: given}
	if got := o.sizes(growth.StorageID); !slices.Equal(got, []int{20, 500}) {
		t.Errorf("%v", got)
	}
	o = growthOptions{}
	if got := o.sizes(growth.StorageID); len(got) != 3 {
		t.Errorf("%v", got)
	}
	o.large = true
	if got := o.sizes(growth.StorageID); len(got) != 4 || got[3] != 10_000_000 {
		t.Errorf("%v", got)
	}
}

// emptyRepository has a document with markers, and nothing else.
func emptyRepository(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"docs", "bench"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, growthDocument), []byte("before\n"+growth.Begin+"\nold\n"+growth.End+"\nafter\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestGrowthIsWritten behind each point: the figures, the section, a plot of what has points; and drawing them again changes nothing.
func TestGrowthIsWritten(t *testing.T) {
	dir := emptyRepository(t)
	g := &grower{bench: &bench{errw: io.Discard, base: report.Row{Version: "v1"}}, want: growthOptions{repository: dir}, fresh: growth.Series{ID: growth.ShardsID}}
	for _, size := range []int{1, 4} {
		p := g.point(size, footprints{{component: growth.Node, low: 90, high: 110, rss: 300, peak: 400}}, growth.Node)
		p.Set("put_per_second", 1000)
		if err := g.add(p); err != nil {
			t.Fatal(err)
		}
	}
	read := func() (all [3]string) {
		for i, name := range []string{growthFigures, growthDocument, "docs/growth/shards.svg"} {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			all[i] = string(text)
		}
		return all
	}
	written := read()
	if doc := written[1]; !strings.HasPrefix(doc, "before\n"+growth.Begin) || !strings.HasSuffix(doc, growth.End+"\nafter\n") || strings.Contains(doc, "old") ||
		!strings.Contains(doc, "\n| 1 | 1,000 | - | - | - | 90 | 300 | - |\n| 4 | 1,000 |") || !strings.Contains(doc, "| 110 (shards, 1) | 556 | 400 (shards, 1) | yes, but sizes are missing |") {
		t.Errorf("%s", doc)
	}
	if plots, err := os.ReadDir(filepath.Join(dir, "docs/growth")); err != nil || len(plots) != 1 {
		t.Errorf("%v, %v", plots, err)
	}
	if err := grow(t.Context(), growthOptions{repository: dir, draw: true}, io.Discard); err != nil {
		t.Fatal(err)
	}
	if again := read(); again != written {
		t.Errorf("drawn again:\n%s\nwant\n%s", again, written)
	}
	if err := os.WriteFile(filepath.Join(dir, growthDocument), []byte("no markers"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := grow(t.Context(), growthOptions{repository: dir}, io.Discard); !errors.Is(err, growth.ErrMarkers) {
		t.Errorf("without markers: %v", err)
	}
}

// TestTheReportIsOfTheFigures: docs/performance.md shows what bench/GROWTH.json has, in the words of this version. If not: bin/gridbench growth --draw.
func TestTheReportIsOfTheFigures(t *testing.T) {
	all, err := growth.Read(filepath.Join("..", growthFigures))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join("..", growthDocument))
	if err != nil {
		t.Fatal(err)
	}
	if fresh, err := growth.Replace(string(text), growth.Section(all, growthPlots)); err != nil || fresh != string(text) {
		t.Errorf("%s does not show %s: run gridbench growth --draw (%v)", growthDocument, growthFigures, err)
	}
}

// TestFootprints: this process has a memory, one that ended has an error, and the fullest of a component counts.
func TestFootprints(t *testing.T) {
	f := footprint{component: growth.Agent, pid: os.Getpid()}
	if err := f.sample(t.Context(), true); err != nil || f.low <= 0 || f.low != f.high || f.rss < f.low || f.peak < f.rss {
		t.Errorf("%+v, %v", f, err)
	}
	if err := (&footprint{pid: math.MaxInt32}).sample(t.Context(), true); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of no process: %v", err)
	}
	if _, err := parseStatus("Name:\tzombie\nState:\tZ (zombie)\n"); err == nil {
		t.Error("a process that has ended has a memory")
	}
	fs := footprints{{component: growth.Node, low: 1, high: 9, rss: 5, peak: 6}, {component: growth.Node, low: 2, high: 3, rss: 4, peak: 8}, {component: growth.Master, low: 50, rss: 60, peak: 70, high: 51}}
	if fs.lowest(growth.Node) != 2 || fs.resident(growth.Node) != 5 {
		t.Errorf("%v, %v", fs.lowest(growth.Node), fs.resident(growth.Node))
	}
	if got, want := fs.memory(), []growth.Memory{{Component: growth.Master, Heap: 51, RSS: 70}, {Component: growth.Node, Heap: 9, RSS: 8}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestLags: from the writer's answer to the arrival; none ahead of it, none of a warm-up, none of what others wrote.
func TestLags(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(1000, int64(ms)*1e6) }
	answered := map[uint64]time.Time{1: at(5), 2: at(10), 3: at(20)}
	heard := [][]arrival{{{1, at(9)}, {2, at(13)}, {3, at(19)}}, {{2, at(11)}, {3, at(29)}, {4, at(30)}}}
	if got := lagsOf(heard, answered, at(10)); !slices.Equal(got, []float64{0, 1, 3, 9}) {
		t.Errorf("%v", got)
	}
	ascending := []float64{1, 2, 3, 4, 5}
	if quantile(ascending, 0.5) != 3 || quantile(ascending, 1) != 5 || quantile(ascending, 0.99) != 4 || !math.IsNaN(quantile(nil, 0.5)) {
		t.Error("quantiles")
	}
}

// TestPutTime: puts make a shard larger by a tenth at most, but for the smallest.
func TestPutTime(t *testing.T) {
	for _, c := range []struct {
		size int
		want time.Duration
	}{{1000, 300 * time.Millisecond}, {30_000, time.Second}, {1_000_000, 10 * time.Second}} {
		if got := putTime(c.size, 3, 10*time.Second); got != c.want {
			t.Errorf("%d: %s, want %s", c.size, got, c.want)
		}
	}
}

// TestAudienceThatCannotWatch ends with the reason, and leaves nobody behind.
func TestAudienceThatCannotWatch(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the grid has ended")
	time.AfterFunc(50*time.Millisecond, func() { cancel(gone) })
	if _, err := gather(ctx, []string{"127.0.0.1:1"}, 3); !errors.Is(err, gone) {
		t.Errorf("%v", err)
	}
}
