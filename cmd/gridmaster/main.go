// Command gridmaster runs one master of a grid until it is told to stop.
//
//	flags, GRID_… -> master.Config -> master.Open -> "ready <grid address>" on GRID_READY_FD -> SIGTERM -> Close
//
// Exit status: 0 stopped in order, 1 failed (one line on stderr says why), 2 wrong usage, 3 removed from the grid for good.
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
