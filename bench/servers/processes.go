package servers

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sutra-grid/sutra-grid/internal/usage"
)

// Process is one of a grid's.
type Process struct {
	Name string // master-1, agent-1, node-1, events
	PID  int    // 0: it is down
	HTTP string // where it serves /metrics; empty: it does not
	Dir  string // its data
}

// Log is the file that takes what the process prints.
func (p Process) Log() (string, error) { return os.Readlink(fmt.Sprintf("/proc/%d/fd/2", p.PID)) }

// eventStorage is the name that gridctl dev has for it.
const eventStorage = "events"

// Processes are those of the grid as they are now, in the same order each time. `gridctl dev` itself, which only starts them, is none.
func (g *Grid) Processes() ([]Process, error) {
	dev, err := g.Dev()
	if err != nil {
		return nil, err
	}
	events, err := g.eventsPID()
	if err != nil {
		return nil, err
	}
	all := []Process{{Name: eventStorage, PID: events, Dir: filepath.Join(g.data, "events")}}
	for _, m := range dev.Masters {
		all = append(all, Process{Name: string(m.ID), PID: m.PID, HTTP: m.HTTP, Dir: filepath.Join(g.data, "masters", string(m.ID))})
	}
	agents := filepath.Join(g.data, "agents")
	for _, a := range dev.Agents { // what else an agent has is a file of a few lines, and its node's data
		all = append(all, Process{Name: a.ID, PID: a.PID, Dir: filepath.Join(agents, a.ID, "spool")})
	}
	for _, n := range dev.Nodes {
		all = append(all, Process{Name: n.ID, PID: n.PID, Dir: filepath.Join(agents, n.Agent, "nodes", n.ID, "data")})
	}
	slices.SortFunc(all, func(a, b Process) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// eventsPID is the process of event storage, which dev.json does not name: "pid/start time/boot" in the supervisor's record.
func (g *Grid) eventsPID() (int, error) {
	path := filepath.Join(g.data, "supervisor.json")
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	var record struct {
		Children map[string]string `json:"children"`
	}
	if err := json.Unmarshal(text, &record); err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	pid, _, _ := strings.Cut(record.Children[eventStorage], "/")
	n, err := strconv.Atoi(pid)
	if err != nil {
		return 0, fmt.Errorf("%s has no process of event storage: %w", path, err)
	}
	return n, nil
}

// The parts of a grid's data.
const (
	MastersData = "masters"
	NodesData   = "agents" // a node's data is in its agent's
)

// Disk is what a part of the data takes, MiB.
func (g *Grid) Disk(part string) (mib float64, err error) {
	bytes, err := usage.Disk(filepath.Join(g.data, part))
	return float64(bytes) / (1 << 20), err
}
