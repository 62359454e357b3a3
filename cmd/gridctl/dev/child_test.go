package dev

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sutra-grid/sutra-grid/agent"
	"github.com/sutra-grid/sutra-grid/agent/platform"
	"github.com/sutra-grid/sutra-grid/agent/platform/process"
)

// The test binary is the hold program, and a child that does as it is told.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "hold" {
		fmt.Fprintln(os.Stderr, process.Hold(os.Args[2:]))
		os.Exit(127)
	}
	if len(os.Args) > 2 && os.Args[1] == "fake" {
		fake(os.Args[2])
	}
	goleak.VerifyTestMain(m)
}

func fake(what string) {
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	switch what {
	case "fail":
		fmt.Fprintln(os.Stderr, "cannot do that")
		os.Exit(1)
	case "leave":
		os.Exit(0)
	}
	fmt.Fprintf(os.NewFile(3, "ready"), "ready 127.0.0.1:1 store\n")
	for range terminated {
		if what != "stubborn" {
			os.Exit(0)
		}
	}
}

// rig is a supervisor whose programs are this test binary.
type rig struct {
	*supervisor
	out   bytes.Buffer
	fatal chan error
	moved chan struct{} // holds one element when a pid changed
	ready bool
	lived time.Duration // what every life of a child counts as
}

func newRig(t *testing.T) *rig {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "logs"), 0o755); err != nil {
		t.Fatal(err)
	}
	programs := t.TempDir()
	if err := os.Symlink(os.Args[0], filepath.Join(programs, "program")); err != nil {
		t.Fatal(err)
	}
	record, err := openRecord(filepath.Join(root, "supervisor.json"))
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{fatal: make(chan error, 1), moved: make(chan struct{}, 1)}
	r.supervisor = &supervisor{cfg: Config{Programs: programs}, adapter: process.New(os.Args[0], "hold"), dirs: dirs{root}, record: record,
		out:     &printer{w: &r.out},
		fatal:   func(err error) { r.fatal <- err },
		isReady: func() bool { return r.ready },
		since:   func(time.Time) time.Duration { return r.lived },
		changed: func() {
			select {
			case r.moved <- struct{}{}:
			default:
			}
		}}
	return r
}

// start launches a child that is ended with the test.
func (r *rig) start(t *testing.T, what string) *child {
	t.Helper()
	data := filepath.Join(r.dirs.root, "data")
	c := r.launch(program{id: "child-1", name: "program", data: data, args: []string{"fake", what, "--data", data}})
	t.Cleanup(func() {
		if err := c.Kill(); err != nil {
			t.Error(err)
		}
		<-c.done
	})
	return c
}

// await waits until ok, which may change whenever a pid does.
func (r *rig) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-r.moved:
		case <-limit:
			t.Fatalf("%s: not within 20 s; %s", what, r.said())
		}
	}
}

func (r *rig) said() string {
	r.supervisor.out.mu.Lock()
	defer r.supervisor.out.mu.Unlock()
	return r.out.String()
}

func TestChildIsStartedAgain(t *testing.T) {
	r := newRig(t)
	r.ready, r.lived = true, time.Hour
	c := r.start(t, "run")
	<-c.ready
	first := c.pid()
	if ref, ok := r.record.child("child-1"); !ok || !strings.HasPrefix(string(ref), fmt.Sprint(first, "/")) {
		t.Errorf("recorded %q, runs as %d", ref, first)
	}
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.await(t, "down", func() bool { return c.pid() != first })
	r.await(t, "up again", func() bool { return c.pid() != 0 })
	if said := r.said(); !strings.Contains(said, "child-1 ended (SIGKILL)") || strings.Count(said, "\n") != 1 {
		t.Errorf("said %q", said)
	}
	killed, err := endAll(targets([]*child{c}), 10*time.Second)
	if err != nil || len(killed) > 0 || c.pid() != 0 {
		t.Errorf("end: %v %v, pid %d", killed, err, c.pid())
	}
	if strings.Count(r.said(), "\n") != 1 {
		t.Errorf("an end that was asked for was reported: %q", r.said())
	}
}

// After exit 0 too, and a life too short for a restart at once only delays it.
func TestChildThatLeaves(t *testing.T) {
	r := newRig(t)
	r.ready = true
	r.start(t, "leave")
	r.await(t, "two restarts", func() bool { return strings.Count(r.said(), "started again in") >= 2 })
	if said := r.said(); !strings.Contains(said, "exit status 0") || !strings.Contains(said, "in 250ms") || !strings.Contains(said, "in 500ms") {
		t.Errorf("said %q", said)
	}
}

func TestChildThatCannotStart(t *testing.T) {
	r := newRig(t)
	r.start(t, "fail")
	err := <-r.fatal
	if want := "child-1 does not start: cannot do that"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}

	missing := newRig(t)
	missing.cfg.Programs = t.TempDir()
	missing.start(t, "run")
	if err := <-missing.fatal; !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "child-1") {
		t.Errorf("%v", err)
	}
}

func TestEndKillsTheStubborn(t *testing.T) {
	r := newRig(t)
	c := r.start(t, "stubborn")
	<-c.ready
	killed, err := endAll(targets([]*child{c}), 100*time.Millisecond)
	if err != nil || fmt.Sprint(killed) != "[child-1]" {
		t.Errorf("%v, %v", killed, err)
	}
}

