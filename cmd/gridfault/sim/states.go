package sim

import (
	"fmt"
	"sync"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// statesKept bounds how many indexes are remembered; a replica further behind is compared where it has caught up.
const statesKept = 1 << 14

// glimpse is a state in short.
type glimpse struct {
	seq            uint64
	chain          event.Chain
	history, local [32]byte
}

// states compares what masters publish: equal at equal raft index, and never going back while a process lives.
type states struct {
	mu    sync.Mutex
	at    map[uint64]glimpse        // guarded by mu; by raft index
	ring  []uint64                  // guarded by mu; indexes in the order they were first seen
	last  map[event.MasterID]uint64 // guarded by mu; the raft index each published last
	equal int                       // guarded by mu; comparisons made
}

func newStates() *states {
	return &states{at: map[uint64]glimpse{}, last: map[event.MasterID]uint64{}}
}

// see takes one published state.
func (s *states) see(id event.MasterID, v *fsm.State) error {
	index, g := v.RaftIndex(), glimpse{v.Seq(), v.Chain(), v.Digest(), v.LocalDigest()}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch last := s.last[id]; {
	case index < last:
		return fmt.Errorf("%s went back from entry %d to %d", id, last, index)
	case index == last && index > 0:
		return nil
	}
	s.last[id] = index
	other, known := s.at[index]
	if !known {
		s.at[index] = g
		s.ring = append(s.ring, index)
		if len(s.ring) > statesKept {
			delete(s.at, s.ring[0])
			s.ring = s.ring[1:]
		}
		return nil
	}
	s.equal++
	if other != g {
		return fmt.Errorf("states differ: %s at entry %d is at event %d, chain %x, digests %x %x; another master was at event %d, chain %x, digests %x %x", id, index,
			g.seq, g.chain[:4], g.history[:4], g.local[:4], other.seq, other.chain[:4], other.history[:4], other.local[:4])
	}
	return nil
}

// forget lets a master begin again behind its end: what it had applied it applies anew.
func (s *states) forget(id event.MasterID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.last, id)
}

// compared is how many states were found equal to another master's.
func (s *states) compared() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.equal
}
