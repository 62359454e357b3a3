package raftgroup

import (
	"errors"
	"io"

	"github.com/hashicorp/raft"
	"github.com/sutra-grid/sutra-grid/internal/fault"
)

// What stands here exists only in builds that can be made to fail: it is put below the guards, so that a fault meets them as a
// disk's or a state machine's own would.

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
type pointedStable struct{ raft.StableStore }

func (s pointedStable) Set(key, value []byte) error {
	if err := fault.Err(fault.RaftVote); err != nil {
		return err
	}
	return s.StableStore.Set(key, value)
}

func (s pointedStable) SetUint64(key []byte, value uint64) error {
	if err := fault.Err(fault.RaftTerm); err != nil {
		return err
	}
	return s.StableStore.SetUint64(key, value)
}

func (s pointedStable) Close() error {
	if c, ok := s.StableStore.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// pointedSnapshots is a replica's snapshots on their disk.
type pointedSnapshots struct{ raft.SnapshotStore }

func (s pointedSnapshots) Create(version raft.SnapshotVersion, index, term uint64, conf raft.Configuration, confIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	if err := fault.Err(fault.RaftSnapshotCreate); err != nil {
		return nil, err
	}
	sink, err := s.SnapshotStore.Create(version, index, term, conf, confIndex, trans)
	if err != nil {
		return nil, err
	}
	return pointedSink{sink}, nil
}

type pointedSink struct{ raft.SnapshotSink }

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
