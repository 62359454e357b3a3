package processes

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// role is what a machine runs.
type role int

const (
	roleMaster role = iota
	roleAgent       // and the nodes that it starts
	roleEvents
)

// machine is one host of the grid: an address, a disk, one program of ours, and for an agent its nodes.
type machine struct {
	id      string // master-1, agent-1, events
	role    role
	address string     // IP
	grid    string     // host:port of its program
	http    string     // host:port; masters only
	space   *namespace // nil: the root one
	image   *image     // nil: a plain directory
	dir     string     // its disk
	plan    string     // file with what its processes fail at (internal/fault)
	log     string     // what its program says
	nodeLog string     // what its nodes say; agents only
	program string
	args    []string
	proc    atomic.Pointer[life] // its last life; nil: none yet
	met     bool                 // a fault that lasts explains its end; guarded by Grid.mu
}

func (m *machine) masterID() event.MasterID { return event.MasterID(m.id) }
func (m *machine) agentID() event.AgentID   { return event.AgentID(m.id) }

// data is the directory of its program. It is below the disk, which has a lost+found.
func (m *machine) data() string { return filepath.Join(m.dir, "data") }

// The ports of all machines; each has an address of its own.
const (
	raftPort   = 7000
	httpPort   = 7001
	gridPort   = 7002
	agentPort  = 8001
	nodePorts  = "50053-50152"
	eventsPort = 50052
)

// place makes the machines of the configuration.
func (g *Grid) place() error {
	addresses, err := g.addresses(g.cfg.Masters + g.cfg.Agents + 1)
	if err != nil {
		return err
	}
	add := func(id string, r role, program string) *machine {
		m := &machine{id: id, role: r, program: program, address: addresses[len(g.machines)], dir: g.run.path("machines", id),
			plan: g.run.path("plans", id), log: g.run.path("logs", id+".log")}
		g.machines = append(g.machines, m)
		g.logs.add(m.log, m)
		return m
	}
	for i := range g.cfg.Masters {
		m := add(fmt.Sprintf("master-%d", i+1), roleMaster, "gridmaster")
		m.grid, m.http = m.at(gridPort), m.at(httpPort)
	}
	for i := range g.cfg.Agents {
		m := add(fmt.Sprintf("agent-%d", i+1), roleAgent, "gridagent")
		m.grid, m.nodeLog = m.at(agentPort), g.run.path("logs", m.id+".node.log")
		g.logs.add(m.nodeLog, m)
	}
	events := add("events", roleEvents, "gridnode")
	events.grid = events.at(eventsPort)
	for _, m := range g.machines {
		if err := g.furnish(m); err != nil {
			return fmt.Errorf("%s: %w", m.id, err)
		}
	}
	return nil
}

func (m *machine) at(port int) string { return net.JoinHostPort(m.address, strconv.Itoa(port)) }

// furnish gives a machine its network, disk and command line.
func (g *Grid) furnish(m *machine) error {
	if err := os.Mkdir(m.dir, 0o755); err != nil {
		return err
	}
	if g.net != nil {
		var err error
		if m.space, err = g.net.join(m.id, m.address); err != nil {
			return err
		}
	}
	if !g.cfg.Plain && g.has(rig.NeedMount) {
		img, err := newImage(g.run.path("machines", m.id+".img"), m.dir)
		if err != nil {
			return err
		}
		m.image = img
	}
	if m.role == roleAgent {
		if err := g.writeStarter(m); err != nil {
			return err
		}
	}
	m.args = g.command(m)
	return nil
}

func (g *Grid) of(r role) (list []*machine) {
	for _, m := range g.machines {
		if m.role == r {
			list = append(list, m)
		}
	}
	return list
}

