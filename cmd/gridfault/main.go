// Command gridfault tries to break a grid, and says what it saw.
//
//	plan --> rig S (virtual time) or rig P (real processes) --> history --> checkers --> verdict
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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}
