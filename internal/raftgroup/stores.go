package raftgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// The places in a replica's directory.
const (
	walDir      = "wal"
	stableFile  = "stable.db"
	snapshotDir = "snapshots" // named by raft
)

// lockWait is how long another process may keep the stable store before that is an error.
const lockWait = time.Second

// stores is a replica's log, its term and vote, and its snapshots, behind their guards.
type stores struct {
	log       *logStore
	stable    *stableStore
	snapshots *snapshotStore
}

// storeConfig says whose stores to open, and how.
type storeConfig struct {
	group        string
	segmentBytes int
	latch        *latch
	log          hclog.Logger
	wrapLog      func(raft.LogStore) raft.LogStore
}

// mustExist refuses a directory in which a store is missing: one that was emptied has forgotten its votes (safety S1).
func mustExist(dir string) error {
	for _, part := range []string{".", stableFile, filepath.Join(walDir, metadb.FileName), snapshotDir} {
		path := filepath.Join(dir, part)
		ok, err := datadir.Exists(path)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%s is missing: the disk was emptied or replaced; this replica must not vote again under its id, replace it by a new one", path)
		}
	}
	return nil
}

// openStores opens what is in dir. What is missing is made, so Open calls mustExist first.
func openStores(dir string, c storeConfig) (_ *stores, err error) {
	s := &stores{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	path := filepath.Join(dir, stableFile)
	// The freelist is found again at the next start instead of being written with every transaction.
	bolt, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: &bbolt.Options{
		Timeout: lockWait, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType,
	}})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("open %s: it is in use by another process", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	var stable raft.StableStore = bolt
	if fault.Enabled {
		stable = pointedStable{stable}
	}
	if s.stable, err = newStableStore(stable, c.group, path, c.latch); err != nil {
		return nil, errors.Join(err, bolt.Close())
	}
	path = filepath.Join(dir, walDir)
	w, err := wal.Open(path, wal.WithSegmentSize(c.segmentBytes), wal.WithLogger(c.log))
	if err != nil {
		return nil, fmt.Errorf("open log in %s: %w", path, err)
	}
	var log raft.LogStore = w
	if fault.Enabled {
		log = pointedLog{log}
	}
	if c.wrapLog != nil {
		log = c.wrapLog(log)
	}
	s.log = newLogStore(log, c.group, path, c.latch)
	s.log.began = s.hasBegun
	if err := removeUnfinished(filepath.Join(dir, snapshotDir)); err != nil {
		return nil, err
	}
	files, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, c.log)
	if err != nil {
		return nil, fmt.Errorf("open snapshots in %s: %w", dir, err)
	}
	var snapshots raft.SnapshotStore = files
	if fault.Enabled {
		snapshots = pointedSnapshots{snapshots}
	}
	s.snapshots = &snapshotStore{inner: snapshots, group: c.group, path: filepath.Join(dir, snapshotDir), latch: c.latch, log: s.log}
	return s, nil
}

// hasBegun takes back the leave to start with an empty log.
func (s *stores) hasBegun() error {
	if !s.stable.joining.Load() {
		return nil
	}
	return s.stable.setJoining(false)
}

// removeUnfinished removes snapshots that a crash interrupted; raft leaves them for ever.
func removeUnfinished(dir string) error {
	unfinished, err := filepath.Glob(filepath.Join(dir, "*.tmp"))
	if err != nil {
		return fmt.Errorf("look for unfinished snapshots in %s: %w", dir, err)
	}
	for _, path := range unfinished {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove an unfinished snapshot: %w", err)
		}
	}
	return nil
}

// Close closes what is open.
func (s *stores) Close() error {
	var errs []error
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	if s.stable != nil {
		errs = append(errs, s.stable.Close())
	}
	return errors.Join(errs...)
}