// command is a machine's command line.
func (g *Grid) command(m *machine) []string {
	switch m.role {
	case roleMaster:
		args := append([]string{"--id", m.id, "--data", m.data(), "--peers", g.peers(), "--bootstrap", "--shards", strconv.Itoa(g.cfg.Shards),
			"--replicas", strconv.Itoa(g.cfg.Replicas), "--event-sink", g.of(roleEvents)[0].grid}, g.thresholds()...)
		return args
	case roleAgent:
		var masters []string
		for _, other := range g.of(roleMaster) {
			masters = append(masters, other.grid)
		}
		return []string{"--id", m.id, "--data", m.data(), "--masters", strings.Join(masters, ","), "--listen", m.grid, "--node-ports", nodePorts,
			"--max-storage-nodes", "1", "--gridnode", g.starter(m)}
	}
	return append([]string{"--events", "--data", m.data(), "--listen", m.grid}, g.thresholds()...)
}

// thresholds are the flags for snapshots.
func (g *Grid) thresholds() (flags []string) {
	if n := g.cfg.SnapshotThreshold; n > 0 {
		flags = append(flags, "--snapshot-threshold", strconv.FormatUint(n, 10))
	}
	if n := g.cfg.TrailingLogs; n > 0 {
		flags = append(flags, "--trailing-logs", strconv.FormatUint(n, 10))
	}
	return flags
}

// peers is the masters' list as gridmaster reads it.
func (g *Grid) peers() string {
	var list []string
	for _, m := range g.of(roleMaster) {
		list = append(list, fmt.Sprintf("%s=%s:%d/%d/%d", m.id, m.address, raftPort, httpPort, gridPort))
	}
	return strings.Join(list, ",")
}

// starter is the program that an agent starts its nodes by: it gives the node what agents keep from it, the plan of faults and the
// environment of the grid, and a log beside the machine's disk, which survives whatever happens to that. It becomes the node.
func (g *Grid) starter(m *machine) string { return g.run.path("bin", m.id, "gridnode") }

func (g *Grid) writeStarter(m *machine) error {
	var script strings.Builder
	fmt.Fprintln(&script, "#!/bin/sh")
	for _, v := range g.environment(m) {
		name, value, _ := strings.Cut(v, "=")
		fmt.Fprintf(&script, "export %s=%s\n", name, quote(value))
	}
	program, err := filepath.Abs(filepath.Join(g.cfg.Programs, "gridnode"))
	if err != nil {
		return err
	}
	fmt.Fprintf(&script, "exec %s \"$@\" %s 2>>%s\n", quote(program), strings.Join(g.thresholds(), " "), quote(m.nodeLog))
	if err := os.MkdirAll(filepath.Dir(g.starter(m)), 0o755); err != nil {
		return err
	}
	return os.WriteFile(g.starter(m), []byte(script.String()), 0o755)
}

// environment is what all processes of a machine get beside what they inherit.
func (g *Grid) environment(m *machine) []string {
	return append([]string{"GRID_FAULT_FILE=" + m.plan}, g.cfg.Env...)
}

// quote makes a word that sh takes as it is.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// addresses are n free ones: of the rig's own network, or of the loopback interface, all of which is this machine.
func (g *Grid) addresses(n int) ([]string, error) {
	list := make([]string, n)
	if g.net != nil {
		for i := range list {
			list[i] = g.net.machineAddress(i)
		}
		return list, nil
	}
	var busy error
	for range 20 {
		second, third := 2+rand.IntN(250), rand.IntN(256)
		for i := range list {
			list[i] = fmt.Sprintf("127.%d.%d.%d", second, third, i+1)
		}
		if busy = unused(list); busy == nil {
			return list, nil
		}
	}
	return nil, fmt.Errorf("no addresses of the loopback interface are free: %w", busy)
}

// unused tries to listen where the programs will.
func unused(addresses []string) error {
	for _, a := range addresses {
		for _, port := range []int{raftPort, httpPort, gridPort, agentPort, eventsPort} {
			l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.ParseIP(a), Port: port})
			if err != nil {
				return err
			}
			if err := l.Close(); err != nil {
				return err
			}
		}
	}
	return nil
}

// setPlan makes the processes of a machine fail as the text says; empty: not any more.
func (m *machine) setPlan(text string) error {
	next := m.plan + ".new"
	if err := os.WriteFile(next, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(next, m.plan)
}

// stopped tells whether a process stands still, by a signal or by a tracer.
func stopped(pid int) bool {
	fields, err := statFields(pid)
	return err == nil && (fields[0] == "T" || fields[0] == "t")
}
