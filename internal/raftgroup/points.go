package raftgroup

import (
	"errors"
	"io"
	"math"
	"path/filepath"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/types"
	"github.com/sutra-grid/sutra-grid/internal/fault"
)

// What stands here exists only in builds that can be made to fail: it is put below the guards, so that a fault meets them as a
// disk's or a state machine's own would. What syncs by itself, in a library, is told of here too (fault.Synced).

// pointedFiles are raft-wal's.
type pointedFiles struct{ types.VFS }

func (f pointedFiles) Create(dir, name string, size uint64) (types.WritableFile, error) {
	file, err := f.VFS.Create(dir, name, size)
	return &pointedFile{WritableFile: file, dir: dir, name: name, made: true, to: int64(size)}, err
}

func (f pointedFiles) OpenWriter(dir, name string) (types.WritableFile, error) {
	file, err := f.VFS.OpenWriter(dir, name)
	return &pointedFile{WritableFile: file, dir: dir, name: name, to: math.MaxInt64}, err // who wrote to it may have been killed
}

func (f pointedFiles) Delete(dir, name string) error {
	err := f.VFS.Delete(dir, name)
	if err == nil {
		fault.Synced(dir)
	}
	return err
}

// pointedFile is a file that is written to, by one goroutine.
type pointedFile struct {
	types.WritableFile
	dir, name string
	made      bool  // and its name is synced with it
	from, to  int64 // what may have been written since the last sync
}

func (f *pointedFile) WriteAt(p []byte, at int64) (int, error) {
	if f.from == f.to {
		f.from, f.to = at, at
	}
	f.from, f.to = min(f.from, at), max(f.to, at+int64(len(p)))
	return f.WritableFile.WriteAt(p, at)
}

// Sync: what a sync has failed for the next one does not write either, as on Linux.
func (f *pointedFile) Sync() error {
	path, from, to := filepath.Join(f.dir, f.name), f.from, f.to
	f.from, f.to = 0, 0
	if err := f.WritableFile.Sync(); err != nil {
		return err
	}
	if from < to {
		fault.SyncedPart(path, from, to)
	}
	if f.made {
		f.made = false
		fault.Synced(f.dir)
	}
	return nil
}

// pointedLog is a replica's log on its disk.
type pointedLog struct{ raft.LogStore }

func (s pointedLog) StoreLogs(logs []*raft.Log) error {
	if err := fault.Err(fault.RaftLogStore); err != nil {
		return err
	}
	err := s.LogStore.StoreLogs(logs)
	fault.Point(fault.RaftLogStored)
	return err
}

func (s pointedLog) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

func (s pointedLog) DeleteRange(lo, hi uint64) error {
	if err := fault.Err(fault.RaftLogDelete); err != nil {
		return err
	}
	return s.LogStore.DeleteRange(lo, hi)
}

func (s pointedLog) Close() error {
	if c, ok := s.LogStore.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// pointedStable is a replica's term and vote on their disk.
type pointedStable struct {
	raft.StableStore
	path string
}

// pointStable is called when the store has been opened, which is a transaction; a file that is made is synced in any case.
func pointStable(s raft.StableStore, path string, made bool) pointedStable {
	p := pointedStable{s, path}
	if made {
		fault.Synced(path)
	} else {
		p.tell()
	}
	return p
}

func (s pointedStable) Set(key, value []byte) error {
	if err := fault.Err(fault.RaftVote); err != nil {
		return err
	}
	return s.synced(func() error { return s.StableStore.Set(key, value) })
}

func (s pointedStable) SetUint64(key []byte, value uint64) error {
	if err := fault.Err(fault.RaftTerm); err != nil {
		return err
	}
	return s.synced(func() error { return s.StableStore.SetUint64(key, value) })
}

// synced runs a transaction, which syncs the file unless it is told not to.
func (s pointedStable) synced(run func() error) error {
	err := run()
	if err == nil {
		s.tell()
	}
	return err
}

// tell says behind a transaction that the file is synced, as it is unless the store was told not to.
func (s pointedStable) tell() {
	if !fault.Broken(fault.SkipFsyncVote) {
		fault.Synced(s.path)
	}
}

func (s pointedStable) Close() error {
	if c, ok := s.StableStore.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// pointedSnapshots is a replica's snapshots on their disk.
type pointedSnapshots struct {
	raft.SnapshotStore
	path string
}

func (s pointedSnapshots) Create(version raft.SnapshotVersion, index, term uint64, conf raft.Configuration, confIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	if err := fault.Err(fault.RaftSnapshotCreate); err != nil {
		return nil, err
	}
	sink, err := s.SnapshotStore.Create(version, index, term, conf, confIndex, trans)
	if err != nil {
		return nil, err
	}
	return pointedSink{sink, s.path}, nil
}

type pointedSink struct {
	raft.SnapshotSink
	path string // of all snapshots
}

func (s pointedSink) Write(p []byte) (int, error) {
	if err := fault.Err(fault.RaftSnapshotWrite); err != nil {
		return 0, err
	}
	return s.SnapshotSink.Write(p)
}

func (s pointedSink) Close() error {
	if err := fault.Err(fault.RaftSnapshotClose); err != nil {
		return errors.Join(err, s.Cancel())
	}
	err := s.SnapshotSink.Close()
	if err == nil { // raft has synced its files, and the directory that has its name, but not the one that has theirs
		for _, synced := range []string{filepath.Join(s.ID(), "state.bin"), filepath.Join(s.ID(), "meta.json"), "."} {
			fault.Synced(filepath.Join(s.path, synced))
		}
	}
	fault.Point(fault.RaftSnapshotClosed)
	return err
}

// pointedFSM is the state machine.
type pointedFSM struct{ FSM }

func (f pointedFSM) Apply(entries []Entry) [][]any {
	fault.Point(fault.RaftApply)
	answers := f.FSM.Apply(entries)
	fault.Point(fault.RaftApplied)
	return answers
}

func (f pointedFSM) Snapshot() (Snapshot, error) {
	if err := fault.Err(fault.RaftSnapshotFix); err != nil {
		return nil, err
	}
	return f.FSM.Snapshot()
}

func (f pointedFSM) Restore(r io.Reader) error {
	if err := fault.Err(fault.RaftRestore); err != nil {
		return err
	}
	err := f.FSM.Restore(r)
	fault.Point(fault.RaftRestored)
	return err
}
