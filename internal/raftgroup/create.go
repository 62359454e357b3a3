package raftgroup

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/raft"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
)

// CreateConfig says whose stores Create makes and who votes first.
type CreateConfig struct {
	GroupID      string
	LocalID      event.ReplicaID
	Voters       []event.ReplicaID // the same list on all of them; it holds LocalID
	Join         bool              // the group exists and its leader will add this replica; Voters is empty
	At           *Point            // with Join: the state that the replica begins with, durably there before it is opened
	LogStore     LogStore          // what the log is kept in, for ever; "" is WAL
	SegmentBytes int               // as in Config
}

func (c CreateConfig) validate() error {
	var errs []error
	if err := c.LogStore.Known(); err != nil {
		errs = append(errs, err)
	}
	if c.GroupID == "" {
		errs = append(errs, errors.New("GroupID is empty"))
	}
	switch {
	case c.Join && (len(c.Voters) > 0 || c.LocalID == ""):
		errs = append(errs, fmt.Errorf("replica %q joins, so its voters are the leader's to say, not %q", c.LocalID, c.Voters))
	case c.At != nil && !c.Join:
		errs = append(errs, errors.New("a replica that begins with a state joins"))
	case !c.Join && !slices.Contains(c.Voters, c.LocalID):
		errs = append(errs, fmt.Errorf("%q is not one of the voters %q", c.LocalID, c.Voters))
	}
	sorted := slices.Sorted(slices.Values(c.Voters))
	if len(slices.Compact(sorted)) != len(c.Voters) {
		errs = append(errs, fmt.Errorf("a voter is listed twice: %q", c.Voters))
	}
	return errors.Join(errs...)
}

// Create makes all stores of a replica, in a directory dir that must not exist, and bootstraps the group with exactly
// these voters; or, with Join, leaves the log empty: the replica waits for a leader that adds it (AddLearner), and until it
// was sent a configuration it neither votes nor stands for election. With At its log begins behind that entry, as behind a
// snapshot: the caller has brought the state machine's own store there (Fix, at another replica). Create is atomic: after a crash dir is complete or
// absent. It is called once in the life of a replica id; a replica whose directory was lost is not made again, but replaced
// by one with a new id.
func Create(dir string, c CreateConfig) error {
	if err := c.validate(); err != nil {
		return fmt.Errorf("create replica %s of %s: %w", c.LocalID, c.GroupID, err)
	}
	if err := create(dir, c); err != nil {
		return fmt.Errorf("create replica %s of %s in %s: %w", c.LocalID, c.GroupID, dir, err)
	}
	return nil
}

func create(dir string, c CreateConfig) error {
	if ok, err := datadir.Exists(dir); err != nil || ok {
		return errors.Join(err, errors.New("it exists"))
	}
	tmp := dir + ".tmp"
	if err := os.RemoveAll(tmp); err != nil { // of a Create that was interrupted
		return err
	}
	synced := []string{filepath.Join(tmp, snapshotDir), tmp}
	if c.LogStore.orWAL() == WAL {
		synced = append([]string{filepath.Join(tmp, walDir)}, synced...)
	}
	if err := os.MkdirAll(synced[0], 0o755); err != nil {
		return err
	}
	if err := bootstrap(tmp, c); err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	for _, d := range synced {
		if err := datadir.SyncDir(d); err != nil {
			return err
		}
	}
	if err := os.Rename(tmp, dir); err != nil {
		return err
	}
	return datadir.SyncDir(filepath.Dir(dir))
}

func bootstrap(dir string, c CreateConfig) (err error) {
	quiet := newRaftLog(slog.New(slog.NewTextHandler(io.Discard, nil)))
	s, err := openStores(dir, storeConfig{group: c.GroupID, kind: c.LogStore, segmentBytes: c.SegmentBytes, latch: newLatch(nil), log: quiet})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if c.At != nil {
		return s.beginAt(*c.At)
	}
	if c.Join {
		return s.stable.setJoining(true)
	}
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(c.LocalID)
	var first raft.Configuration
	for _, v := range c.Voters {
		first.Servers = append(first.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(v), Address: raft.ServerAddress(v)})
	}
	return raft.BootstrapCluster(conf, s.log, s.stable, s.snapshots, nil, first)
}

// beginAt stores a record of the state that the replica begins with, durably: the newest snapshot, as far as raft is concerned.
func (s *stores) beginAt(p Point) error {
	if err := p.configuration.check(p.Index, p.Term); err != nil {
		return err
	}
	sink, err := s.snapshots.Create(raft.SnapshotVersionMax, p.Index, p.Term, raft.Configuration{Servers: p.configuration.servers}, p.configuration.index, &peers{})
	if err != nil {
		return err
	}
	h := p.header()
	h.Kept = true
	err = writeChunked(sink, s.log.group, h, func(io.Writer) error { return nil })
	if err == nil {
		err = sink.Close()
	}
	if err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return nil
}
