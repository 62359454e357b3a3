package raftgroup

import (
	"sync"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/types"
)

// What stands here serves mutations only (internal/fault), and is in no program that is released.

// unsyncedFiles never reach the disk before the kernel likes (fault.SkipFsyncLog).
type unsyncedFiles struct{ types.VFS }

// Create implements types.VFS.
func (f unsyncedFiles) Create(dir, name string, size uint64) (types.WritableFile, error) {
	file, err := f.VFS.Create(dir, name, size)
	return unsyncedFile{file}, err
}

// OpenWriter implements types.VFS.
func (f unsyncedFiles) OpenWriter(dir, name string) (types.WritableFile, error) {
	file, err := f.VFS.OpenWriter(dir, name)
	return unsyncedFile{file}, err
}

type unsyncedFile struct{ types.WritableFile }

// Sync implements types.WritableFile.
func (unsyncedFile) Sync() error { return nil }

// unheard sends entries whose arrival the leader does not wait for (fault.AckBeforeCommit): to each replica in their order.
type unheard struct {
	mu   sync.Mutex
	last map[raft.ServerID]chan struct{} // guarded by mu; closed when the latest request to a replica has ended
}

func (u *unheard) send(id raft.ServerID, run func() error) {
	ended := make(chan struct{})
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.last == nil {
		u.last = map[raft.ServerID]chan struct{}{}
	}
	before := u.last[id]
	u.last[id] = ended
	go func() {
		defer close(ended)
		if before != nil {
			<-before
		}
		_ = run() // nobody learns of it
	}()
}
