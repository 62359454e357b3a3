// Command gridnode runs one storage node: alone with one shard, or as part of a grid.
//
//	flags -> storagenode.Config -> Open -> ready -> wait for a signal or a failed disk -> Close
//
// Exit status: 0 stopped by SIGINT or SIGTERM, 1 could not start or could not go on, 2 wrong usage.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// gcPercent keeps the heap closer to what is in use than Go's 100 does: the memory of a node is its stores' cache, and what a bulk
// load leaves behind must not come near to it. Less would cost more processor time than the memory is worth.
const gcPercent = 50

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args, env{stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv, limitHeap: func(bytes int64) { debug.SetMemoryLimit(bytes) }})
	stop()
	os.Exit(status)
}
