// Command gridagent runs the storage nodes that the masters assign to this machine.
//
//	flags -> agent.Config -> agent.Open -> until SIGTERM, SIGINT or an error
//
// Exit status: 0 after an orderly stop, 1 on an error, 2 on wrong usage; an error is one line on standard error.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args, os.Stderr)
	stop()
	os.Exit(status)
}
