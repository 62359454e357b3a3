// Command overlay writes a file for go build -overlay that makes what runs in a bubble of testing/synctest deterministic: with one thread
// of Go (GOMAXPROCS=1) and no garbage collection (GOGC=off) the same program does the same, goroutine by goroutine.
//
//	go run ./cmd/gridfault/overlay DIR  -->  DIR/overlay.json, DIR/<changed files of the runtime>.txt
//
// It changes the runtime of the Go version in use, by edits of a few lines each, and fails when the text around one is not what it knows:
// an overlay that was applied to something else proves nothing. The package imports nothing of ours.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "overlay:", err)
		os.Exit(1)
	}
}
