//go:build !faults

package fault

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestReleaseHasNoPoints: a program built for a release holds neither a label or a mutation nor the means to arm one, and one built
// with the tag holds them all, which shows that the search finds them.
func TestReleaseHasNoPoints(t *testing.T) {
	words := []string{"GRID_FAULT", "GRID_MUTATION", mutations[0].What}
	for _, s := range labels {
		words = append(words, s.Name)
	}
	for _, s := range mutations {
		words = append(words, s.Name)
	}
	faults := program(t, "gridmaster", "-tags", "faults")
	for _, word := range words {
		if !bytes.Contains(faults, []byte(word)) {
			t.Errorf("%s is not in a program built with the tag: this test finds nothing", word)
		}
	}
	for _, name := range []string{"gridmaster", "gridnode"} {
		release := program(t, name)
		for _, word := range words {
			if bytes.Contains(release, []byte(word)) {
				t.Errorf("%s is in a %s built for a release", word, name)
			}
		}
	}
}

// program builds one of the programs, which have most of the points between them.
func program(t *testing.T, name string, flags ...string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	cmd := exec.Command("go", append(append([]string{"build", "-ldflags=-s -w"}, flags...), "-o", path, "./cmd/"+name)...)
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
