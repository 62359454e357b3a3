package offline

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/master/disk"
)

// TestLogStores: two masters that differ in what their logs are kept in have one history; damage in either is named with its
// file, and not a byte is changed.
func TestLogStores(t *testing.T) {
	var dirs []string
	for _, kind := range []raftgroup.LogStore{raftgroup.WAL, raftgroup.BoltDB} {
		d := newDirectory(t, filepath.Join(t.TempDir(), string(kind)), "master-1", 1000, kind)
		d.all(started())
		for i := range 40 {
			d.all(setting("note " + strings.Repeat("i", 20*i)))
		}
		dirs = append(dirs, d.close())
	}
	sum := treeSum(t, dirs[1])
	a := open(t, dirs[0])
	b, err := Open(dirs[1])
	if err != nil {
		t.Fatal(err)
	}
	f, err := Bisect(a, b)
	if err != nil || f.What != "" {
		t.Errorf("%+v, %v", f, err)
	}
	end, err := b.Last()
	if err != nil || end.State.Seq() != 42 {
		t.Errorf("the last state: %+v, %v", end, err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if treeSum(t, dirs[1]) != sum {
		t.Error("reading changed the directory")
	}

	path := filepath.Join(dirs[1], disk.RaftDir, "log.db")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.ReplaceAll(content, []byte(strings.Repeat("i", 500)), append(bytes.Repeat([]byte("i"), 499), 'j'))
	for name, c := range map[string][]byte{"an entry": changed, "cut": content[:len(content)/4], "nothing": nil} {
		if err := os.WriteFile(path, c, 0o644); err != nil {
			t.Fatal(err)
		}
		m, err := Open(dirs[1])
		if err == nil {
			_, err = m.Last()
			if e := m.Close(); e != nil {
				t.Error(e)
			}
		}
		if err == nil || !strings.Contains(err.Error(), "log.db") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
