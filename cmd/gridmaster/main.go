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
	"runtime/debug"
	"syscall"
)

// gcPercent lets the heap grow to four times what is in use: that is little on a master, and collecting it more often took a sixth of its
// processor time.
const gcPercent = 300

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}
