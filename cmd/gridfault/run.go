package main

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/episode"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/workload"
)

// Defaults of a run.
const (
	simLength     = 20 * time.Second
	processLength = 20 * time.Second
	defaultOut    = "gridfault-out"
)

// rigFlags are those of every command that starts a grid.
func rigFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "programs", Usage: "rig P: `DIR` with gridmaster, gridagent and gridnode (default: where gridfault is)"},
		&cli.StringSliceFlag{Name: "require", Usage: "rig P: fail unless the machine permits `netns,mount,nft,clock,cgroup`; without it, faults that need more than there is are left out, and that is said"},
		&cli.StringFlag{Name: "out", Value: defaultOut, Usage: "`DIR` for the runs; what was valid is removed again"},
		&cli.BoolFlag{Name: "keep", Usage: "keep valid runs too"},
		&cli.IntFlag{Name: "parallel", Value: 2, Usage: "rig S: so many `N` at once"},
	}
}

func runCommand() *cli.Command {
	return &cli.Command{
		Name: "run", Usage: "run workloads under faults", Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "rig", Value: episode.RigSim, Usage: "`s`: virtual time; p: real processes; g: a grid of yours (--grid)"},
			&cli.StringSliceFlag{Name: "workload", Aliases: []string{"w"}, Usage: "`W3,W4`: each run has one of these (default: any)"},
			&cli.StringSliceFlag{Name: "fault", Aliases: []string{"f"}, Usage: "kinds or families, `kill,partition.ring` (default: any)"},
			&cli.Uint64Flag{Name: "seed", Usage: "the first seed (default: a random one, which is said)"},
			&cli.IntFlag{Name: "seeds", Value: 1, Usage: "so many runs `N`, the seeds counting up"},
			&cli.DurationFlag{Name: "for", Usage: "as many runs as fit into `TIME`, in place of --seeds"},
			&cli.DurationFlag{Name: "length", Usage: "of the load of each run (default 20s)"},
			&cli.IntFlag{Name: "clients", Usage: "of each workload (default 10)"},
			&cli.Float64Flag{Name: "rate", Usage: "requests a second of all clients (default: what two cores carry)"},
			&cli.DurationFlag{Name: "hold", Usage: "that a fault lasts at least, and at most 3.5 s more (default 500ms)"},
			&cli.IntFlag{Name: "masters", Usage: "1, 3 or 5 (default: 3, in rig S sometimes 5)"},
			&cli.IntFlag{Name: "replicas", Usage: "of each shard: 1 or 3 (default: drawn)"},
			&cli.BoolFlag{Name: "pairs", Usage: "one run for each pair of a workload and a family of faults"},
			&cli.StringFlag{Name: "mutation", Usage: "break the product on purpose, and run until that is `caught`; all: each of them; next N: by rotation"},
			&cli.BoolFlag{Name: "control", Usage: "with --mutation: the same runs of the product as it is, which must show nothing of it"},
			&cli.StringFlag{Name: "point", Usage: "let a labelled point fail, `LABEL:ACTION`, as the only fault"},
			&cli.StringFlag{Name: "profile", Usage: "`fast`, night or soak: what make faults, faults-night and faults-soak run"},
			&cli.DurationFlag{Name: "soak", Value: time.Hour, Usage: "how long the soak profile runs"},
		}, append(rigFlags(), givenFlags()...)...),
		Action: runAction,
	}
}

func runAction(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("run takes no arguments, %q", c.Args().First())
	}
	s, err := newSuite(c)
	if err != nil {
		return err
	}
	if s.bounds.Given != nil && !c.IsSet("workload") {
		if err := s.look(c.Context); err != nil {
			return err
		}
	}
	if c.IsSet("profile") {
		return s.profile(c.Context, c.String("profile"), c.Duration("soak"))
	}
	if c.IsSet("mutation") {
		return s.mutations(c.Context, s.bounds, c.String("mutation"))
	}
	if c.Bool("pairs") {
		return s.pairs(c.Context, s.bounds)
	}
	if d := c.Duration("for"); d > 0 {
		until := time.Now().Add(d)
		return s.span(c.Context, s.bounds, func() bool { return time.Now().Before(until) })
	}
	plans, err := s.draws(c.Int("seeds"), s.bounds)
	if err != nil {
		return err
	}
	return s.all(c.Context, plans)
}

// newSuite reads the flags that there are on c.
func newSuite(c *cli.Context) (*suite, error) {
	s := &suite{out: &shared{w: c.App.Writer}, errw: c.App.ErrWriter, dir: c.String("out"), keep: c.Bool("keep"), parallel: max(c.Int("parallel"), 1), programs: c.String("programs"), seed: c.Uint64("seed"), control: c.Bool("control")}
	for _, name := range words(c, "require") {
		s.require = append(s.require, rig.Need(name))
	}
	if !c.IsSet("seed") {
		var b [8]byte
		rand.Read(b[:])
		s.seed = binary.LittleEndian.Uint64(b[:]) >> 24
	}
	if err := s.bound(c); err != nil {
		return nil, usageError{err}
	}
	if s.programs == "" {
		exe, err := os.Executable()
		if err != nil {
			return nil, err
		}
		s.programs = filepath.Dir(exe)
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return nil, fmt.Errorf("the directory for the runs: %w", err)
	}
	return s, nil
}

// bound reads the flags that say what plans are drawn from.
func (s *suite) bound(c *cli.Context) error {
	s.bounds = episode.Bounds{Rig: cmp.Or(c.String("rig"), episode.RigSim), Workloads: words(c, "workload"), Kinds: words(c, "fault"),
		Length: cmp.Or(c.Duration("length"), simLength), Masters: c.Int("masters"), Replicas: c.Int("replicas"),
		Clients: c.Int("clients"), Rate: c.Float64("rate"), Hold: c.Duration("hold")}
	if s.bounds.Clients < 0 || s.bounds.Rate < 0 || s.bounds.Hold < 0 {
		return errors.New("clients, rate and hold: want numbers above zero")
	}
	if s.bounds.Rig == episode.RigGiven || c.IsSet("grid") || c.IsSet("hook") || c.IsSet("disruptive") {
		return s.boundGiven(c)
	}
	if s.bounds.Rig != episode.RigSim && s.bounds.Rig != episode.RigProcesses {
		return fmt.Errorf("rig %q: there are s, p and g", s.bounds.Rig)
	}
	for _, id := range s.bounds.Workloads {
		if _, err := workload.Lookup(id); err != nil {
			return err
		}
	}
	if _, err := episode.Match(s.bounds.Kinds); err != nil {
		return err
	}
	if p := c.String("point"); p != "" {
		if !strings.Contains(p, ":") {
			return fmt.Errorf("point %q: want LABEL:ACTION", p)
		}
		s.bounds.Kinds, s.bounds.Point = []string{string(rig.KindPoint)}, p
	}
	return nil
}

// words are all that a flag has, which may be given more than once.
func words(c *cli.Context, flag string) []string { return list(strings.Join(c.StringSlice(flag), ",")) }

// list splits a flag's words.
func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}
