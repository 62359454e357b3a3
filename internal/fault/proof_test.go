//go:build faults

package fault

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMutationsBreakWhatIsGuarded: the test that the table names is green, and red when the mutation is live. GRID_MUTATION_ONLY
// names the ones to look at, separated by commas.
func TestMutationsBreakWhatIsGuarded(t *testing.T) {
	only := os.Getenv("GRID_MUTATION_ONLY")
	dir := t.TempDir()
	programs := map[string]string{}
	green := map[string]bool{}
	for _, m := range mutations {
		if only != "" && !strings.Contains(","+only+",", ","+m.Name+",") {
			continue
		}
		t.Run(m.Name, func(t *testing.T) {
			where, test, _ := strings.Cut(m.Test, " ")
			if programs[where] == "" {
				programs[where] = testProgram(t, dir, where)
			}
			if !green[m.Test] {
				if said, err := runTest(programs[where], where, test, "", "60s"); err != nil || !strings.Contains(said, "--- PASS: "+test) {
					t.Fatalf("%s without the mutation: %v\n%s", m.Test, err, said)
				}
				green[m.Test] = true
			}
			said, err := runTest(programs[where], where, test, m.Name, "6s") // one that waits in vain need not end
			var exit *exec.ExitError
			switch {
			case !strings.Contains(said, "fault: mutation "+m.Name+" is live"):
				t.Errorf("%s never comes by the place\n%s", m.Test, said)
			case err == nil:
				t.Errorf("%s does not notice", m.Test)
			case !errors.As(err, &exit) || !strings.Contains(said, "--- FAIL: "+test) && !strings.Contains(said, "panic: "):
				t.Errorf("%s ends with %v, want a failure\n%s", m.Test, err, said)
			}
		})
	}
}

// testProgram builds the tests of a package so that they can be broken.
func testProgram(t *testing.T, dir, where string) string {
	t.Helper()
	path := filepath.Join(dir, strings.ReplaceAll(where, "/", "-")+".test")
	cmd := exec.Command("go", "test", "-c", "-tags", "faults", "-vet=off", "-o", path, "./"+where)
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// runTest runs one test in a process of its own.
func runTest(program, where, test, mutation, limit string) (said string, err error) {
	cmd := exec.Command(program, "-test.run", "^"+test+"$", "-test.v", "-test.timeout="+limit)
	cmd.Dir = filepath.Join("..", "..", filepath.FromSlash(where))
	cmd.Env = append(os.Environ(), "GRID_MUTATION="+mutation)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
