package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/agent/platform"
	"github.com/sutra-grid/sutra-grid/agent/platform/process"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
	"github.com/sutra-grid/sutra-grid/transport"
)

// The test binary is the hold program, the storage node, and an agent that dies at a chosen step.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "hold":
			fmt.Fprintln(os.Stderr, process.Hold(os.Args[2:]))
			os.Exit(127)
		case "node":
			fmt.Fprintln(os.Stderr, "node:", runNode(os.Args[2:]))
			os.Exit(3)
		case "agent":
			fmt.Fprintln(os.Stderr, "agent:", runDoomedAgent(os.Args[2:]))
			os.Exit(4)
		}
	}
	os.Exit(m.Run())
}

// runNode is a storage node as an agent sees one: a data directory that is made only with --init, a port, a ready line, an end on
// SIGTERM. What --behave says goes wrong.
func runNode(args []string) error {
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	flag := func(name string) string {
		if i := slices.Index(args, "--"+name); i >= 0 && i+1 < len(args) {
			return args[i+1]
		}
		return ""
	}
	behave, _ := os.ReadFile(flag("behave"))
	if strings.Contains(string(behave), "fail") {
		return errors.New("told to fail")
	}
	dir, err := openNodeDir(flag("data"), flag("node-id"), slices.Contains(args, "--init"))
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", flag("listen"))
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "args %s\nenv %s\n", strings.Join(args, " "), os.Getenv("GRID_MEMORY_LIMIT"))
	id, _ := dir.Identity()
	if !strings.Contains(string(behave), "hang") {
		fmt.Fprintf(os.NewFile(3, "ready"), "ready %s %s\n", l.Addr(), id.StoreID)
	}
	for {
		<-terminated
		if !strings.Contains(string(behave), "stubborn") {
			os.Exit(0)
		}
	}
}

func openNodeDir(path, id string, init bool) (*datadir.Dir, error) {
	if there, err := datadir.Exists(path); err != nil || !there && !init {
		return nil, errors.Join(err, fmt.Errorf("data directory %s is missing", path))
	}
	if there, err := datadir.Exists(filepath.Join(path, "IDENTITY")); err != nil || there {
		return datadir.Open(path, datadir.KindNode, id)
	}
	return datadir.Create(path, datadir.Identity{GridID: "g", Kind: datadir.KindNode, ID: id, StoreID: datadir.NewStoreID()})
}

// masters is the part of the masters that agents talk to, with their rules: one grid, known agents, assignments with a revision,
// one high-water mark per emitter.
type masters struct {
	t      *testing.T
	grid   string
	addr   string
	server *transport.Server

	mu         sync.Mutex
	changed    chan struct{} // closed and replaced at every change
	known      map[event.AgentID]bool
	registered []transport.RegisterAgent
	beats      []transport.Heartbeat
	assigned   transport.Assignments
	mark       map[string]uint64
	events     []event.Body
	away       bool // answers nothing but KindUnavailable
}

func startMasters(t *testing.T) *masters {
	t.Helper()
	m := &masters{t: t, grid: "g", changed: make(chan struct{}), known: map[event.AgentID]bool{}, mark: map[string]uint64{}}
	l, err := transport.TCP().Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.addr = l.Addr().String()
	m.server = transport.NewServer(transport.ServerConfig{Handler: m.handle, Name: "master", Log: quiet()})
	served := make(chan error, 1)
	go func() { served <- m.server.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		if err := errors.Join(m.server.Close(), <-served); err != nil {
			t.Error(err)
		}
	})
	return m
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// change alters the masters and wakes whoever waits for a change.
func (m *masters) change(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
	close(m.changed)
	m.changed = make(chan struct{})
}

// await waits until ok, which is called under the lock.
func (m *masters) await(what string, ok func() bool) {
	m.t.Helper()
	limit := time.After(20 * time.Second)
	for {
		m.mu.Lock()
		yes, changed := ok(), m.changed
		m.mu.Unlock()
		if yes {
			return
		}
		select {
		case <-changed:
		case <-limit:
			m.mu.Lock()
			defer m.mu.Unlock()
			m.t.Fatalf("%s: not within 20 s; events %s; last beat %+v", what, names(m.events), m.beats[max(0, len(m.beats)-1):])
		}
	}
}

func (m *masters) handle(ctx context.Context, s *transport.Session, req any) (any, error) {
	m.mu.Lock()
	away := m.away
	m.mu.Unlock()
	if away {
		return nil, &event.Error{Kind: event.KindUnavailable, Message: "away"}
	}
	switch r := req.(type) {
	case *transport.RegisterAgent:
		if r.GridID != "" && r.GridID != m.grid {
			return nil, &event.Error{Kind: event.KindRefused, Message: "it belongs to grid " + r.GridID}
		}
		m.change(func() { m.known[r.AgentID] = true; m.registered = append(m.registered, *r) })
		return &transport.RegisterAgentOk{GridID: m.grid, Seq: 1}, nil
	case *transport.Heartbeat:
		return m.beat(r)
	case *transport.WatchAssignments:
		return nil, m.watch(ctx, s, r)
	case *transport.EmitEvents:
		return m.emit(r)
	}
	return nil, &event.Error{Kind: event.KindUnsupported, Message: transport.VariantName(req)}
}

func (m *masters) beat(h *transport.Heartbeat) (reply any, err error) {
	m.change(func() {
		if !m.known[h.AgentID] {
			err = &event.Error{Kind: event.KindUnknownAgent, Message: "register first"}
			return
		}
		m.beats = append(m.beats, *h)
		reply = &transport.HeartbeatOk{Seq: uint64(len(m.beats))}
	})
	return reply, err
}

