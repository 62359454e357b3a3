package servers

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func sh(t *testing.T, script string) program {
	t.Helper()
	return program{name: "script", path: "/bin/sh", args: []string{"-c", script}, log: filepath.Join(t.TempDir(), "log"), ready: "ready", stop: syscall.SIGTERM}
}

// TestChild: ready when it says so, ended when it is asked, and what it said is in its log.
func TestChild(t *testing.T) {
	c, err := launch(sh(t, "echo hello; echo ready now; echo trouble >&2; read wait"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.await(t.Context(), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := c.end(syscall.SIGTERM, 10*time.Second); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(c.log.Name())
	if err != nil || !strings.Contains(string(text), "hello\n") || !strings.Contains(string(text), "trouble\n") {
		t.Errorf("%q, %v", text, err)
	}
	if syscall.Kill(c.cmd.Process.Pid, 0) == nil {
		t.Error("it still runs")
	}
}

// TestChildThatFails says what it said last; one that does not end is killed; one that is not ready in time is an error; so is Ctrl-C.
func TestChildThatFails(t *testing.T) {
	c, err := launch(sh(t, "echo no port is free >&2; exit 3"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.await(t.Context(), 10*time.Second); err == nil || !strings.Contains(err.Error(), "no port is free") {
		t.Errorf("%v", err)
	}
	c, err = launch(sh(t, "trap '' TERM; echo ready; while :; do sleep 1; done"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.await(t.Context(), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := c.end(syscall.SIGTERM, 50*time.Millisecond); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("%v", err)
	}
	c, err = launch(sh(t, "read wait"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.await(t.Context(), 50*time.Millisecond); err == nil || !strings.Contains(err.Error(), "not ready") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	broken := errors.New("Ctrl-C")
	cancel(broken)
	if err := c.await(ctx, time.Minute); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if err := c.end(syscall.SIGTERM, 10*time.Second); err != nil {
		t.Error(err)
	}
	if _, err := launch(program{name: "nothing", path: "/nowhere", log: filepath.Join(t.TempDir(), "log")}); err == nil {
		t.Error("what is not there starts")
	}
}

// TestPorts: blocks and addresses are free, and no address comes twice.
func TestPorts(t *testing.T) {
	base, err := freeBase()
	if err != nil || base < lowestPort || base+gridPorts > highestPort {
		t.Errorf("%d, %v", base, err)
	}
	addrs, err := freeAddresses(6)
	seen := map[string]bool{}
	for _, a := range addrs {
		seen[a] = true
	}
	if err != nil || len(seen) != 6 {
		t.Errorf("%v, %v", addrs, err)
	}
}

// TestUntil ends with success, or with the last error once time is up.
func TestUntil(t *testing.T) {
	tries := 0
	if err := until(t.Context(), func() error {
		if tries++; tries < 3 {
			return errors.New("not yet")
		}
		return nil
	}); err != nil || tries != 3 {
		t.Errorf("%d tries, %v", tries, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := until(ctx, func() error { return errors.New("never") }); err == nil || !strings.Contains(err.Error(), "never") || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// TestPostgresVersions: the newest is taken.
func TestPostgresVersions(t *testing.T) {
	for dir, want := range map[string]int{"/usr/lib/postgresql/15/bin": 15, "/usr/lib/postgresql/9.6/bin": 0, "/usr/local/bin": 0} {
		if got := versionOf(dir); got != want {
			t.Errorf("%s: %d, want %d", dir, got, want)
		}
	}
}

// TestProcesses: all of a grid's, event storage among them, each with where it is found.
func TestProcesses(t *testing.T) {
	g := &Grid{data: t.TempDir()}
	if _, err := g.Processes(); err == nil {
		t.Error("a grid that does not run has processes")
	}
	for name, text := range map[string]string{
		"dev.json": `{"masters":[{"id":"master-1","pid":11,"http":"h:1","grid":"h:2"}],"agents":[{"id":"agent-1","pid":12}],` +
			`"nodes":[{"id":"node-7","pid":13,"agent":"agent-1"}],"events":"h:3"}`,
		"supervisor.json": `{"children":{"agent-1":"12/5/b","events":"14/7/b"}}`,
	} {
		if err := os.WriteFile(filepath.Join(g.data, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := g.Processes()
	want := []Process{
		{Name: "agent-1", PID: 12, Dir: filepath.Join(g.data, "agents/agent-1/spool")},
		{Name: "events", PID: 14, Dir: filepath.Join(g.data, "events")},
		{Name: "master-1", PID: 11, HTTP: "h:1", Dir: filepath.Join(g.data, "masters/master-1")},
		{Name: "node-7", PID: 13, Dir: filepath.Join(g.data, "agents/agent-1/nodes/node-7/data")},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(g.data, "supervisor.json"), []byte(`{"children":{}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Processes(); err == nil || !strings.Contains(err.Error(), "event storage") {
		t.Errorf("no process of event storage: %v", err)
	}
}
