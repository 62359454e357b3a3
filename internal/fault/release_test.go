//go:build !faults

package fault

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestReleaseHasNoPoints: a program built for a release holds neither a label nor the means to arm one, and one built with the
// tag holds them all, which shows that the search finds them.
func TestReleaseHasNoPoints(t *testing.T) {
	release, faults := program(t), program(t, "-tags", "faults")
	if !bytes.Contains(faults, []byte("GRID_FAULT")) || bytes.Contains(release, []byte("GRID_FAULT")) {
		t.Error("GRID_FAULT: want it with the tag, and only then")
	}
	for _, s := range labels {
		if !bytes.Contains(faults, []byte(s.Name)) {
			t.Errorf("%s is not in a program built with the tag: this test finds nothing", s.Name)
		}
		if bytes.Contains(release, []byte(s.Name)) {
			t.Errorf("%s is in a program built for a release", s.Name)
		}
	}
}

// program builds the program with most of the points.
func program(t *testing.T, flags ...string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gridmaster")
	cmd := exec.Command("go", append(append([]string{"build", "-ldflags=-s -w"}, flags...), "-o", path, "./cmd/gridmaster")...)
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
