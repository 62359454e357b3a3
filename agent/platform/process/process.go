// Package process runs storage nodes as operating system processes on Linux.
//
//	Start: hold program (waits at the gate) -> pid and start time recorded -> gate opens -> it becomes the real program
//	Adopt: recorded pid and start time -> pidfd -> the same notices; how it ended is known only of our own children
//
// Invariants: a program runs only after its reference was recorded; a signal reaches exactly the process that was meant
// (pidfd, never a bare pid); processes outlive who started them (own session, no pipes to the parent: what they print and
// their ready line go to files). It imports nothing of ours but agent/platform.
package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sutra-grid/sutra-grid/agent/platform"
)

// Processes starts and adopts processes.
type Processes struct {
	hold []string
}

// New makes the adapter. hold is a program with arguments that calls Hold with the arguments that follow: the caller's own
// binary with a hidden command.
func New(hold ...string) *Processes { return &Processes{hold: hold} }

// Start runs what spec says. record is called when the process is there and before it runs anything; if record fails, the
// process ends without having run and Start returns that error.
func (p *Processes) Start(spec platform.Spec, record func(platform.Ref, int) error) (*platform.Instance, error) {
	path, err := exec.LookPath(spec.Path)
	if err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	gate, release, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	defer release.Close()
	defer gate.Close()
	kills := oomKills()
	proc, err := p.spawn(path, spec, gate)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	in, err := open(proc, spec, kills)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", path, err), end(proc))
	}
	if err := record(in.identity.ref(), in.identity.pid); err != nil {
		return nil, errors.Join(err, in.abandon())
	}
	if _, err := release.Write([]byte{1}); err != nil {
		return nil, errors.Join(fmt.Errorf("release %s: %w", path, err), in.abandon())
	}
	return in.run(), nil
}

// spawn starts the hold program in a session of its own.
func (p *Processes) spawn(path string, spec platform.Spec, gate *os.File) (*os.Process, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	log, err := openLog(spec.LogFile, spec.KeepLogs)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	// A new file: a process of before that still holds the old one cannot write into it.
	if err := os.Remove(spec.ReadyFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	ready, err := os.OpenFile(spec.ReadyFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer ready.Close()
	argv := append(append(append([]string{}, p.hold...), path), spec.Args...)
	return os.StartProcess(argv[0], argv, &os.ProcAttr{
		Env:   append(environment(), append(spec.Env, fmt.Sprintf("%s=%d", ReadyEnv, readyFD))...),
		Files: []*os.File{null, log, log, readyFD: ready, gateFD: gate},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
}

// environment is ours without the GRID_ variables, which are settings of the program that has them and not of those it runs.
func environment() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "GRID_") {
			env = append(env, v)
		}
	}
	return env
}

// Adopt watches a process that somebody started before, with the files of the spec it was started with. ErrGone: it has
// ended, or its pid belongs to another one now.
func (p *Processes) Adopt(ref platform.Ref, spec platform.Spec) (*platform.Instance, error) {
	id, err := parseRef(ref)
	if err != nil {
		return nil, err
	}
	fd, err := openIdentity(id)
	if err != nil {
		return nil, err
	}
	ready, err := watchReady(spec)
	if err != nil {
		return nil, errors.Join(err, fd.close())
	}
	in := &instance{identity: id, fd: fd, ready: ready, spec: spec, kills: oomKills()}
	return in.run(), nil
}

// watchReady gives nil where there is no ready file to watch, which is no error: whoever waits for it has a time limit.
func watchReady(spec platform.Spec) (*Watcher, error) {
	if _, err := os.Stat(spec.ReadyFile); err != nil {
		return nil, nil
	}
	return Watch(spec.ReadyFile)
}

// instance is one process under watch.
type instance struct {
	identity identity
	fd       *pidfd
	child    *os.Process // nil: adopted
	spec     platform.Spec
	kills    uint64   // oomKills before it began
	ready    *Watcher // nil: nothing to watch

	notices chan platform.Notice
	running sync.WaitGroup
}

func open(child *os.Process, spec platform.Spec, kills uint64) (*instance, error) {
	id, err := identify(child.Pid)
	if err != nil {
		return nil, err
	}
	fd, err := openPidfd(child.Pid)
	if err != nil {
		return nil, err
	}
	ready, err := watchReady(spec)
	if err != nil {
		return nil, errors.Join(err, fd.close())
	}
	return &instance{identity: id, fd: fd, child: child, spec: spec, kills: kills, ready: ready}, nil
}

// abandon ends a process that was never released.
func (in *instance) abandon() error {
	return errors.Join(end(in.child), in.ready.Close(), in.fd.close())
}

func end(child *os.Process) error {
	kill := child.Kill()
	if errors.Is(kill, os.ErrProcessDone) {
		kill = nil
	}
	_, err := child.Wait()
	return errors.Join(kill, err)
}

// run starts the two goroutines that turn the ready file and the end of the process into notices.
func (in *instance) run() *platform.Instance {
	in.notices = make(chan platform.Notice, 2)
	readyDone := make(chan struct{})
	in.running.Go(func() { defer close(readyDone); in.awaitReady() })
	in.running.Go(func() { defer close(in.notices); in.awaitExit(readyDone) })
	return &platform.Instance{Ref: in.identity.ref(), PID: in.identity.pid, Notices: in.notices, Handle: in}
}

// awaitReady reads the ready file whenever it changes, until it holds a whole line or the watch is closed.
func (in *instance) awaitReady() {
	for in.ready != nil {
		text, err := os.ReadFile(in.spec.ReadyFile)
		if line, _, whole := strings.Cut(string(text), "\n"); err == nil && whole {
			var r platform.Ready
			if n, _ := fmt.Sscanf(line, "ready %s %s", &r.Endpoint, &r.StoreID); n >= 1 {
				in.notices <- platform.Notice{Ready: &r}
			}
			return
		}
		if in.ready.Next() != nil {
			return
		}
	}
}

// awaitExit reports the end, behind a ready that came before it. When the pidfd is closed instead, nothing is reported.
func (in *instance) awaitExit(readyDone <-chan struct{}) {
	ended := in.fd.wait() == nil
	_ = in.ready.Close() // only wakes awaitReady; it may have been closed by Close
	<-readyDone
	if !ended {
		return
	}
	exit := status(in.identity.pid)
	if in.child != nil {
		_ = in.child.Release() // reaped above
	}
	exit.Tail = tail(in.spec.LogFile, platform.TailBytes)
	exit.OOM = outOfMemory(exit, in.kills)
	in.notices <- platform.Notice{Exit: &exit}
}

// status reaps a process that has ended, if it is our child or was inherited by us; how any other ended is unknown.
func status(pid int) platform.Exit {
	var ws unix.WaitStatus
	switch reaped, err := unix.Wait4(pid, &ws, unix.WNOHANG, nil); {
	case err != nil || reaped != pid:
		return platform.Exit{}
	case ws.Signaled():
		return platform.Exit{Signal: unix.SignalName(ws.Signal())}
	default:
		code := int32(ws.ExitStatus())
		return platform.Exit{Code: &code}
	}
}

// Terminate sends SIGTERM.
func (in *instance) Terminate() error { return in.fd.signal(unix.SIGTERM) }

// Kill sends SIGKILL.
func (in *instance) Kill() error { return in.fd.signal(unix.SIGKILL) }

// Close gives the watch up; the process goes on.
func (in *instance) Close() {
	_ = in.fd.close() // ends the wait; a second Close is harmless
	in.running.Wait()
}
