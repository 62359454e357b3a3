package storagenode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/storagenode/engine"
	"github.com/sutra-grid/sutra-grid/storagenode/nearest"
)

// handOver bounds how long a closing leader waits for another replica to lead.
const handOver = 2 * time.Second

// replica is one open replica of a shard: its directory, its state and its log.
type replica struct {
	shard  event.ShardID
	id     event.ReplicaID
	dir    *datadir.Dir
	engine *engine.Engine
	vector *nearest.Keeper
	group  *raftgroup.Group
	queue  *waitQueue
	tuning tuning
	log    *slog.Logger

	readings *readings // of the node; nil: this shard has none
	reads    reads

	masters caller // nil: alone
	maps    *mapCache
	changed signal        // the set of prepared attempts may have changed
	opened  chan struct{} // closed when all of the above is set: the group may make this replica lead before

	gate     gate
	ask      func(ctx context.Context, address string, req any) (any, error) // of another node; nil: alone
	patience patience                                                        // of spread, which alone uses it
	turn     chan struct{}                                                   // of the node: one shard hands over at a time
	closing  <-chan struct{}                                                 // closed when the node begins to close
}

// tuning is the part of Config that the replicas' own loops use.
type tuning struct {
	prepareWait  time.Duration
	inDoubtAfter time.Duration
	point        func(fault.Label) // called before and after each step of a transaction
}

// caller asks the masters; transport.Masters is it, with all of its retry policy.
type caller interface {
	Call(ctx context.Context, req any) (any, error)
}

// machine is the engine as the group sees it, with a nudge to the leader's watch over prepared attempts and to the vector index.
type machine struct {
	*engine.Engine
	changed signal
	vector  *nearest.Keeper
}

// Apply applies, and nudges when something was prepared.
func (m machine) Apply(entries []raftgroup.Entry) [][]any {
	answers := m.Engine.Apply(entries)
	m.vector.Changed()
	if anyPrepare(answers) {
		m.changed.nudge()
	}
	return answers
}

// Restore replaces the state and with it the set of prepared attempts.
func (m machine) Restore(r io.Reader) error {
	defer m.changed.nudge()
	defer m.vector.Changed()
	return m.Engine.Restore(r)
}

func anyPrepare(answers [][]any) bool {
	for _, entry := range answers {
		for _, a := range entry {
			if answer, ok := a.(engine.Answer); ok && answer.Prepare != nil && answer.Prepare.Vote {
				return true
			}
		}
	}
	return false
}

// openReplica opens what makeReplicaDir made. It never makes a store: whatever is missing is refused (safety S1).
func (n *Node) openReplica(e manifestEntry) (*replica, error) {
	path := n.shardDir(e.ShardID)
	for _, part := range []string{"", identityFile, raftDir, engineDir} {
		if err := mustExist(filepath.Join(path, part)); err != nil {
			return nil, fmt.Errorf("replica %s of %s: %w", e.ReplicaID, e.ShardID, err)
		}
	}
	if err := removeCheckpoints(path); err != nil {
		return nil, fmt.Errorf("replica %s of %s: %w", e.ReplicaID, e.ShardID, err)
	}
	r := &replica{
		readings: n.readings.of(e.ShardID),
		shard:    e.ShardID, id: e.ReplicaID, changed: newSignal(), opened: make(chan struct{}), masters: n.callMasters(), maps: n.maps,
		gate: gate{supports: n.cfg.level(), asked: make(chan struct{})}, ask: n.askNodes(),
		tuning:   tuning{prepareWait: n.cfg.PrepareWait, inDoubtAfter: n.cfg.InDoubtAfter, point: n.cfg.point()},
		log:      n.log.With("shard", string(e.ShardID)),
		patience: patience{least: n.cfg.SpreadAfter}, turn: n.replicas.handing, closing: n.loops.Done(),
	}
	if err := r.open(n, path); err != nil {
		return nil, fmt.Errorf("open replica %s of %s in %s: %w", e.ReplicaID, e.ShardID, path, errors.Join(err, r.closeStores()))
	}
	return r, nil
}

func mustExist(path string) error {
	ok, err := datadir.Exists(path)
	if err == nil && !ok {
		err = fmt.Errorf("%s is missing: the disk was emptied or replaced; this replica must not vote again under its id, the shard needs a new one", path)
	}
	return err
}

func (r *replica) open(n *Node, path string) error {
	dir, err := datadir.Open(path, kindReplica, string(r.shard))
	if err != nil {
		return err
	}
	r.dir = dir
	if err := r.checkIdentity(n); err != nil {
		return err
	}
	fatal := func(err error) { n.fail(fmt.Errorf("shard %s in %s: %w", r.shard, path, err)) }
	r.engine, err = engine.Open(filepath.Join(path, engineDir), engine.Options{
		ShardID: r.shard, Dimension: n.cfg.Dimension, CacheBytes: n.cacheShare(), TableBytes: n.cfg.tableBytes(), Level: n.cfg.level(), Log: r.log, Fatal: fatal,
		Flushed: func(f engine.Flush) { r.readings.flushed(r.shard, f) },
	})
	if err != nil {
		return fmt.Errorf("open engine: %w", err)
	}
	r.vector = n.openVectors(r, path)
	r.queue = newWaitQueue(r.engine)
	r.group, err = raftgroup.Open(raftgroup.Config{
		GroupID: string(r.shard), LocalID: r.id, Dir: filepath.Join(path, raftDir),
		Host: n.host, Network: n.cfg.Network, TLS: n.cfg.TLS, Addresses: n.maps.address,
		Timeouts: n.cfg.Groups.Timeouts, FSM: n.cfg.machine(r.shard, machine{r.engine, r.changed, r.vector}), Level: r.engine.LogLevel, Lead: r.lead, Applied: r.engine.Applied,
		SnapshotThreshold: n.cfg.Groups.SnapshotThreshold, TrailingLogs: n.cfg.Groups.TrailingLogs,
		SegmentBytes: n.cfg.Groups.SegmentBytes, Fatal: fatal, Log: r.log,
	})
	if err != nil {
		return fmt.Errorf("open raft group: %w", err)
	}
	close(r.opened)
	return nil
}

func (r *replica) checkIdentity(n *Node) error {
	id, _ := r.dir.Identity()
	grid, _ := n.dir.Identity()
	if id.GridID != grid.GridID || id.StoreID != r.id.StoreID() {
		return fmt.Errorf("the directory belongs to store %s of grid %s, not to %s of grid %s", id.StoreID, id.GridID, r.id, grid.GridID)
	}
	return nil
}

// close hands leadership over if it can, then stops the log and the state, in that order.
func (r *replica) close() error {
	if r.group.IsLeader() && len(r.group.Peers()) > 1 {
		ctx, cancel := context.WithTimeout(context.Background(), handOver)
		if err := r.group.TransferLeadership(ctx); err != nil {
			r.log.Warn("leadership not handed over", "error", err)
		}
		cancel()
	}
	return r.closeStores()
}

// abort ends the log, and the state with what is not flushed lost.
func (r *replica) abort() error {
	return errors.Join(r.group.Close(), r.engine.Abort(), r.closeStores())
}

// closeStores closes what has been opened, in reverse.
func (r *replica) closeStores() error {
	var err error
	if r.group != nil {
		err = errors.Join(err, r.group.Close())
	}
	if r.vector != nil {
		r.vector.Close()
	}
	if r.engine != nil {
		err = errors.Join(err, r.engine.Close())
	}
	if r.dir != nil {
		err = errors.Join(err, r.dir.Close())
	}
	return err
}
