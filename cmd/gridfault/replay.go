package main

import (
	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/episode"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/report"
)

func replayCommand() *cli.Command {
	return &cli.Command{
		Name: "replay", Usage: "run the plan of an earlier run once more", ArgsUsage: "DIR|verdict.json", Flags: rigFlags(),
		Action: func(c *cli.Context) error {
			if c.Args().Len() != 1 {
				return usagef("replay takes the directory of a run")
			}
			v, err := report.Read(c.Args().First())
			if err != nil {
				return err
			}
			s, err := newSuite(c)
			if err != nil {
				return err
			}
			s.before = v
			return s.all(c.Context, []episode.Plan{v.Plan})
		},
	}
}

// compare says whether a run has repeated an earlier one of the same plan, or only its plan.
func compare(before, now *episode.Verdict) string {
	switch {
	case now.Plan.Rig != episode.RigSim:
		return "the plan was repeated; real processes do not repeat themselves"
	case !now.Repeats:
		return "the plan was repeated, its interleaving was not: only what `make gridfault-replay` builds does that"
	case !before.Repeats || before.Trace == "":
		return "trace " + now.Trace + "; the earlier run was not made by a gridfault-replay, so there is none to compare it with"
	case before.Trace != now.Trace:
		return "ANOTHER TRACE: " + now.Trace + ", before " + before.Trace + ". Either the programs differ, or something was not repeated"
	}
	return "the same trace as before: " + now.Trace
}

func reportCommand() *cli.Command {
	return &cli.Command{
		Name: "report", Usage: "make the page of a run anew, and say its verdict in a line", ArgsUsage: "DIR",
		Action: func(c *cli.Context) error {
			if c.Args().Len() != 1 {
				return usagef("report takes the directory of a run")
			}
			v, err := report.Read(c.Args().First())
			if err != nil {
				return err
			}
			return show(c.App.Writer, c.Args().First(), v)
		},
	}
}
