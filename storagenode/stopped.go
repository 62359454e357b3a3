package storagenode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/storagenode/engine"
)

// Stopped is the data directory of a node that does not run, held for reading: the node cannot start meanwhile, and not a
// byte of the directory is changed. Its methods are not safe for concurrent use.
type Stopped struct {
	dir  *datadir.Shared
	made *manifest
	log  *slog.Logger
}

// OpenStopped takes a node's data directory. One that a running process holds is refused with kind busy, and its pid.
func OpenStopped(path string, log *slog.Logger) (*Stopped, error) {
	dir, err := datadir.Share(path)
	if err != nil {
		return nil, busy(err)
	}
	s := &Stopped{dir: dir, log: log}
	if id := dir.Identity(); id.Kind != datadir.KindNode {
		err = fmt.Errorf("%s is the data directory of a %s, not of a storage node", path, id.Kind)
	}
	if err == nil {
		s.made, err = loadManifest(path)
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return s, nil
}

func busy(err error) error {
	var held *datadir.BusyError
	if errors.As(err, &held) {
		return &event.Error{Kind: event.KindBusy, Op: "read", Message: held.Error()}
	}
	return err
}

// Close lets the node start again.
func (s *Stopped) Close() error { return s.dir.Close() }

// Identity says whose directory it is.
func (s *Stopped) Identity() datadir.Identity { return s.dir.Identity() }

// Map describes the last map that the masters sent; false: the node has none, which does no harm.
func (s *Stopped) Map() (epoch event.Position, shards int, found bool, err error) {
	m, err := readMap(s.dir.Path(mapFile))
	if err != nil || m == nil {
		return event.Position{}, 0, false, err
	}
	return m.Map.Epoch, len(m.Map.Shards), true, nil
}

// Replicas lists the replicas that were made here, by shard, without those that were removed.
func (s *Stopped) Replicas() []*StoppedReplica {
	var all []*StoppedReplica
	for _, e := range s.made.Replicas {
		if e.Removed {
			continue
		}
		all = append(all, &StoppedReplica{node: s, ShardID: e.ShardID, ReplicaID: e.ReplicaID, dir: s.dir.Path(shardsDir, string(e.ShardID))})
	}
	return all
}

// StoppedReplica is one replica of a stopped node.
type StoppedReplica struct {
	ShardID   event.ShardID
	ReplicaID event.ReplicaID

	node *Stopped
	dir  string
}

// Log looks into the replica's log and what it remembers of elections.
func (r *StoppedReplica) Log() (*raftgroup.Inspection, error) {
	return raftgroup.Inspect(filepath.Join(r.dir, raftDir), string(r.ShardID))
}

// State opens the replica's store, to be closed.
func (r *StoppedReplica) State() (*engine.Stopped, error) {
	return engine.OpenStopped(filepath.Join(r.dir, engineDir), engine.Options{ShardID: r.ShardID, Log: r.node.log})
}

// Verify checks all of the replica: that it is whose the manifest says, every checksum of its log, snapshots and store, and
// that its rows agree with each other. What is wrong is reported; an error is a reason why the check could not go on. A torn
// end of the log is no damage: the write did not complete, so nobody was told that it did.
func (r *StoppedReplica) Verify(ctx context.Context, report func(error)) error {
	if err := r.verifyIdentity(); err != nil {
		report(err)
	}
	log, err := r.verifyLog(ctx, report)
	if err != nil {
		report(err)
	}
	x, err := r.State()
	if err != nil {
		report(err)
		return nil
	}
	err = x.Verify(ctx, report)
	if s, e := x.Summary(); e != nil {
		report(e)
	} else if e := log.covers(s.Applied); e != nil {
		report(e)
	}
	return errors.Join(err, x.Close())
}

// logEnds is what the log and the newest snapshot reach from and to.
type logEnds struct {
	first, last uint64 // of the log; 0: it is empty
	snapshot    uint64
	file        string // of the last entry
}

// covers tells whether a store at entry applied belongs to the log (the rule of raftgroup's start).
func (l logEnds) covers(applied uint64) error {
	switch {
	case l.first > max(applied, l.snapshot)+1:
		return fmt.Errorf("the log begins at entry %d and the store ends at %d: the entries between are lost", l.first, applied)
	case applied > max(l.last, l.snapshot):
		return fmt.Errorf("the store holds entry %d and the log ends at %d (%s): the end of the log is lost", applied, l.last, l.file)
	}
	return nil
}

func (r *StoppedReplica) verifyIdentity() error {
	dir, err := datadir.Share(r.dir)
	if err != nil {
		return err
	}
	id, grid := dir.Identity(), r.node.Identity()
	if id.Kind != kindReplica || id.ID != string(r.ShardID) || id.StoreID != r.ReplicaID.StoreID() || id.GridID != grid.GridID {
		err = fmt.Errorf("%s belongs to %s %s, store %s of grid %s; the manifest names store %s of grid %s", r.dir, id.Kind, id.ID, id.StoreID, id.GridID,
			r.ReplicaID.StoreID(), grid.GridID)
	}
	return errors.Join(err, dir.Close())
}

// verifyLog checks every entry and every snapshot.
func (r *StoppedReplica) verifyLog(ctx context.Context, report func(error)) (ends logEnds, err error) {
	log, err := r.Log()
	if err != nil {
		return ends, err
	}
	ends.first = log.First()
	for e := range log.Log(0, 0) {
		if ctx.Err() != nil {
			return ends, context.Cause(ctx)
		}
		if e.Damage == nil {
			ends.last, ends.file = e.Index, e.File
		} else if !e.Torn {
			report(fmt.Errorf("%s, offset %d: entry %d: %w", e.File, e.Offset, e.Index, e.Damage))
		}
		for i, c := range e.Entry.Commands {
			if _, err := engine.DecodeCommand(c); err != nil {
				report(fmt.Errorf("%s, offset %d: entry %d: command %d: %w", e.File, e.Offset, e.Index, i, err))
			}
		}
	}
	snapshots, problems := log.Snapshots()
	for _, s := range snapshots {
		ends.snapshot = max(ends.snapshot, s.Index)
		problems = append(problems, raftgroup.CheckSnapshot(s.Dir, string(r.ShardID))...)
	}
	for _, p := range problems {
		report(p)
	}
	return ends, nil
}

// CompactStopped rewrites the stores of a stopped node, or of one shard of it ("": all), so that nothing deleted or replaced
// takes room, and calls done for each with its bytes before and after. The directory is this process's meanwhile; each
// store needs as much room again while it is rewritten. A store of an older format becomes one of the present format.
func CompactStopped(ctx context.Context, path string, shard event.ShardID, log *slog.Logger, done func(id event.ShardID, before, after uint64)) (err error) {
	s, err := OpenStopped(path, log)
	if err != nil {
		return err
	}
	replicas, id := s.Replicas(), s.Identity()
	if err := s.Close(); err != nil {
		return err
	}
	dir, err := datadir.Open(path, datadir.KindNode, id.ID)
	if err != nil {
		return busy(err)
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	for _, r := range replicas {
		if shard != "" && r.ShardID != shard {
			continue
		}
		before, err := r.size()
		if err != nil {
			return err
		}
		if err := r.compact(ctx); err != nil {
			return err
		}
		after, err := r.size()
		if err != nil {
			return err
		}
		done(r.ShardID, before, after)
	}
	return nil
}

func (r *StoppedReplica) size() (uint64, error) {
	x, err := r.State()
	if err != nil {
		return 0, err
	}
	s, err := x.Summary()
	return s.Bytes, errors.Join(err, x.Close())
}

func (r *StoppedReplica) compact(ctx context.Context) error {
	x, err := r.State()
	if err != nil {
		return err
	}
	s, err := x.Summary()
	if err := errors.Join(err, x.Close()); err != nil {
		return err
	}
	fatal := make(chan error, 1)
	e, err := engine.Open(filepath.Join(r.dir, engineDir), engine.Options{
		ShardID: r.ShardID, Dimension: max(1, s.Dimension), Log: r.node.log, Fatal: func(err error) { fatal <- err }, // told once
	})
	if err != nil {
		return err
	}
	err = errors.Join(e.Compact(ctx), e.Close())
	select {
	case why := <-fatal:
		return errors.Join(why, err)
	default:
		return err
	}
}
