package sim

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestSweep: what a process has left that is gone is removed; what one that lives works on, and what is not of a grid, stays.
func TestSweep(t *testing.T) {
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	place := t.TempDir()
	left := filepath.Join(place, fmt.Sprintf("%s%08d-00", dirPrefix, gone.Process.Pid))
	stay := []string{filepath.Join(place, fmt.Sprintf("%s%08d-01", dirPrefix, os.Getpid())), filepath.Join(place, dirPrefix+"notes")}
	for _, d := range append(stay, left) {
		if err := os.MkdirAll(filepath.Join(d, "masters"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := Sweep(place); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", left, err)
	}
	for _, d := range stay {
		if _, err := os.Stat(d); err != nil {
			t.Error(err)
		}
	}
}
