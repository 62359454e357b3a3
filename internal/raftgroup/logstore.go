package raftgroup

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/raft"
)

// logStore guards a replica's log: the first error or a write that takes too long ends the replica (latch), entries are
// sealed when they are first stored and checked whenever they are read, and what was deleted is not found.
type logStore struct {
	inner    raft.LogStore
	group    string
	path     string // for messages
	latch    *latch
	deadline time.Duration
	jobs     chan storeJob // to the one goroutine that writes
	done     chan struct{} // closed when that goroutine has ended
}

// storeJob is one write.
type storeJob struct {
	run    func() error
	result chan error // capacity 1: nobody may be left to take it
}

var errHung = errors.New("the disk does not answer")

func newLogStore(inner raft.LogStore, group, path string, l *latch) *logStore {
	s := &logStore{inner: inner, group: group, path: path, latch: l, deadline: writeDeadline, jobs: make(chan storeJob), done: make(chan struct{})}
	go s.write()
	return s
}

func (s *logStore) write() {
	defer close(s.done)
	for j := range s.jobs {
		j.result <- j.run()
	}
}

// Close waits for the write under way, unless it hangs: then the store below is left as it is.
func (s *logStore) Close() error {
	close(s.jobs)
	if errors.Is(s.latch.err(), errHung) {
		select {
		case <-s.done:
		default:
			return fmt.Errorf("close log in %s: a write still hangs", s.path)
		}
	}
	<-s.done
	if c, ok := s.inner.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// IsMonotonic tells raft that the log has no gaps, so that it deletes the old log before it begins behind a snapshot.
func (s *logStore) IsMonotonic() bool {
	m, ok := s.inner.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
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
	if first == 0 || index < first { // the store below still finds deleted entries of a file that it keeps
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
	if err := s.within(func() error { return s.inner.StoreLogs(logs) }); err != nil {
		return s.fail(fmt.Sprintf("store %d entries from %d", len(logs), firstIndexOf(logs)), err)
	}
	return nil
}

func firstIndexOf(logs []*raft.Log) uint64 {
	if len(logs) == 0 {
		return 0
	}
	return logs[0].Index
}

// within runs a write and gives up on it at the deadline. The write itself cannot be ended; the latch sees to it that none
// follows, whatever becomes of it.
func (s *logStore) within(run func() error) error {
	job := storeJob{run: run, result: make(chan error, 1)}
	timer := time.NewTimer(s.deadline)
	defer timer.Stop()
	select {
	case s.jobs <- job:
	case <-timer.C:
		return fmt.Errorf("no answer to an earlier write within %v: %w", s.deadline, errHung)
	}
	select {
	case err := <-job.result:
		return err
	case <-timer.C:
		return fmt.Errorf("no answer within %v: %w", s.deadline, errHung)
	}
}

// DeleteRange implements raft.LogStore.
func (s *logStore) DeleteRange(lo, hi uint64) error {
	if err := s.latch.err(); err != nil {
		return err
	}
	if err := s.inner.DeleteRange(lo, hi); err != nil {
		return s.fail(fmt.Sprintf("delete entries %d to %d", lo, hi), err)
	}
	return nil
}

func (s *logStore) fail(what string, err error) error {
	return s.latch.fail(fmt.Errorf("log of %s in %s: %s: %w", s.group, s.path, what, err))
}
