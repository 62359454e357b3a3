package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const goldenData = "../../testdata/golden/v1/master"

// gridctl runs the program and returns what it printed.
func gridctl(t *testing.T, want int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	if got := run(t.Context(), append([]string{"gridctl"}, args...), &out, &errs); got != want {
		t.Errorf("gridctl %s: status %d, want %d\n%s%s", strings.Join(args, " "), got, want, out.String(), errs.String())
	}
	return out.String(), errs.String()
}

// TestOfflineCommands runs every offline command on the golden directory, for people and for programs.
func TestOfflineCommands(t *testing.T) {
	snapshots, err := filepath.Glob(filepath.Join(goldenData, "raft", "snapshots", "*"))
	if err != nil || len(snapshots) != 2 {
		t.Fatalf("%v, %v", snapshots, err)
	}
	for _, c := range []struct {
		want string
		exit int
		args []string
	}{
		{"txn_committed", 0, []string{"raft", "logs", "--data", goldenData}},
		{`"horizon"`, 0, []string{"raft", "logs", "--data", goldenData, "--wide"}},
		{`"kind":"command"`, 0, []string{"raft", "logs", "--data", goldenData, "--limit", "1", "-o", "json"}},
		{"kind: command", 0, []string{"raft", "logs", "--data", goldenData, "--limit", "1", "-o", "yaml"}},
		{"association_types", 0, []string{"raft", "state", "--data", goldenData}},
		{`"agents": [`, 0, []string{"raft", "state", "--at", "20", "--data", goldenData, "-o", "json"}},
		{"grid_id: grid-a", 0, []string{"raft", "state", "--at", "20", "--data", goldenData, "-o", "yaml"}},
		{"not_found", 3, []string{"raft", "state", "--at", "9999", "--data", goldenData, "-o", "json"}},
		{"incarnation_started", 0, []string{"raft", "replay", "--data", goldenData}},
		{`"digest":"`, 0, []string{"raft", "replay", "--every", "10", "--data", goldenData, "-o", "json"}},
		{"equal: entries ", 0, []string{"raft", "bisect", "--data", goldenData, "--with", goldenData}},
		{"settings", 0, []string{"raft", "state", "--data", goldenData}},
		{"outbox    events 1 to ", 0, []string{"snapshot", "inspect", snapshots[1]}},
		{`"sections": [`, 0, []string{"snapshot", "inspect", snapshots[1], "-o", "json"}},
		{": ok", 0, []string{"snapshot", "verify", goldenData}},
		{"agent-1", 1, []string{"snapshot", "diff", snapshots[0], snapshots[1]}},
	} {
		if out, _ := gridctl(t, c.exit, c.args...); !strings.Contains(out, c.want) {
			t.Errorf("gridctl %s: want %q in\n%s", strings.Join(c.args, " "), c.want, out)
		}
	}
}

func TestOfflineRefusals(t *testing.T) {
	for _, c := range []struct {
		want string
		exit int
		args []string
	}{
		{"name it with --data DIR; asking a live grid is not supported yet", 2, []string{"raft", "state", "--at", "3"}},
		{"--with DIR", 2, []string{"raft", "bisect", "--data", goldenData}},
		{"at least 1", 2, []string{"raft", "replay", "--every", "0", "--data", goldenData}},
		{"IDENTITY", 1, []string{"raft", "logs", "--data", t.TempDir()}},
		{"two files or directories", 2, []string{"snapshot", "diff", goldenData}},
		{"no snapshot", 3, []string{"snapshot", "verify", t.TempDir()}},
	} {
		if _, errs := gridctl(t, c.exit, c.args...); !strings.Contains(errs, c.want) {
			t.Errorf("gridctl %s: want %q in\n%s", strings.Join(c.args, " "), c.want, errs)
		}
	}
}

// TestOfflineDamage flips one byte of a copy's log and one of its snapshot: status 1, and the place.
func TestOfflineDamage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "master")
	if err := os.CopyFS(dir, os.DirFS(goldenData)); err != nil {
		t.Fatal(err)
	}
	for glob, offset := range map[string]int{"raft/wal/*5.wal": 200, "raft/snapshots/*/state.bin": 100} {
		found, err := filepath.Glob(filepath.Join(dir, glob))
		if err != nil || len(found) == 0 {
			t.Fatalf("%v, %v", found, err)
		}
		b, err := os.ReadFile(found[0])
		if err != nil {
			t.Fatal(err)
		}
		b[offset] ^= 1
		if err := os.WriteFile(found[0], b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, _ := gridctl(t, 1, "raft", "logs", "--data", dir)
	if !strings.Contains(out, "DAMAGED") || !strings.Contains(out, ".wal, offset ") || !strings.Contains(out, "txn_completed") {
		t.Errorf("the damage is not named, or what is behind it is not read:\n%s", out)
	}
	out, _ = gridctl(t, 1, "snapshot", "verify", dir, "-o", "json")
	var first struct {
		OK       bool
		Problems []string
	}
	for line := range strings.Lines(out) {
		if err := json.Unmarshal([]byte(line), &first); err != nil {
			t.Fatal(err)
		}
		if !first.OK {
			break
		}
	}
	if first.OK || !strings.Contains(first.Problems[0], "state.bin: offset ") {
		t.Errorf("%s", out)
	}
}
