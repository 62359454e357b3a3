package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/workload"
	"github.com/sutra-grid/sutra-grid/internal/fault"
)

func listCommand() *cli.Command {
	lists := []struct {
		name string
		show func(io.Writer)
	}{{"workloads", listWorkloads}, {"faults", listFaults}, {"points", listPoints}, {"mutations", listMutations}}
	return &cli.Command{
		Name: "list", Usage: "what there is to run: workloads, faults, points of the source, mutations", ArgsUsage: "[workloads|faults|points|mutations]",
		Action: func(c *cli.Context) error {
			out := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
			shown := false
			for _, l := range lists {
				if c.Args().Present() && c.Args().First() != l.name {
					continue
				}
				if shown {
					fmt.Fprintln(out)
				}
				l.show(out)
				shown = true
			}
			if !shown {
				return usagef("list %q: there are workloads, faults, points and mutations", c.Args().First())
			}
			return out.Flush()
		},
	}
}

func listWorkloads(out io.Writer) {
	fmt.Fprintln(out, "WORKLOAD\tWHAT IT DOES")
	for _, s := range workload.Workloads() {
		fmt.Fprintf(out, "%s\t%s\n", s.ID, s.Title)
	}
}

func listFaults(out io.Writer) {
	fmt.Fprintln(out, "FAULT\tWHAT HAPPENS\tPROOF\tVIRTUAL TIME\tPROCESSES NEED")
	for _, s := range rig.Kinds() {
		needs := make([]string, len(s.Needs))
		for i, n := range s.Needs {
			needs[i] = string(n)
		}
		sim := "yes"
		if !s.Sim {
			sim = "no"
		}
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\n", s.Kind, s.What, s.Proof, sim, strings.Join(needs, ", "))
	}
	listHooks(out)
}

func listHooks(out io.Writer) {
	for _, s := range rig.Hooks() {
		fmt.Fprintf(out, "%s:NAME\t%s\t%s\tno\t--grid, --hook\n", s.Kind, s.What, s.Proof)
	}
}

func listPoints(out io.Writer) {
	fmt.Fprintln(out, "POINT\tWHERE\tWHAT IS UNDER WAY")
	for _, s := range fault.Labels() {
		fmt.Fprintf(out, "%s\t%s\t%s\n", s.Name, s.Where, s.What)
	}
}
