package dev

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sutra-grid/sutra-grid/agent"
	"github.com/sutra-grid/sutra-grid/agent/platform"
	"github.com/sutra-grid/sutra-grid/agent/platform/process"
)

// survivors are processes that nobody supervises any more: children of a run that was killed, nodes of an agent that is dead. They
// are ended, in the order of any stop, and started anew: what state they are in is nobody's knowledge, and a start costs seconds.
type survivors struct {
	adapter *process.Processes
	out     *printer
}

// endChildren ends what an earlier run recorded for these programs.
func (s survivors) endChildren(r *record, programs []program, patience time.Duration) error {
	var found []target
	for _, p := range programs {
		ref, ok := r.child(p.id)
		if !ok {
			continue
		}
		in, err := s.adopt(ref, p.data)
		if err != nil {
			return fmt.Errorf("find %s of an earlier run: %w", p.id, err)
		}
		if in != nil {
			s.out.say("%s (pid %d) was left by an earlier run; it is ended", p.id, in.PID)
			found = append(found, watched(p.id, in))
		}
	}
	return s.endTargets(found, patience)
}

// endNodes ends the nodes that the agents' records name.
func (s survivors) endNodes(agents []program, patience time.Duration) error {
	var found []target
	for _, a := range agents {
		record, err := agent.ReadRecord(a.data)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, n := range record.Nodes {
			if n.Ref == "" {
				continue
			}
			in, err := s.adopt(n.Ref, a.data)
			if err != nil {
				return fmt.Errorf("find %s of %s: %w", n.NodeID, a.id, err)
			}
			if in != nil {
				s.out.say("%s (pid %d) runs without its agent; it is ended", n.NodeID, in.PID)
				found = append(found, watched(string(n.NodeID), in))
			}
		}
	}
	return s.endTargets(found, patience)
}

// adopt finds the process a reference names, by pid, start time and boot, and makes sure by its command line that it works on our data;
// nil: there is none.
func (s survivors) adopt(ref platform.Ref, data string) (*platform.Instance, error) {
	in, err := s.adapter.Adopt(ref, platform.Spec{})
	if errors.Is(err, platform.ErrGone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	line, err := process.CommandLine(ref)
	if err == nil && worksOn(line, data) {
		return in, nil
	}
	in.Close()
	if errors.Is(err, platform.ErrGone) {
		err = nil
	}
	return nil, err
}

// worksOn tells whether an argument of a command line is the directory or lies below it.
func worksOn(line []string, dir string) bool {
	return slices.ContainsFunc(line, func(arg string) bool { return arg == dir || strings.HasPrefix(arg, dir+string(filepath.Separator)) })
}

func (s survivors) endTargets(targets []target, patience time.Duration) error {
	killed, err := endAll(targets, patience)
	for _, id := range killed {
		s.out.say("%s did not end in time and was killed", id)
	}
	return err
}