func (m *masters) watch(ctx context.Context, s *transport.Session, _ *transport.WatchAssignments) error {
	sent := uint64(1 << 62)
	for {
		m.mu.Lock()
		a, changed := m.assigned, m.changed
		m.mu.Unlock()
		if a.Revision != sent {
			if err := s.Send(ctx, &a); err != nil {
				return err
			}
			sent = a.Revision
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (m *masters) emit(r *transport.EmitEvents) (reply any, err error) {
	m.change(func() {
		for i, e := range r.Events {
			switch n, mark := r.First+uint64(i), m.mark[r.Emitter]; {
			case n <= mark:
			case n > mark+1:
				err = &event.Error{Kind: event.KindConflict, Message: fmt.Sprintf("event %d skips %d", n, mark+1)}
				return
			default:
				body, bad := event.DecodeBody(e.Type, e.Body)
				if bad != nil {
					m.t.Errorf("event %d: %v", n, bad)
				}
				m.events = append(m.events, body)
				m.mark[r.Emitter] = n
			}
		}
		reply = &transport.EmitEventsOk{Through: m.mark[r.Emitter]}
	})
	return reply, err
}

// assign makes nodes the desired set, under a new revision.
func (m *masters) assign(nodes ...transport.NodeAssignment) {
	m.change(func() { m.assigned = transport.Assignments{Revision: m.assigned.Revision + 1, Nodes: nodes} })
}

// awaitEvents waits for exactly these types, in this order, and returns the events.
func (m *masters) awaitEvents(want ...event.Type) []event.Body {
	m.t.Helper()
	m.await(fmt.Sprint("events ", want), func() bool { return len(m.events) >= len(want) })
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, b := range m.events {
		if len(m.events) != len(want) || b.Type() != want[i] {
			m.t.Fatalf("events %s, want %v", names(m.events), want)
		}
	}
	return slices.Clone(m.events)
}

func names(events []event.Body) string {
	var b bytes.Buffer
	for _, e := range events {
		fmt.Fprintf(&b, "%v %+v; ", e.Type(), e)
	}
	return b.String()
}

// awaitNode waits for a heartbeat that reports the node with the status, and returns the report.
func (m *masters) awaitNode(id event.NodeID, status Phase) (found event.NodeReport) {
	m.t.Helper()
	m.await(fmt.Sprintf("%s %s", id, status), func() bool {
		if len(m.beats) == 0 {
			return false
		}
		for _, n := range m.beats[len(m.beats)-1].Nodes {
			if n.NodeID == id && n.Status == string(status) {
				found = n
				return true
			}
		}
		return false
	})
	return found
}

// testConfig is an agent whose nodes are this test binary.
func testConfig(dir string, masters ...string) Config {
	cfg := DefaultConfig()
	cfg.ID, cfg.Data, cfg.Masters, cfg.Listen = "agent-1", dir, masters, "127.0.0.1:0"
	from := 10000 + uint32(os.Getpid()%180)*50 // of its own: two runs of these tests do not meet; below the ports the kernel gives away
	cfg.NodePorts = PortRange{From: from, To: from + 49}
	cfg.Platform = nodePrograms{process.New(os.Args[0], "hold"), ""}
	cfg.GridNode = os.Args[0]
	cfg.NodeArgs = []string{"--behave", filepath.Join(dir, "behave")}
	cfg.Log = quiet()
	return cfg
}

// nodePrograms starts this test binary as a node, and kills the agent that does so at a chosen point.
type nodePrograms struct {
	*process.Processes
	dieAt string
}

// The points at which a start can be cut off, in their order.
var diePoints = []string{"counter recorded", "process waits unrecorded", "process recorded", "process released"}

func (p nodePrograms) die(point string) {
	if p.dieAt == point {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

func (p nodePrograms) Start(spec platform.Spec, record func(platform.Ref, int) error) (*platform.Instance, error) {
	p.die("counter recorded")
	spec.Args = append([]string{"node"}, spec.Args...)
	in, err := p.Processes.Start(spec, func(ref platform.Ref, pid int) error {
		p.die("process waits unrecorded")
		err := record(ref, pid)
		p.die("process recorded")
		return err
	})
	p.die("process released")
	return in, err
}

// runDoomedAgent is an agent in a process of its own: point, data directory, master.
func runDoomedAgent(args []string) error {
	cfg := testConfig(args[1], args[2])
	cfg.Platform = nodePrograms{process.New(os.Args[0], "hold"), args[0]}
	a, err := Open(cfg)
	if err != nil {
		return err
	}
	return a.Err()
}

// newDir is a data directory whose nodes end with the test, whoever started them.
func newDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		for _, pid := range nodeProcesses(t, dir) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			_, _ = syscall.Wait4(pid, nil, 0, nil) // ours or not
		}
	})
	return dir
}

// nodeProcesses finds the nodes that run in a data directory. A process that is held before it becomes one is none: it has run nothing,
// and ends by itself when the agent that started it is gone.
func nodeProcesses(t *testing.T, dir string) []int {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, path := range paths {
		text, _ := os.ReadFile(path) // of a process that has ended: nothing
		argv := strings.Split(string(text), "\x00")
		var pid int
		if _, err := fmt.Sscanf(path, "/proc/%d/cmdline", &pid); err == nil && len(argv) > 3 && argv[1] == "node" && strings.HasPrefix(argv[3], dir+"/") {
			pids = append(pids, pid)
		}
	}
	return pids
}

func open(t *testing.T, cfg Config) *Agent {
	t.Helper()
	a, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAgent(t, a) })
	return a
}

func closeAgent(t *testing.T, a *Agent) {
	t.Helper()
	select {
	case <-a.done:
		return // closed by the test
	default:
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}
