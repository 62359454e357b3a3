package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/internal/fault"
)

// armed is a grid of programs that can be made to fail, each by a plan of its own.
type armed struct {
	*grid
	plans string
}

// wrapper starts a program with the plan that is named after its id, in the directory that it is told here: agents and dev keep GRID_
// variables from those they start.
const wrapper = `#!/bin/sh
last=
for arg; do
	case $last in --id | --node-id) export GRID_FAULT_FILE=%q/"$arg" ;; esac
	last=$arg
done
exec "$0.real" "$@"
`

// newArmed is such a grid, not started yet.
func newArmed(t *testing.T) *armed {
	t.Helper()
	a := &armed{grid: newGrid(t), plans: t.TempDir()}
	a.bin = t.TempDir()
	for _, name := range []string{"gridctl", "gridagent"} {
		if err := os.Link(filepath.Join(binaries, name), filepath.Join(a.bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"gridmaster", "gridnode"} {
		build := exec.Command("go", "build", "-tags", "faults", "-o", filepath.Join(a.bin, name+".real"), "./cmd/"+name)
		build.Dir = "../.."
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build: %v\n%s", err, out)
		}
		if err := os.WriteFile(filepath.Join(a.bin, name), fmt.Appendf(nil, wrapper, a.plans), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// plan makes a process fail as the text says; empty: no more.
func (a *armed) plan(id, text string) {
	a.t.Helper()
	next := filepath.Join(a.plans, id)
	if err := os.WriteFile(next+".new", []byte(text), 0o600); err != nil {
		a.t.Fatal(err)
	}
	if err := os.Rename(next+".new", next); err != nil {
		a.t.Fatal(err)
	}
}

// txnLabels is the steps of a transaction at which a process is killed, while transactions run.
var txnLabels = []fault.Label{
	fault.TxnDecideBefore, fault.ShardPrepareAfter, fault.TxnFinishSend, fault.ShardFinishBefore, fault.TxnDecideAfter, fault.ShardPrepareBefore,
	fault.TxnPrepareAfter, fault.ShardFinishAfter, fault.TxnPrepareBefore, fault.TxnPrepareSend, fault.TxnFinishBefore, fault.TxnFinishAcknowledged,
	fault.TxnFinishAfter, fault.TxnCompleteBefore, fault.TxnCompleteAfter, fault.TxnSingleBefore, fault.TxnSingleAfter, fault.TxnAbortBefore, fault.TxnAbortAfter,
	fault.ShardInquiryBefore, fault.ShardInquiryAfter, fault.TxnOutcomeBefore, fault.TxnOutcomeAfter,
}

// nemesis kills one process after the other until ctx ends, each time a moment after the last one is back.
type nemesis struct {
	*armed
	rng    *rand.Rand
	killed map[string]int // what was done, and how often
	deaths map[string]int // of each node since its agent began
}

// An agent leaves a node down that ended ten times in ten minutes, until the agent is restarted (agent/plan.go); its last pause before
// that is of half a minute.
const (
	mostDeaths = 8
	nodeIsBack = 30*time.Second + 15*time.Second // the longest pause, and a start on a busy machine
)

func (n *nemesis) run(ctx context.Context, labels []fault.Label) {
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(500+n.rng.IntN(2000)) * time.Millisecond):
		}
		n.forgive(ctx)
		if i%3 == 2 {
			n.random(ctx)
			continue
		}
		n.at(ctx, labels[(i-i/3)%len(labels)])
	}
}

// process is one that may be killed.
type process struct {
	id, kind string
	pid      int
}

func (n *nemesis) processes() (all []process) {
	d := n.dev()
	for _, m := range d.Masters {
		all = append(all, process{m.ID, "master", m.PID})
	}
	for _, a := range d.Agents {
		all = append(all, process{a.ID, "agent", a.PID})
	}
	for _, node := range d.Nodes {
		if node.Agent != "" {
			all = append(all, process{node.ID, "node", node.PID})
		}
	}
	return all
}

// forgive kills the agents of nodes that have ended often, as an operator would restart them: a new agent counts anew.
func (n *nemesis) forgive(ctx context.Context) {
	d := n.dev()
	for _, node := range d.Nodes {
		if n.deaths[node.ID] < mostDeaths {
			continue
		}
		for _, a := range d.Agents {
			if a.ID == node.Agent && a.PID != 0 && syscall.Kill(a.PID, syscall.SIGKILL) == nil {
				n.killed["agent"]++
				n.back(ctx, process{a.ID, "agent", a.PID})
			}
		}
	}
}

// count notes that a process has ended and is back.
func (n *nemesis) count(was process) {
	switch was.kind {
	case "node":
		n.deaths[was.id]++
	case "agent":
		for _, node := range n.dev().Nodes {
			if node.Agent == was.id {
				n.deaths[node.ID] = 0
			}
		}
	}
}

// random kills any process.
func (n *nemesis) random(ctx context.Context) {
	all := n.processes()
	p := all[n.rng.IntN(len(all))]
	if p.pid == 0 || syscall.Kill(p.pid, syscall.SIGKILL) != nil {
		return
	}
	n.killed[p.kind]++
	n.back(ctx, p)
}

// at has one process killed where it comes to a label. Which processes come there the load decides: all of a kind are armed, one after
// the other, until one did.
func (n *nemesis) at(ctx context.Context, label fault.Label) {
	name := fault.Name(label)
	kind := "master"
	if strings.HasPrefix(name, "shard.") {
		kind = "node"
	}
	all := slices.DeleteFunc(n.processes(), func(p process) bool { return p.kind != kind || p.pid == 0 })
	n.rng.Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
	for _, p := range all {
		n.plan(p.id, name+":crash")
		struck := gone(ctx, p.pid, time.Second)
		n.plan(p.id, "")
		if struck || gone(ctx, p.pid, 50*time.Millisecond) {
			n.killed[name]++
			n.back(ctx, p)
			return
		}
	}
}

// gone waits until a process is no more.
func gone(ctx context.Context, pid int, limit time.Duration) bool {
	late := time.After(limit)
	for {
		if syscall.Kill(pid, 0) != nil {
			return true
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-late:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// back waits until a process that was killed runs again.
func (n *nemesis) back(ctx context.Context, was process) {
	for begun := time.Now(); ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		for _, p := range n.processes() {
			if p.id == was.id && p.pid != 0 && p.pid != was.pid {
				n.count(was)
				return
			}
		}
		if time.Since(begun) > nodeIsBack {
			n.t.Errorf("%s was killed and is not back after %s", was.id, nodeIsBack)
			return
		}
	}
}

func (n *nemesis) String() string {
	var all []string
	total := 0
	for what, times := range n.killed {
		all = append(all, fmt.Sprintf("%s %d", what, times))
		total += times
	}
	slices.Sort(all)
	return fmt.Sprintf("%d kills: %s", total, strings.Join(all, ", "))
}
