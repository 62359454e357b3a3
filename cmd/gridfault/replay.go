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
			return s.all(c.Context, []episode.Plan{v.Plan})
		},
	}
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
