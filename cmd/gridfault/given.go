package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/episode"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/given"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/workload"
)

// givenLength is the load of a run on a grid that was given, unless something else is said.
const givenLength = time.Minute

// givenFlags are those for a grid that was given.
func givenFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "grid", Usage: "run on a grid of yours: the grid addresses of all its masters, `HOST:PORT,…`"},
		&cli.StringFlag{Name: "hook", Usage: "with --grid: the `PROGRAM` that makes the faults of -f hook:NAME,outage:NAME, called with begin NAME and end NAME (default: no faults but yours)"},
		&cli.BoolFlag{Name: "disruptive", Usage: "with --grid: W2, W8 and W10 too, which do more than write data of their own, or are for a grid that changes"},
	}
}

// ofStarted are the flags that only a grid which is started for the run can obey.
var ofStarted = []string{"profile", "mutation", "control", "pairs", "point", "masters", "replicas", "programs", "require"}

// boundGiven reads the flags for a grid that was given.
func (s *suite) boundGiven(c *cli.Context) error {
	if len(words(c, "grid")) == 0 {
		return errors.New("grid: rig g, --hook and --disruptive are for a grid of yours; name its masters with --grid HOST:PORT,…")
	}
	if c.IsSet("rig") && c.String("rig") != episode.RigGiven {
		return fmt.Errorf("rig %q: --grid is rig g", c.String("rig"))
	}
	for _, name := range ofStarted {
		if c.IsSet(name) {
			return fmt.Errorf("%s: --%s is for grids that are started for the run", episode.RigGiven, name)
		}
	}
	b := &s.bounds
	b.Rig, b.Length, b.Kinds = episode.RigGiven, cmp.Or(c.Duration("length"), givenLength), nil
	b.Given = &episode.Given{Masters: words(c, "grid"), Disruptive: c.Bool("disruptive")}
	if hook := c.String("hook"); hook != "" {
		var err error
		if b.Given.Hook, err = filepath.Abs(hook); err != nil {
			return err
		}
	}
	for _, name := range words(c, "fault") {
		f, err := episode.ParseHook(name)
		if err != nil {
			return err
		}
		b.Hooks = append(b.Hooks, f)
	}
	if (b.Given.Hook == "") != (len(b.Hooks) == 0) {
		return errors.New("hook: --hook PROGRAM and the names of its faults, -f hook:NAME,outage:NAME, belong together")
	}
	cfg := configOf(b.Given)
	if err := cfg.Validate(); err != nil {
		return err
	}
	return s.chooseGiven()
}

// chooseGiven checks the workloads that were named, or takes all that do no harm; then a plan can be drawn.
func (s *suite) chooseGiven() error {
	b := &s.bounds
	for _, id := range b.Workloads {
		spec, err := workload.Lookup(id)
		if err == nil {
			err = b.Given.Permits(spec)
		}
		if err != nil {
			return err
		}
	}
	if len(b.Workloads) == 0 {
		for _, spec := range workload.Workloads() {
			if b.Given.Permits(spec) == nil {
				b.Workloads = append(b.Workloads, spec.ID)
			}
		}
	}
	_, err := episode.Draw(s.seed, *b)
	return err
}

func configOf(g *episode.Given) given.Config {
	return given.Config{Masters: g.Masters, Hook: g.Hook}
}

// look leaves out, of workloads that nobody named, those that the grid has nothing for.
func (s *suite) look(ctx context.Context) error {
	g, err := given.Open(ctx, configOf(s.bounds.Given))
	if err != nil {
		return err
	}
	s.bounds.Workloads = slices.DeleteFunc(s.bounds.Workloads, func(id string) bool { return suits(g, id) != nil })
	return g.Close()
}

// suits is nil for a workload that finds on a grid what it reads.
func suits(g *given.Grid, id string) error {
	spec, err := workload.Lookup(id)
	if err != nil {
		return err
	}
	if spec.Events && g.Layout().Events == "" {
		return fmt.Errorf("workload %s reads event storage, and there is none that answers here: %w", id, rig.ErrUnsupported)
	}
	return nil
}

// real runs one plan on real processes, ours or those of a grid that was given.
func (s *suite) real(ctx context.Context, p episode.Plan) (v *episode.Verdict, dir string, err error) {
	if p.Given == nil {
		return s.process(ctx, p)
	}
	cfg := configOf(p.Given)
	if err := cfg.Validate(); err != nil { // of a plan that is replayed
		return nil, "", usageError{err}
	}
	g, err := given.Open(ctx, cfg)
	if err != nil {
		return nil, "", err
	}
	v, dir, err = s.onGiven(ctx, g, p)
	return v, dir, errors.Join(err, g.Close())
}

func (s *suite) onGiven(ctx context.Context, g *given.Grid, p episode.Plan) (v *episode.Verdict, dir string, err error) {
	l := g.Layout()
	p.Masters, p.Shards, p.Replicas = len(l.Masters), l.Shards, l.Replicas
	for _, id := range p.Workloads {
		if err := suits(g, id); err != nil {
			return nil, "", err
		}
	}
	if dir, err = s.place(p); err != nil {
		return nil, "", err
	}
	v, err = episode.RunAnnounced(ctx, g, p, dir, func(wrote []string) { fmt.Fprintln(s.out, announcement(g, &p, wrote)) })
	if err != nil {
		return nil, dir, fmt.Errorf("seed %d: %w; its histories are in %s", p.Seed, err, dir)
	}
	return v, dir, nil
}

// announcement says what is about to happen, to which grid.
func announcement(g *given.Grid, p *episode.Plan, wrote []string) string {
	faults := "none but yours"
	if len(p.Faults) > 0 {
		var names []string
		for _, f := range p.Faults {
			names = append(names, f.Name())
		}
		slices.Sort(names)
		faults = fmt.Sprintf("%d of %s, by %s", len(names), strings.Join(slices.Compact(names), ", "), p.Given.Hook)
	}
	text := fmt.Sprintf("%s; load: %s of %d clients, %g requests a second for %s, leaves %s there; faults: %s", g, strings.Join(p.Workloads, "+"),
		p.Clients, p.Rate, p.Length().Round(time.Second), strings.Join(wrote, ", "), faults)
	if out := g.Layout().Given.LeftOut; len(out) > 0 {
		text += "; not judged: " + strings.Join(out, "; ")
	}
	return text
}
