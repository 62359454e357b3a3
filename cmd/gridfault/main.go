// Command gridfault tries to break a grid, and says what it saw.
//
//	plan --> rig S (virtual time), rig P (real processes) or rig G (a grid of yours) --> history --> checkers --> verdict
//
// Exit status: 0 every run was valid, or a mutation was caught; 1 one was not; 2 wrong usage; 3 this machine cannot do what was asked for.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == childVerb { // its parent ends it; no goroutine that waits for signals takes part in what it repeats
		signal.Ignore(os.Interrupt)
		os.Exit(run(context.Background(), os.Args, os.Stdout, os.Stderr))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}
