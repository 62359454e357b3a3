package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binaries is where TestMain built the programs.
var binaries string

func TestMain(m *testing.M) {
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "grid-e2e-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", dir+"/", "./cmd/gridmaster", "./cmd/gridagent", "./cmd/gridnode", "./cmd/gridctl")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	binaries = dir
	return m.Run()
}

// devFile is DATA/dev.json.
type devFile struct {
	Masters []devMaster `json:"masters"`
	Agents  []devAgent  `json:"agents"`
	Nodes   []devNode   `json:"nodes"`
	Events  string      `json:"events"`
	Ready   bool        `json:"ready"`
}

type devMaster struct {
	ID   string `json:"id"`
	PID  int    `json:"pid"`
	Raft string `json:"raft"`
	HTTP string `json:"http"`
	Grid string `json:"grid"`
}

type devAgent struct {
	ID      string `json:"id"`
	PID     int    `json:"pid"`
	Address string `json:"address"`
}

type devNode struct {
	ID       string   `json:"id"`
	PID      int      `json:"pid"`
	Agent    string   `json:"agent"`
	Endpoint string   `json:"endpoint"`
	Shards   []string `json:"shards"`
}

// grid is one running `gridctl dev`.
type grid struct {
	t     *testing.T
	bin   string // of the programs
	data  string
	base  int
	home  string
	cmd   *exec.Cmd
	ready chan struct{}
	ended chan struct{}

	mu  sync.Mutex
	out bytes.Buffer
}

// startGrid starts a grid on new data, with flags of `gridctl dev`, and waits until it is ready.
func startGrid(t *testing.T, flags ...string) *grid {
	t.Helper()
	g := newGrid(t)
	g.start(flags...)
	return g
}

// newGrid is a grid that is not started yet.
func newGrid(t *testing.T) *grid {
	t.Helper()
	g := &grid{t: t, bin: binaries, data: filepath.Join(t.TempDir(), "data"), base: freeBase(t), home: t.TempDir()}
	t.Cleanup(g.stop)
	return g
}

// freeBase finds 400 ports for a grid. Who has the last of them has them all, until the test ends.
func freeBase(t *testing.T) int {
	t.Helper()
	for base := 21000; base < 31000; base += 400 {
		mine, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base+399))
		if err != nil {
			continue // another test's, perhaps of another process
		}
		if portsFree(base) {
			t.Cleanup(func() { mine.Close() })
			return base
		}
		mine.Close()
	}
	t.Fatal("no 400 free ports between 21000 and 31000")
	return 0
}

func portsFree(base int) bool {
	for _, off := range []int{0, 1, 2, 10, 11, 12, 20, 21, 22, 101, 102, 103, 200, 201, 202, 203, 204} {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base+off))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}

// start runs `gridctl dev` with flags on the grid's data; it fails the test when `ready` does not come within 10 s.
func (g *grid) start(flags ...string) {
	g.t.Helper()
	g.cmd = g.command(append([]string{"dev", "--data", g.data, "--base-port", fmt.Sprint(g.base)}, flags...)...)
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdout, err := g.cmd.StdoutPipe()
	if err != nil {
		g.t.Fatal(err)
	}
	g.cmd.Stderr = writerFunc(g.write)
	g.ready, g.ended = make(chan struct{}), make(chan struct{})
	begun := time.Now()
	if err := g.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	go g.follow(stdout)
	select {
	case <-g.ready:
		g.t.Logf("ready after %v", time.Since(begun).Round(10*time.Millisecond))
	case <-g.ended:
		g.t.Fatalf("gridctl dev ended before it was ready:\n%s", g.output())
	case <-time.After(10 * time.Second):
		g.t.Errorf("gridctl dev was not ready within 10 s:\n%s", g.output())
		g.dumpLogs()
		g.t.FailNow()
	}
}

// follow copies dev's standard output and waits for its end.
func (g *grid) follow(stdout io.Reader) {
	sc := bufio.NewScanner(stdout)
	for sc.Scan() {
		g.write([]byte(sc.Text() + "\n"))
		if strings.HasPrefix(sc.Text(), "ready") {
			close(g.ready)
		}
	}
	g.cmd.Wait()
	close(g.ended)
}

