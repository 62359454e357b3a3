package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// start runs the program until it ends by itself.
func start(args ...string) (status int, stderr string) {
	var errs bytes.Buffer
	status = run(context.Background(), append([]string{"gridnode"}, args...), env{stdout: &bytes.Buffer{}, stderr: &errs, getenv: func(string) string { return "" }, limitHeap: func(int64) {}})
	return status, errs.String()
}

func TestRefusedStartsSayWhyInOneLine(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	port := taken.Addr().String()
	grid := []string{"--node-id", "node-1", "--agent-id", "agent-1", "--masters", "127.0.0.1:1", "--grid-id", "g"}
	for _, c := range []struct {
		name   string
		args   []string
		status int
		want   string
	}{
		{"port in use", []string{"--data", dir + "/a", "--listen", port}, exitFailed, "listen on " + port + ": address already in use; another process holds the port"},
		{"below a file", []string{"--data", file + "/n", "--listen", "127.0.0.1:0"}, exitFailed, "not a directory"},
		{"not empty", []string{"--data", dir, "--listen", "127.0.0.1:0"}, exitFailed, "needs an empty directory"},
		{"no --init", append([]string{"--data", dir + "/b", "--listen", "127.0.0.1:0"}, grid...), exitFailed, "--init"},
		{"no data", []string{"--listen", "127.0.0.1:0"}, exitUsage, "--data is missing"},
		{"no listen", []string{"--data", dir + "/c"}, exitUsage, "--listen is missing"},
		{"an argument", []string{"--data", dir, "--listen", ":0", "run"}, exitUsage, `unexpected argument "run"`},
		{"an unknown flag", []string{"--dta", dir}, exitUsage, "dta"},
		{"half a grid", []string{"--data", dir + "/d", "--listen", ":0", "--node-id", "node-1"}, exitUsage, "no grid id"},
		{"events in a grid", append([]string{"--data", dir + "/e", "--listen", ":0", "--events"}, grid...), exitUsage, "event storage"},
		{"dimension", []string{"--data", dir + "/f", "--listen", ":0", "--dimension", "4096"}, exitUsage, "dimension 4096"},
		{"thresholds", []string{"--data", dir + "/h", "--listen", ":0", "--snapshot-threshold", "0", "--trailing-logs", "11"}, exitUsage,
			"snapshot threshold of 0 entries: must be at least 1; 11 trailing logs: must be at least 12"},
		{"log store", []string{"--data", dir + "/h", "--listen", ":0", "--log-store", "tape"}, exitUsage, `log store "tape"; want wal or boltdb`},
		{"memory", []string{"--data", dir + "/h", "--listen", ":0", "--memory-limit", "512"}, exitUsage, `--memory-limit "512": want a size of 64MiB or more`},
		{"memory and cache", []string{"--data", dir + "/h", "--listen", ":0", "--memory-limit", "300MiB", "--cache-mb", "256"}, exitUsage, "leaves 6 MiB of heap beside a cache of 256 MiB"},
		{"log level", []string{"--data", dir + "/g", "--listen", ":0", "--log-level", "loud"}, exitUsage, "loud"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, stderr := start(c.args...)
			if status != c.status {
				t.Errorf("exit status %d, want %d", status, c.status)
			}
			if !strings.HasPrefix(stderr, "gridnode: ") || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, c.want) {
				t.Errorf("got %q, want one line with %q", stderr, c.want)
			}
		})
	}
}

func TestReadyLineAndOrderlyStop(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fd, err := syscall.Dup(int(w.Fd())) // the program closes it, as if it had inherited it
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan int)
	go func() {
		getenv := func(name string) string {
			if name != readyVariable {
				return ""
			}
			return fmt.Sprint(fd)
		}
		args := []string{"gridnode", "--data", filepath.Join(t.TempDir(), "n"), "--listen", "127.0.0.1:0", "--log-level", "error"}
		ended <- run(ctx, args, env{stdout: os.Stdout, stderr: os.Stderr, getenv: getenv, limitHeap: func(int64) {}})
	}()
	var word, addr, store string
	if _, err := fmt.Fscanf(r, "%s %s %s\n", &word, &addr, &store); err != nil {
		t.Fatal(err)
	}
	if word != "ready" || len(store) != 32 {
		t.Errorf("got %q %q %q", word, addr, store)
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	stop()
	if status := <-ended; status != exitDone {
		t.Errorf("exit status %d after an orderly stop", status)
	}
}
