package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/bench/servers"
)

// options say what to measure, and how long.
type options struct {
	bin      string        // of the grid's programs
	out      string        // where RESULTS.md and RESULTS.json are
	temp     string        // where servers keep their data
	data     string        // of the repository: WordNet
	only     []string      // ids of rows
	rounds   int           // of each row, at least 1
	duration time.Duration // of one run of P1; others are a part of it
	events   int           // that P10 asks among, at least 1
	seed     uint64
	quick    bool
}

func run(ctx context.Context, args []string, stderr io.Writer) int {
	app := &cli.App{
		Name: "gridbench", Usage: "measure a grid of real processes beside etcd and PostgreSQL", HideVersion: true, ErrWriter: stderr, Writer: stderr,
		Flags: append(placeFlags("RESULTS.md and RESULTS.json; rows that are not measured keep what stands there"),
			&cli.StringSliceFlag{Name: "only", Usage: "measure only these rows: `P1,P3`"},
			&cli.IntFlag{Name: "rounds", Usage: "how often each row is measured (default: 5, quick 2)"},
			&cli.DurationFlag{Name: "duration", Usage: "of one run of P1; other rows take a part of it (default: 30s, quick 3s)"},
			&cli.IntFlag{Name: "events", Value: 1_000_000, Usage: "events that P10 asks among; its target speaks of 10 million"},
			&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "of what the load draws"},
			&cli.BoolFlag{Name: "quick", Usage: "short runs of P1 to P8, P12 and P14"},
		),
		Commands: []*cli.Command{soakCommand(stderr), {Name: servers.EtcdCommand, Hidden: true, SkipFlagParsing: true, Action: func(c *cli.Context) error {
			ctx, cancel := context.WithCancel(c.Context)
			go func() { // whoever started this process holds its input open
				_, _ = io.Copy(io.Discard, os.Stdin) // its end is what counts
				cancel()
			}()
			return servers.ServeEtcd(ctx, c.Args().Slice())
		}}, growthCommand(stderr)},
		ExitErrHandler: func(*cli.Context, error) {},
		Action: func(c *cli.Context) error {
			o, err := optionsOf(c)
			if err != nil {
				return err
			}
			return measure(c.Context, o, stderr)
		},
	}
	if err := app.RunContext(ctx, args); err != nil {
		fmt.Fprintf(stderr, "gridbench: %v\n", err)
		return 1
	}
	return 0
}

// placeFlags say where everything is.
func placeFlags(results string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "bin", Value: "bin", Usage: "`DIR` of gridctl, gridmaster, gridagent and gridnode"},
		&cli.StringFlag{Name: "out", Value: "bench", Usage: "`DIR` of " + results},
		&cli.StringFlag{Name: "temp", Value: os.TempDir(), Usage: "`DIR` for the servers' data, which is deleted; 10 GB must be free"},
		&cli.StringFlag{Name: "data", Value: "testdata", Usage: "`DIR` of wordnet.ndjson.gz, in the repository whose version is told"},
	}
}

// optionsOf completes and checks what was asked for.
func optionsOf(c *cli.Context) (options, error) {
	o := options{only: onlyOf(c.StringSlice("only")), rounds: c.Int("rounds"), duration: c.Duration("duration"), events: c.Int("events"), seed: c.Uint64("seed"),
		quick: c.Bool("quick")}
	rounds, duration := 5, 30*time.Second
	if o.quick {
		rounds, duration = 2, 3*time.Second
	}
	o.rounds, o.duration = cmp.Or(o.rounds, rounds), cmp.Or(o.duration, duration)
	if o.rounds < 1 || o.duration < time.Second || o.events < 1 {
		return o, fmt.Errorf("--rounds %d --duration %s --events %d: want at least 1, 1s and 1", o.rounds, o.duration, o.events)
	}
	if len(o.only) == 0 && o.quick {
		o.only = quickRows()
	}
	for _, id := range o.only {
		if !slices.ContainsFunc(subjects(), func(s subject) bool { return s.ID == id }) {
			return o, fmt.Errorf("--only %s: the rows are P1 to P15", id)
		}
	}
	err := o.placesOf(c)
	return o, err
}

// placesOf takes placeFlags' values.
func (o *options) placesOf(c *cli.Context) error {
	o.bin, o.out, o.temp, o.data = c.String("bin"), c.String("out"), c.String("temp"), c.String("data")
	return o.places()
}

// places makes paths absolute, as servers have other working directories, and looks for the programs.
func (o *options) places() error {
	for _, dir := range []*string{&o.bin, &o.out, &o.temp, &o.data} {
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return err
		}
		*dir = abs
	}
	for _, name := range []string{"gridctl", "gridmaster", "gridagent", "gridnode"} {
		if _, err := os.Stat(filepath.Join(o.bin, name)); err != nil {
			return fmt.Errorf("%w: build the programs (make build), or say where they are with --bin", err)
		}
	}
	return nil
}

func onlyOf(flags []string) (ids []string) {
	for _, f := range flags {
		for id := range strings.SplitSeq(f, ",") {
			if id = strings.ToUpper(strings.TrimSpace(id)); id != "" {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// wants tells whether a row is to be measured.
func (o *options) wants(id string) bool { return len(o.only) == 0 || slices.Contains(o.only, id) }
