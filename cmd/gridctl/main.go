// Command gridctl administers a grid from the command line, and runs a whole one on this machine (gridctl dev).
//
//	arguments -> one verb -> masters (grid protocol) or shards (client) -> a table or JSON
//
// Exit status: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 no leader or unreachable, 5 refused by policy.
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
