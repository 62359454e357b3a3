package disk

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// bench is a disk and one who writes to it.
type bench struct {
	t *testing.T
	*Disk
}

func newBench(t *testing.T) *bench {
	t.Helper()
	d, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &bench{t, d}
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) path(name string) string { return filepath.Join(b.Root(), name) }

// do runs a script, one step a line: write FILE TEXT, at FILE OFFSET-LETTER TEXT, mkdir DIR, mv FROM TO, rm PATH, link FROM TO, sync PATH, part PATH.
func (b *bench) do(script string) {
	b.t.Helper()
	for line := range strings.Lines(script) {
		w := strings.Fields(line)
		if len(w) == 0 {
			continue
		}
		switch w[0] {
		case "write":
			b.must(os.WriteFile(b.path(w[1]), []byte(w[2]), 0o600))
		case "mkdir":
			b.must(os.Mkdir(b.path(w[1]), 0o700))
		case "mv":
			b.must(os.Rename(b.path(w[1]), b.path(w[2])))
		case "rm":
			b.must(os.RemoveAll(b.path(w[1])))
		case "link":
			b.must(os.Link(b.path(w[1]), b.path(w[2])))
		case "sync":
			b.Synced(b.path(w[1]), 0, 0)
		default:
			b.t.Fatalf("step %q", line)
		}
	}
}

// tree is what there is: names of directories with a slash at the end, files with their content.
func (b *bench) tree() string {
	b.t.Helper()
	var all []string
	b.must(filepath.WalkDir(b.Root(), func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == b.Root() {
			return err
		}
		name, err := filepath.Rel(b.Root(), path)
		if e.IsDir() {
			all = append(all, name+"/")
			return err
		}
		data, err := os.ReadFile(path)
		all = append(all, name+"="+string(data))
		return err
	}))
	slices.Sort(all)
	return strings.Join(all, " ")
}

func (b *bench) cycle(chance float64, seed uint64) Loss {
	b.t.Helper()
	loss, err := b.PowerOff(chance, rand.New(rand.NewPCG(seed, 0)))
	b.must(err)
	b.must(b.PowerOn())
	return loss
}

// TestWhatWasSyncedComesBack: and nothing else does.
func TestWhatWasSyncedComesBack(t *testing.T) {
	for _, c := range []struct {
		what, steps, want string
		loss              Loss
	}{
		{"nothing was synced", "write a one", "", Loss{1, 3}},
		{"a file without its name", "write a one\nsync a", "", Loss{1, 3}},
		{"a name without its file", "write a one\nsync .", "a=", Loss{0, 3}},
		{"both", "write a one\nsync a\nsync .", "a=one", Loss{}},
		{"written to since", "write a one\nsync a\nsync .\nwrite a three", "a=one", Loss{0, 5}},
		{"removed since", "write a one\nsync a\nsync .\nrm a", "a=one", Loss{1, 0}},
		{"replaced, the name was not synced", "write a one\nsync a\nsync .\nwrite b two\nsync b\nmv b a", "a=one", Loss{0, 3}},
		{"replaced", "write a one\nsync a\nsync .\nwrite b two\nsync b\nmv b a\nsync .", "a=two", Loss{}},
		{"replaced by what was not synced", "write a one\nsync a\nsync .\nwrite b two\nmv b a\nsync .", "a=", Loss{0, 3}},
		{"below a directory that is not there", "mkdir d\nwrite d/a one\nsync d/a\nsync d", "", Loss{2, 3}},
		{"a directory that holds nothing yet", "mkdir d\nwrite d/a one\nsync d/a\nsync .", "d/", Loss{1, 3}},
		{"a directory and what is in it", "mkdir d\nwrite d/a one\nsync d/a\nsync d\nsync .", "d/ d/a=one", Loss{}},
		{"a directory under its old name", "mkdir d\nwrite d/a one\nsync d/a\nsync d\nsync .\nmv d e", "d/ d/a=one", Loss{3, 3}},
		{"a directory under its new name", "mkdir d\nwrite d/a one\nsync d/a\nsync d\nmv d e\nsync .", "e/ e/a=one", Loss{}},
		{"two names of one file", "write a one\nsync a\nlink a b\nsync .", "a=one b=one", Loss{}},
		{"a new file of an old name", "write a one\nsync a\nsync .\nrm a\nwrite a two\nsync a\nsync .", "a=two", Loss{}},
	} {
		b := newBench(t)
		b.do(c.steps)
		if loss := b.cycle(0, 1); loss != c.loss {
			t.Errorf("%s: lost %+v, want %+v", c.what, loss, c.loss)
		}
		if got := b.tree(); got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
		b.do("write z end\nsync z\nsync .") // what came back is a disk as before
		before := b.tree()
		if loss := b.cycle(0, 1); loss != (Loss{}) || b.tree() != before {
			t.Errorf("%s: with the power back, %+v is lost again: %q became %q", c.what, loss, before, b.tree())
		}
	}
}

