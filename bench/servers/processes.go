package servers

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Processes are the pids of a grid by what they are; one that is down now is left out.
type Processes struct {
	Masters, Agents, Nodes, Events []int
	MastersHTTP                    []string // addresses, as Masters
}

// Processes looks who runs.
func (g *Grid) Processes() (p Processes, err error) {
	dev, err := g.Dev()
	if err != nil {
		return p, err
	}
	for _, m := range dev.Masters {
		if m.PID > 0 {
			p.Masters, p.MastersHTTP = append(p.Masters, m.PID), append(p.MastersHTTP, m.HTTP)
		}
	}
	for _, a := range dev.Agents {
		if a.PID > 0 {
			p.Agents = append(p.Agents, a.PID)
		}
	}
	for _, n := range dev.Nodes {
		if n.PID > 0 {
			p.Nodes = append(p.Nodes, n.PID)
		}
	}
	events, err := g.events()
	p.Events = append(p.Events, events)
	return p, err
}

// events is event storage's process: dev.json has its address alone.
func (g *Grid) events() (pid int, err error) {
	path := filepath.Join(g.data, "supervisor.json")
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	var record struct {
		Children map[string]string `json:"children"` // pid, start time and boot, by name
	}
	if err := json.Unmarshal(text, &record); err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	first, _, _ := strings.Cut(record.Children["events"], "/")
	if pid, err = strconv.Atoi(first); err != nil {
		return 0, fmt.Errorf("%s names no process of event storage: %w", path, err)
	}
	return pid, nil
}

// The parts of a grid's data.
const (
	MastersData = "masters"
	NodesData   = "agents" // a node's data is in its agent's
	EventsData  = "events"
)

// Disk is what a part of the data takes, MiB. Files that go meanwhile take nothing.
func (g *Grid) Disk(part string) (mib float64, err error) {
	var blocks int64
	err = filepath.WalkDir(filepath.Join(g.data, part), func(_ string, d fs.DirEntry, err error) error {
		if err == nil {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				blocks += info.Sys().(*syscall.Stat_t).Blocks
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return float64(blocks) * 512 / (1 << 20), err // a block of stat has 512 bytes everywhere
}
