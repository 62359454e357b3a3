package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"golang.org/x/sync/semaphore"
)

// Group is one open replica. Its methods are safe for concurrent use.
type Group struct {
	cfg      Config
	log      *slog.Logger
	latch    *latch
	stores   *stores
	streams  *streams
	peers    *peers
	contacts *contacts
	machine  *machine
	raft     *raft.Raft

	notify  chan bool // raft's word of elections won and lost
	changed broadcast // the leader, or the tenure
	tenure  atomic.Pointer[tenure]

	intake   intake
	readers  *readers
	changing chan struct{} // capacity 1: one change of the configuration at a time

	open, alive       context.Context // open ends when Close begins, alive when raft has stopped
	endOpen, endAlive context.CancelCauseFunc
	wg                sync.WaitGroup
}

// intake is what stands between Propose and raft.
type intake struct {
	queue     *queue
	room      *semaphore.Weighted // bytes that wait or are in flight
	slots     chan struct{}       // one per entry in flight
	flights   *semaphore.Weighted // one of maxInFlight per entry that raft has; a hand-over takes all
	lastStamp atomic.Int64        // the largest this replica has proposed
}

// Open starts the replica in a directory that Create made. It refuses one in which a store is missing, or whose log does
// not reach back to what the FSM holds (safety S1, S11).
func Open(c Config) (*Group, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	g, err := open(c)
	if err != nil {
		return nil, fmt.Errorf("open replica %s of %s in %s: %w", c.LocalID, c.GroupID, c.Dir, err)
	}
	return g, nil
}

func open(c Config) (_ *Group, err error) {
	kind, err := logStoreOf(c.Dir)
	if err != nil {
		return nil, err
	}
	if err := mustExist(c.Dir, kind); err != nil {
		return nil, err
	}
	if c.LogStore != "" && c.LogStore != kind {
		return nil, fmt.Errorf("the log is kept in %s, not in %s: that was decided when the replica was made; give --log-store=%s, or none, or replace the replica by a new one",
			kind, c.LogStore, kind)
	}
	g := newGroup(c)
	g.stores, err = openStores(c.Dir, storeConfig{group: c.GroupID, segmentBytes: c.SegmentBytes, latch: g.latch, log: newRaftLog(c.Log), kind: kind, under: c.under})
	if err != nil {
		return nil, err
	}
	if err := g.start(); err != nil {
		return nil, errors.Join(err, g.stop())
	}
	return g, nil
}

func newGroup(c Config) *Group {
	g := &Group{
		cfg: c, log: c.Log, contacts: newContacts(c.contactWindow(), c.under.stalled), notify: make(chan bool, 1),
		intake: intake{queue: newQueue(), room: semaphore.NewWeighted(queueBytes), slots: make(chan struct{}, inFlight()),
			flights: semaphore.NewWeighted(inFlight())}, readers: newReaders(),
		changing: make(chan struct{}, 1),
	}
	g.latch = newLatch(g.leave)
	if fault.Enabled {
		c.FSM = pointedFSM{c.FSM}
	}
	g.machine = &machine{fsm: c.FSM, group: c.GroupID, latch: g.latch, log: c.Log, level: c.Level, applied: &progress{}}
	g.open, g.endOpen = context.WithCancelCause(context.Background())
	g.alive, g.endAlive = context.WithCancelCause(context.Background())
	return g
}

// inFlight is maxInFlight.
func inFlight() int64 {
	if fault.Broken(fault.InFlightUncapped) {
		return 1 << 20
	}
	return maxInFlight
}

// rpcsInFlight is how many requests with entries a follower may have to answer: 1, no pipelining.
func rpcsInFlight() int {
	if fault.Broken(fault.Pipelined) {
		return 128
	}
	return 1
}

// leave follows the replica's first failure: the others are left to themselves at once, however long the process takes to
// end, for a leader that only cannot read its disk would go on sending heartbeats.
func (g *Group) leave(why error) {
	g.wg.Go(func() {
		if err := g.streams.Close(); err != nil {
			g.log.Warn("cutting off a failed replica", "group", g.cfg.GroupID, "error", err)
		}
	})
	g.cfg.Fatal(why)
}

// start brings raft up on the open stores.
func (g *Group) start() error {
	how, err := g.startRule()
	if err != nil {
		return err
	}
	g.machine.begin(how)
	g.machine.entry = g.stores.log.GetLog
	g.stores.snapshots.state = g.machine
	g.streams = newStreams(&g.cfg)
	g.streams.snapshot = g.sendSnapshot
	nt := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		ServerAddressProvider: g.streams, Logger: newRaftLog(g.log), Stream: g.streams, MaxPool: maxPool, Timeout: g.cfg.Timeouts.RPC,
		MaxRPCsInFlight: rpcsInFlight(), // a pipelined follower can wedge while its heartbeats look fine (raft #612)
	})
	g.peers = newPeers(nt, &g.cfg, g.contacts, g.stores, g.machine.applied)
	conf := g.cfg.raftConfig(g.notify)
	conf.NoSnapshotRestoreOnStart = how.keepState
	if err := g.newRaft(conf); err != nil {
		return err
	}
	// The filter is called where raft changes its leader or state; nothing is queued that could be dropped.
	g.raft.RegisterObserver(raft.NewObserver(nil, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.RaftState:
			g.changed.announce()
		}
		return false
	}))
	if err := g.latch.arm(); err != nil {
		return err
	}
	g.wg.Go(g.watchLeadership)
	g.wg.Go(g.runProposer)
	g.wg.Go(g.runReader)
	g.peers.start(g.raft)
	return g.cfg.Host.add(g.streams)
}

