package dev

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
)

// host is the only address anything of a development grid listens on.
const host = "127.0.0.1"

// The default ports, and the places behind a base port that stand for them.
const (
	masterPort, masterStep = 7000, 10 // raft; HTTP, grid and console behind it
	agentPort              = 8000     // the first agent has the next one
	eventsPort             = 50052    // nodes have those behind it
	agentOffset            = 100
	eventsOffset           = 200
)

// layout is where everything of a grid is: a function of the configuration alone.
type layout struct {
	masters []masterPlace
	agents  []agentPlace
	events  string
	dirs    dirs
}

type masterPlace struct{ id, raft, http, grid string }

type agentPlace struct{ id, address, nodePorts string }

// dirs is the data directory.
type dirs struct{ root string }

func (d dirs) master(id string) string { return filepath.Join(d.root, "masters", id) }
func (d dirs) agent(id string) string  { return filepath.Join(d.root, "agents", id) }
func (d dirs) events() string          { return filepath.Join(d.root, "events") }
func (d dirs) log(id string) string    { return filepath.Join(d.root, "logs", id+".log") }
func (d dirs) ready(id string) string  { return filepath.Join(d.root, "logs", id+".ready") }
func (d dirs) devFile() string         { return filepath.Join(d.root, "dev.json") }
func (d dirs) record() string          { return filepath.Join(d.root, "supervisor.json") }

// newLayout computes all places; root must be absolute, as it is compared with processes' command lines.
func newLayout(c Config, root string) layout {
	masters, agents, events := masterPort, agentPort, eventsPort
	lastNode := eventsPort + portSpan - eventsOffset - 1
	if c.BasePort != 0 {
		masters, agents, events = c.BasePort, c.BasePort+agentOffset, c.BasePort+eventsOffset
		lastNode = c.BasePort + portSpan - 1
	}
	l := layout{events: address(events), dirs: dirs{root}}
	for i := range c.Masters {
		p := masters + i*masterStep
		l.masters = append(l.masters, masterPlace{id: fmt.Sprintf("master-%d", i+1), raft: address(p), http: address(p + 1), grid: address(p + 2)})
	}
	for j := 1; j <= c.Agents; j++ {
		// Ranges that begin one port apart: each agent's first node has a port of its own, and any may take the next free one.
		l.agents = append(l.agents, agentPlace{id: fmt.Sprintf("agent-%d", j), address: address(agents + j),
			nodePorts: fmt.Sprintf("%d-%d", events+j, lastNode)})
	}
	return l
}

func address(port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// peers is the masters' list as gridmaster reads it.
func (l layout) peers() string {
	var list []string
	for _, m := range l.masters {
		list = append(list, fmt.Sprintf("%s=%s/%s/%s", m.id, m.raft, m.http, m.grid))
	}
	return strings.Join(list, ",")
}

// grids lists the masters' grid addresses.
func (l layout) grids() []string {
	var list []string
	for _, m := range l.masters {
		list = append(list, m.grid)
	}
	return list
}

// program is one child: what to run, and the data directory by which its command line is known.
type program struct {
	id, name, data string
	args           []string
}

// nodeStopPatience is how long an agent waits for its node before it kills it; it fits into agentPatience.
const nodeStopPatience = "5s"

func (l layout) masterPrograms(c Config) []program {
	var list []program
	for _, m := range l.masters {
		data := l.dirs.master(m.id)
		list = append(list, program{m.id, "gridmaster", data, []string{"--id", m.id, "--data", data, "--peers", l.peers(), "--bootstrap",
			"--shards", strconv.Itoa(c.Shards), "--replicas", strconv.Itoa(c.Replicas), "--event-sink", l.events}})
	}
	return list
}

func (l layout) agentPrograms(c Config) []program {
	var list []program
	for _, a := range l.agents {
		data := l.dirs.agent(a.id)
		list = append(list, program{a.id, "gridagent", data, []string{"--id", a.id, "--data", data, "--masters", strings.Join(l.grids(), ","),
			"--listen", a.address, "--node-ports", a.nodePorts, "--max-storage-nodes", "1", "--gridnode", filepath.Join(c.Programs, "gridnode"),
			"--stop-nodes-on-exit", "--stop-patience", nodeStopPatience}})
	}
	return list
}

func (l layout) eventsProgram() program {
	return program{"events", "gridnode", l.dirs.events(), []string{"--events", "--data", l.dirs.events(), "--listen", l.events}}
}

// checkPorts tells which of the fixed ports somebody else holds. Nodes are not among them: their agents find free ones.
func (l layout) checkPorts() error {
	var faults []error
	check := func(who, addr string) {
		listener, err := net.Listen("tcp", addr)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s cannot listen on %s: %w", who, addr, rootCause(err)))
			return
		}
		_ = listener.Close() // it served its purpose
	}
	for _, m := range l.masters {
		check(m.id, m.raft)
		check(m.id, m.http)
		check(m.id, m.grid)
	}
	for _, a := range l.agents {
		check(a.id, a.address)
	}
	check("event storage", l.events)
	if len(faults) == 0 {
		return nil
	}
	more := ""
	if len(faults) > 1 {
		more = fmt.Sprintf(" (and %d more)", len(faults)-1)
	}
	return fmt.Errorf("%w%s; stop who holds the port, or choose others with --base-port", faults[0], more)
}

func rootCause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
