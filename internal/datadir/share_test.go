package datadir

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A reader and the owner exclude one another, readers do not, and a reader changes nothing.
func TestShare(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	owner, err := Create(path, masterIdentity())
	if err != nil {
		t.Fatal(err)
	}
	_, err = Share(path)
	var busy *BusyError
	if !errors.As(err, &busy) || busy.Holder != strconv.Itoa(os.Getpid()) || !strings.Contains(err.Error(), path) {
		t.Fatalf("while the owner runs: %v, want a BusyError with its pid", err)
	}
	if err := owner.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(path, lockName))
	if err != nil {
		t.Fatal(err)
	}
	one, err := Share(path)
	if err != nil {
		t.Fatal(err)
	}
	two, err := Share(path)
	if err != nil {
		t.Fatalf("a second reader: %v", err)
	}
	if got := two.Identity().ID; got != "master-1" {
		t.Fatalf("identity of %q", got)
	}
	if err := two.Close(); err != nil {
		t.Fatal(err)
	}
	// The pid in LOCK is that of an owner long gone, or of one that reads.
	if _, err := Open(path, KindMaster, "master-1"); err == nil || !strings.Contains(err.Error(), "in use by process") {
		t.Fatalf("the owner started under a reader: %v", err)
	}
	if err := errors.Join(one.Close(), one.Close()); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(filepath.Join(path, lockName))
	if err != nil || string(after) != string(before) {
		t.Fatalf("LOCK was %q, is %q (%v)", before, after, err)
	}
	owner, err = Open(path, KindMaster, "master-1")
	if err != nil {
		t.Fatalf("after the readers: %v", err)
	}
	owner.Close()
}

func TestShareRefusals(t *testing.T) {
	dir := t.TempDir()
	if _, err := Share(dir); err == nil || !strings.Contains(err.Error(), "no IDENTITY") {
		t.Errorf("an empty directory: %v", err)
	}
	gone := filepath.Join(dir, "gone")
	if _, err := Share(gone); err == nil || !strings.Contains(err.Error(), gone) {
		t.Errorf("a missing directory: %v", err)
	}
	if ok, err := Exists(gone); ok || err != nil {
		t.Errorf("Share made the directory (%v, %v)", ok, err)
	}
}