// newRaft starts raft, which panics when it cannot read its log.
func (g *Group) newRaft(conf *raft.Config) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("start raft: %v", p)
		}
		if err != nil {
			err = errors.Join(g.latch.err(), err, g.lostState())
		}
	}()
	g.raft, err = raft.NewRaft(conf, g.machine, g.stores.log, g.stores.stable, g.stores.snapshots, g.peers)
	return err
}

// lostState says what is wrong with the state on disk, where raft only says that it could not load it.
func (g *Group) lostState() error {
	err := errors.Join(g.machine.refusal, g.stores.snapshots.damage)
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w\n%w", err, ErrStateLost)
}

// Close stops the replica and awaits everything it started. It does not hand leadership over: TransferLeadership does.
// It is safe to call twice.
func (g *Group) Close() error {
	if g.open.Err() != nil {
		g.wg.Wait()
		return nil
	}
	if err := g.stop(); err != nil {
		return fmt.Errorf("close replica %s of %s in %s: %w", g.cfg.LocalID, g.cfg.GroupID, g.cfg.Dir, err)
	}
	return nil
}

// stop is start in reverse, from wherever that came to.
func (g *Group) stop() error {
	g.endOpen(ErrClosed)
	g.changed.announce()
	var stopped raft.Future
	if g.raft != nil {
		stopped = g.raft.Shutdown() // begins; its end is awaited below
	}
	g.latch.disarm()
	var errs []error
	if g.peers != nil {
		errs = append(errs, g.peers.Close()) // or requests to replicas that hang would hold raft up
	}
	if stopped != nil {
		errs = append(errs, stopped.Error())
	}
	g.endAlive(ErrClosed)
	if g.streams != nil {
		g.streams.sending <- struct{}{} // its connection was closed above
	}
	g.wg.Wait()
	errs = append(errs, g.stores.Close())
	return errors.Join(errs...)
}

// Wait returns when the FSM has applied the entry at index, one that Propose or ReadIndex returned here or at the leader.
// The error is of kind unavailable.
func (g *Group) Wait(ctx context.Context, index uint64) error {
	if g.machine.applied.get() >= index {
		return nil
	}
	both, cancel := joined(ctx, g.open)
	defer cancel()
	if err := g.machine.applied.wait(both, index); err != nil {
		return g.unavailable(fmt.Sprintf("wait for entry %d", index), err)
	}
	return nil
}

// Applied is the last entry that the FSM has applied: its own progress, not raft's, which is ahead.
func (g *Group) Applied() uint64 { return g.machine.applied.get() }

// Leader is the replica that leads in term as far as this one knows, possibly itself, with its barrier still under way.
// Without a known leader ok is false.
func (g *Group) Leader() (id event.ReplicaID, term uint64, ok bool) {
	for {
		term = g.raft.CurrentTerm()
		_, leader := g.raft.LeaderWithID()
		if g.raft.CurrentTerm() == term { // raft forgets the leader before it changes the term
			return event.ReplicaID(leader), term, leader != ""
		}
	}
}

// LeaderChanged returns a channel that is closed when the answer of Leader or of IsLeader may have changed since the call.
func (g *Group) LeaderChanged() <-chan struct{} { return g.changed.next() }

// IsLeader tells whether this replica leads and takes commands: its term's barrier has been applied.
func (g *Group) IsLeader() bool { return g.holds(g.tenure.Load()) }

// Peers is the group's latest configuration, committed or not, in its order.
func (g *Group) Peers() []PeerStatus {
	return g.statuses(g.raft.GetConfiguration().Configuration().Servers)
}

// statuses is what is known here of the replicas of a configuration.
func (g *Group) statuses(servers []raft.Server) []PeerStatus {
	term := g.raft.CurrentTerm()
	leads := g.raft.State() == raft.Leader
	out := make([]PeerStatus, 0, len(servers))
	for _, s := range servers {
		p := PeerStatus{ID: event.ReplicaID(s.ID), Suffrage: Learner}
		if s.Suffrage == raft.Voter {
			p.Suffrage = Voter
		}
		if p.ID == g.cfg.LocalID {
			p.MatchIndex = g.raft.LastIndex()
		} else if leads {
			known := g.contacts.of(s.ID, term)
			p.MatchIndex, p.LastContact, p.NearSince, p.Stalled = known.match, known.at, known.near, known.stuck
		}
		out = append(out, p)
	}
	return out
}

// Snapshot takes a snapshot and cuts the log off behind it, except for TrailingLogs entries. With nothing new since the
// last one it does nothing.
func (g *Group) Snapshot() error {
	err := await(g.raft.Snapshot(), g.alive)
	if err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return fmt.Errorf("take a snapshot of %s in %s: %w", g.cfg.GroupID, filepath.Join(g.cfg.Dir, snapshotDir), err)
	}
	return nil
}
