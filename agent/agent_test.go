package agent

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/agent/platform"
	"github.com/sutra-grid/sutra-grid/agent/platform/process"
	"github.com/sutra-grid/sutra-grid/agent/spool"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

const (
	spawned   = event.TypeSpawnSucceeded
	failed    = event.TypeSpawnFailed
	crashed   = event.TypeNodeCrashed
	restarted = event.TypeNodeRestarted
	stopped   = event.TypeStopSucceeded
)

var first = transport.NodeAssignment{NodeID: "node-1", Init: true}

// later is the assignment once the masters know that the node ran.
var later = transport.NodeAssignment{NodeID: "node-1"}

// begin is a grid with one running node.
func begin(t *testing.T) (*masters, *Agent, Config) {
	t.Helper()
	m := startMasters(t)
	cfg := testConfig(newDir(t), m.addr)
	a := open(t, cfg)
	m.assign(first)
	m.awaitNode("node-1", Running)
	m.awaitEvents(spawned)
	return m, a, cfg
}

func nodeLog(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "nodes", "node-1", "log", "node.log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func behave(t *testing.T, dir, how string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "behave"), []byte(how), 0o600); err != nil {
		t.Fatal(err)
	}
}

func kill(t *testing.T, pid uint32) {
	t.Helper()
	if err := syscall.Kill(int(pid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func TestSpawn(t *testing.T) {
	m := startMasters(t)
	cfg := testConfig(newDir(t), m.addr)
	cfg.Zone, cfg.Version, cfg.Labels = "z", "v1", map[string]string{"k": "v"}
	a := open(t, cfg)
	m.await("registration", func() bool { return len(m.registered) == 1 })
	r := m.registered[0]
	if r.AgentID != "agent-1" || r.StoreID == "" || r.GridID != "" || r.AgentEndpoint != a.Addr() || r.Zone != "z" || r.Labels["k"] != "v" ||
		r.MaxStorageNodes != 1 || r.Version != "v1" || !strings.HasPrefix(r.Platform, "linux/") || r.Hostname == "" {
		t.Errorf("registration %+v", r)
	}

	node := first
	node.MemoryLimitMB = 64
	m.assign(node)
	n := m.awaitNode("node-1", Running)
	e := m.awaitEvents(spawned)[0].(event.SpawnSucceeded)
	if e.AgentID != "agent-1" || e.PID != n.PID || e.Start != 1 || e.StoreID == "" || e.Endpoint != fmt.Sprint("127.0.0.1:", e.Port) || e.Endpoint != n.Endpoint {
		t.Errorf("%+v, reported %+v", e, n)
	}
	log := nodeLog(t, cfg.Data)
	for _, want := range []string{"--init", "--grid-id g", "--agent-id agent-1", "--masters " + m.addr, "env 64MiB"} {
		if !strings.Contains(log, want) {
			t.Errorf("the node was started without %q: %s", want, log)
		}
	}
	if b := m.beats[len(m.beats)-1]; b.StorageNodeCount != 1 || b.Revision != 1 || b.Load.MemoryMB == 0 {
		t.Errorf("heartbeat %+v", b)
	}
	checkOwnPort(t, a, n)
}

// checkOwnPort asks the agent itself, in the grid's protocol and in garbage.
func checkOwnPort(t *testing.T, a *Agent, n event.NodeReport) {
	t.Helper()
	pool := transport.NewPool(transport.PoolConfig{})
	defer pool.Close()
	health, err := transport.Call[transport.HealthCheckOk](t.Context(), pool, a.Addr(), &transport.HealthCheck{})
	if err != nil || !health.Healthy {
		t.Errorf("health %+v, %v", health, err)
	}
	nodes, err := transport.Call[transport.ListNodesOk](t.Context(), pool, a.Addr(), &transport.ListNodes{})
	if err != nil || len(nodes.Nodes) != 1 || nodes.Nodes[0].PID != n.PID || nodes.Nodes[0].Status != string(Running) {
		t.Errorf("nodes %+v, %v", nodes, err)
	}
	if _, err := pool.Call(t.Context(), a.Addr(), &transport.GetClusterStatus{}); !errors.Is(err, &event.Error{Kind: event.KindUnsupported}) {
		t.Errorf("a question for masters: %v", err)
	}
	for _, garbage := range []string{"\xff\xff\xff\xff", "\x00\x00\x00\x03abc", "GET / HTTP/1.1\r\n\r\n", "\xc1raft"} {
		c, err := net.Dial("tcp", a.Addr())
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Write([]byte(garbage)); err != nil {
			t.Error(err)
		}
		if n, err := c.Read(make([]byte, 100)); n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q: neither an answer nor a close", garbage)
		}
		c.Close()
	}
}

func TestCrashAndRestart(t *testing.T) {
	m, _, cfg := begin(t)
	before := m.awaitNode("node-1", Running)
	kill(t, before.PID)
	m.await("new process", func() bool {
		nodes := m.beats[len(m.beats)-1].Nodes
		return len(nodes) == 1 && nodes[0].Status == string(Running) && nodes[0].PID != before.PID
	})
	events := m.awaitEvents(spawned, crashed, restarted)
	c, r := events[1].(event.NodeCrashed), events[2].(event.NodeRestarted)
	if c.Signal != "SIGKILL" || c.ExitCode != nil || c.OOM || c.Start != 1 || !strings.Contains(c.StderrTail, "args ") {
		t.Errorf("%+v", c)
	}
	if r.RestartCount != 1 || r.Start != 2 || r.Endpoint != before.Endpoint || r.NewPID == before.PID {
		t.Errorf("%+v, before %+v", r, before)
	}
	if log := nodeLog(t, cfg.Data); strings.Contains(log, "--init") {
		t.Errorf("a node that ran was told to make its directory: %s", log)
	}
}

func TestAdoptsWhatRuns(t *testing.T) {
	m, a, cfg := begin(t)
	before := m.awaitNode("node-1", Running)
	closeAgent(t, a)
	m.change(func() { m.beats = nil })

	open(t, cfg)
	if after := m.awaitNode("node-1", Running); after != before {
		t.Errorf("adopted %+v, want %+v", after, before)
	}
	m.awaitEvents(spawned)
	kill(t, before.PID)
	m.awaitEvents(spawned, crashed, restarted)
}

// TestStartsAgainWithoutNodes: an agent that ends before it has anything to record can be started again.
func TestStartsAgainWithoutNodes(t *testing.T) {
	m := startMasters(t)
	cfg := testConfig(newDir(t), m.addr)
	closeAgent(t, open(t, cfg))
	open(t, cfg)
	m.assign(first)
	m.awaitNode("node-1", Running)
}

func TestNodeThatDiedMeanwhile(t *testing.T) {
	m, a, cfg := begin(t)
	before := m.awaitNode("node-1", Running)
	closeAgent(t, a)
	kill(t, before.PID)
	if _, err := syscall.Wait4(int(before.PID), nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	open(t, cfg)
	events := m.awaitEvents(spawned, crashed, restarted)
	if c := events[1].(event.NodeCrashed); c.ExitCode != nil || c.Signal != "" || c.Start != 1 {
		t.Errorf("%+v: how it ended is unknown", c)
	}
	if r := events[2].(event.NodeRestarted); r.Start != 2 || r.Endpoint != before.Endpoint {
		t.Errorf("%+v", r)
	}
}

// A process that is not the recorded one, though it has its pid, is left alone.
func TestTouchesNoStranger(t *testing.T) {
	m, a, cfg := begin(t)
	before := m.awaitNode("node-1", Running)
	closeAgent(t, a)
	r, err := ReadRecord(cfg.Data)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(r.Nodes[0].Ref), "/")
	stranger := strings.Join([]string{parts[0], parts[1] + "0", parts[2]}, "/")
	path := filepath.Join(cfg.Data, RecordFile)
	text, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte(strings.Replace(string(text), string(r.Nodes[0].Ref), stranger, 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	behave(t, cfg.Data, "fail") // the stranger has the lock anyway
	open(t, cfg)
	m.await("crash", func() bool { return len(m.events) > 1 && m.events[1].Type() == crashed })
	if err := syscall.Kill(int(before.PID), 0); err != nil {
		t.Errorf("the process that was not ours is gone: %v", err)
	}
}

// The agent is killed with SIGKILL at every point of a start. Whoever comes next brings up exactly one process, and reports it once.
func TestKilledWhileStarting(t *testing.T) {
	for _, point := range diePoints {
		t.Run(point, func(t *testing.T) {
			m := startMasters(t)
			dir := newDir(t)
			m.assign(first)
			doomed := exec.Command(os.Args[0], "agent", point, dir, m.addr)
			if err := doomed.Run(); doomed.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("the agent was to die at %q: %v", point, err)
			}
			open(t, testConfig(dir, m.addr))
			n := m.awaitNode("node-1", Running)
			e := m.awaitEvents(spawned)[0].(event.SpawnSucceeded)
			if pids := nodeProcesses(t, dir); !slices.Equal(pids, []int{int(n.PID)}) || e.PID != n.PID {
				t.Errorf("processes %v, reported %d and %d", pids, n.PID, e.PID)
			}
			if wantStart := uint64(2); point == "process released" {
				wantStart = 1 // adopted
			} else if e.Start != wantStart {
				t.Errorf("start %d, want %d: the counter is recorded before each start", e.Start, wantStart)
			}
		})
	}
}

// The agent is killed between recording a change and spooling its event.
func TestEventOfARecordedChangeIsNotLost(t *testing.T) {
	m, a, cfg := begin(t)
	closeAgent(t, a)
	body, err := event.AppendBody(nil, event.SpawnFailed{NodeID: "node-1", AgentID: "agent-1", Error: "x"})
	if err != nil {
		t.Fatal(err)
	}
	r, err := ReadRecord(cfg.Data)
	if err != nil {
		t.Fatal(err)
	}
	j := &journal{path: filepath.Join(cfg.Data, RecordFile), record: r}
	j.record.Emitted = Emitted{Number: r.Emitted.Number + 1, Type: failed, Body: body}
	if err := j.commit(nil); err != nil {
		t.Fatal(err)
	}
	open(t, cfg)
	m.awaitEvents(spawned, failed)
}

func TestStop(t *testing.T) {
	for _, how := range []string{"", "stubborn"} {
		t.Run("node is "+how, func(t *testing.T) {
			m := startMasters(t)
			cfg := testConfig(newDir(t), m.addr)
			cfg.StopPatience = 200 * time.Millisecond
			behave(t, cfg.Data, how)
			open(t, cfg)
			m.assign(first)
			n := m.awaitNode("node-1", Running)
			m.assign()
			m.awaitEvents(spawned, stopped)
			if err := syscall.Kill(int(n.PID), 0); !errors.Is(err, syscall.ESRCH) {
				t.Errorf("process %d: %v", n.PID, err)
			}
			m.await("an empty report", func() bool { return len(m.beats[len(m.beats)-1].Nodes) == 0 })
		})
	}
}

func TestFailedStart(t *testing.T) {
	m := startMasters(t)
	cfg := testConfig(newDir(t), m.addr)
	behave(t, cfg.Data, "fail")
	open(t, cfg)
	m.assign(first)
	m.awaitNode("node-1", Crashed)
	e := m.awaitEvents(failed)[0].(event.SpawnFailed)
	if want := "it ended (exit status 3) before it was ready: node: told to fail"; e.Error != want {
		t.Errorf("%q, want %q", e.Error, want)
	}
	behave(t, cfg.Data, "")
	m.awaitEvents(failed, spawned)
}

func TestStartThatHangs(t *testing.T) {
	m := startMasters(t)
	cfg := testConfig(newDir(t), m.addr)
	cfg.StartPatience = 200 * time.Millisecond
	behave(t, cfg.Data, "hang")
	open(t, cfg)
	m.assign(first)
	e := m.awaitEvents(failed)[0].(event.SpawnFailed)
	if !strings.Contains(e.Error, "signal SIGKILL") {
		t.Errorf("%q", e.Error)
	}
}

// A node that lost its directory, and one whose program is missing: nothing is made up, and the masters hear of it.
func TestStartsThatCannotWork(t *testing.T) {
	t.Run("never ran, and is not to be made", func(t *testing.T) {
		m := startMasters(t)
		cfg := testConfig(newDir(t), m.addr)
		open(t, cfg)
		m.assign(later)
		e := m.awaitEvents(failed)[0].(event.SpawnFailed)
		if !strings.Contains(e.Error, "is missing") {
			t.Errorf("%q", e.Error)
		}
	})
	t.Run("ran, and lost its directory", func(t *testing.T) {
		m, a, cfg := begin(t)
		n := m.awaitNode("node-1", Running)
		closeAgent(t, a)
		kill(t, n.PID)
		if err := os.RemoveAll(filepath.Join(cfg.Data, "nodes", "node-1", "data")); err != nil {
			t.Fatal(err)
		}
		open(t, cfg) // the assignment still says Init: the masters may not have heard yet
		events := m.awaitEvents(spawned, crashed, crashed)
		if c := events[2].(event.NodeCrashed); !strings.Contains(c.StderrTail, "is missing") {
			t.Errorf("%+v", c)
		}
	})
	t.Run("no program", func(t *testing.T) {
		m := startMasters(t)
		cfg := testConfig(newDir(t), m.addr)
		cfg.GridNode = filepath.Join(cfg.Data, "gridnode")
		open(t, cfg)
		m.assign(first)
		e := m.awaitEvents(failed)[0].(event.SpawnFailed)
		if !strings.Contains(e.Error, cfg.GridNode) {
			t.Errorf("%q", e.Error)
		}
	})
	t.Run("stopped in good order, then no program", func(t *testing.T) {
		m := startMasters(t)
		cfg := testConfig(newDir(t), m.addr)
		cfg.StopNodesOnExit = true
		a := open(t, cfg)
		m.assign(first)
		m.awaitNode("node-1", Running)
		closeAgent(t, a)
		cfg.GridNode = filepath.Join(cfg.Data, "gridnode")
		open(t, cfg)
		m.awaitEvents(spawned, crashed)
	})
}

func TestStopNodesOnExit(t *testing.T) {
	m := startMasters(t)
	cfg := testConfig(newDir(t), m.addr)
	cfg.StopNodesOnExit = true
	a := open(t, cfg)
	m.assign(first)
	n := m.awaitNode("node-1", Running)
	closeAgent(t, a)
	if err := syscall.Kill(int(n.PID), 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d outlived the agent: %v", n.PID, err)
	}
	m.awaitNode("node-1", Stopped)
	open(t, cfg)
	events := m.awaitEvents(spawned, spawned)
	if e := events[1].(event.SpawnSucceeded); e.Start != 2 || e.Endpoint != n.Endpoint {
		t.Errorf("%+v, before %+v", e, n)
	}
}

// Masters that cannot be reached: the agent supervises, spools, is restarted, and hands everything over once, in order.
func TestSpoolsWhileMastersAreAway(t *testing.T) {
	m, a, cfg := begin(t)
	n := m.awaitNode("node-1", Running)
	m.change(func() { m.away = true })
	kill(t, n.PID)
	awaitRecord(t, cfg.Data, func(r Record) bool { return r.Nodes[0].Restarts == 1 && r.Nodes[0].Phase == Running })
	closeAgent(t, a)
	second := open(t, cfg)
	r, err := ReadRecord(cfg.Data)
	if err != nil {
		t.Fatal(err)
	}
	kill(t, uint32(r.Nodes[0].PID))
	awaitRecord(t, cfg.Data, func(r Record) bool { return r.Nodes[0].Restarts == 2 && r.Nodes[0].Phase == Running })
	if room := second.keeper.journal.spool.Room(); room > spool.Limit-3 { // the fourth may be on its way from the record
		t.Errorf("room for %d events, 3 or 4 should be spooled", room)
	}
	m.change(func() { m.away = false })
	events := m.awaitEvents(spawned, crashed, restarted, crashed, restarted)
	for i, start := range []uint64{1, 2} {
		if c := events[2*i+1].(event.NodeCrashed); c.Start != start {
			t.Errorf("crash %d is of start %d", i+1, c.Start)
		}
	}
}

// awaitRecord waits until the record in a directory is so.
func awaitRecord(t *testing.T, dir string, ok func(Record) bool) {
	t.Helper()
	w, err := process.Watch(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	stop := time.AfterFunc(20*time.Second, func() { w.Close() })
	defer stop.Stop()
	for {
		r, err := ReadRecord(dir)
		if err != nil {
			t.Fatal(err)
		}
		if ok(r) {
			return
		}
		if err := w.Next(); err != nil {
			t.Fatalf("not within 20 s: %+v", r)
		}
	}
}

func TestRegistersAgain(t *testing.T) {
	m := startMasters(t)
	cfg := testConfig(newDir(t), m.addr)
	cfg.HeartbeatEvery = 10 * time.Millisecond
	open(t, cfg)
	m.await("heartbeat", func() bool { return len(m.beats) > 0 })
	m.change(func() { m.known = map[event.AgentID]bool{} })
	m.await("second registration", func() bool { return len(m.registered) == 2 })
	if r := m.registered[1]; r.GridID != "g" || r.StoreID != m.registered[0].StoreID {
		t.Errorf("registered again as %+v", r)
	}
}

func TestPinsTheGrid(t *testing.T) {
	m, a, cfg := begin(t)
	closeAgent(t, a)
	m.change(func() { m.grid = "h" })
	again := open(t, cfg)
	<-again.Done()
	if err := again.Err(); err == nil || !strings.Contains(err.Error(), "grid g") {
		t.Errorf("masters of another grid: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	k := &keeper{cfg: &cfg, journal: &journal{record: Record{GridID: "g"}}, log: quiet()}
	if err := k.pinGrid("h"); err == nil || !strings.Contains(err.Error(), "grid h") || !strings.Contains(err.Error(), "grid g") {
		t.Errorf("an answer of another grid: %v", err)
	}
}

func TestIgnoresOlderAssignments(t *testing.T) {
	j := &journal{}
	if !j.follow(&transport.Assignments{Revision: 5, Nodes: []transport.NodeAssignment{{NodeID: "node-1"}, {NodeID: "node-2"}}}) {
		t.Fatal("newer assignments are not followed")
	}
	for _, revision := range []uint64{4, 5} {
		if j.follow(&transport.Assignments{Revision: revision}) || !j.node("node-1").Wanted {
			t.Errorf("revision %d behind 5 is followed", revision)
		}
	}
	if !j.follow(&transport.Assignments{Revision: 6, Nodes: []transport.NodeAssignment{{NodeID: "node-2"}}}) || j.node("node-1").Wanted || !j.node("node-2").Wanted {
		t.Errorf("after revision 6: %+v", j.record.Nodes)
	}
}

func TestPortInUse(t *testing.T) {
	m, a, cfg := begin(t)
	before := m.awaitNode("node-1", Running)
	closeAgent(t, a)
	kill(t, before.PID)
	if _, err := syscall.Wait4(int(before.PID), nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", before.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	open(t, cfg)
	e := m.awaitEvents(spawned, crashed, restarted)[2].(event.NodeRestarted)
	if e.Endpoint == before.Endpoint || e.Endpoint != fmt.Sprint("127.0.0.1:", e.Port) {
		t.Errorf("%+v, the port of %s is in use", e, before.Endpoint)
	}
}

func TestOpenRefuses(t *testing.T) {
	m := startMasters(t)
	t.Run("a directory in use", func(t *testing.T) {
		cfg := testConfig(newDir(t), m.addr)
		open(t, cfg)
		if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
			t.Errorf("%v; want the holder's pid", err)
		}
	})
	t.Run("another agent's directory", func(t *testing.T) {
		cfg := testConfig(newDir(t), m.addr)
		closeAgent(t, open(t, cfg))
		cfg.ID = "agent-2"
		if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), "agent-1") {
			t.Errorf("%v", err)
		}
	})
	t.Run("a port in use", func(t *testing.T) {
		cfg := testConfig(newDir(t), m.addr)
		cfg.Listen = m.addr
		if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), m.addr) {
			t.Errorf("%v", err)
		}
	})
	t.Run("a lost record", func(t *testing.T) {
		cfg := testConfig(newDir(t), m.addr)
		closeAgent(t, open(t, cfg))
		if err := os.Remove(filepath.Join(cfg.Data, RecordFile)); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), RecordFile) {
			t.Errorf("%v", err)
		}
	})
	t.Run("a bad configuration, everything at once", func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.Masters = []string{"x"}
		_, err := Open(cfg)
		for _, want := range []string{"agent id", "data directory", `"x"`, "listen", "port range 0-0", "platform", "program"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v; want %q in it", err, want)
			}
		}
	})
}

var _ Platform = (*process.Processes)(nil)

func TestDescribe(t *testing.T) {
	code := int32(3)
	for _, c := range []struct {
		exit platform.Exit
		want string
	}{
		{platform.Exit{}, "exit status unknown"}, {platform.Exit{Code: &code}, "exit status 3"},
		{platform.Exit{Signal: "SIGSEGV"}, "signal SIGSEGV"}, {platform.Exit{Signal: "SIGKILL", OOM: true}, "out of memory"},
	} {
		if got := describe(c.exit); got != c.want {
			t.Errorf("%+v: %q", c.exit, got)
		}
	}
	if got := lastLine("a\nb\n\n"); got != ": b" {
		t.Errorf("last line %q", got)
	}
}
