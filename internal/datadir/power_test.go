//go:build faults

package datadir

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/disk"
	"github.com/sutra-grid/sutra-grid/internal/fault"
)

// TestPowerLossBehindCreate: a directory that was created is there, and so are those above it.
func TestPowerLossBehindCreate(t *testing.T) {
	d, err := disk.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	unmount, err := fault.Mount(d.Root(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer unmount()
	dir := filepath.Join(d.Root(), "nodes", "node-1", "data")
	made, err := Create(dir, Identity{GridID: "g", Kind: KindNode, ID: "node-1", StoreID: NewStoreID()})
	if err != nil {
		t.Fatal(err)
	}
	if err := made.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = d.PowerOff(0, nil)
	if err = errors.Join(err, d.PowerOn()); err != nil {
		t.Fatal(err)
	}
	opened, err := Open(dir, KindNode, "node-1")
	if err != nil {
		t.Fatal(err)
	}
	if err := opened.Close(); err != nil {
		t.Fatal(err)
	}
}
