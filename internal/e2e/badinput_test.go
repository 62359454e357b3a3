package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/transport"
)

// The limits of the bad-input test.
const (
	badConnections = 1000
	maxGrowth      = 32 << 20
)

// TestBadInput is one grid that is treated badly: every refusal is one clear line and a non-zero status.
func TestBadInput(t *testing.T) {
	t.Parallel()
	g := startGrid(t)
	t.Run("unknown id", func(t *testing.T) {
		for _, args := range [][]string{{"get", "nobody"}, {"neighbors", "nobody"}, {"path", "nobody", "nowhere"}, {"agents", "show", "agent-99"}} {
			g.refused(t, 3, args...)
		}
	})
	t.Run("wrong usage", func(t *testing.T) {
		for _, args := range [][]string{{"get"}, {"nonsense"}, {"--output", "xml", "status"}, {"import", "--on-error", "maybe", "-"}, {"get", "--nonsense", "a"}} {
			g.refused(t, 2, args...)
		}
	})
	t.Run("no grid there", func(t *testing.T) {
		g.refused(t, 4, "--master", "127.0.0.1:1", "--timeout", "2s", "status")
	})
	t.Run("import", func(t *testing.T) { g.brokenImport(t) })
	t.Run("start", func(t *testing.T) { g.refusedStarts(t) })
	t.Run("garbage", func(t *testing.T) { g.garbage(t) })
}

// refused runs gridctl, which must end with the status and exactly one line on standard error.
func (g *grid) refused(t *testing.T, want int, args ...string) string {
	t.Helper()
	_, stderr, status := g.ctl(args...)
	if lines := strings.Count(strings.TrimSpace(stderr), "\n") + 1; status != want || lines != 1 || stderr == "" {
		t.Errorf("gridctl %v: exit %d, want %d, with one line on standard error, not:\n%s", args, status, want, stderr)
	}
	return stderr
}

func (g *grid) brokenImport(t *testing.T) {
	good := func(id string) string { return fmt.Sprintf(`{"concept":{"id":"%s","content":"text"}}`, id) }
	lines := []string{good("b1"), `{"concept":`, good("b2"), `{"association":{"source":"b1","target":"missing","type":"causal"}}`,
		`{"association":{"source":"b1","target":"b2","type":"causal"}}`, `{"concept":{"id":"","content":"x"}}`}
	file := filepath.Join(t.TempDir(), "broken.ndjson")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, status := g.ctl("import", file)
	if status != 1 || !strings.Contains(stderr, file+":2:") || strings.Count(stderr, "\n") != 1 || !strings.Contains(stdout, "1 concepts and 0 associations") {
		t.Errorf("import that stops: exit %d\n%s%s", status, stdout, stderr)
	}
	stdout, stderr, status = g.ctl("import", "--on-error", "continue", file)
	for _, n := range []string{":2:", ":4:", ":6:"} {
		if !strings.Contains(stderr, file+n) {
			t.Errorf("import that continues does not name line %s\n%s", n, stderr)
		}
	}
	if status != 1 || strings.Count(stderr, "\n") != 3 || !strings.Contains(stdout, "2 concepts and 1 associations") {
		t.Errorf("import that continues: exit %d\n%s%s", status, stdout, stderr)
	}
	g.refused(t, 1, "import", "/nonexistent/file")
}

// refusedStarts: a port in use, a data directory in use, an unwritable directory; for each program one line.
func (g *grid) refusedStarts(t *testing.T) {
	d := g.dev()
	used := d.Masters[0]
	usedPorts := fmt.Sprintf("master-9=%s/%s/%s", used.Raft, strings.TrimPrefix(used.HTTP, "127.0.0.1:"), strings.TrimPrefix(used.Grid, "127.0.0.1:"))
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o400); err != nil {
		t.Fatal(err)
	}
	unwritable := filepath.Join(file, "below-a-file")
	free := fmt.Sprintf("127.0.0.1:%d", g.base+390)
	for what, args := range map[string][]string{
		"node, port in use":          {"gridnode", "--data", t.TempDir() + "/n", "--listen", d.Events},
		"node, directory in use":     {"gridnode", "--data", filepath.Join(g.data, "events"), "--listen", free, "--events"},
		"node, unwritable":           {"gridnode", "--data", unwritable, "--listen", free},
		"agent, port in use":         {"gridagent", "--id", "agent-9", "--data", t.TempDir() + "/a", "--masters", used.Grid, "--listen", d.Agents[0].Address, "--node-ports", "1"},
		"agent, directory in use":    {"gridagent", "--id", "agent-1", "--data", filepath.Join(g.data, "agents", "agent-1"), "--masters", used.Grid, "--listen", free, "--node-ports", "1"},
		"agent, unwritable":          {"gridagent", "--id", "agent-9", "--data", unwritable, "--masters", used.Grid, "--listen", free, "--node-ports", "1"},
		"master, port in use":        {"gridmaster", "--id", "master-9", "--data", t.TempDir() + "/m", "--peers", usedPorts, "--bootstrap"},
		"master, directory in use":   {"gridmaster", "--id", used.ID, "--data", filepath.Join(g.data, "masters", used.ID), "--peers", strings.Replace(freePeers(g.base), "master-9", used.ID, 1)},
		"master, unwritable":         {"gridmaster", "--id", "master-9", "--data", unwritable, "--peers", freePeers(g.base), "--bootstrap"},
		"dev, data directory in use": {"gridctl", "dev", "--data", g.data, "--base-port", fmt.Sprint(g.base)},
		"dev, unwritable":            {"gridctl", "dev", "--data", unwritable, "--base-port", fmt.Sprint(g.base)},
	} {
		t.Run(what, func(t *testing.T) { refusedStart(t, args) })
	}
}

