package raftgroup

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
	"github.com/sutra-grid/sutra-grid/internal/fault"
)

// raft's keys, and ours: the vote is one value, so that term and candidate are one write.
const (
	keyCurrentTerm  = "CurrentTerm"
	keyLastVoteTerm = "LastVoteTerm"
	keyLastVoteCand = "LastVoteCand"
	keyVote         = "Vote"    // term, 8 bytes big-endian, and the candidate
	keyJoining      = "Joining" // 1: the replica was made to join and has held no entry yet; absent otherwise, or 0
)

// notFound is raft's way to say that a key is absent: the text, unwrapped.
const notFound = "not found"

// termGuard keeps the term still while a heartbeat is handled beside raft's main loop.
//
// raft handles a heartbeat of the fast path in the receiving goroutine: it compares terms and, if it is a candidate, sets
// state and term. Were the main loop to raise the term in between, the heartbeat would set it back, and a replica that
// had voted, or led, in the higher term could accept entries of the lower one. So the main loop's write of a higher term
// (SetUint64) excludes the fast path, and the fast path is taken only for the term that is both written and in effect.
type termGuard struct {
	mu      sync.RWMutex  // held for reading while a heartbeat is handled beside the main loop
	written atomic.Uint64 // the current term on disk; changed under mu
}

// while runs f, with the term held still, if term is the one on disk and ok agrees.
func (g *termGuard) while(term uint64, ok func() bool, f func()) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.written.Load() != term || !ok() {
		return false
	}
	f()
	return true
}

// stableStore guards the replica's term and vote.
type stableStore struct {
	inner raft.StableStore
	group string
	path  string
	latch *latch
	terms *termGuard
	disk  *disk

	joining atomic.Bool // keyJoining on disk

	mu   sync.Mutex
	held *uint64 // guarded by mu; a vote's term that waits for its candidate
}

func newStableStore(inner raft.StableStore, group, path string, l *latch) (*stableStore, error) {
	s := &stableStore{inner: inner, group: group, path: path, latch: l, terms: &termGuard{}, disk: newDisk(writeDeadline)}
	term, err := inner.GetUint64([]byte(keyCurrentTerm))
	if err != nil && err.Error() != notFound {
		s.disk.close()
		return nil, s.fail("read current term", err)
	}
	s.terms.written.Store(term)
	joining, err := inner.GetUint64([]byte(keyJoining))
	if err != nil && err.Error() != notFound {
		s.disk.close()
		return nil, s.fail("read "+keyJoining, err)
	}
	s.joining.Store(joining != 0)
	return s, nil
}

// setJoining records that the replica has held no entry yet, so that its log may be empty (safety S1: only such a one's).
func (s *stableStore) setJoining(joining bool) error {
	value := uint64(0)
	if joining {
		value = 1
	}
	if err := s.setUint64(keyJoining, value); err != nil {
		return err
	}
	s.joining.Store(joining)
	return nil
}

// Close implements io.Closer. A store whose write hangs is left as it is.
func (s *stableStore) Close() error {
	if !s.disk.close() {
		return fmt.Errorf("close term and vote in %s: a write still hangs", s.path)
	}
	if c, ok := s.inner.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// Set implements raft.StableStore.
func (s *stableStore) Set(key, val []byte) error {
	if err := s.latch.err(); err != nil {
		return err
	}
	if string(key) == keyLastVoteCand {
		return s.setVote(val)
	}
	if err := s.set(string(key), val); err != nil {
		return s.fail("write "+string(key), err)
	}
	return nil
}

// setVote writes the term that was held back and its candidate at once.
func (s *stableStore) setVote(candidate []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		return s.fail("write the vote", fmt.Errorf("candidate %q without a term", candidate))
	}
	vote := append(binary.BigEndian.AppendUint64(nil, *s.held), candidate...)
	if err := s.set(keyVote, vote); err != nil {
		return s.fail("write the vote", err)
	}
	s.held = nil
	return nil
}

// setHalfAVote is what raft does by itself: the new term is there before its candidate is, with the one of an earlier vote.
func (s *stableStore) setHalfAVote(term uint64) error {
	_, candidate, err := s.vote()
	if err != nil && err.Error() != notFound {
		return err
	}
	return s.set(keyVote, append(binary.BigEndian.AppendUint64(nil, term), candidate...))
}

// Get implements raft.StableStore.
func (s *stableStore) Get(key []byte) ([]byte, error) {
	if err := s.latch.err(); err != nil {
		return nil, err
	}
	if string(key) == keyLastVoteCand {
		_, candidate, err := s.vote()
		return candidate, err
	}
	return s.get(string(key))
}

func (s *stableStore) get(key string) ([]byte, error) {
	v, err := s.inner.Get([]byte(key))
	if err != nil && err.Error() != notFound {
		return nil, s.fail("read "+key, err)
	}
	return v, err
}

// vote is the last vote on disk; one that is half made does not count.
func (s *stableStore) vote() (term uint64, candidate []byte, err error) {
	v, err := s.get(keyVote)
	if err != nil {
		return 0, nil, err
	}
	if len(v) < 8 {
		return 0, nil, s.fail("read the vote", fmt.Errorf("%d bytes", len(v)))
	}
	return binary.BigEndian.Uint64(v), v[8:], nil
}

// SetUint64 implements raft.StableStore.
func (s *stableStore) SetUint64(key []byte, val uint64) error {
	err := s.setUint64(string(key), val)
	if err != nil && string(key) == keyCurrentTerm {
		s.latch.park() // raft panics
	}
	return err
}

func (s *stableStore) setUint64(key string, val uint64) error {
	if err := s.latch.err(); err != nil {
		return err
	}
	switch key {
	case keyLastVoteTerm:
		s.mu.Lock()
		s.held = &val
		s.mu.Unlock()
		if fault.Broken(fault.VoteInTwoWrites) {
			return s.setHalfAVote(val)
		}
		return nil
	case keyCurrentTerm:
		return s.setTerm(val)
	}
	if err := s.setNumber(key, val); err != nil {
		return s.fail("write "+key, err)
	}
	return nil
}

// setTerm writes a new term. A heartbeat on the fast path "sets" the term that is there already, and holds terms.mu.
func (s *stableStore) setTerm(term uint64) error {
	if term == s.terms.written.Load() {
		return nil
	}
	s.terms.mu.Lock()
	defer s.terms.mu.Unlock()
	if err := s.setNumber(keyCurrentTerm, term); err != nil {
		return s.fail("write the term", err)
	}
	s.terms.written.Store(term)
	return nil
}

func (s *stableStore) set(key string, val []byte) error {
	return s.disk.within(func() error { return s.inner.Set([]byte(key), val) })
}

func (s *stableStore) setNumber(key string, val uint64) error {
	return s.disk.within(func() error { return s.inner.SetUint64([]byte(key), val) })
}

// GetUint64 implements raft.StableStore.
func (s *stableStore) GetUint64(key []byte) (uint64, error) {
	if err := s.latch.err(); err != nil {
		return 0, err
	}
	if string(key) == keyLastVoteTerm {
		term, _, err := s.vote()
		return term, err
	}
	v, err := s.inner.GetUint64(key)
	if err != nil && err.Error() != notFound {
		return 0, s.fail("read "+string(key), err)
	}
	return v, err
}

func (s *stableStore) fail(what string, err error) error {
	return s.latch.fail(fmt.Errorf("term and vote of %s in %s: %s: %w", s.group, s.path, what, err))
}
