package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/transport"
)

// diskBar is the longest that writes may pause when the leader's disk fails or hangs; asserted by `make e2e`.
const diskBar = 5 * time.Second

// disk is a file system of its own, mounted on a directory.
type disk struct {
	t     *testing.T
	dir   string
	image string // ext4 in this file; empty: tmpfs
}

// disks gives each master's data directory in dir a file system of its own.
func disks(t *testing.T, dir string, memory bool) map[string]*disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting file systems needs root")
	}
	all := map[string]*disk{}
	for i := range 3 {
		id := fmt.Sprintf("master-%d", i+1)
		d := &disk{t: t, dir: filepath.Join(dir, id)}
		if !memory {
			d.image = filepath.Join(dir, id+".ext4")
		}
		d.make()
		all[id] = d
	}
	return all
}

// run runs a command of the system; where it is not there or not permitted the test is skipped.
func (d *disk) run(command ...string) {
	d.t.Helper()
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	text := string(out)
	switch {
	case err == nil:
	case errors.Is(err, exec.ErrNotFound), strings.Contains(text, "ermission denied"), strings.Contains(text, "not permitted"), strings.Contains(text, "loop device"):
		d.t.Skipf("%q: %v %s", command, err, out)
	default:
		d.t.Fatalf("%q: %v\n%s", command, err, out)
	}
}

func (d *disk) make() {
	d.t.Helper()
	if err := os.Mkdir(d.dir, 0o755); err != nil {
		d.t.Fatal(err)
	}
	if d.image != "" {
		if err := os.WriteFile(d.image, nil, 0o600); err != nil {
			d.t.Fatal(err)
		}
		if err := os.Truncate(d.image, 256<<20); err != nil {
			d.t.Fatal(err)
		}
		d.run("mkfs.ext4", "-q", "-F", "-m", "0", d.image)
	}
	d.mount()
	d.t.Cleanup(func() { d.run("umount", d.dir) })
	if d.image != "" {
		if err := os.Remove(filepath.Join(d.dir, "lost+found")); err != nil { // a data directory begins empty
			d.t.Fatal(err)
		}
	}
}

func (d *disk) mount() {
	d.t.Helper()
	if d.image == "" {
		d.run("mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", d.dir)
		return
	}
	d.run("mount", "-o", "loop", d.image, d.dir)
}

// fill leaves no room.
func (d *disk) fill() (heal func()) {
	d.t.Helper()
	balloon := filepath.Join(d.dir, "balloon")
	f, err := os.Create(balloon)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 1<<20); len(block) > 0; {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			block = block[:len(block)/2]
		} else if err != nil {
			d.t.Fatal(err)
		}
	}
	return func() {
		if err := os.Remove(balloon); err != nil {
			d.t.Fatal(err)
		}
	}
}

// abort makes the file system what it makes itself after an error of the device: read-only, also for files that are open.
func (d *disk) abort() (heal func()) {
	d.t.Helper()
	d.run("mount", "-o", "remount,abort", d.dir)
	return func() {
		d.run("umount", d.dir)
		d.mount()
	}
}

// freeze makes every write wait.
func (d *disk) freeze() (heal func()) {
	d.t.Helper()
	d.run("fsfreeze", "-f", d.dir)
	frozen := true
	thaw := func() {
		if frozen {
			frozen = false
			d.run("fsfreeze", "-u", d.dir)
		}
	}
	d.t.Cleanup(thaw)
	return thaw
}

// TestLeaderLosesItsDisk: under load the leader's disk is full, read-only, or does not answer. Another master leads, no call
// fails, nothing acknowledged is lost; the process says which disk and why, and ends. With the disk healthy again it catches up.
func TestLeaderLosesItsDisk(t *testing.T) {
	for _, tt := range []struct {
		name   string
		memory bool
		lose   func(*disk) (heal func())
		cause  string
	}{
		{"full", true, (*disk).fill, "no space left on device"},
		{"read-only", false, (*disk).abort, "read-only file system|input/output error"}, // the second is what fsync says there
		{"hanging", false, (*disk).freeze, "no answer within 2s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			all := disks(t, dir, tt.memory)
			m := newMasters(t, dir)
			m.start()
			leader := m.leader()
			load := startLoadOf(m, 16, strings.Repeat("x", 4000)) // the disk that is full is noticed when the outbox is flushed
			load.await(time.Now(), 100)
			lost := time.Now()
			heal := tt.lose(all[leader.id])
			process := leader.cmd.Process
			t.Cleanup(func() { _ = process.Kill() }) // or its disk could not be unmounted; mostly it has ended long ago
			gone := m.leave(leader)
			deaf(t, m, leader)
			load.await(time.Now(), 200)
			t.Logf("%s: ports closed and writes go on after %v", leader.id, time.Since(lost).Round(time.Millisecond))
			if tt.name == "hanging" {
				heal() // until then the kernel keeps the process
			}
			checkEnd(t, m, leader, gone, tt.cause)
			heal()
			m.start()
			m.leader()
			load.await(time.Now(), 50)
			gap, at := load.gap(lost)
			acks, failures := load.stop()
			for _, f := range failures {
				t.Errorf("a call failed: %v", f)
			}
			t.Logf("no write acknowledged for %v, from %v after the disk was lost; %d writes", gap.Round(time.Millisecond), at.Round(time.Millisecond), len(acks))
			if timed() && gap > diskBar {
				t.Errorf("writes paused %v, at most %v are allowed", gap, diskBar)
			}
			m.leader()
			for _, p := range m.procs {
				checkAcked(&masters{t: t, any: transport.NewMasters([]string{p.grid}, m.pool)}, acks)
			}
		})
	}
}

// deaf waits until nobody listens on a master's ports any more.
func deaf(t *testing.T, m *masters, p *masterProc) {
	t.Helper()
	for _, entry := range strings.Split(m.peers, ",") {
		id, address, _ := strings.Cut(entry, "=")
		if id != p.id {
			continue
		}
		host, ports, _ := strings.Cut(address, ":")
		for _, port := range strings.Split(ports, "/") {
			eventually(t, time.Minute, "port "+port+" of "+p.id+" is closed", func() (bool, string) {
				c, err := net.DialTimeout("tcp", net.JoinHostPort(host, port), time.Second)
				if err == nil {
					c.Close()
				}
				return errors.Is(err, syscall.ECONNREFUSED), fmt.Sprint(err)
			})
		}
	}
}

// checkEnd waits for a master's process and checks what it left: status 1, and a last line that names the disk and the cause.
func checkEnd(t *testing.T, m *masters, p *masterProc, gone <-chan error, cause string) {
	t.Helper()
	select {
	case err := <-gone:
		var status *exec.ExitError
		if !errors.As(err, &status) || status.ExitCode() != 1 {
			t.Errorf("%s ended with %v, want exit status 1", p.id, err)
		}
	case <-time.After(time.Minute):
		t.Fatalf("%s still runs", p.id)
	}
	log, err := os.ReadFile(filepath.Join(m.dir, p.id+".log"))
	if err != nil {
		t.Fatal(err)
	}
	last := string(log[bytes.LastIndexByte(bytes.TrimRight(log, "\n"), '\n')+1:])
	if !strings.HasPrefix(last, "gridmaster: ") || !strings.Contains(last, m.data(p)) || !regexp.MustCompile(cause).MatchString(last) {
		t.Errorf("the last line of %s is\n%swant %s and %q in it", p.id, last, m.data(p), cause)
	}
	t.Logf("%s", last)
}
