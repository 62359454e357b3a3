package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/episode"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/processes"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/report"
	"github.com/sutra-grid/sutra-grid/transport"
)

// TestGiven: a grid of real programs that others use is judged while a hook stops a storage node, and the plan is repeated there; a hook that
// shows nothing makes a run that is not valid.
func TestGiven(t *testing.T) {
	dir := t.TempDir()
	hook := filepath.Join(dir, "fault.sh")
	program := func(proof string) {
		writeHook(t, hook, "#!/bin/sh\nread pid <"+dir+"/victim\ncase \"$1 $2\" in\n\"begin stop-node\") kill -STOP $pid ;;\n"+
			"\"end stop-node\") "+proof+"; kill -CONT $pid ;;\n*) exit 1 ;;\nesac\n")
	}
	program(`grep -s "^State:.*T (stopped)" /proc/$pid/status`)
	masters := serve(t, dir)
	others(t, masters)
	out := filepath.Join(dir, "out")
	status, said, stderr := call(t, "run", "--grid", strings.Join(masters, ","), "-w", "W3", "--length", "4s", "--seed", "3", "--hook", hook, "-f", "outage:stop-node", "--keep", "--out", out)
	v, err := report.Read(filepath.Join(out, "g-3-W3"))
	if err != nil {
		t.Fatalf("status %d, %v\n%s%s", status, err, said, stderr)
	}
	// A machine that is busy with other tests is too slow for the rules that are about time: then that is all that may be wrong.
	slow := slices.ContainsFunc(v.Findings, func(f episode.Finding) bool {
		return f.Rule == episode.RuleOperations || f.Rule == episode.RuleRecovery
	})
	if status != exitValid && (status != exitInvalid || !slow) || len(v.Findings) > 0 && strings.Contains(said, "checkers") {
		t.Errorf("status %d\n%s%s", status, said, stderr)
	}
	for _, want := range []string{"master-1 at " + masters[0], "shards: 2, replicas of each: 1", "leaves concepts w3.", "faults: 1 of outage:stop-node, by " + hook} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
	if len(v.Faults) != 1 || v.Faults[0].Proof.Count != 1 || !strings.Contains(v.Faults[0].Proof.What, "stopped") || len(v.Wrote) != 1 || v.Plan.Shards != 2 || v.Plan.Given.Masters[0] != masters[0] {
		t.Errorf("%+v", v)
	}
	history := episode.History(filepath.Join(out, "g-3-W3"), "W3")
	if status, said, _ := call(t, "check", history); status != exitValid {
		t.Errorf("check: status %d\n%s", status, said)
	}
	v.Plan.Warm, v.Plan.Faults[0].Hold, v.Plan.Faults[0].Rest = time.Second, 200*time.Millisecond, time.Second // shorter, for the test's sake
	if err := report.Write(filepath.Join(out, "g-3-W3"), v); err != nil {
		t.Fatal(err)
	}
	program(":")
	status, said, stderr = call(t, "replay", "--out", filepath.Join(dir, "again"), filepath.Join(out, "g-3-W3"))
	if status != exitInvalid || !strings.Contains(said, "proof outage:stop-node: nothing shows") || strings.Contains(said, "checkers") {
		t.Errorf("replay with a hook that shows nothing: status %d\n%s%s", status, said, stderr)
	}
}

// writeHook puts a program in place at once: nobody can meet it half written, or open for writing.
func writeHook(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// serve starts a grid of the real programs, which ends with the test, and writes the pid of one of its storage nodes to dir/victim.
func serve(t *testing.T, dir string) (masters []string) {
	t.Helper()
	programs := os.Getenv("GRID_FAULT_PROGRAMS")
	if programs == "" {
		programs = filepath.Join(dir, "bin")
		build := exec.Command("go", "build", "-ldflags=-s -w", "-o", programs+"/", "../gridmaster", "../gridagent", "../gridnode")
		if said, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build: %v\n%s", err, said)
		}
	}
	cfg := processes.DefaultConfig()
	cfg.Programs, cfg.Dir, cfg.Plain, cfg.Agents, cfg.Masters, cfg.Replicas = programs, dir, true, 2, 1, 1
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	g, err := processes.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, m := range g.Layout().Masters {
		masters = append(masters, m.Address)
	}
	pid := node(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "victim"), []byte(pid+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return masters
}

// node is the process of one of the storage nodes of a grid below dir.
func node(t *testing.T, dir string) (pid string) {
	t.Helper()
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		line, err := os.ReadFile(path)
		args := strings.Split(string(line), "\x00")
		if err == nil && filepath.Base(args[0]) == "gridnode" && strings.Contains(string(line), dir) && slices.Contains(args, "--node-id") {
			return filepath.Base(filepath.Dir(path))
		}
	}
	t.Fatal("no agent runs a storage node")
	return ""
}

// others use the grid until the test ends: transactions over its shards, and writes of one.
func others(t *testing.T, masters []string) {
	t.Helper()
	lib, err := client.New(client.Config{Masters: masters})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := lib.Close(); err != nil {
			t.Error(err)
		}
	})
	running.Go(func() {
		pause := time.NewTicker(20 * time.Millisecond)
		defer pause.Stop()
		for n := 0; ctx.Err() == nil; n++ { // what becomes of it does not matter
			one, cancel := context.WithTimeout(ctx, 3*time.Second)
			var ops []transport.Op
			for k := range 4 {
				ops = append(ops, transport.Op{Kind: transport.OpLearnConcept, ID: fmt.Sprintf("others-%d-%d", n, k), Strength: 1, Confidence: 1})
			}
			_, _ = lib.Do(one, &transport.Txn{TimeoutMillis: 2000, Ops: ops})
			cancel()
			select {
			case <-pause.C:
			case <-ctx.Done():
			}
		}
	})
}
