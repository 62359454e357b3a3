package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/bench/growth"
)

// Where the outcome is, in the repository.
const (
	growthFigures  = "bench/GROWTH.json"
	growthDocument = "docs/performance.md"
	growthPlots    = "growth" // beside the document
)

// What the servers of a run write before it is deleted, with room to spare.
const (
	growthRoom = 8 << 30
	largeRoom  = 30 << 30
)

// growthOptions say what grows how far.
type growthOptions struct {
	options
	repository string
	series     []string         // ids; all of them if there is none
	given      map[string][]int // sizes of a series, instead of its own
	large      bool             // sizes that take long, too
	draw       bool             // measure nothing
}

// grower is one run of the series.
type grower struct {
	*bench
	want  growthOptions
	all   []growth.Series // as in GROWTH.json
	fresh growth.Series   // what this run has measured of the series that is its turn
}

// growthSeries are what measures each subject.
func growthSeries() map[string]func(ctx context.Context, g *grower) error {
	return map[string]func(ctx context.Context, g *grower) error{growth.MastersID: growMasters, growth.StorageID: growStorage, growth.ShardsID: growShards,
		growth.WatchersID: growWatchers, growth.AgentsID: growAgents}
}

func growthCommand(stderr io.Writer) *cli.Command {
	return &cli.Command{
		Name: "growth", Usage: "measure latency, throughput, memory and disk as what a grid holds grows; into " + growthFigures + ", " + growthDocument + " and docs/growth/*.svg",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "bin", Value: "bin", Usage: "`DIR` of gridctl, gridmaster, gridagent and gridnode"},
			&cli.StringFlag{Name: "repository", Value: ".", Usage: "`DIR` whose " + growthFigures + " and docs are written; what is not measured keeps what stands there"},
			&cli.StringFlag{Name: "temp", Value: os.TempDir(), Usage: "`DIR` for the servers' data, which is deleted; 8 GB must be free, 30 GB with --large"},
			&cli.StringSliceFlag{Name: "only", Usage: "measure only these series: `masters,storage,shards,watchers,agents`"},
			&cli.BoolFlag{Name: "large", Usage: "measure 10 million concepts in one shard, too"},
			&cli.BoolFlag{Name: "draw", Usage: "measure nothing: make tables and plots of the figures that are there"},
			&cli.StringSliceFlag{Name: "sizes", Usage: "`storage=1000,storage=5000`: other sizes of a series, for a short try; --repository keeps them out of the report"},
			&cli.IntFlag{Name: "rounds", Value: 3, Usage: "of each figure, of which the median counts"},
			&cli.DurationFlag{Name: "duration", Value: 30 * time.Second, Usage: "of a round of heartbeats; other rounds take a third of it"},
			&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "of what the load draws"},
		},
		Action: func(c *cli.Context) error {
			o, err := growthOptionsOf(c)
			if err != nil {
				return err
			}
			return grow(c.Context, o, stderr)
		},
	}
}

// growthOptionsOf completes and checks what was asked for.
func growthOptionsOf(c *cli.Context) (o growthOptions, err error) {
	o = growthOptions{repository: c.String("repository"), large: c.Bool("large"), draw: c.Bool("draw"), options: options{bin: c.String("bin"), temp: c.String("temp"),
		data: filepath.Join(c.String("repository"), "testdata"), rounds: c.Int("rounds"), duration: c.Duration("duration"), seed: c.Uint64("seed")}}
	if o.rounds < 1 || o.duration < time.Second {
		return o, fmt.Errorf("--rounds %d --duration %s: want at least 1 and 1s", o.rounds, o.duration)
	}
	if o.series, err = seriesOf(c.StringSlice("only")); err != nil {
		return o, err
	}
	if o.given, err = sizesOf(c.StringSlice("sizes")); err != nil {
		return o, err
	}
	if o.repository, err = filepath.Abs(o.repository); err != nil || o.draw {
		return o, err
	}
	err = o.places()
	return o, err
}

