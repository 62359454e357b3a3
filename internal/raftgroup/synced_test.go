package raftgroup

import (
	"errors"
	"io"
	"path/filepath"
	"sync"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/types"
)

// syncWatch says which files have been written and not synced since.
type syncWatch struct {
	types.VFS
	mu    sync.Mutex
	dirty map[string]bool // guarded by mu
	syncs int             // guarded by mu
}

func (w *syncWatch) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := w.VFS.Create(dir, name, size)
	return watchedFile{f, w, name}, err
}

func (w *syncWatch) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := w.VFS.OpenWriter(dir, name)
	return watchedFile{f, w, name}, err
}

func (w *syncWatch) say(name string, dirty bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dirty[name] = dirty; !dirty {
		w.syncs++
	}
}

type watchedFile struct {
	types.WritableFile
	watch *syncWatch
	name  string
}

func (f watchedFile) WriteAt(p []byte, at int64) (int, error) {
	f.watch.say(f.name, true)
	return f.WritableFile.WriteAt(p, at)
}

func (f watchedFile) Sync() error {
	err := f.WritableFile.Sync()
	f.watch.say(f.name, err != nil)
	return err
}

// Entries are stored when they are synced, and not before: also the first ones of a new file. In bbolt's files a commit syncs by
// itself, unless it is told not to.
func TestAcknowledgedEntriesAreSynced(t *testing.T) {
	watch := &syncWatch{dirty: map[string]bool{}}
	c := storeConfig{group: testGroup, segmentBytes: 64 << 10, latch: newLatch(nil), log: newRaftLog(discard())}
	c.under.files = func(files types.VFS) types.VFS {
		watch.VFS = files
		return watch
	}
	log, err := openWAL(t.TempDir(), c)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(50) { // three files
		if err := log.StoreLogs([]*raft.Log{{Index: i + 1, Term: 1, Data: make([]byte, 4<<10)}}); err != nil {
			t.Fatal(err)
		}
		watch.mu.Lock()
		for name, dirty := range watch.dirty {
			if dirty {
				t.Errorf("entry %d is stored, and %s is not synced", i+1, name)
			}
		}
		watch.mu.Unlock()
		if t.Failed() {
			break
		}
	}
	if err := log.(io.Closer).Close(); err != nil {
		t.Fatal(err)
	}
	if len(watch.dirty) < 3 && !t.Failed() {
		t.Errorf("%d files, %d syncs: nothing was watched", len(watch.dirty), watch.syncs)
	}
	if logBolt("log.db").NoSync {
		t.Error("a log in bbolt is not synced")
	}
}

// The term and the vote are synced with each commit. What a disk that loses power keeps of them is for the fault suite to see.
func TestVotesAreSynced(t *testing.T) {
	if stableBolt("stable.db").NoSync {
		t.Error("term and vote are not synced")
	}
	path := filepath.Join(t.TempDir(), stableFile)
	s, err := openBolt(stableBolt(path))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.SetUint64([]byte(keyCurrentTerm), 7), s.Close()); err != nil {
		t.Fatal(err)
	}
}
