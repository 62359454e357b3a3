package disk

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// TestSurvivors: of a torn write something is there and something is missing, in whole sectors of the last block.
func TestSurvivors(t *testing.T) {
	f := tearing{rand.New(rand.NewPCG(1, 2))}
	for range 2000 {
		end, n := 8*f.roll(4, 4000), f.roll(2*sectorBytes, blockBytes)
		if end%blockBytes == 0 {
			continue
		}
		there := 0
		for _, s := range f.survivors(end, n) {
			there += s.to - s.from
			if s.from < end || s.to > end+n || s.from/blockBytes != end/blockBytes || (s.to-1)/blockBytes != end/blockBytes {
				t.Fatalf("%d bytes at %d: %v is outside", n, end, s)
			}
			if s.from != end && s.from%sectorBytes != 0 || s.to != end+n && s.to%sectorBytes != 0 {
				t.Fatalf("%d bytes at %d: %v is not made of sectors", n, end, s)
			}
		}
		if there == 0 || there >= n {
			t.Fatalf("%d bytes at %d: %d of it are there", n, end, there)
		}
	}
}

// TestOnlyWholeLogsAreTorn: a log made by raft-wal is torn behind its last write; one that has a part of a write there already is left alone.
func TestOnlyWholeLogsAreTorn(t *testing.T) {
	dir := t.TempDir()
	log, err := wal.Open(dir, wal.WithSegmentSize(64<<10))
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(20) {
		if err := log.StoreLogs([]*raft.Log{{Index: 2*i + 1, Data: make([]byte, 40*i)}, {Index: 2*i + 2, Data: []byte("x")}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	whole, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	end := len(bytes.TrimRight(whole, "\x00"))
	if got := wholeEnd(whole); got != (end+7)/8*8 {
		t.Fatalf("the last write ends at %d, found %d", end, got)
	}
	f := tearing{rand.New(rand.NewPCG(1, 2))}
	if lost, err := f.tearLog(files[0]); err != nil || lost == 0 {
		t.Errorf("%d bytes lost, %v", lost, err)
	}
	torn, err := os.ReadFile(files[0])
	if err != nil || !bytes.Equal(torn[:end], whole[:end]) || bytes.Equal(torn, whole) {
		t.Errorf("what was whole is changed, or nothing was torn: %v", err)
	}
	if got := wholeEnd(torn); got != (end+7)/8*8 {
		t.Errorf("the last whole write of the torn log ends at %d, found %d", end, got)
	}
	if lost, err := f.tearLog(files[0]); err != nil || lost != 0 {
		t.Errorf("torn twice: %d bytes lost, %v", lost, err)
	}
}
