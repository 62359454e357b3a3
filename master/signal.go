package master

import "sync"

// signal wakes everybody who waits for the next change. The pattern that misses nothing: take Changed, then look at the
// state, then wait.
type signal struct {
	mu   sync.Mutex
	next chan struct{} // guarded by mu; nil while nobody waits
}

// Changed is closed at the next Broadcast.
func (s *signal) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == nil {
		s.next = make(chan struct{})
	}
	return s.next
}

// Broadcast wakes the present waiters. It never blocks.
func (s *signal) Broadcast() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next != nil {
		close(s.next)
		s.next = nil
	}
}
