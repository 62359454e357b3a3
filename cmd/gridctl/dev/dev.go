// Package dev runs a whole grid of real processes on this machine: masters, agents, the storage nodes that the agents start, and
// event storage.
//
//	Command -> Run -> lock, end survivors, check ports -> children (supervised) -> ready -> ... -> end in order
//	DATA/ masters/ agents/ events/ logs/ supervisor.json   and, while it runs, dev.json
//
// Invariants: it listens on loopback only; no child runs that is not recorded, so a run that was killed leaves nothing the next
// one does not find; it signals a process only after pid, start time and command line have shown that it is one of its own;
// dev.json says what runs within a second. It learns the state of the grid from the grid only.
// It must not import masters, storage nodes or the client: it knows them by their programs and their protocol.
package dev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/agent/platform/process"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// holdCommand is the hidden subcommand with which dev starts its children: see process.Hold.
const holdCommand = "hold"

// Config says which grid to run. Start from DefaultConfig.
type Config struct {
	Data     string   // made if absent
	Masters  int      // 1, 3 or 5
	Agents   int      // 1 to 90
	Shards   int      // 1 to 1,023; of a new grid
	Replicas int      // 1, 3 or 5, at most one per agent; of a new grid
	BasePort int      // use only this port and the 399 behind it; 0: the documented default ports
	Fresh    bool     // delete what an earlier grid left in Data
	Programs string   // the directory of gridmaster, gridagent and gridnode
	Hold     []string // a command that calls process.Hold with the arguments behind it
}

// DefaultConfig is the grid of the README. Programs and Hold are of the running executable.
func DefaultConfig() (Config, error) {
	self, err := os.Executable()
	if err != nil {
		return Config{}, fmt.Errorf("find the grid's programs: %w", err)
	}
	return Config{Data: "dev-data", Masters: 3, Agents: 3, Shards: 4, Replicas: 3, Programs: filepath.Dir(self),
		Hold: []string{self, "dev", holdCommand}}, nil
}

const (
	maxAgents = 90   // their ports lie between the masters' and event storage's
	maxShards = 1023 // of any grid
	portSpan  = 400  // ports from BasePort on
)

// Validate reports everything that is wrong, each with its value and bound.
func (c *Config) Validate() error {
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	odd := []int{1, 3, 5}
	check(c.Data != "", "--data is empty")
	check(slices.Contains(odd, c.Masters), "--masters %d: want 1, 3 or 5", c.Masters)
	check(c.Agents >= 1 && c.Agents <= maxAgents, "--agents %d: want 1 to %d", c.Agents, maxAgents)
	check(c.Shards >= 1 && c.Shards <= maxShards, "--shards %d: want 1 to %d", c.Shards, maxShards)
	check(slices.Contains(odd, c.Replicas), "--replicas %d: want 1, 3 or 5", c.Replicas)
	check(c.Replicas <= c.Agents, "--replicas %d: %d agents can hold that many at most", c.Replicas, c.Agents)
	check(c.BasePort == 0 || c.BasePort >= 1024 && c.BasePort <= 65536-portSpan, "--base-port %d: want 1024 to %d", c.BasePort, 65536-portSpan)
	return errors.Join(faults...)
}

// usage is a wrong call, which gridctl gives its own exit status.
func usage(err error) error {
	return &event.Error{Kind: event.KindInvalid, Message: "dev: " + strings.ReplaceAll(err.Error(), "\n", "; ")}
}

// Command is `gridctl dev`.
func Command() *cli.Command {
	return &cli.Command{
		Name:  "dev",
		Usage: "run a whole grid of real processes on this machine; Ctrl-C stops it and keeps its data",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "data", Value: "dev-data", Usage: "the grid's `DIR`; made if absent, continued if not"},
			&cli.IntFlag{Name: "masters", Value: 3, Usage: "1, 3 or 5"},
			&cli.IntFlag{Name: "agents", Value: 3, Usage: "agents, each with one storage node"},
			&cli.IntFlag{Name: "shards", Value: 4, Usage: "shards of a new grid"},
			&cli.IntFlag{Name: "replicas", Value: 3, Usage: "replicas per shard of a new grid: 1, 3 or 5"},
			&cli.IntFlag{Name: "base-port", Usage: "use only port `N` and the 399 behind it (default: 7000, 8001, 50052 and on)"},
			&cli.BoolFlag{Name: "fresh", Usage: "delete what an earlier grid left in --data"},
		},
		OnUsageError: func(_ *cli.Context, err error, _ bool) error { return usage(err) },
		Subcommands: []*cli.Command{{
			Name: holdCommand, Hidden: true, SkipFlagParsing: true,
			Action: func(c *cli.Context) error { return process.Hold(c.Args().Slice()) },
		}},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usage(fmt.Errorf("unexpected argument %q", c.Args().First()))
			}
			cfg, err := DefaultConfig()
			if err != nil {
				return err
			}
			cfg.Data, cfg.Masters, cfg.Agents, cfg.Shards = c.String("data"), c.Int("masters"), c.Int("agents"), c.Int("shards")
			cfg.Replicas, cfg.BasePort, cfg.Fresh = c.Int("replicas"), c.Int("base-port"), c.Bool("fresh")
			if err := cfg.Validate(); err != nil {
				return usage(err)
			}
			return Run(c.Context, cfg, &printer{w: c.App.Writer})
		},
	}
}
