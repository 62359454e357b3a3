package main

import (
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/episode"
	"github.com/sutra-grid/sutra-grid/internal/history"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "judge a stored history once more, of a run or of production", ArgsUsage: "HISTORY.jsonl",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "export", Usage: "also write the history as `edn`, Jepsen's form, beside the file"},
		},
		Action: func(c *cli.Context) error {
			if c.Args().Len() != 1 {
				return usagef("check takes one history")
			}
			path := c.Args().First()
			if format := c.String("export"); format != "" {
				if format != "edn" {
					return usagef("export %q: there is edn", format)
				}
				if err := exportEDN(path); err != nil {
					return err
				}
			}
			_, reports, err := episode.Check(path)
			if err != nil {
				return err
			}
			bad := false
			for _, r := range reports {
				fmt.Fprintln(c.App.Writer, r.String())
				bad = bad || len(r.Anomalies) > 0
			}
			if bad {
				return errInvalid
			}
			return nil
		},
	}
}

// exportEDN writes a history as Jepsen's tools read it.
func exportEDN(path string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(path + ".edn")
	if err != nil {
		return err
	}
	if err := history.WriteEDN(out, in); err != nil {
		out.Close()
		return fmt.Errorf("export %s: %w", path, err)
	}
	return out.Close()
}
