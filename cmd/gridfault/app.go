package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
)

// Exit statuses.
const (
	exitValid       = 0
	exitInvalid     = 1
	exitUsage       = 2
	exitUnsupported = 3
)

// errInvalid is a run that has been reported and only sets the exit status.
var errInvalid = errors.New("not valid")

// usageError is a wrong call.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// run is the whole program.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	err := newApp(stdout, stderr).RunContext(ctx, args)
	var usage usageError
	switch {
	case err == nil:
		return exitValid
	case errors.Is(err, errInvalid):
		return exitInvalid
	}
	fmt.Fprintln(stderr, "gridfault:", err)
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, rig.ErrUnsupported):
		return exitUnsupported
	}
	return exitInvalid
}

func newApp(stdout, stderr io.Writer) *cli.App {
	app := &cli.App{
		Name:            "gridfault",
		Usage:           "try to break a Sutra Grid, and say what was seen; see docs/faults.md",
		Writer:          stdout,
		ErrWriter:       stderr,
		HideVersion:     true,
		HideHelpCommand: true,
		Commands:        []*cli.Command{runCommand(), checkCommand(), listCommand(), replayCommand(), reportCommand(), childCommand()},
		ExitErrHandler:  func(*cli.Context, error) {},
		OnUsageError:    onUsageError,
		Action:          onlyHelp,
	}
	for _, c := range app.Commands {
		c.OnUsageError = onUsageError
	}
	return app
}

func onUsageError(_ *cli.Context, err error, _ bool) error { return usageError{err} }

// onlyHelp shows the help, or refuses a word that is no command.
func onlyHelp(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("unknown command %q; `gridfault --help` lists them", c.Args().First())
	}
	return cli.ShowAppHelp(c)
}
