package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/master"
)

// freePorts are three ports that nobody listens on at the moment.
func freePorts(t *testing.T) (ports [3]int) {
	t.Helper()
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports
}

// gridmaster runs the program until ctx ends.
func gridmaster(ctx context.Context, args ...string) (status int, stderr string) {
	var out, errs bytes.Buffer
	status = run(ctx, append([]string{"gridmaster"}, args...), &out, &errs)
	return status, errs.String()
}

func TestStartAndFailures(t *testing.T) {
	p := freePorts(t)
	peers := fmt.Sprintf("m1=127.0.0.1:%d/%d/%d", p[0], p[1], p[2])
	dir := filepath.Join(t.TempDir(), "m1")
	ready, told, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan string, 1)
	go func() {
		var out, errs bytes.Buffer
		app := program{ready: told, once: serveOnce}
		status := app.run(ctx, []string{"gridmaster", "--id", "m1", "--data", dir, "--peers", peers, "--bootstrap", "--replicas", "1"}, &out, &errs)
		ended <- fmt.Sprintf("%d %s", status, lastLine(errs.String()))
	}()
	line := make([]byte, 100)
	if err := ready.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := ready.Read(line)
	if want := fmt.Sprintf("ready 127.0.0.1:%d\n", p[2]); err != nil || string(line[:n]) != want {
		t.Fatalf("it says %q, %v; want %q", line[:n], err, want)
	}
	other := filepath.Join(t.TempDir(), "other")
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		want   string
	}{
		{"port in use", []string{"--id", "m1", "--data", other, "--peers", peers, "--bootstrap", "--replicas", "1"}, exitFailed,
			fmt.Sprintf("gridmaster: listen on 127.0.0.1:%d (raft): address already in use; another process holds the port", p[0])},
		{"directory in use", []string{"--id", "m1", "--data", dir, "--peers", peers, "--replicas", "1"}, exitFailed, "gridmaster: data directory " + dir + " is in use by process"},
		{"directory not writable", []string{"--id", "m1", "--data", "/proc/nothing", "--peers", peers}, exitFailed, "gridmaster: "},
		{"unknown flag", []string{"--nonsense"}, exitUsage, "gridmaster: flag provided but not defined: -nonsense"},
		{"bad peers", []string{"--id", "m1", "--data", other, "--peers", "m1=h"}, exitUsage, `gridmaster: peer "m1=h"`},
		{"nothing given", nil, exitUsage, "gridmaster: peers: 0 masters listed"},
		{"too many shards", []string{"--id", "m1", "--data", other, "--peers", peers, "--shards", "4294967297"}, exitUsage, "gridmaster: shards:"},
		{"unknown log store", []string{"--id", "m1", "--data", other, "--peers", peers, "--log-store", "tape"}, exitUsage, `gridmaster: log-store: log store "tape"; want wal or boltdb`},
		{"thresholds", []string{"--id", "m1", "--data", other, "--peers", peers, "--snapshot-threshold", "0", "--trailing-logs", "11"}, exitUsage,
			"gridmaster: snapshot threshold: 0 entries; want at least 1; trailing logs: 11 entries; want at least 12"},
		{"argument", []string{"--id", "m1", "now"}, exitUsage, `gridmaster: unexpected argument "now"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, stderr := gridmaster(ctx, tt.args...)
			last := lastLine(stderr)
			if status != tt.status || !strings.HasPrefix(last, tt.want) {
				t.Errorf("status %d, %q; want %d, %q", status, last, tt.status, tt.want)
			}
			if lines := strings.Count(stderr, "gridmaster: "); lines != 1 {
				t.Errorf("%d lines say what is wrong:\n%s", lines, stderr)
			}
		})
	}
	stop()
	if got := <-ended; !strings.HasPrefix(got, "0 ") {
		t.Errorf("stopped with status %s", got)
	}
	status, stderr := gridmaster(t.Context(), "--id", "m1", "--data", dir, "--peers", peers, "--log-store", "boltdb")
	if want := "the log is kept in wal, not in boltdb"; status != exitFailed || !strings.Contains(lastLine(stderr), want) {
		t.Errorf("status %d, %q; want %d, %q", status, lastLine(stderr), exitFailed, want)
	}
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// TestTakesTheStateAndGoesOn: a master whose state differs starts again in the same process, as often as master.Open lets it; what
// else ends it ends the program, and so does the word to stop. It says once that it serves.
func TestTakesTheStateAndGoesOn(t *testing.T) {
	differs := fmt.Errorf("%w: at entry 1024", master.ErrReinstall)
	full := errors.New("no space left on device")
	for name, tc := range map[string]struct {
		ends   []error // of one master after the other
		stop   int     // told to stop while the master of this number runs; 0: never
		status int
	}{
		"taken":             {[]error{differs, nil}, 0, exitDone},
		"taken twice":       {[]error{differs, differs, nil}, 0, exitDone},
		"not taken":         {[]error{differs, full}, 0, exitFailed},
		"another failure":   {[]error{full}, 0, exitFailed},
		"removed":           {[]error{differs, master.ErrRemoved}, 0, exitRemoved},
		"stopped meanwhile": {[]error{differs}, 1, exitFailed},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		ready, err := os.CreateTemp(t.TempDir(), "ready")
		if err != nil {
			t.Fatal(err)
		}
		began, asked := 0, 0
		p := program{ready: ready, once: func(_ context.Context, cfg master.Config, ready *os.File) error {
			if began++; began > len(tc.ends) {
				t.Fatalf("%s: master %d is started", name, began)
			}
			if ready != nil {
				asked++
			}
			if began == tc.stop {
				cancel()
			}
			return tc.ends[began-1]
		}}
		status := p.run(ctx, []string{"gridmaster", "--id", "m1", "--data", t.TempDir(), "--peers", "m1=127.0.0.1:1/2/3"}, io.Discard, io.Discard)
		cancel()
		if status != tc.status || began != len(tc.ends) || asked != 1 {
			t.Errorf("%s: status %d after %d masters, of which %d could say that they serve; want %d after %d, 1", name, status, began, asked, tc.status, len(tc.ends))
		}
		if err := ready.Close(); err != nil {
			t.Error(err)
		}
	}
}
