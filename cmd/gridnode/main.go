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
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args, env{stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv})
	stop()
	os.Exit(status)
}
