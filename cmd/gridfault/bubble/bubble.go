// Package bubble does jobs in virtual time, in child processes of the program that wants them done.
//
//	Run --a line per job--> child: Serve --> Body in a bubble (testing/synctest) --a line per result--> Run --> Outcome
//
// A bubble needs a *testing.T, which Serve makes in an ordinary program. In a child, because a deadlock in a bubble, a goroutine
// that outlives it, a panic and a run out of memory end the process: they are the outcome of one job, and cost no other.
//
// Invariants: each job has exactly one outcome; a job without a result has an error that says what became of its process. The
// package knows nothing of what a job is, and imports nothing of ours.
package bubble

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"testing"
	"testing/synctest"
)

// MaxLine bounds a job and a result, in bytes.
const MaxLine = 64 << 20

// Body does one job in a bubble of its own: time is virtual, and it returns when all goroutines that it started have ended, or are
// about to. The result is one line, without its end. ctx ends with the bubble.
type Body func(ctx context.Context, job []byte) []byte

// results is the file descriptor on which a child answers: standard output and standard error are for panics.
const results = 3

// Serve is the whole life of a child: it does the jobs that the parent (Run) sends, one after the other, and ends the process. It is
// called first thing in the program, or the test binary, that Batch.Path names.
func Serve(body Body) {
	testing.Init()
	if !flag.Parsed() {
		_ = flag.CommandLine.Parse(nil) // the arguments are the program's; of none nothing can be wrong
	}
	all := func(string, string) (bool, error) { return true, nil }
	testing.Main(all, []testing.InternalTest{{Name: "bubble", F: func(t *testing.T) {
		if err := serve(t, os.Stdin, os.NewFile(results, "results"), body); err != nil {
			t.Fatal(err)
		}
	}}}, nil, nil)
}

// serve reads no job before the one before it is answered: with the scheduler of a replay, a thread that waits for the parent would
// keep all goroutines waiting.
func serve(t *testing.T, jobs io.Reader, answers io.Writer, body Body) error {
	lines := bufio.NewScanner(jobs)
	lines.Buffer(nil, MaxLine)
	for lines.Scan() {
		var answer []byte
		t.Run("job", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { answer = body(t.Context(), lines.Bytes()) })
		})
		if _, err := answers.Write(append(answer, '\n')); err != nil {
			return fmt.Errorf("answer the parent: %w", err)
		}
	}
	return lines.Err()
}
