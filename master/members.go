package master

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// members keeps the masters' records in the state true: addresses from the list of peers, the level from the master itself.
type members struct {
	self    event.MasterID
	peers   Peers
	servers []event.ReplicaID
	view    func() *fsm.State
	greet   func(ctx context.Context, address string, hello *transport.MasterHello) (*transport.MasterHelloOk, error)
	propose func(ctx context.Context, body event.Body) error
	log     *slog.Logger

	mu    sync.Mutex
	known map[event.MasterID]bool // guarded by mu; their record was compared since they were last out of reach
}

// Forget makes the next Introduce ask a master again: what comes back may be another version.
func (m *members) Forget(id event.MasterID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.known, id)
}

// Introduce asks each master that was not asked yet who it is, and records it if the state does not say the same. A master
// that does not answer is asked again at the next call.
func (m *members) Introduce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, len(m.servers))
	for i, replica := range m.servers {
		wg.Go(func() { errs[i] = m.introduce(ctx, replica) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (m *members) introduce(ctx context.Context, replica event.ReplicaID) error {
	id := event.MasterID(replica.Owner())
	m.mu.Lock()
	known := m.known[id]
	m.mu.Unlock()
	peer, listed := m.peers.Find(id)
	if known || !listed {
		return nil
	}
	level := uint32(fsm.SupportedLevel)
	if id != m.self {
		hello, err := m.greet(ctx, peer.Grid, &transport.MasterHello{MasterID: m.self, Peers: m.peers.String()})
		if err != nil || hello.MasterID != id {
			m.log.Debug("master does not introduce itself yet", "peer", id, "err", err)
			return nil
		}
		level = hello.Level
	}
	record := event.MasterJoined{MasterID: id, Address: peer.Raft, Suffrage: "voter", HTTP: peer.HTTP, Grid: peer.Grid, Level: level, ReplicaID: replica}
	if !sameMaster(m.view(), record) {
		if err := m.propose(ctx, record); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known[id] = true
	return nil
}
