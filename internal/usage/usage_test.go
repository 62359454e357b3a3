package usage

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestOf: files that are opened are counted, those of stores apart, and a table that is deleted and still open is a file.
func TestOf(t *testing.T) {
	before, err := Of(os.Getpid())
	if err != nil || before.RSSBytes < 1<<20 || before.Files < 3 {
		t.Fatalf("%+v, %v", before, err)
	}
	dir := t.TempDir()
	for _, name := range []string{"000001.sst", "000002.sst", "000003.blob", "4-5.wal", "log"} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	if err := os.Remove(filepath.Join(dir, "000002.sst")); err != nil {
		t.Fatal(err)
	}
	after, err := Of(os.Getpid())
	if err != nil || after.Files != before.Files+2 || after.Store != before.Store+3 {
		t.Errorf("%+v, before %+v, %v", after, before, err)
	}
	if _, err := Of(1 << 30); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a process that is not there: %v", err)
	}
}

func TestDisk(t *testing.T) {
	dir := t.TempDir()
	empty, err := Disk(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a", "b"), bytes.Repeat([]byte("x"), 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := Disk(dir); err != nil || got < empty+1<<20 || got > empty+2<<20 {
		t.Errorf("%d bytes behind %d, %v", got, empty, err)
	}
	if got, err := Disk(filepath.Join(dir, "nothing")); err != nil || got != 0 {
		t.Errorf("nothing takes %d, %v", got, err)
	}
}
