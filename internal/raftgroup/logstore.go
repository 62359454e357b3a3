package raftgroup

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"
	"github.com/sutra-grid/sutra-grid/internal/fault"
)

// logStore guards a replica's log: the first error or a write that takes too long ends the replica (latch), entries are
// sealed when they are first stored and checked whenever they are read, and what was deleted is not found.
//
// It also keeps the log whole around a snapshot from the leader, where raft does not: see follows.
type logStore struct {
	inner raft.LogStore
	group string
	path  string // for messages
	latch *latch
	disk  *disk

	// began is called when an entry or a snapshot is durable, before anybody learns of it: from then on the log is never
	// empty again.
	began func() error

	mu      sync.Mutex
	covered position // guarded by mu; the last entry in the newest snapshot
}

// errSuperseded: a snapshot of the replica's own took longer than the installation of a later one. Nothing is lost.
var errSuperseded = errors.New("the snapshot is of no use, there is a later one")

// position is an entry's place in the log; zero: none.
type position struct{ index, term uint64 }

func newLogStore(inner raft.LogStore, group, path string, l *latch) *logStore {
	return &logStore{inner: inner, group: group, path: path, latch: l, disk: newDisk(writeDeadline), began: func() error { return nil }}
}

// Close waits for the write under way, unless it hangs: then the store below is left as it is.
func (s *logStore) Close() error {
	if !s.disk.close() {
		return fmt.Errorf("close log in %s: a write still hangs", s.path)
	}
	if c, ok := s.inner.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// FirstIndex implements raft.LogStore.
func (s *logStore) FirstIndex() (uint64, error) {
	return s.index("first", s.inner.FirstIndex)
}

// LastIndex implements raft.LogStore.
func (s *logStore) LastIndex() (uint64, error) {
	return s.index("last", s.inner.LastIndex)
}

func (s *logStore) index(which string, f func() (uint64, error)) (uint64, error) {
	if err := s.latch.err(); err != nil {
		return 0, err
	}
	i, err := f()
	if err != nil {
		return 0, s.fail("read "+which+" index", err)
	}
	return i, nil
}

// GetLog implements raft.LogStore. raft panics on an error for a committed entry, hence park.
func (s *logStore) GetLog(index uint64, l *raft.Log) error {
	err := s.get(index, l)
	if err != nil && err != raft.ErrLogNotFound {
		s.latch.park()
	}
	return err
}

func (s *logStore) get(index uint64, l *raft.Log) error {
	first, err := s.FirstIndex()
	if err != nil {
		return err
	}
	if (first == 0 || index < first) && !fault.Broken(fault.DeletedEntriesFound) { // the store below still finds deleted entries of a file that it keeps
		return raft.ErrLogNotFound
	}
	err = s.inner.GetLog(index, l)
	if err == raft.ErrLogNotFound { // raft compares without unwrapping
		return err
	}
	if err == nil && l.Index != index {
		err = fmt.Errorf("it answers with entry %d", l.Index)
	}
	if err == nil {
		err = checkSeal(s.group, l)
	}
	if err != nil {
		return s.fail(fmt.Sprintf("read entry %d", index), err)
	}
	return nil
}

// follows tells whether an entry behind p continues what the newest snapshot ends with.
//
// raft compares the entry before a new one with its log, and where the log begins behind a snapshot, or still holds what a
// deposed leader wrote, that entry is not in it: raft answers no, the leader goes back to what it cannot send any more,
// sends its snapshot again, and so for ever (raft #697; one lost answer after a snapshot is enough). So the comparison is
// made here. Stores that allow no gaps (IsMonotonic) raft asks to delete their whole log instead, but it does not forget
// where that ended, and then accepts entries behind a hole; this store does not say that it is one, and closes gaps itself.
func (s *logStore) follows(p position) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return p.index != 0 && p == s.covered && !fault.Broken(fault.SnapshotUnjoined)
}

// coveredBy says that there is a snapshot which ends with an entry of this index and term. If the log has another entry
// in that place, then all of it up to there belongs to no history any more: a leader that was deposed wrote it. A snapshot
// that ends before the newest is an error: raft would take it for the newest. That happens to the replica's own when the
// leader's is installed while it is written.
func (s *logStore) coveredBy(index, term uint64) error {
	s.mu.Lock()
	newest := s.covered.index
	if index >= newest {
		s.covered = position{index, term}
	}
	s.mu.Unlock()
	if index < newest {
		return fmt.Errorf("%w: it ends with entry %d, that one with %d", errSuperseded, index, newest)
	}
	first, err := s.FirstIndex()
	if err != nil || first == 0 || index < first {
		return err
	}
	last, err := s.LastIndex()
	if err != nil || index > last {
		return err
	}
	var l raft.Log
	if err := s.get(index, &l); err != nil {
		return err
	}
	if l.Term == term {
		return nil
	}
	return s.DeleteRange(first, index)
}

// closeGap deletes a log that ends before the newest snapshot when the entry behind the snapshot is to be stored.
func (s *logStore) closeGap(next uint64) error {
	s.mu.Lock()
	behind := s.covered.index + 1
	s.mu.Unlock()
	if next != behind {
		return nil // in sequence, or an error of the store below
	}
	first, err := s.FirstIndex()
	if err != nil || first == 0 {
		return err
	}
	last, err := s.LastIndex()
	if err != nil || last+1 >= next {
		return err
	}
	return s.DeleteRange(first, last)
}

// StoreLog implements raft.LogStore.
func (s *logStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore. An entry that is too large is refused, which makes a leader step down and fails
// nothing else.
func (s *logStore) StoreLogs(logs []*raft.Log) error {
	if err := s.latch.err(); err != nil {
		return err
	}
	for _, l := range logs {
		if len(l.Data) > MaxEntryBytes {
			return fmt.Errorf("store entry %d: %d bytes, the limit is %d", l.Index, len(l.Data), MaxEntryBytes)
		}
		if len(l.Extensions) == 0 {
			seal(s.group, l) // this replica leads and made the entry
		} else if err := checkSeal(s.group, l); err != nil {
			return s.fail("store", err)
		}
	}
	if len(logs) == 0 {
		return nil
	}
	if err := s.closeGap(logs[0].Index); err != nil {
		return err
	}
	if err := s.disk.within(func() error { return s.inner.StoreLogs(logs) }); err != nil && !fault.Broken(fault.ContinueAfterFsyncError) {
		return s.fail(fmt.Sprintf("store %d entries from %d", len(logs), logs[0].Index), err)
	}
	return s.began()
}

// DeleteRange implements raft.LogStore.
func (s *logStore) DeleteRange(lo, hi uint64) error {
	if err := s.latch.err(); err != nil {
		return err
	}
	if err := s.disk.within(func() error { return s.inner.DeleteRange(lo, hi) }); err != nil {
		return s.fail(fmt.Sprintf("delete entries %d to %d", lo, hi), err)
	}
	return nil
}

func (s *logStore) fail(what string, err error) error {
	return s.latch.fail(fmt.Errorf("log of %s in %s: %s: %w", s.group, s.path, what, err))
}
