package dev

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"

	"github.com/sutra-grid/sutra-grid/agent"
	"github.com/sutra-grid/sutra-grid/agent/platform"
	"github.com/sutra-grid/sutra-grid/agent/platform/process"
)

// fleet follows the storage nodes: what the agents record of them, and, as an agent may be dead itself, whether their processes live.
type fleet struct {
	adapter *process.Processes
	agents  []program
	changed func()
	out     *printer
	ending  func() bool // nodes that end now were told to

	mu      sync.Mutex
	nodes   []fleetNode
	watched map[platform.Ref]*platform.Instance // nil: it has ended
	running sync.WaitGroup
}

// fleetNode is a node as its agent records it; pid is 0 when its process has ended.
type fleetNode struct {
	agent string
	pid   int
	agent.NodeRecord
}

func newFleet(s *supervisor, agents []program, ending func() bool) *fleet {
	return &fleet{adapter: s.adapter, agents: agents, changed: s.changed, out: s.out, ending: ending, watched: map[platform.Ref]*platform.Instance{}}
}

// follow reads the agents' records whenever one is replaced, until ctx ends.
func (f *fleet) follow(ctx context.Context) error {
	defer f.release()
	var dirs []string
	for _, a := range f.agents {
		dirs = append(dirs, a.data)
	}
	w, err := process.Watch(dirs...)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = w.Close() }) // it wakes Next
	defer stop()
	for {
		if err := f.read(); err != nil {
			return err
		}
		if err := w.Next(); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// read takes the records as they are now.
func (f *fleet) read() error {
	var nodes []fleetNode
	for _, a := range f.agents {
		r, err := agent.ReadRecord(a.data)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, n := range r.Nodes {
			if n.Wanted || n.Ref != "" {
				nodes = append(nodes, fleetNode{agent: a.id, NodeRecord: n})
			}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range nodes {
		if err := f.watchLocked(&nodes[i]); err != nil {
			return err
		}
	}
	f.nodes = nodes
	for ref, in := range f.watched {
		if in == nil && !slices.ContainsFunc(nodes, func(n fleetNode) bool { return n.Ref == ref }) {
			delete(f.watched, ref) // it has ended, and is recorded no more
		}
	}
	f.changed()
	return nil
}

// watchLocked fills in the pid of a node that lives, and sees to it that its end is noticed.
func (f *fleet) watchLocked(n *fleetNode) error {
	if n.Ref == "" {
		return nil
	}
	in, known := f.watched[n.Ref]
	if !known {
		var err error
		in, err = f.adapter.Adopt(n.Ref, platform.Spec{})
		if err != nil && !errors.Is(err, platform.ErrGone) {
			return err
		}
		f.watched[n.Ref] = in
		if in != nil {
			f.running.Go(func() { f.awaitEnd(string(n.NodeID), in) })
		}
	}
	if in != nil {
		n.pid = in.PID
	}
	return nil
}

// awaitEnd notes the end of a node's process.
func (f *fleet) awaitEnd(id string, in *platform.Instance) {
	ended := false
	for range in.Notices {
		ended = true
	}
	if !ended {
		return
	}
	in.Close()
	if !f.ending() {
		f.out.say("%s (pid %d) ended; its agent starts it again", id, in.PID)
	}
	f.mu.Lock()
	f.watched[in.Ref] = nil
	for i := range f.nodes {
		if f.nodes[i].Ref == in.Ref {
			f.nodes[i].pid = 0
		}
	}
	f.mu.Unlock()
	f.changed()
}

// list is the nodes now.
func (f *fleet) list() []fleetNode {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]fleetNode{}, f.nodes...)
}

func (f *fleet) release() {
	f.mu.Lock()
	var live []*platform.Instance
	for _, in := range f.watched {
		if in != nil {
			live = append(live, in)
		}
	}
	f.mu.Unlock()
	for _, in := range live {
		in.Close()
	}
	f.running.Wait()
}
