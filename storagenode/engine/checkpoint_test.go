package engine

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A checkpoint is the state at one entry, whatever is applied behind it, and an engine begins with it.
func TestCheckpoint(t *testing.T) {
	dir := t.TempDir()
	options := func(t *testing.T) Options { return testOptions(t, vfs.Default) }
	e, err := Open(filepath.Join(dir, "engine"), options(t))
	must(t, err)
	defer func() { mustClose(t, e) }()
	fillWith(t, e, "c", 30)
	applied, want := e.Applied(), digestOf(t, e)
	files := filepath.Join(dir, "checkpoint")
	must(t, e.Checkpoint(files))
	fillWith(t, e, "d", 30) // not in it
	must(t, e.Flush())
	if err := e.Checkpoint(files); err == nil {
		t.Error("a second one in the same place")
	}

	target := filepath.Join(dir, "other")
	for name, c := range map[string]struct {
		change  func(*Options)
		applied uint64
		says    string
	}{
		"of another entry":     {func(*Options) {}, applied + 1, "not at entry"},
		"another shard's":      {func(o *Options) { o.ShardID = "shard-8" }, applied, "shard-7"},
		"of another dimension": {func(o *Options) { o.Dimension = 3 }, applied, "--dimension 2"},
	} {
		o := options(t)
		c.change(&o)
		if err := Adopt(target, files, c.applied, o); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, Adopt(target, files, applied, options(t)))
	other, err := Open(target, options(t))
	must(t, err)
	defer func() { mustClose(t, other) }()
	if other.Applied() != applied || digestOf(t, other) != want {
		t.Fatalf("at entry %d of %d, or with other content", other.Applied(), applied)
	}
	fillWith(t, other, "d", 30)
	if digestOf(t, other) != digestOf(t, e) {
		t.Fatal("the same entries lead elsewhere")
	}
}
