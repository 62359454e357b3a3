package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/transport"
)

// how a point of a master's write path is reached.
type how int

const (
	byWriting  how = iota // the leader writes
	byFlushing            // a master's outbox is flushed: it has taken enough
	byVoting              // a follower votes: the leader is killed
)

// writePath is the points that a write passes on its way through a master, and how each is reached. Those of snapshots and
// restores are reached with thousands of entries, or in one process (master, master/feed, internal/raftgroup).
var writePath = []struct {
	label fault.Label
	how   how
}{
	{fault.RaftLogStore, byWriting}, {fault.RaftLogStored, byWriting}, {fault.RaftApply, byWriting}, {fault.RaftApplied, byWriting},
	{fault.OutboxAppend, byWriting}, {fault.OutboxAppended, byWriting}, {fault.OutboxWrite, byFlushing}, {fault.OutboxSync, byFlushing},
	{fault.RaftTerm, byVoting}, {fault.RaftVote, byVoting},
}

// faultMasters is three masters of a build that can be made to fail, each told by a file. They are not started.
func faultMasters(t *testing.T) *masters {
	t.Helper()
	m := newMasters(t, t.TempDir())
	m.bin = filepath.Join(t.TempDir(), "gridmaster")
	build := exec.Command("go", "build", "-tags", "faults", "-o", m.bin, "./cmd/gridmaster")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	m.env = func(p *masterProc) []string { return []string{"GRID_FAULT_FILE=" + m.plan(p)} }
	return m
}

func (m *masters) plan(p *masterProc) string { return filepath.Join(m.dir, p.id+".plan") }

// arm makes a master fail as the plan says; an empty plan takes it back.
func (m *masters) arm(p *masterProc, plan string) {
	m.t.Helper()
	next := m.plan(p) + ".new"
	if err := os.WriteFile(next, []byte(plan), 0o600); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Rename(next, m.plan(p)); err != nil {
		m.t.Fatal(err)
	}
}

// wantFault waits for the end of a master that was armed, and checks that it was the fault that ended it.
func (m *masters) wantFault(p *masterProc, gone <-chan error, label fault.Label) {
	m.t.Helper()
	select {
	case <-gone:
	case <-time.After(30 * time.Second):
		m.t.Fatalf("%s did not crash at %s", p.id, fault.Name(label))
	}
	log, err := os.ReadFile(filepath.Join(m.dir, p.id+".log"))
	if err != nil {
		m.t.Fatal(err)
	}
	if !strings.Contains(string(log), "fault: "+fault.Name(label)+", pass ") {
		m.t.Fatalf("%s ended, but not at %s", p.id, fault.Name(label))
	}
}

// TestCrashAtEachPointOfAWrite kills a master at every point that a write passes, under load, and starts it again: no call
// fails, nothing acknowledged is lost or done twice, and all three hold the same.
func TestCrashAtEachPointOfAWrite(t *testing.T) {
	if !timed() {
		t.Skip("it builds a program that can be made to fail, and takes half a minute: make e2e")
	}
	m := faultMasters(t)
	m.start()
	load := startLoadOf(m, 8, strings.Repeat("x", 4000))
	for _, at := range writePath {
		begun := time.Now()
		leader := m.leader()
		victim := leader
		if at.how == byVoting {
			victim = m.procs[(slices.Index(m.procs[:], leader)+1)%3]
		}
		m.arm(victim, fault.Name(at.label)+":crash")
		if at.how == byVoting {
			if err := <-m.end(leader, syscall.SIGKILL); err == nil {
				t.Error("the leader ended by itself")
			}
		}
		m.wantFault(victim, m.leave(victim), at.label)
		m.arm(victim, "")
		m.start()
		load.await(time.Now(), 50)
		t.Logf("%s: %s crashed, was started again, and writes go on, in %v", fault.Name(at.label), victim.id, time.Since(begun).Round(time.Millisecond))
	}
	m.leader()
	acks, failures := load.stop()
	for _, f := range failures {
		t.Errorf("a call failed: %v", f)
	}
	m.leader()
	for _, p := range m.procs {
		checkAcked(&masters{t: t, any: transport.NewMasters([]string{p.grid}, m.pool)}, acks)
	}
	t.Logf("%d points, %d writes acknowledged, all there on all three", len(writePath), len(acks))
}
