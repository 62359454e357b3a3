package processes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// life is one life of a program of ours.
type life struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended and was reaped; cmd.ProcessState is there then
}

func (p *life) lives() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// start begins a life of a machine's program, in the machine's namespace. One that lives is left alone.
func (g *Grid) start(m *machine) error {
	if m.proc.Load().lives() {
		return nil
	}
	log, err := os.OpenFile(m.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(g.cfg.Programs, m.program), m.args...)
	cmd.Env = append(inherited(), g.environment(m)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true} // Ctrl-C is for who runs the suite
	if err := m.space.do(cmd.Start); err != nil {
		return fmt.Errorf("start %s: %w", m.id, err)
	}
	p := &life{cmd: cmd, ended: make(chan struct{})}
	m.proc.Store(p)
	go func() {
		_ = cmd.Wait() // how it ended is in ProcessState
		g.noteEnd(m, cmd.ProcessState)
		close(p.ended)
	}()
	return nil
}

// inherited is our environment without the settings of a grid.
func inherited() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GRID_") })
}

// noteEnd keeps an end that no fault explains.
func (g *Grid) noteEnd(m *machine, state *os.ProcessState) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !m.met && !g.closed {
		g.troubles = append(g.troubles, fmt.Sprintf("%s ended by itself: %v", m.id, state))
	}
}

// victim is a process that can be hurt: a machine's program, or a node.
type victim struct {
	m    *machine
	node event.NodeID // empty: the machine's program
}

func (v victim) String() string {
	if v.node != "" {
		return string(v.node)
	}
	return v.m.id
}

// errDown says that a victim does not run.
var errDown = errors.New("it does not run")

// target is a process that signals can be sent to: never another one that has got its pid.
type target struct {
	victim
	pid int
	fd  int // pidfd
}

// open finds the process of a victim. The caller closes it.
func (v victim) open() (*target, error) {
	if v.node == "" {
		if !v.m.proc.Load().lives() {
			return nil, fmt.Errorf("%s: %w", v, errDown)
		}
		pid := v.m.proc.Load().cmd.Process.Pid
		fd, err := unix.PidfdOpen(pid, 0)
		if err == nil && !v.m.proc.Load().lives() { // it might have been reaped in between, and the pid be another's
			err = errors.Join(errDown, unix.Close(fd))
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", v, err)
		}
		return &target{v, pid, fd}, nil
	}
	for _, n := range scanNodes(v.m) {
		if n.node == v.node {
			return n.open()
		}
	}
	return nil, fmt.Errorf("%s of %s: %w", v.node, v.m.id, errDown)
}

// running is a node's process as it was found.
type running struct {
	victim
	pid  int
	line string // its command line, which names it for ever: its data directory is the run's own
}

// open is sure of the process: its command line is read again behind the pidfd.
func (n running) open() (*target, error) {
	fd, err := unix.PidfdOpen(n.pid, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", n.victim, errDown, err)
	}
	if now, err := commandLine(n.pid); err != nil || now != n.line {
		return nil, fmt.Errorf("%s: %w", n.victim, errors.Join(errDown, unix.Close(fd)))
	}
	return &target{n.victim, n.pid, fd}, nil
}

// commandLine is a process's words, each ended by a zero; empty for one that has ended.
func commandLine(pid int) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return string(text), err
}

// scanNodes finds the nodes of agents' machines among all processes. Their agents have them on record, but on disks that may not
// answer any more.
func scanNodes(machines ...*machine) (list []running) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil // there is none without it
	}
	for _, e := range entries {
		pid, notNumber := strconv.Atoi(e.Name())
		if notNumber != nil {
			continue
		}
		line, gone := commandLine(pid)
		if gone != nil || !ours(line) {
			continue
		}
		for _, m := range machines {
			if id, is := m.nodeOf(line); is {
				list = append(list, running{victim{m, id}, pid, line})
			}
		}
	}
	return list
}

// nodeOf tells which node of the machine a command line is of.
func (m *machine) nodeOf(line string) (event.NodeID, bool) {
	if m.role != roleAgent || !strings.Contains(line, m.data()+"/") {
		return "", false
	}
	words := strings.Split(line, "\x00")
	at := slices.Index(words, "--node-id")
	if at < 0 || at+1 >= len(words) || slices.Contains(words, "hold") { // hold waits for its agent's leave to become the node
		return "", false
	}
	return event.NodeID(words[at+1]), true
}

func (t *target) close() { _ = unix.Close(t.fd) } // nothing was written to it

func (t *target) signal(s unix.Signal) error {
	if err := unix.PidfdSendSignal(t.fd, s, nil, 0); err != nil {
		return fmt.Errorf("signal %v to %s (pid %d): %w", s, t.victim, t.pid, err)
	}
	return nil
}

// hasEnded is nil when the process has ended.
func (t *target) hasEnded() error {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(t.fd), Events: unix.POLLIN}}, 0)
	if err == nil && n == 0 {
		err = fmt.Errorf("%s (pid %d) runs", t.victim, t.pid)
	}
	return err
}

// exited waits until the process has ended.
func (t *target) exited(ctx context.Context) error {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(t.fd), Events: unix.POLLIN}}, 50)
		switch {
		case n > 0 && t.node == "": // reaped, too: it can be started again
			select {
			case <-t.m.proc.Load().ended:
				return nil
			case <-ctx.Done():
			}
		case n > 0:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s (pid %d) does not end: %w", t.victim, t.pid, context.Cause(ctx))
		}
	}
}

// all are the processes of some machines: an agent comes before its nodes, or it would start them again.
func all(machines ...*machine) (list []victim) {
	nodes := scanNodes(machines...)
	for _, m := range machines {
		list = append(list, victim{m: m})
		for _, n := range nodes {
			if n.m == m {
				list = append(list, n.victim)
			}
		}
	}
	return list
}

// killLimit bounds the end of a process that was killed: the kernel has to write nothing for it, but may be busy.
const killLimit = 5 * time.Second

// killAll ends every process of the grid.
func (g *Grid) killAll() error {
	ctx, cancel := context.WithTimeout(context.Background(), killLimit)
	defer cancel()
	_, err := slay(ctx, unix.SIGKILL, all(g.machines...)...)
	return err
}

// slay sends a signal that ends them to processes, all at once, and waits for their ends. One that does not run is not counted.
func slay(ctx context.Context, s unix.Signal, victims ...victim) (ended int, err error) {
	var open []*target
	for _, v := range victims {
		t, failed := v.open()
		if errors.Is(failed, errDown) {
			continue
		}
		if failed != nil {
			err = errors.Join(err, failed)
			continue
		}
		defer t.close()
		if failed := t.signal(s); failed != nil && !errors.Is(failed, unix.ESRCH) {
			err = errors.Join(err, failed)
			continue
		}
		open = append(open, t)
	}
	for _, t := range open {
		if failed := t.exited(ctx); failed != nil {
			err = errors.Join(err, failed)
			continue
		}
		ended++
	}
	return ended, err
}
