package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/cmd/gridctl/dev"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// Exit statuses, as users of scripts rely on them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitUnreachable = 4
	exitRefused     = 5
)

// defaultTimeout bounds one command that sets no other limit of its own.
const defaultTimeout = 30 * time.Second

// run is the whole program: it parses, does, prints, and returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	out := &printer{w: stdout, errw: stderr}
	app := newApp(out)
	err := app.RunContext(ctx, arrange(app, args))
	if err == nil {
		return exitDone
	}
	return out.fail(err)
}

func newApp(out *printer) *cli.App {
	app := &cli.App{
		Name:                 "gridctl",
		Usage:                "administer a Sutra Grid",
		Writer:               out.w,
		ErrWriter:            out.errw,
		HideVersion:          true,
		EnableBashCompletion: true,
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "master", Aliases: []string{"m"}, EnvVars: []string{"GRID_MASTERS"},
				Usage: "grid addresses of the masters, `HOST:PORT,…` (default: the context that gridctl dev writes, else localhost:7002)"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: formatTable, EnvVars: []string{"GRID_OUTPUT"}, Usage: "table, json or yaml"},
			&cli.DurationFlag{Name: "timeout", Value: defaultTimeout, EnvVars: []string{"GRID_TIMEOUT"}, Usage: "give up after this long"},
		},
		Before: func(c *cli.Context) error { return out.setFormat(c.String("output")) },
		Commands: []*cli.Command{
			dev.Command(), statusCommand(out), agentsCommand(out), nodesCommand(out), shardsCommand(out), raftCommand(out), snapshotCommand(out),
			importCommand(out), getCommand(out), putCommand(out), linkCommand(out), neighborsCommand(out), pathCommand(out), queryCommand(out), searchCommand(out),
			txnCommand(out), eventsCommand(out), feedCommand(out), benchCommand(out),
		},
		OnUsageError:   onUsageError,
		ExitErrHandler: func(*cli.Context, error) {},
		Action:         onlyHelp,
	}
	strict(app.Commands)
	return app
}

// strict makes every wrong call an error of ours, one line and status 2, where the parser would print its help instead.
func strict(commands []*cli.Command) {
	for _, c := range commands {
		if c.OnUsageError == nil {
			c.OnUsageError = onUsageError
		}
		if c.Action == nil {
			c.Action = onlyHelp
		}
		strict(c.Subcommands)
	}
}

func onUsageError(_ *cli.Context, err error, _ bool) error { return usageError{err} }

// onlyHelp is the action of a group: its help, or an error when a word follows that is none of its commands.
func onlyHelp(c *cli.Context) error {
	name := c.App.Name
	if c.Command != nil && c.Command.HelpName != "" {
		name = c.Command.HelpName
	}
	if c.Args().Present() {
		return usagef("unknown command %q; `%s --help` lists them", c.Args().First(), name)
	}
	return cli.ShowSubcommandHelp(c)
}

// usageError is a wrong call: exit status 2.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// statusError is an outcome that has been printed already and only sets the exit status.
type statusError int

func (s statusError) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// exitStatus maps an error to the documented status.
func exitStatus(err error) int {
	var usage usageError
	var printed statusError
	var grid *event.Error
	switch {
	case errors.As(err, &printed):
		return int(printed)
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &grid):
		return kindStatus(grid.Kind)
	case errors.Is(err, context.DeadlineExceeded):
		return exitUnreachable
	}
	return exitFailed
}

func kindStatus(k event.Kind) int {
	switch k {
	case event.KindNotFound, event.KindUnknownAgent, event.KindTrimmed:
		return exitNotFound
	case event.KindNotLeader, event.KindUnavailable, event.KindTooStale, event.KindDeadline, event.KindUnknownOutcome:
		return exitUnreachable
	case event.KindRefused, event.KindBusy, event.KindFeedFull:
		return exitRefused
	case event.KindInvalid, event.KindTooLarge:
		return exitUsage
	}
	return exitFailed
}