type writerFunc func([]byte)

func (w writerFunc) Write(b []byte) (int, error) { w(b); return len(b), nil }

func (g *grid) write(b []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.out.Write(b)
}

func (g *grid) output() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.out.String()
}

// stop ends dev in order, as Ctrl-C does, and checks that it takes its children with it.
func (g *grid) stop() {
	if g.cmd == nil || g.cmd.Process == nil {
		return
	}
	select {
	case <-g.ended:
		return
	default:
	}
	pids := g.pids()
	g.cmd.Process.Signal(os.Interrupt)
	select {
	case <-g.ended:
	case <-time.After(20 * time.Second):
		g.t.Errorf("gridctl dev did not stop within 20 s:\n%s", g.output())
		g.cmd.Process.Kill()
		<-g.ended
	}
	for _, pid := range pids {
		if syscall.Kill(pid, 0) == nil {
			g.t.Errorf("process %d outlived gridctl dev", pid)
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	if g.t.Failed() {
		g.t.Logf("gridctl dev said:\n%s", g.output())
		g.dumpLogs()
	}
}

// dumpLogs prints the end of every process's log.
func (g *grid) dumpLogs() {
	var logs []string
	filepath.Walk(g.data, func(path string, st os.FileInfo, err error) error {
		if err == nil && !st.IsDir() && strings.Contains(filepath.Base(path), ".log") && st.Size() > 0 {
			logs = append(logs, path)
		}
		return nil
	})
	for _, l := range logs {
		b, _ := os.ReadFile(l)
		g.t.Logf("--- %s\n%s", strings.TrimPrefix(l, g.data), b[max(0, len(b)-3000):])
	}
}

// dev reads dev.json.
func (g *grid) dev() devFile {
	g.t.Helper()
	var d devFile
	b, err := os.ReadFile(filepath.Join(g.data, "dev.json"))
	if err == nil {
		err = json.Unmarshal(b, &d)
	}
	if err != nil {
		g.t.Fatalf("dev.json: %v", err)
	}
	return d
}

func (g *grid) pids() []int {
	var d devFile
	b, err := os.ReadFile(filepath.Join(g.data, "dev.json"))
	if err != nil || json.Unmarshal(b, &d) != nil {
		return nil
	}
	var pids []int
	for _, m := range d.Masters {
		pids = append(pids, m.PID)
	}
	for _, a := range d.Agents {
		pids = append(pids, a.PID)
	}
	for _, n := range d.Nodes {
		pids = append(pids, n.PID)
	}
	var live []int
	for _, p := range pids {
		if p > 0 {
			live = append(live, p)
		}
	}
	return live
}

// command makes a gridctl that sees only this grid's context.
func (g *grid) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(g.bin, "gridctl"), args...)
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+g.home)
	return cmd
}

// ctl runs gridctl to its end and returns what it printed and its exit status.
func (g *grid) ctl(args ...string) (stdout, stderr string, status int) {
	g.t.Helper()
	cmd := g.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		g.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// ctlJSON runs gridctl with JSON output, which must succeed, and decodes it.
func (g *grid) ctlJSON(v any, args ...string) {
	g.t.Helper()
	stdout, stderr, status := g.ctl(append([]string{"--output", "json"}, args...)...)
	if status != 0 {
		g.t.Fatalf("gridctl %v: exit %d: %s", args, status, stderr)
	}
	if err := json.Unmarshal([]byte(stdout), v); err != nil {
		g.t.Fatalf("gridctl %v: %v in %s", args, err, stdout)
	}
}

// masters is the list of grid addresses.
func (g *grid) masters() []string {
	var list []string
	for _, m := range g.dev().Masters {
		list = append(list, m.Grid)
	}
	return list
}

// eventually asks until ok, up to the limit. Each try is a real question to a real process; there is nothing to wait on.
func eventually(t *testing.T, limit time.Duration, what string, ok func() (bool, string)) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	begun := time.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		yes, seen := ok()
		if yes {
			return time.Since(begun)
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %v; last seen: %s", what, limit, seen)
		case <-tick.C:
		}
	}
}