func TestEndDuringAPause(t *testing.T) {
	r := newRig(t)
	r.ready = true
	c := r.start(t, "leave")
	r.await(t, "a pause", func() bool { return strings.Contains(r.said(), "started again in") })
	if killed, err := endAll(targets([]*child{c}), 10*time.Second); err != nil || len(killed) > 0 {
		t.Errorf("%v, %v", killed, err)
	}
}

// spawn starts a process that nobody supervises, as a run that was killed leaves them.
func (r *rig) spawn(t *testing.T, what, data string) *platform.Instance {
	t.Helper()
	dir := t.TempDir()
	in, err := r.adapter.Start(platform.Spec{Path: os.Args[0], Args: []string{"fake", what, "--data", data}, ReadyFile: filepath.Join(dir, "ready"),
		LogFile: filepath.Join(dir, "log")}, func(platform.Ref, int) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Kill(); in.Close() })
	if n := <-in.Notices; n.Ready == nil {
		t.Fatalf("%+v, want ready", n)
	}
	return in
}

func TestSurvivors(t *testing.T) {
	r := newRig(t)
	data := filepath.Join(r.dirs.root, "masters", "master-1")
	left := survivors{adapter: r.adapter, out: r.supervisor.out}
	for _, c := range []struct {
		name, data string
		ref        func(platform.Ref) platform.Ref
		ended      bool
	}{
		{"a child of an earlier run", data, func(ref platform.Ref) platform.Ref { return ref }, true},
		{"another command line", r.dirs.root + "-other", func(ref platform.Ref) platform.Ref { return ref }, false},
		{"another start time", data, func(ref platform.Ref) platform.Ref { return platform.Ref(strings.Replace(string(ref), "/", "/1", 1)) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := r.spawn(t, "run", c.data)
			if err := r.record.started("master-1", c.ref(in.Ref)); err != nil {
				t.Fatal(err)
			}
			if err := left.endChildren(r.record, []program{{id: "master-1", data: data}, {id: "master-2", data: data}}, 10*time.Second); err != nil {
				t.Fatal(err)
			}
			_, err := process.CommandLine(in.Ref)
			if ended := errors.Is(err, platform.ErrGone); ended != c.ended {
				t.Errorf("ended: %v, want %v; said %q", ended, c.ended, r.said())
			}
		})
	}
}

// writeAgent puts an agent's record with one node into its directory, as the agent does it.
func writeAgent(t *testing.T, dir string, n agent.NodeRecord) {
	t.Helper()
	text, err := json.Marshal(agent.Record{AgentID: "agent-1", Nodes: []agent.NodeRecord{n}})
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	path := filepath.Join(dir, agent.RecordFile)
	if err == nil {
		err = os.WriteFile(path+".tmp", text, 0o600)
	}
	if err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A node whose agent is dead is ended, by what the agent recorded.
func TestNodesWithoutAgentAreEnded(t *testing.T) {
	r := newRig(t)
	a := program{id: "agent-1", data: r.dirs.agent("agent-1")}
	in := r.spawn(t, "run", filepath.Join(a.data, "nodes", "node-1", "data"))
	writeAgent(t, a.data, agent.NodeRecord{NodeID: "node-1", Ref: in.Ref, Phase: agent.Running})
	left := survivors{adapter: r.adapter, out: r.supervisor.out}
	if err := left.endNodes([]program{a, {id: "agent-2", data: r.dirs.agent("agent-2")}}, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := process.CommandLine(in.Ref); !errors.Is(err, platform.ErrGone) {
		t.Errorf("node-1 still runs: %v", err)
	}
}

// The fleet follows the record, and knows that a node is dead before anybody records it.
func TestFleet(t *testing.T) {
	r := newRig(t)
	a := program{id: "agent-1", data: r.dirs.agent("agent-1")}
	if err := os.MkdirAll(a.data, 0o755); err != nil {
		t.Fatal(err)
	}
	f := newFleet(r.supervisor, []program{a}, func() bool { return false })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.follow(ctx) }()

	only := func(pid int, endpoint string) func() bool {
		return func() bool {
			l := f.list()
			return len(l) == 1 && l[0].pid == pid && l[0].Endpoint == endpoint && l[0].agent == "agent-1"
		}
	}
	in := r.spawn(t, "run", a.data)
	writeAgent(t, a.data, agent.NodeRecord{NodeID: "node-1", Wanted: true, Ref: in.Ref, PID: in.PID, Phase: agent.Starting})
	r.await(t, "a node that starts", only(in.PID, ""))
	writeAgent(t, a.data, agent.NodeRecord{NodeID: "node-1", Wanted: true, Ref: in.Ref, PID: in.PID, Phase: agent.Running, Endpoint: "e"})
	r.await(t, "a node that runs", only(in.PID, "e"))
	if err := in.Kill(); err != nil {
		t.Fatal(err)
	}
	r.await(t, "a node that died", only(0, "e"))
	if !strings.Contains(r.said(), "node-1") {
		t.Errorf("said %q", r.said())
	}
	writeAgent(t, a.data, agent.NodeRecord{NodeID: "node-1"})
	r.await(t, "a node that is wanted no more", func() bool { return len(f.list()) == 0 })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
