package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/episode"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/processes"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/report"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/sim"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/workload"
)

// suite runs plans and tells of them.
type suite struct {
	out, errw io.Writer
	dir       string
	keep      bool
	parallel  int
	programs  string
	require   []rig.Need
	seed      uint64
	bounds    episode.Bounds
	able      func(rig.Kind) bool // in rig P, once it is known
	before    *episode.Verdict    // of the run that is replayed; nil: none is
	control   bool                // mutations are not made: what shows them must not be seen
	yields    bool                // rig S: whatever else runs on the machine comes first

	mu  sync.Mutex // guards out
	bad int        // guarded by mu
	ran int        // guarded by mu
}

// draw is the plan of a seed within bounds.
func (s *suite) draw(seed uint64, b episode.Bounds) (episode.Plan, error) {
	if b.Rig == episode.RigSim {
		b.Able = sim.Able
	}
	if b.Rig == episode.RigProcesses {
		if s.able == nil {
			s.able = processes.Able(s.processes(episode.Plan{}, ""))
		}
		b.Able = s.able
	}
	return episode.Draw(seed, b)
}

// draws is the plans of so many seeds.
func (s *suite) draws(n int, b episode.Bounds) ([]episode.Plan, error) {
	plans := make([]episode.Plan, 0, n)
	for i := range n {
		p, err := s.draw(s.seed+uint64(i), b)
		if err != nil {
			return nil, err
		}
		plans = append(plans, p)
	}
	return plans, nil
}

// all runs plans, those of rig S several at once, and fails when one is not valid.
func (s *suite) all(ctx context.Context, plans []episode.Plan) error {
	var sims []episode.Plan
	for _, p := range plans {
		if p.Rig == episode.RigSim {
			sims = append(sims, p)
		}
	}
	each := func(dir string, v *episode.Verdict) (bool, error) { return false, s.tell(dir, v) }
	if err := s.simulate(ctx, sims, each); err != nil {
		return err
	}
	for _, p := range plans {
		if p.Rig == episode.RigSim {
			continue
		}
		v, dir, err := s.real(ctx, p)
		if errors.Is(err, errBroken) && ctx.Err() == nil {
			s.broke(err)
			continue
		}
		if err != nil {
			return err
		}
		if err := s.tell(dir, v); err != nil {
			return err
		}
	}
	return s.end()
}

// errBroken is a run on real processes that nobody can judge: something of the rig itself failed. Those behind it go on.
var errBroken = errors.New("broken off")

// broke counts a run that was broken off as one that is not valid.
func (s *suite) broke(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ran++
	s.bad++
	fmt.Fprintln(s.out, err)
}

// span runs seeds, one batch at least, for as long as there is to be more.
func (s *suite) span(ctx context.Context, b episode.Bounds, more func() bool) error {
	for seed, first := s.seed, true; (first || more()) && ctx.Err() == nil; first = false {
		var plans []episode.Plan
		for range s.batch(b.Rig) {
			p, err := s.draw(seed, b)
			if err != nil {
				return err
			}
			plans = append(plans, p)
			seed++
		}
		if err := s.all(ctx, plans); err != nil && !errors.Is(err, errInvalid) {
			return err
		}
	}
	return s.end()
}

// batch is how many plans are begun together.
func (s *suite) batch(rig string) int {
	if rig != episode.RigSim {
		return 1
	}
	return 4 * s.parallel
}

// pairs runs each workload under each family of faults.
func (s *suite) pairs(ctx context.Context, b episode.Bounds) error {
	workloads := b.Workloads
	if len(workloads) == 0 {
		for _, spec := range workload.Workloads() {
			workloads = append(workloads, spec.ID)
		}
	}
	families := b.Kinds
	if len(families) == 0 {
		families = episode.Families()
	}
	seed, left := s.seed, []string(nil)
	for _, id := range workloads {
		for _, family := range families {
			one := b
			one.Workloads, one.Kinds = []string{id}, []string{family}
			p, err := s.draw(seed, one)
			if errors.Is(err, rig.ErrUnsupported) {
				left = append(left, id+" under "+family)
				continue
			}
			if err != nil {
				return err
			}
			seed++
			if err := s.all(ctx, []episode.Plan{p}); err != nil && !errors.Is(err, errInvalid) {
				return err
			}
		}
	}
	if len(left) > 0 {
		fmt.Fprintf(s.out, "left out, this machine cannot do it: %s\n", strings.Join(left, ", "))
	}
	return s.end()
}