func freePeers(base int) string {
	return fmt.Sprintf("master-9=127.0.0.1:%d/%d/%d", base+391, base+392, base+393)
}

func refusedStart(t *testing.T, args []string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(binaries, args[0]), args[1:]...)
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+t.TempDir())
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		cmd.Process.Kill()
		<-ended
		t.Fatalf("%v still runs after 10 s:\n%s", args, errs.String())
	}
	text := strings.TrimSpace(errs.String())
	if cmd.ProcessState.ExitCode() == 0 || text == "" || strings.Contains(text, "\n") {
		t.Errorf("%v: exit %d, want non-zero and one line, not:\n%s", args, cmd.ProcessState.ExitCode(), text)
	}
	t.Log(text)
}

// garbage opens 1,000 connections per port, half with noise, half claiming a frame of 4 GiB; every one gets an error reply or
// a close, and the process behind it does not grow.
func (g *grid) garbage(t *testing.T) {
	d := g.dev()
	type target struct {
		name, addr string
		pid        int
	}
	targets := []target{
		{"master raft", d.Masters[0].Raft, d.Masters[0].PID}, {"master http", d.Masters[0].HTTP, d.Masters[0].PID},
		{"master grid", d.Masters[0].Grid, d.Masters[0].PID}, {"agent", d.Agents[0].Address, d.Agents[0].PID},
		{"node", d.Nodes[0].Endpoint, d.Nodes[0].PID}, {"events", d.Events, g.eventsPID(t)},
	}
	for _, tg := range targets {
		t.Run(tg.name, func(t *testing.T) {
			before := rss(t, tg.pid)
			for i := range badConnections {
				throw(t, tg.addr, i)
			}
			if grown := rss(t, tg.pid) - before; grown >= maxGrowth {
				t.Errorf("RSS grew by %d MiB over %d connections", grown>>20, badConnections)
			} else {
				t.Logf("RSS grew by %.1f MiB", float64(grown)/(1<<20))
			}
		})
	}
	var st transport.ClusterStatus
	g.ctlJSON(&st, "status")
	if st.Level != "healthy" {
		t.Errorf("the grid is %s after the garbage: %s", st.Level, st.Reason)
	}
}

// throw sends one bad connection and waits for the reply or the close.
func throw(t *testing.T, addr string, i int) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Fatalf("connection %d: %v", i, err)
	}
	defer c.Close()
	noise := bytes.Repeat([]byte{byte(i), 0xde, 0xad, 0xbe, 0xef}, 200)
	switch i % 4 {
	case 0: // a claim of 4 GiB, and some of it
		noise = append([]byte{0xff, 0xff, 0xff, 0xff}, noise...)
	case 1: // a frame that holds noise
		noise = append(binary.BigEndian.AppendUint32(nil, uint32(len(noise))), noise...)
	case 2: // a claim just within the limit, never fulfilled
		noise = append([]byte{0x00, 0xff, 0xff, 0xff, 0x81, 0xa8}, noise[:100]...)
	}
	if _, err := c.Write(noise); err != nil {
		return // closed already: that is an answer
	}
	c.(*net.TCPConn).CloseWrite()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, c); err != nil && os.IsTimeout(err) {
		t.Fatalf("connection %d to %s: neither an error reply nor a close within 10 s", i, addr)
	}
}

// eventsPID finds the process that holds event storage's data directory.
func (g *grid) eventsPID(t *testing.T) int {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range lines {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // ended meanwhile
		}
		args := strings.Split(string(b), "\x00")
		var pid int
		if filepath.Base(args[0]) == "gridnode" && slices.Contains(args, filepath.Join(g.data, "events")) {
			if _, err := fmt.Sscanf(path, "/proc/%d/cmdline", &pid); err == nil {
				return pid
			}
		}
	}
	t.Fatal("event storage's process is not there")
	return 0
}

// rss is a process's resident memory in bytes.
func rss(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	var size, resident int64
	if err == nil {
		_, err = fmt.Sscan(string(b), &size, &resident)
	}
	if err != nil {
		t.Fatalf("memory of process %d: %v", pid, err)
	}
	return resident * int64(os.Getpagesize())
}
