package master

import (
	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// What a simulation sees and does that no request can.

// View is this master's applied state; it never changes. A master that has not opened has none.
func (m *Master) View() *fsm.State { return m.core.replica.View() }

// Changed is closed when a newer state is published.
func (m *Master) Changed() <-chan struct{} { return m.core.replica.Changed() }

// Leader is the master that leads as far as this one knows, and its term; ok is false while none is known.
func (m *Master) Leader() (id event.MasterID, term uint64, ok bool) {
	replica, term, ok := m.core.group.Leader()
	return event.MasterID(replica.Owner()), term, ok
}

// LeaderChanged is closed when the answer of Leader may have changed since the call.
func (m *Master) LeaderChanged() <-chan struct{} { return m.core.group.LeaderChanged() }

// Oldest is the first event that this master's outbox still has; behind a snapshot from the leader it has none that all sinks hold.
func (m *Master) Oldest() uint64 { return m.core.replica.outbox.First() }

// Abort is Close as a crash would have it: leadership is handed to nobody, and what the outbox has not flushed is lost. The log,
// the votes and the snapshots are as they were: each is synced before anything depends on it. Cut this master off first, or its
// peers hear its end.
func (m *Master) Abort() error {
	m.aborted.Store(true)
	return m.Close()
}
