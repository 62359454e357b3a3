package agent

import (
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sutra-grid/sutra-grid/agent/platform"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// start runs a node's process. The counter is recorded before it, the process's reference while it waits, so an agent that ends
// anywhere in between leaves a process that is recorded, or none.
func (k *keeper) start(r *NodeRecord, l *live) error {
	port, err := k.port(r)
	if err != nil {
		return k.startFailed(r, l, err)
	}
	r.Start, r.Phase, r.Ref, r.PID, r.Port = r.Start+1, Starting, "", 0, port
	l.kills, l.adopted, l.due = 0, false, time.Now().Add(k.cfg.StartPatience)
	if err := k.journal.commit(nil); err != nil {
		return err
	}
	var unrecorded error
	in, err := k.cfg.Platform.Start(k.spec(r), func(ref platform.Ref, pid int) error {
		r.Ref, r.PID = ref, pid
		unrecorded = k.journal.commit(nil)
		return unrecorded
	})
	switch {
	case unrecorded != nil:
		return unrecorded
	case err != nil:
		return k.startFailed(r, l, err)
	}
	k.log.Info("starting node", "node", r.NodeID, "start", r.Start, "pid", r.PID, "port", r.Port)
	k.watch(r, l, in)
	return nil
}

// port chooses where a node listens: where it listened before, where the masters want it, or the first free port of the range.
func (k *keeper) port(r *NodeRecord) (uint32, error) {
	taken := map[uint32]bool{}
	for _, other := range k.journal.record.Nodes {
		taken[other.Port] = other.NodeID != r.NodeID
	}
	preferred := r.Port
	if preferred == 0 {
		preferred = r.AssignedPort
	}
	host, _, err := net.SplitHostPort(k.cfg.Listen)
	if err != nil {
		return 0, err
	}
	port, err := k.cfg.NodePorts.pick(preferred, func(p uint32) bool { return !taken[p] && listenable(k.cfg.Network, host, p) })
	if err == nil && preferred != 0 && port != preferred {
		k.log.Warn("the node's port is in use; it gets another one", "node", r.NodeID, "port", preferred, "new_port", port)
	}
	return port, err
}

// startFailed reports that the node is not there. The masters believe that an initialised node runs until they are told of a crash,
// so after a stop in good order that is what they are told.
func (k *keeper) startFailed(r *NodeRecord, l *live, cause error) error {
	k.log.Error("node could not be started", "node", r.NodeID, "error", cause)
	var report event.Body = event.SpawnFailed{NodeID: r.NodeID, AgentID: k.cfg.ID, Error: cause.Error()}
	if r.Initialised && !r.Crashed {
		report = k.crashed(r, platform.Exit{Tail: cause.Error()})
		r.Crashed = true
	}
	r.Phase, r.Ref, r.PID = Crashed, "", 0
	if err := k.journal.commit(report); err != nil {
		return err
	}
	return k.fell(r, l)
}

// fell notes one more failure and, when there were too many, leaves the node down and says so.
func (k *keeper) fell(r *NodeRecord, l *live) error {
	due, leaveDown := l.crashes.add(time.Now(), rand.Float64())
	l.due = due
	if !leaveDown || l.leftDown {
		return nil
	}
	l.leftDown = true
	text := fmt.Sprintf("left down: it ended %d times within %s; see what its log says, then restart the agent", crashLimit, crashInterval)
	k.log.Error("node left down", "node", r.NodeID, "reason", text)
	return k.journal.commit(event.SpawnFailed{NodeID: r.NodeID, AgentID: k.cfg.ID, Error: text})
}

// watch brings the instance's notices into the loop.
func (k *keeper) watch(r *NodeRecord, l *live, in *platform.Instance) {
	l.instance = in
	id, start := r.NodeID, r.Start
	k.watching.Go(func() {
		for n := range in.Notices {
			k.notices <- notice{id, start, n} // the loop takes it, or release does
		}
	})
}

// terminate asks a process to end; the plan kills it when its time is over.
func (k *keeper) terminate(r *NodeRecord, l *live) error {
	k.log.Info("stopping node", "node", r.NodeID, "pid", r.PID)
	r.Phase, l.due = Stopping, time.Now().Add(k.cfg.StopPatience)
	if err := k.journal.commit(nil); err != nil {
		return err
	}
	if err := l.instance.Terminate(); err != nil {
		k.log.Error("stop node", "node", r.NodeID, "pid", r.PID, "error", err)
		l.due = time.Now()
	}
	return nil
}

// killPatience is how long a process that was killed may take to end: the kernel ends it when it has time, whatever the process was given.
const killPatience = 10 * time.Second

// kill ends a process whose time is over. One that survives it (it hangs in the kernel) is reported once.
func (k *keeper) kill(r *NodeRecord, l *live) error {
	k.log.Warn("killing node: its time is over", "node", r.NodeID, "pid", r.PID, "phase", r.Phase)
	l.kills++
	l.due = time.Now().Add(killPatience)
	err := l.instance.Kill()
	if err == nil && l.kills == 2 {
		err = fmt.Errorf("process %d still runs %s after it was killed", r.PID, killPatience)
	}
	if err == nil {
		return nil
	}
	k.log.Error("kill node", "node", r.NodeID, "pid", r.PID, "error", err)
	if r.Wanted || l.kills > 2 {
		return nil
	}
	return k.journal.commit(event.StopFailed{NodeID: r.NodeID, AgentID: k.cfg.ID, Error: err.Error()})
}

// take records what happened to an instance.
func (k *keeper) take(n notice) error {
	r, l := k.journal.node(n.node), k.live(n.node)
	if r == nil || r.Start != n.start || l.instance == nil {
		return nil
	}
	if n.Ready != nil {
		return k.ready(r, l, *n.Ready)
	}
	l.instance.Close()
	l.instance = nil
	return k.ended(r, l, *n.Exit)
}

func (k *keeper) ready(r *NodeRecord, l *live, ready platform.Ready) error {
	if r.Phase != Starting {
		return nil
	}
	if r.StoreID != "" && r.StoreID != ready.StoreID {
		k.log.Warn("the node has a new data directory; its replicas are new ones", "node", r.NodeID, "store", ready.StoreID, "before", r.StoreID)
	}
	_, port, err := net.SplitHostPort(ready.Endpoint)
	if err != nil {
		k.log.Error("node said that it is ready at an address that is none", "node", r.NodeID, "address", ready.Endpoint, "error", err)
		return nil // it runs into its time limit
	}
	restarted := r.Crashed
	r.Phase, r.Initialised, r.Crashed = Running, true, false
	r.Endpoint, r.StoreID = net.JoinHostPort(k.cfg.advertisedHost(), port), ready.StoreID
	l.crashes.ready = time.Now()
	k.log.Info("node runs", "node", r.NodeID, "pid", r.PID, "endpoint", r.Endpoint)
	if restarted {
		r.Restarts++
		return k.journal.commit(event.NodeRestarted{NodeID: r.NodeID, AgentID: k.cfg.ID, RestartCount: r.Restarts, NewPID: uint32(r.PID),
			Port: r.Port, Endpoint: r.Endpoint, Start: r.Start})
	}
	return k.journal.commit(event.SpawnSucceeded{NodeID: r.NodeID, AgentID: k.cfg.ID, PID: uint32(r.PID), Port: r.Port, Endpoint: r.Endpoint,
		StoreID: r.StoreID, Start: r.Start})
}

// ended records the end of a process, asked for or not.
func (k *keeper) ended(r *NodeRecord, l *live, exit platform.Exit) error {
	phase := r.Phase
	if phase == Starting && l.adopted { // most likely it was never released: the agent that started it ended before
		return k.lost(r)
	}
	r.Ref, r.PID = "", 0
	switch {
	case phase == Stopping && r.Wanted:
		r.Phase = Stopped
		return k.journal.commit(nil)
	case phase == Stopping:
		r.Phase = Stopped
		k.log.Info("node stopped", "node", r.NodeID)
		return k.journal.commit(event.StopSucceeded{NodeID: r.NodeID, AgentID: k.cfg.ID})
	case !r.Initialised:
		return k.startFailed(r, l, fmt.Errorf("it ended (%s) before it was ready%s", describe(exit), lastLine(exit.Tail)))
	}
	k.log.Error("node crashed", "node", r.NodeID, "start", r.Start, "how", describe(exit))
	r.Phase, r.Crashed = Crashed, true
	if err := k.journal.commit(k.crashed(r, exit)); err != nil {
		return err
	}
	return k.fell(r, l)
}

func (k *keeper) crashed(r *NodeRecord, exit platform.Exit) event.NodeCrashed {
	return event.NodeCrashed{NodeID: r.NodeID, AgentID: k.cfg.ID, ExitCode: exit.Code, Signal: exit.Signal, OOM: exit.OOM,
		StderrTail: exit.Tail, Start: r.Start}
}

// spec says how a node's process is run.
func (k *keeper) spec(r *NodeRecord) platform.Spec {
	host, _, _ := net.SplitHostPort(k.cfg.Listen) // Validate has parsed it
	own := filepath.Join(k.dir, "nodes", string(r.NodeID))
	data := filepath.Join(own, "data")
	if r.StoragePath != "" {
		data = r.StoragePath
		if !filepath.IsAbs(data) {
			data = filepath.Join(k.dir, data)
		}
	}
	args := []string{"--data", data, "--listen", net.JoinHostPort(host, strconv.Itoa(int(r.Port))), "--node-id", string(r.NodeID),
		"--agent-id", string(k.cfg.ID), "--grid-id", k.journal.record.GridID, "--masters", strings.Join(k.cfg.Masters, ",")}
	if r.Init && !r.Initialised {
		args = append(args, "--init")
	}
	s := platform.Spec{Path: k.cfg.GridNode, Args: append(args, k.cfg.NodeArgs...), ReadyFile: filepath.Join(own, "ready"),
		LogFile: filepath.Join(own, "log", "node.log"), KeepLogs: keepLogs}
	if r.MemoryLimitMB > 0 {
		s.Env = []string{fmt.Sprintf("GRID_MEMORY_LIMIT=%dMiB", max(r.MemoryLimitMB, leastMemoryMB))}
	}
	return s
}

// leastMemoryMB is the least limit that gridnode takes (--memory-limit).
const leastMemoryMB = 64

// keepLogs is how many logs of earlier starts of a node are kept.
const keepLogs = 5

// describe says how an instance ended.
func describe(e platform.Exit) string {
	switch {
	case e.OOM:
		return "out of memory"
	case e.Signal != "":
		return "signal " + e.Signal
	case e.Code != nil:
		return fmt.Sprintf("exit status %d", *e.Code)
	}
	return "exit status unknown"
}

// lastLine is what an instance said last, as the end of a message.
func lastLine(tail string) string {
	text := strings.TrimSpace(tail)
	if i := strings.LastIndexByte(text, '\n'); i >= 0 {
		text = text[i+1:]
	}
	if text == "" {
		return ""
	}
	return ": " + text
}
