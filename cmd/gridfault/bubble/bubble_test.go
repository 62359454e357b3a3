package bubble

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const childMark = "BUBBLE_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childMark) != "" {
		Serve(behave)
	}
	os.Exit(m.Run())
}

// behave does what the job says.
func behave(ctx context.Context, job []byte) []byte {
	switch string(job) {
	case "draw", "draw otherwise":
		Settle(uint64(len(job)))
		return fmt.Appendf(nil, "%s", rand.Text())
	case "priority":
		p, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
		return fmt.Appendf(nil, "%d %v", p, err)
	case "panic":
		panic("as told")
	case "deadlock":
		go func() { <-make(chan int) }()
	case "spin":
		go sleeper(ctx)
		for ctx.Err() == nil { // no virtual time passes
		}
	case "memory":
		var all [][]byte
		for len(all) < 400 {
			all = append(all, bytes.Repeat([]byte{1}, 1<<20))
		}
		for ctx.Err() == nil && all != nil {
		}
	}
	began := time.Now()
	time.Sleep(time.Hour)
	return fmt.Appendf(nil, "%s %s", job, time.Since(began))
}

// sleeper waits for a clock that stands still.
func sleeper(ctx context.Context) { <-ctx.Done() }

// do runs jobs and returns their outcomes by job.
func do(t *testing.T, b Batch, jobs ...string) map[string]Outcome {
	t.Helper()
	b.Path, b.Env = os.Args[0], append(b.Env, childMark+"=1")
	b.Next = func() ([]byte, bool) {
		if len(jobs) == 0 {
			return nil, false
		}
		job := jobs[0]
		jobs = jobs[1:]
		return []byte(job), true
	}
	all := map[string]Outcome{}
	if err := Run(t.Context(), b, func(o Outcome) {
		if _, twice := all[string(o.Job)]; twice {
			t.Errorf("%s has two outcomes", o.Job)
		}
		all[string(o.Job)] = o
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestJobs: each job has its result, in virtual time, and what ends a process is the outcome of one job.
func TestJobs(t *testing.T) {
	for _, per := range []int{0, 1} {
		all := do(t, Batch{Processes: 2, PerProcess: per, Limit: time.Minute}, "a", "panic", "b", "deadlock", "c", "d")
		if len(all) != 6 {
			t.Fatalf("%d outcomes", len(all))
		}
		for _, job := range []string{"a", "b", "c", "d"} {
			if o := all[job]; string(o.Result) != job+" 1h0m0s" || o.Err != nil {
				t.Errorf("%s: %q, %v\n%s", job, o.Result, o.Err, o.Output)
			}
		}
		for job, says := range map[string]string{"panic": "as told", "deadlock": "blocked goroutines remain"} {
			if o := all[job]; !errors.Is(o.Err, ErrCrashed) || !strings.Contains(o.Output, says) || o.Result != nil {
				t.Errorf("%s: %v\n%s", job, o.Err, o.Output)
			}
		}
	}
}

// TestLimits: what takes too long or too much is ended, and said.
func TestLimits(t *testing.T) {
	all := do(t, Batch{Processes: 1, Limit: time.Second}, "spin")
	if o := all["spin"]; !errors.Is(o.Err, ErrHung) || o.Result != nil || !strings.Contains(o.Output, "bubble.behave") || strings.Contains(o.Output, "sleeper") {
		t.Errorf("%v\n%s", o.Err, o.Output)
	}
	all = do(t, Batch{Processes: 1, Limit: time.Minute, MemoryBytes: 200 << 20}, "memory")
	if o := all["memory"]; !errors.Is(o.Err, ErrMemory) {
		t.Errorf("%v\n%s", o.Err, o.Output)
	}
}

// TestYields: a process that yields has the lowest priority, and lives as long as it has jobs.
func TestYields(t *testing.T) {
	all := do(t, Batch{Processes: 1, Limit: time.Minute, Yields: true}, "a", "priority", "b")
	if p := all["priority"]; string(p.Result) != "1 <nil>" { // 20 less the niceness
		t.Errorf("%q, %v", p.Result, p.Err)
	}
	if a, b := all["a"], all["b"]; a.Err != nil || b.Err != nil {
		t.Errorf("%v, %v", a.Err, b.Err)
	}
}

// TestRunEnds: when its context does, and when there is no program.
func TestRunEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := Batch{Path: os.Args[0], Env: []string{childMark + "=1"}, Processes: 2, Limit: time.Minute, Next: func() ([]byte, bool) { return []byte("a"), true }}
	n := 0
	err := Run(ctx, b, func(Outcome) {
		if n++; n == 5 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || n < 5 {
		t.Errorf("%d outcomes, %v", n, err)
	}
	b.Path = "/nowhere/at/all"
	if err := Run(t.Context(), b, func(Outcome) { t.Error("an outcome") }); err == nil {
		t.Error("it was started")
	}
	b.Path, b.Processes, b.Limit = "", 0, 0
	if err := Run(t.Context(), b, nil); err == nil || slices.Contains([]bool{strings.Contains(err.Error(), "no program"), strings.Contains(err.Error(), "0 processes"), strings.Contains(err.Error(), "limit of 0s")}, false) {
		t.Errorf("%v", err)
	}
}

// TestChance: what is random in a job follows from its seed.
func TestChance(t *testing.T) {
	b := Batch{Processes: 1, Limit: time.Minute}
	first, again := do(t, b, "draw", "draw otherwise"), do(t, b, "a", "draw")
	drawn := string(first["draw"].Result)
	if len(drawn) < 20 || string(again["draw"].Result) != drawn || string(first["draw otherwise"].Result) == drawn {
		t.Errorf("%q, then %q; another seed %q", drawn, again["draw"].Result, first["draw otherwise"].Result)
	}
}
