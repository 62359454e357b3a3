package master

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
)

// The suffrages of a master, as in its record.
const (
	suffrageVoter    = "voter"
	suffrageNonvoter = "nonvoter"
)

// members keeps the masters' records true: who is a member is the group's configuration, never the other way round; where
// a member listens and what it supports it says itself.
//
// The leader reads a configuration that its log has committed and then proposes an event, which stands behind that
// configuration in the same log: whoever has the record has the configuration.
type members struct {
	self    event.MasterID
	book    *book
	config  func() []raftgroup.PeerStatus // committed
	view    func() *fsm.State
	propose func(ctx context.Context, body event.Body) error
	log     *slog.Logger

	supports uint32 // this master's level

	mu    sync.Mutex
	facts map[event.ReplicaID]facts // guarded by mu; what replicas said since they were last out of reach
}

// facts is what only the replica itself knows.
type facts struct {
	peer  Peer
	level uint32
}

// Forget makes the next Introduce ask a master again: what comes back may be another version.
func (m *members) Forget(id event.MasterID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for replica := range m.facts {
		if event.MasterID(replica.Owner()) == id {
			delete(m.facts, replica)
		}
	}
}

// Introduce records what the state does not say of the configuration: who joined, was promoted, moved or left. A member
// that does not answer is asked again at the next call.
func (m *members) Introduce(ctx context.Context) error {
	config := newest(m.config())
	if len(config) == 0 {
		return nil // nothing is committed yet
	}
	asking, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, len(config))
	for i, p := range config {
		wg.Go(func() { errs[i] = m.introduce(asking, p) })
	}
	wg.Wait()
	return errors.Join(append(errs, m.recordLeft(ctx, config))...)
}

// newest is one replica for each master: while a lost one is being replaced there are two, and the later is the master now.
func newest(config []raftgroup.PeerStatus) []raftgroup.PeerStatus {
	var out []raftgroup.PeerStatus
	for _, p := range config {
		out = append(deleteOwner(out, p.ID.Owner()), p)
	}
	return out
}

func deleteOwner(config []raftgroup.PeerStatus, owner string) []raftgroup.PeerStatus {
	var out []raftgroup.PeerStatus
	for _, p := range config {
		if p.ID.Owner() != owner {
			out = append(out, p)
		}
	}
	return out
}

func (m *members) introduce(ctx context.Context, p raftgroup.PeerStatus) error {
	known, answered := m.ask(ctx, p.ID)
	if !answered {
		return nil
	}
	want := event.MasterJoined{MasterID: event.MasterID(p.ID.Owner()), Address: known.peer.Raft, Suffrage: suffrageVoter,
		HTTP: known.peer.HTTP, Grid: known.peer.Grid, Level: known.level, ReplicaID: p.ID}
	if p.Suffrage != raftgroup.Voter {
		want.Suffrage = suffrageNonvoter
	}
	change := changeOf(m.view(), want)
	if change == nil {
		return nil
	}
	return m.propose(ctx, change)
}

// ask is what a replica says of itself, asked once for each place where it listens.
func (m *members) ask(ctx context.Context, id event.ReplicaID) (facts, bool) {
	at, found := m.book.Find(id)
	m.mu.Lock()
	known, asked := m.facts[id]
	m.mu.Unlock()
	switch {
	case !found:
		return facts{}, false
	case asked && known.peer == at:
		return known, true
	case event.MasterID(id.Owner()) == m.self:
		known = facts{peer: at, level: m.supports}
	default:
		hello, err := m.book.ask(ctx, at)
		if err != nil || event.NewReplicaID(string(hello.MasterID), hello.StoreID) != id {
			m.log.Debug("master does not introduce itself yet", "replica", id, "err", err)
			return facts{}, false
		}
		known = facts{peer: ownWord(hello, at), level: hello.Level}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.facts[id] = known
	return known, true
}

// changeOf is the event that makes a master's record what it should be; nil: it is.
func changeOf(s *fsm.State, want event.MasterJoined) event.Body {
	m := s.Master(want.MasterID)
	switch {
	case m == nil || m.ReplicaID != want.ReplicaID || m.Suffrage != want.Suffrage || m.Level != want.Level:
		return want
	case peerOf(*m) != (Peer{ID: m.ID, Raft: want.Address, HTTP: want.HTTP, Grid: want.Grid}) && s.Level() < fsm.ReaddressLevel:
		return want
	case m.Address != want.Address || m.HTTP != want.HTTP || m.Grid != want.Grid:
		return event.ReplicaReaddressed{ShardID: event.MastersGroup, ReplicaID: m.ReplicaID, OldAddress: m.Address,
			Address: want.Address, HTTP: want.HTTP, Grid: want.Grid}
	}
	return nil
}

// recordLeft records the masters that have no replica in the configuration any more.
func (m *members) recordLeft(ctx context.Context, config []raftgroup.PeerStatus) error {
	var errs []error
	for record := range m.view().Masters() {
		if len(deleteOwner(config, string(record.ID))) == len(config) {
			errs = append(errs, m.propose(ctx, event.MasterLeft{MasterID: record.ID}))
		}
	}
	return errors.Join(errs...)
}
