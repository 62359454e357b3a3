package raftgroup

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/metadb"
)

// TestCrashBehindTheWriteThatFillsAFile: raft-wal has not noted yet that the file is full, and the log goes on all the same.
func TestCrashBehindTheWriteThatFillsAFile(t *testing.T) {
	dir := t.TempDir()
	c := storeConfig{group: testGroup, segmentBytes: 64 << 10, latch: newLatch(nil), log: newRaftLog(discard())}
	meta := filepath.Join(dir, metadb.FileName)
	files := func() []string {
		t.Helper()
		list, err := filepath.Glob(filepath.Join(dir, "*.wal"))
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	var before, log []byte
	for i := range uint64(40) {
		store, err := openWAL(dir, c)
		if err != nil {
			t.Fatalf("behind entry %d: %v", i, err)
		}
		if last, err := store.LastIndex(); err != nil || last != i {
			t.Fatalf("entry %d was acknowledged, %d is the last one, %v", i, last, err)
		}
		if before, err = os.ReadFile(meta); err != nil {
			t.Fatal(err)
		}
		there := files()
		log = append(log[:0], make([]byte, 4<<10)...)
		log[0] = byte(i)
		if err := store.StoreLogs([]*raft.Log{{Index: i + 1, Term: 1, Data: log}}); err != nil {
			t.Fatalf("entry %d: %v", i+1, err)
		}
		if err := errors.Join(store.(io.Closer).Close(), os.WriteFile(meta, before, 0o644)); err != nil {
			t.Fatal(err)
		}
		for _, made := range files()[len(there):] {
			if err := os.Remove(made); err != nil {
				t.Fatal(err)
			}
		}
	}
	store, err := openWAL(dir, c)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(40) {
		var l raft.Log
		if err := store.GetLog(i+1, &l); err != nil || l.Data[0] != byte(i) {
			t.Errorf("entry %d: %v, %v", i+1, l.Data[:1], err)
		}
	}
	if err := store.(io.Closer).Close(); err != nil || len(files()) < 3 {
		t.Errorf("%d files, %v", len(files()), err)
	}
}