// process runs one plan on real processes.
func (s *suite) process(ctx context.Context, p episode.Plan) (v *episode.Verdict, dir string, err error) {
	if dir, err = s.place(p); err != nil {
		return nil, "", err
	}
	g, err := processes.Open(ctx, s.processes(p, dir))
	if err != nil {
		return nil, dir, fmt.Errorf("start the grid: %w", err)
	}
	v, err = episode.Run(ctx, g, p, dir)
	err = errors.Join(err, g.Close())
	if err != nil {
		return nil, dir, fmt.Errorf("seed %d, rig p: %w: %w; its logs are in %s", p.Seed, errBroken, err, dir)
	}
	return v, dir, nil
}

// processes is how a plan's grid is started.
func (s *suite) processes(p episode.Plan, dir string) processes.Config {
	cfg := processes.DefaultConfig()
	cfg.Programs, cfg.Dir, cfg.Require = s.programs, filepath.Join(dir, "grid"), s.require
	cfg.Masters, cfg.Shards, cfg.Replicas = p.Masters, p.Shards, p.Replicas
	cfg.Log = slog.New(slog.NewTextHandler(s.errw, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if p.Mutation != "" {
		cfg.Env = []string{"GRID_MUTATION=" + p.Mutation}
	}
	return cfg
}

// place is an empty directory for a run.
func (s *suite) place(p episode.Plan) (string, error) {
	name := fmt.Sprintf("%s-%d-%s", p.Rig, p.Seed, strings.Join(p.Workloads, "-"))
	if broken := p.Mutation + string(p.Harness); broken != "" {
		name += "-" + broken
	}
	return s.empty(name)
}

// empty makes an empty directory.
func (s *suite) empty(name string) (string, error) {
	dir, err := filepath.Abs(filepath.Join(s.dir, name))
	if err != nil {
		return "", err
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// tell says and stores what a run has shown, or removes it.
func (s *suite) tell(dir string, v *episode.Verdict) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ran++
	if v.Again == "" {
		v.Again = again(v) + filepath.Join(filepath.Base(s.dir), filepath.Base(dir))
	}
	if s.before != nil {
		defer fmt.Fprintf(s.out, "  %s\n", compare(s.before, v))
	}
	if v.Valid && !s.keep {
		fmt.Fprintln(s.out, report.Line(v))
		return os.RemoveAll(dir)
	}
	if !v.Valid {
		s.bad++
	}
	if err := report.Write(dir, v); err != nil {
		return err
	}
	return show(s.out, dir, v)
}

// caveat is what a repetition of a run does not repeat.
func caveat(v *episode.Verdict) string {
	if v.Plan.Rig != episode.RigSim || v.Repeats {
		return ""
	}
	return " (the plan, not the interleaving: only what `make gridfault-replay` builds repeats that)"
}

// again is the command that runs a plan once more, but for the directory: by the program that repeats runs, if this is it.
func again(v *episode.Verdict) string {
	if v.Repeats {
		return "gridfault-replay replay "
	}
	return "gridfault replay "
}

// drop removes a run that has said what it had to say.
func (s *suite) drop(dir string) error { return os.RemoveAll(dir) }

// end sums up, and fails when a run was not valid.
func (s *suite) end() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bad == 0 {
		return nil
	}
	return errInvalid
}

// show says what a stored run has shown, and makes its page.
func show(out io.Writer, dir string, v *episode.Verdict) error {
	page, err := report.Page(v)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, report.PageFile), page, 0o644); err != nil {
		return err
	}
	fmt.Fprintln(out, report.Line(v))
	for _, f := range v.Findings {
		fmt.Fprintf(out, "  %s %s: %s\n", f.Rule, f.What, strings.ReplaceAll(f.Text, "\n", "\n    "))
	}
	fmt.Fprintf(out, "  %s\n", filepath.Join(dir, report.PageFile))
	if !v.Valid {
		fmt.Fprintf(out, "  again: %s%s\n", v.Again, caveat(v))
	}
	return nil
}

// shared is a writer of several at once.
type shared struct {
	mu sync.Mutex
	w  io.Writer // guarded by mu
}

// Write implements io.Writer.
func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}
