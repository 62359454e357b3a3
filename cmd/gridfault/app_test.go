package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/episode"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/report"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == childVerb {
		os.Exit(run(context.Background(), os.Args, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// call runs the program.
func call(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errw bytes.Buffer
	status = run(t.Context(), append([]string{"gridfault"}, args...), &out, &errw)
	return status, out.String(), errw.String()
}

// TestWrongCalls: one line that says what is wrong, and status 2.
func TestWrongCalls(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"walk", "unknown command"},
		{"run --rig q", "rig \"q\""},
		{"run -w W99", "W99"},
		{"run -w W99 -w W3", "W99"},
		{"run -f earthquake", "earthquake"},
		{"run --point x", "LABEL:ACTION"},
		{"run --profile slow", "profile \"slow\""},
		{"run --mutation none-such", "none-such"},
		{"run now", "no arguments"},
		{"list everything", "everything"},
		{"check", "one history"},
		{"check --export csv x", "csv"},
		{"replay", "directory"},
		{"run --what", "what"},
		{"run --hold -1s", "above zero"},
		{"run --rig g", "--grid"},
		{"run --hook x", "--grid"},
		{"run --grid here", "host:port"},
		{"run --grid h:1,h:1", "twice"},
		{"run --grid h:1 --rig p", "rig g"},
		{"run --grid h:1 --masters 3", "--masters"},
		{"run --grid h:1 -w W3,W8", "--disruptive"},
		{"run --grid h:1 -f kill", "hook:NAME"},
		{"run --grid h:1 -f hook:x", "--hook PROGRAM"},
		{"run --grid h:1 --hook /no/such -f hook:x", "no program"},
		{"run --grid h:1 --hook /bin/true", "-f hook:NAME"},
		{"run --grid h:1 --length 2h", "at most 30m"},
		{"run --grid h:1 --length 5s --rate 10", "500"},
	} {
		status, _, stderr := call(t, append(strings.Fields(tt.args), outFor(t, tt.args)...)...)
		if status != exitUsage || !strings.Contains(stderr, tt.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: status %d, %q", tt.args, status, stderr)
		}
	}
}

// TestNobodyThere: a grid that does not answer is one line, and status 3.
func TestNobodyThere(t *testing.T) {
	status, _, stderr := call(t, "run", "--grid", "127.0.0.1:1", "-w", "W3", "--out", t.TempDir())
	if status != exitUnsupported || !strings.Contains(stderr, "127.0.0.1:1 does not answer") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("status %d, %q", status, stderr)
	}
}

// outFor keeps runs that a test should not have begun out of the source.
func outFor(t *testing.T, args string) []string {
	if strings.HasPrefix(args, "run --") && !strings.HasSuffix(args, "--what") {
		return []string{"--out", t.TempDir()}
	}
	return nil
}

func TestList(t *testing.T) {
	_, all, _ := call(t, "list")
	for _, want := range []string{"W1", "kill.leader", "raft.log.store", "ack-before-commit", "nemesis-does-nothing"} {
		if !strings.Contains(all, want) {
			t.Errorf("%s is not listed", want)
		}
	}
	if _, faults, _ := call(t, "list", "faults"); !strings.Contains(faults, "power.torn") || strings.Contains(faults, "W1") {
		t.Errorf("list faults:\n%s", faults)
	}
}

// TestFixedSeeds runs the same plans in every build, and shows that a run that is kept can be looked at, judged again and repeated.
func TestFixedSeeds(t *testing.T) {
	dir := t.TempDir()
	status, out, stderr := call(t, "run", "--seed", "1", "--seeds", "3", "--length", "12s", "--masters", "3", "--keep", "--out", dir,
		"--fault", "partition,kill.leader,kill.shard-leader,pause.leader,raft.transfer,raft.snapshot,sink.down")
	if status != exitValid || strings.Count(out, ": valid") != 3 {
		t.Fatalf("status %d\n%s%s", status, out, stderr)
	}
	runs, err := filepath.Glob(filepath.Join(dir, "s-1-*"))
	if err != nil || len(runs) != 1 {
		t.Fatalf("%v, %v", runs, err)
	}
	v, err := report.Read(runs[0])
	if err != nil || !v.Valid || v.OK < episode.LeastOK || len(v.Timeline) == 0 || len(v.Faults) == 0 {
		t.Fatalf("%+v, %v", v, err)
	}
	histories, err := filepath.Glob(filepath.Join(runs[0], "history-*.jsonl"))
	if err != nil || len(histories) != 1 {
		t.Fatalf("%v, %v", histories, err)
	}
	if status, out, stderr := call(t, "check", "--export", "edn", histories[0]); status != exitValid {
		t.Errorf("check: status %d\n%s%s", status, out, stderr)
	}
	if edn, err := os.ReadFile(histories[0] + ".edn"); err != nil || !bytes.Contains(edn, []byte(":invoke")) {
		t.Errorf("the export: %.200s, %v", edn, err)
	}
	if status, out, _ := call(t, "report", runs[0]); status != exitValid || !strings.Contains(out, report.PageFile) {
		t.Errorf("report: status %d\n%s", status, out)
	}
	if status, out, stderr := call(t, "replay", "--out", t.TempDir(), runs[0]); status != exitValid || !strings.Contains(out, "seed 1,") {
		t.Errorf("replay: status %d\n%s%s", status, out, stderr)
	}
}

// TestKnownPlans: what has found something can be run again.
func TestKnownPlans(t *testing.T) {
	plans, err := known(episode.RigSim)
	if err != nil || len(plans) == 0 {
		t.Errorf("%d plans, %v", len(plans), err)
	}
	if _, err := known(episode.RigProcesses); err != nil {
		t.Error(err)
	}
}

// TestBrokenSuiteIsCaught: a nemesis that does nothing, and a history that lacks what was done.
func TestBrokenSuiteIsCaught(t *testing.T) {
	for _, p := range []struct {
		harness episode.Harness
		rule    string
	}{{"nemesis-does-nothing", string(episode.RuleProof)}, {"empty-history", "empty"}} {
		dir := t.TempDir()
		status, out, stderr := call(t, "run", "--mutation", string(p.harness), "--seed", "1", "--length", "8s", "--masters", "3", "--out", dir)
		if status != exitValid || !strings.Contains(out, "| caught | ") {
			t.Errorf("%s: status %d\n%s%s", p.harness, status, out, stderr)
		}
	}
}
