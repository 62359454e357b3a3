package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/episode"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/report"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/workload"
)

// TestReplay: a run of gridfault-replay is repeated to the last delivery, wherever its files are and whatever is in its environment, and
// each seed is another run.
func TestReplay(t *testing.T) {
	seeds, _ := strconv.Atoi(os.Getenv("GRIDFAULT_REPLAY"))
	if seeds == 0 {
		t.Skip("make faults-replay")
	}
	program := func(env []string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), os.Getenv("GRIDFAULT_REPLAY_BINARY"), args...)
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != exitInvalid) { // what is found, is found twice
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	seen, same := map[string]int{}, 0
	for seed := 1; seed <= seeds; seed++ {
		all := workload.Workloads()
		id, dir, began := all[(seed-1)%len(all)].ID, t.TempDir(), time.Now()
		program(nil, "run", "-w", id, "--seed", fmt.Sprint(seed), "--length", "15s", "--keep", "--out", dir)
		run := filepath.Join(dir, fmt.Sprintf("s-%d-%s", seed, id))
		v, err := report.Read(run)
		if err != nil || !v.Repeats || v.Trace == "" {
			t.Fatalf("seed %d: %+v, %v", seed, v, err)
		}
		elsewhere := filepath.Join(t.TempDir(), strings.Repeat("elsewhere", seed%5))
		out := program([]string{"MORE=" + strings.Repeat("more", seed)}, "replay", "--out", elsewhere, run)
		t.Logf("%s, %s", strings.TrimSpace(out), time.Since(began).Round(time.Second/10))
		if !strings.Contains(out, "the same trace as before: "+v.Trace) {
			t.Errorf("seed %d, %s: first trace %s", seed, id, v.Trace)
			continue
		}
		if same++; seen[v.Trace] > 0 {
			t.Errorf("seeds %d and %d have the trace %s", seen[v.Trace], seed, v.Trace)
		}
		seen[v.Trace] = seed
	}
	t.Logf("%d of %d seeds have the same trace twice", same, seeds)
}

// TestCompare: what a replay says of the run before it.
func TestCompare(t *testing.T) {
	run := func(rig, trace string, repeats bool) *episode.Verdict {
		return &episode.Verdict{Plan: episode.Plan{Rig: rig}, Trace: trace, Repeats: repeats}
	}
	for _, tt := range []struct {
		before, now *episode.Verdict
		want        string
	}{
		{run("p", "", false), run("p", "", false), "real processes"},
		{run("s", "a", true), run("s", "b", false), "interleaving was not"},
		{run("s", "a", false), run("s", "a", true), "none to compare"},
		{run("s", "a", true), run("s", "b", true), "ANOTHER TRACE: b, before a"},
		{run("s", "a", true), run("s", "a", true), "the same trace as before: a"},
	} {
		if got := compare(tt.before, tt.now); !strings.Contains(got, tt.want) {
			t.Errorf("%+v, %+v: %s", tt.before, tt.now, got)
		}
	}
}
