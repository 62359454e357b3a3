package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/transport"
)

// masters is three real gridmaster processes without anything else, with the time-outs of the lan preset.
type masters struct {
	t     *testing.T
	bin   string                     // of the program
	dir   string                     // of the data directories and logs
	env   func(*masterProc) []string // nil: nothing more
	peers string
	procs [3]*masterProc
	pool  *transport.Pool
	any   *transport.Masters
}

// masterProc is one master; cmd is nil while it is down.
type masterProc struct {
	id   string
	grid string
	cmd  *exec.Cmd
	log  *os.File
}

func startMasters(t *testing.T) *masters {
	t.Helper()
	m := newMasters(t, t.TempDir())
	m.start()
	return m
}

// newMasters is three masters that are not started yet.
func newMasters(t *testing.T, dir string) *masters {
	t.Helper()
	m := &masters{t: t, bin: filepath.Join(binaries, "gridmaster"), dir: dir, pool: transport.NewPool(transport.PoolConfig{})}
	var peers, grids []string
	ports := freePorts(t, 9)
	for i := range m.procs {
		p := &masterProc{id: fmt.Sprintf("master-%d", i+1), grid: fmt.Sprintf("127.0.0.1:%d", ports[3*i+2])}
		m.procs[i] = p
		peers = append(peers, fmt.Sprintf("%s=127.0.0.1:%d/%d/%d", p.id, ports[3*i], ports[3*i+1], ports[3*i+2]))
		grids = append(grids, p.grid)
	}
	m.peers = strings.Join(peers, ",")
	m.any = transport.NewMasters(grids, m.pool)
	t.Cleanup(m.stop)
	return m
}

// start starts those that are down and waits until they serve.
func (m *masters) start() {
	m.t.Helper()
	var ready [3]<-chan error
	for i, p := range m.procs {
		if p.cmd == nil {
			ready[i] = m.launch(p)
		}
	}
	for i, p := range m.procs {
		if ready[i] != nil {
			m.await(p, ready[i])
		}
	}
}

// freePorts asks the system for ports; all are held until the last one is known, so that none is given twice.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// launch starts a master's process; the channel tells when it serves, or why it never will.
func (m *masters) launch(p *masterProc) <-chan error {
	m.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		m.t.Fatal(err)
	}
	if p.log, err = os.OpenFile(filepath.Join(m.dir, p.id+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
		m.t.Fatal(err)
	}
	cmd := exec.Command(m.bin, "--id", p.id, "--data", m.data(p), "--peers", m.peers, "--bootstrap")
	cmd.Env = append(os.Environ(), "GRID_READY_FD=3")
	if m.env != nil {
		cmd.Env = append(cmd.Env, m.env(p)...)
	}
	cmd.ExtraFiles, cmd.Stderr = []*os.File{w}, p.log
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	p.cmd = cmd
	w.Close()
	ready := make(chan error, 1)
	go func() {
		defer r.Close()
		line, err := bufio.NewReader(r).ReadString('\n')
		if err == nil && !strings.HasPrefix(line, "ready ") {
			err = fmt.Errorf("it said %q", line)
		}
		ready <- err
	}()
	return ready
}

func (m *masters) await(p *masterProc, ready <-chan error) {
	m.t.Helper()
	select {
	case err := <-ready:
		if err != nil {
			m.t.Fatalf("%s does not serve: %v", p.id, err)
		}
	case <-time.After(30 * time.Second):
		m.t.Fatalf("%s does not serve after 30 s", p.id)
	}
}

// data is a master's data directory.
func (m *masters) data(p *masterProc) string { return filepath.Join(m.dir, p.id) }

// end sends a signal to a master and returns a channel that tells when its process is gone.
func (m *masters) end(p *masterProc, sig syscall.Signal) <-chan error {
	m.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		m.t.Fatalf("signal %s: %v", p.id, err)
	}
	return m.leave(p)
}

// leave returns a channel that tells when a master's process is gone, and counts it as down.
func (m *masters) leave(p *masterProc) <-chan error {
	gone := make(chan error, 1)
	cmd := p.cmd
	p.cmd = nil
	go func() { gone <- errors.Join(cmd.Wait(), p.log.Close()) }()
	return gone
}

func (m *masters) stop() {
	for _, p := range m.procs {
		if p.cmd == nil {
			continue
		}
		select {
		case err := <-m.end(p, syscall.SIGTERM):
			if err != nil {
				m.t.Errorf("%s after SIGTERM: %v", p.id, err)
			}
		case <-time.After(20 * time.Second):
			m.t.Errorf("%s runs 20 s after SIGTERM", p.id)
		}
	}
	m.pool.Close()
	if !m.t.Failed() {
		return
	}
	for _, p := range m.procs {
		b, _ := os.ReadFile(filepath.Join(m.dir, p.id+".log"))
		m.t.Logf("--- %s\n%s", p.id, b[max(0, len(b)-6000):])
	}
}

// leader waits until one leads, both others follow closely and all have applied what was there, and returns it.
func (m *masters) leader() *masterProc {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var leader *masterProc
	eventually(m.t, 30*time.Second, "a leader and two followers that keep up", func() (bool, string) {
		ok, err := transport.As[transport.RaftPeersOk](m.any.Call(ctx, &transport.RaftPeers{}))
		if err != nil {
			return false, err.Error()
		}
		var first, near uint64
		for i, p := range ok.Peers {
			if p.Leader {
				leader, first = m.procs[i], p.MatchIndex
			}
		}
		for _, p := range ok.Peers {
			if p.MatchIndex+100 > first {
				near++
			}
		}
		return leader != nil && near == 3, fmt.Sprintf("%+v", ok.Peers)
	})
	for _, p := range m.procs {
		if _, err := m.pool.Call(ctx, p.grid, &transport.ListNodes{}); err != nil { // a linearizable read there
			m.t.Fatalf("read at %s: %v", p.id, err)
		}
	}
	return leader
}
