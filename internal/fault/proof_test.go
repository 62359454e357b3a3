//go:build faults

package fault

import (
	"errors"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestMutationsBreakWhatIsGuarded: the test that the table names is green, and red when the mutation is live. GRID_MUTATION_ONLY
// names the ones to look at, separated by commas.
func TestMutationsBreakWhatIsGuarded(t *testing.T) {
	only := os.Getenv("GRID_MUTATION_ONLY")
	chosen := slices.DeleteFunc(slices.Clone(mutations), func(m MutationSpec) bool {
		return only != "" && !slices.Contains(strings.Split(only, ","), m.Name)
	})
	if len(chosen) == 0 {
		t.Fatalf("no mutation is one of %q", only)
	}
	dir := testPrograms(t, chosen)
	sound := map[string]bool{}
	for _, m := range chosen {
		t.Run(m.Name, func(t *testing.T) {
			if !sound[m.Test] {
				if said, err := runTest(dir, m.Test, "", "60s"); err != nil || !strings.Contains(said, "--- PASS: ") {
					t.Fatalf("%s without the mutation: %v\n%s", m.Test, err, said)
				}
				sound[m.Test] = true
			}
			said, err := runTest(dir, m.Test, m.Name, "6s") // one that waits in vain need not end
			var exit *exec.ExitError
			switch {
			case !strings.Contains(said, "fault: mutation "+m.Name+" is live"):
				t.Errorf("%s never comes by the place\n%s", m.Test, said)
			case err == nil:
				t.Errorf("%s does not notice", m.Test)
			case !errors.As(err, &exit) || !strings.Contains(said, "--- FAIL: ") && !strings.Contains(said, "panic: "):
				t.Errorf("%s ends with %v, want a failure\n%s", m.Test, err, said)
			}
		})
	}
}

// testPrograms builds the tests of the packages that mutations are seen in, so that they can be broken.
func testPrograms(t *testing.T, list []MutationSpec) (dir string) {
	t.Helper()
	dir = t.TempDir()
	args := []string{"test", "-c", "-tags", "faults", "-vet=off", "-o", dir + string(filepath.Separator)}
	for _, m := range list {
		where, _, _ := strings.Cut(m.Test, " ")
		if where = "./" + where; !slices.Contains(args, where) {
			args = append(args, where)
		}
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// runTest runs one test, "package TestName", in a process of its own.
func runTest(dir, test, mutation, limit string) (said string, err error) {
	where, name, _ := strings.Cut(test, " ")
	cmd := exec.Command(filepath.Join(dir, path.Base(where)+".test"), "-test.run", "^"+name+"$", "-test.v", "-test.timeout="+limit)
	cmd.Dir = filepath.Join("..", "..", filepath.FromSlash(where))
	cmd.Env = append(os.Environ(), "GRID_MUTATION="+mutation)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