// seriesOf are the ids of --only.
func seriesOf(flags []string) (ids []string, err error) {
	for _, id := range flags {
		id = strings.TrimSpace(id)
		if _, is := growthSeries()[id]; !is {
			return nil, fmt.Errorf("--only %s: the series are masters, storage, shards, watchers and agents", id)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// sizesOf are the sizes of --sizes, ascending.
func sizesOf(flags []string) (map[string][]int, error) {
	given := map[string][]int{}
	for _, text := range flags {
		id, number, _ := strings.Cut(strings.TrimSpace(text), "=")
		n, err := strconv.Atoi(number)
		if _, is := growthSeries()[id]; !is || err != nil || n < 1 {
			return nil, fmt.Errorf("--sizes %s: want a series and a size, like storage=5000", text)
		}
		given[id] = append(given[id], n)
	}
	for _, sizes := range given {
		slices.Sort(sizes)
	}
	return given, nil
}

// sizes are those that a series is measured at.
func (o *growthOptions) sizes(id string) []int {
	if given := o.given[id]; len(given) > 0 {
		return slices.Compact(slices.Clone(given))
	}
	for _, s := range growth.Subjects() {
		if s.ID == id && o.large {
			return slices.Concat(s.Sizes, s.Large)
		} else if s.ID == id {
			return s.Sizes
		}
	}
	return nil
}

// grow measures the series that are wanted. What is measured is written behind each point, so that an end in the middle loses nothing; a
// series that fails does not keep the others.
func grow(ctx context.Context, o growthOptions, errw io.Writer) (err error) {
	g := &grower{bench: &bench{options: o.options, errw: errw}, want: o}
	if g.all, err = growth.Read(filepath.Join(o.repository, growthFigures)); err != nil {
		return err
	}
	if err := g.write(); err != nil || o.draw { // before anything is measured: there may be no markers
		return err
	}
	room := uint64(growthRoom)
	if o.large {
		room = largeRoom
	}
	if err := roomFor(o.temp, room); err != nil {
		return err
	}
	if g.dir, err = os.MkdirTemp(o.temp, "gridbench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(g.dir)) }()
	if g.base, err = g.identity(ctx); err != nil {
		return err
	}
	g.say("%s on %s; rounds %d, duration %s, seed %d", g.base.Version, g.base.Machine, o.rounds, o.duration, o.seed)
	var failed []error
	for _, s := range growth.Subjects() {
		if len(o.series) > 0 && !slices.Contains(o.series, s.ID) {
			continue
		}
		g.fresh = growth.Series{ID: s.ID}
		err := growthSeries()[s.ID](ctx, g)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			g.say("%s: %v", s.ID, err)
			g.fresh.Note = err.Error()
			failed = append(failed, fmt.Errorf("%s: %w", s.ID, err), g.write())
		}
	}
	return errors.Join(failed...)
}

// point begins one, with the memory of all components, and as figures that of the one that grows.
func (g *grower) point(size int, seen footprints, grows string) growth.Point {
	p := growth.Point{Size: size, Memory: seen.memory(), Version: g.base.Version, Date: g.base.Date, Machine: g.base.Machine}
	p.Set(growth.Heap, seen.lowest(grows))
	p.Set(growth.RSS, seen.resident(grows))
	return p
}

// add puts a point into the report.
func (g *grower) add(p growth.Point) error {
	var line strings.Builder
	for _, s := range growth.Subjects() {
		for _, c := range s.Columns {
			if v, ok := p.Figures[c.Key]; ok && s.ID == g.fresh.ID {
				fmt.Fprintf(&line, "; %s %.4g %s", c.Title, v, c.Unit)
			}
		}
	}
	g.say("%s, %d%s", g.fresh.ID, p.Size, &line)
	g.fresh.Points = append(g.fresh.Points, p)
	return g.write()
}

// write makes the figures' file, the document's section and the plots, all from the figures.
func (g *grower) write() error {
	g.all = growth.Merge(growth.Subjects(), g.all, g.fresh)
	text, err := growth.Encode(g.all)
	if err != nil {
		return err
	}
	document := filepath.Join(g.want.repository, growthDocument)
	old, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	fresh, err := growth.Replace(string(old), growth.Section(g.all, growthPlots))
	if err != nil {
		return fmt.Errorf("%s: %w", document, err)
	}
	plots := filepath.Join(filepath.Dir(document), growthPlots)
	if err := os.MkdirAll(plots, 0o755); err != nil {
		return err
	}
	files := map[string]string{document: fresh, filepath.Join(g.want.repository, growthFigures): string(text)}
	for _, s := range growth.Subjects() {
		if points := growth.Of(g.all, s.ID).Points; len(points) > 0 {
			files[filepath.Join(plots, s.ID+".svg")] = growth.Plot(s, points)
		}
	}
	for path, content := range files {
		err = errors.Join(err, os.WriteFile(path, []byte(content), 0o644))
	}
	return err
}
