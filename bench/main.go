// Command gridbench measures a grid of real processes against the targets of docs/performance.md, beside etcd and PostgreSQL in the same
// run on the same machine.
//
//	suite: start servers -> per row: warm up, rounds in turn (ours, peer, ours, peer …) -> Row -> RESULTS.json, RESULTS.md
//
// Invariants: servers are processes of their own with their defaults, disks are synced, load comes from this process over TCP; nothing runs
// beside what is measured but the other servers at rest; a row that fails says why, and the others are measured. `make bench` runs it.
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
