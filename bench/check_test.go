package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// micro is the output of six runs of micro-benchmarks whose times are given, ns.
func micro(t *testing.T, times map[string]float64) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("goos: linux\ngoarch: amd64\npkg: example\ncpu: one\n")
	for name, ns := range times {
		for run := range 6 {
			fmt.Fprintf(&b, "Benchmark%s \t 1000\t %.1f ns/op\t %.0f B/op\t 3 allocs/op\n", name, ns*(1+float64(run)/1000), ns)
		}
	}
	path := filepath.Join(t.TempDir(), "micro.txt")
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestCheckScript: over 15 % slower fails and is named; what is a little slower, faster or new is not.
func TestCheckScript(t *testing.T) {
	base := micro(t, map[string]float64{"A": 100, "B": 100, "C": 100})
	for _, c := range []struct {
		now    map[string]float64
		blamed string
	}{
		{map[string]float64{"A": 110, "B": 100, "C": 50, "New": 7}, ""},
		{map[string]float64{"A": 100, "B": 120, "C": 100}, "B"},
		{map[string]float64{"A": 300, "B": 100, "C": 10}, "A"},
	} {
		out, err := exec.Command("./check.sh", micro(t, c.now), base).CombinedOutput()
		var exit *exec.ExitError
		if c.blamed == "" && err != nil || c.blamed != "" && (!errors.As(err, &exit) || !strings.Contains(string(out), "bench-check: "+c.blamed)) {
			t.Errorf("%v: %v\n%s", c.now, err, out)
		}
		if strings.Count(string(out), "bench-check: ") != len(c.blamed) {
			t.Errorf("%v: more are blamed\n%s", c.now, out)
		}
	}
}