// TestNothingCountsWithoutPower: a process that does not know yet that it has ended syncs in vain.
func TestNothingCountsWithoutPower(t *testing.T) {
	b := newBench(t)
	b.do("write a one\nsync a\nsync .")
	_, err := b.PowerOff(0, nil)
	b.must(err)
	b.do("write a two\nwrite b three\nsync a\nsync b\nsync .")
	if _, err := b.PowerOff(0, nil); err == nil {
		t.Error("the power went twice")
	}
	b.must(b.PowerOn())
	if got := b.tree(); got != "a=one" {
		t.Errorf("%q came back", got)
	}
	if err := b.PowerOn(); err == nil {
		t.Error("the power came twice")
	}
}

// TestPartOfTheRest: of a file that was written behind its last sync the beginning comes back, and around its end some sectors; the same
// ones for the same dice. What was told of as a whole is as it was.
func TestPartOfTheRest(t *testing.T) {
	const size = 64 * sectorBytes
	tail := func(seed uint64, whole bool) (string, Loss) {
		b := newBench(t)
		b.must(os.WriteFile(b.path("log"), make([]byte, size), 0o600))
		b.Synced(b.path("log"), 0, size)
		b.do("sync .")
		log := []byte(strings.Repeat("x", size))
		b.must(os.WriteFile(b.path("log"), log, 0o600))
		b.Synced(b.path("log"), 0, 1000) // the first two sectors
		if whole {
			b.Synced(b.path("log"), 0, 0)
			b.must(os.WriteFile(b.path("log"), []byte(strings.Repeat("y", size)), 0o600))
		}
		loss := b.cycle(1, seed)
		data, err := os.ReadFile(b.path("log"))
		b.must(err)
		return string(data), loss
	}
	torn, all := 0, map[string]bool{}
	for seed := range uint64(30) {
		data, loss := tail(seed, false)
		if again, _ := tail(seed, false); again != data {
			t.Fatalf("seed %d gives this and that", seed)
		}
		kept := strings.TrimRight(data, "\x00")
		if len(data) != size || !strings.HasPrefix(data, strings.Repeat("x", 1000)) || len(kept) < size && len(kept) > 1000 && len(kept)%sectorBytes != 0 {
			t.Fatalf("seed %d: %d bytes, %d of them are there", seed, len(data), len(kept))
		}
		if strings.Contains(kept, "\x00") {
			torn++
		}
		if n := int64(strings.Count(data, "\x00")); n != loss.Bytes {
			t.Errorf("seed %d: %d bytes are missing, lost %+v", seed, n, loss)
		}
		all[data] = true
	}
	if torn < 10 || len(all) < 15 {
		t.Errorf("of 30 logs %d have a hole, %d differ", torn, len(all))
	}
	if data, _ := tail(1, true); data != strings.Repeat("x", size) {
		t.Error("a file that was told of as a whole came back in part")
	}
}

// TestNewNamesComeBackTogether: of a directory all that has changed since its last sync, or nothing.
func TestNewNamesComeBackTogether(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(20) {
		b := newBench(t)
		b.do("write a one\nsync a\nwrite b two\nsync b\nsync .\nmv a c\nrm b\nwrite d three\nsync d")
		b.cycle(0.5, seed)
		seen[b.tree()] = true
	}
	if len(seen) != 2 || !seen["a=one b=two"] || !seen["c=one d=three"] {
		t.Errorf("came back: %v", seen)
	}
}

// TestSyncOfWhatIsGone: a sync that the disk cannot follow would be forgotten; the next power loss says so.
func TestSyncOfWhatIsGone(t *testing.T) {
	b := newBench(t)
	b.do("sync nowhere")
	if _, err := b.PowerOff(0, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
