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
	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// The places in a replica's directory.
const (
	walDir      = "wal"
	boltFile    = "log.db" // in place of walDir
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
	kind         LogStore
	under        under
}

// under is for tests: what the guards stand on, and shorter times. nil and 0 change nothing.
type under struct {
	deadline, stalled time.Duration // in place of writeDeadline and stalledAfter

	files     func(types.VFS) types.VFS // of raft-wal
	log       func(raft.LogStore) raft.LogStore
	stable    func(raft.StableStore) raft.StableStore
	snapshots func(raft.SnapshotStore) raft.SnapshotStore
}

// place is the file, in a replica's directory, that is there when its log is.
func (k LogStore) place() string {
	if k == BoltDB {
		return boltFile
	}
	return filepath.Join(walDir, metadb.FileName)
}

// logStoreOf finds out what a directory's log is kept in; WAL if there is none.
func logStoreOf(dir string) (LogStore, error) {
	there, err := datadir.Exists(filepath.Join(dir, BoltDB.place()))
	if there {
		return BoltDB, nil
	}
	return WAL, err
}

// mustExist refuses a directory in which a store is missing: one that was emptied has forgotten its votes (safety S1).
func mustExist(dir string, kind LogStore) error {
	for _, part := range []string{".", stableFile, kind.place(), snapshotDir} {
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
	if s.stable, err = openStable(filepath.Join(dir, stableFile), c); err != nil {
		return nil, err
	}
	if s.log, err = openLog(dir, c); err != nil {
		return nil, err
	}
	s.log.began = s.hasBegun
	s.snapshots, err = openSnapshots(dir, s.log, c)
	return s, err
}

// stableBolt and logBolt say how bbolt files are opened. Their freelist is found again at the next start instead of being
// written with every transaction.
func stableBolt(path string) raftboltdb.Options {
	return raftboltdb.Options{Path: path, NoSync: fault.Broken(fault.SkipFsyncVote), BoltOptions: &bbolt.Options{
		Timeout: lockWait, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType,
	}}
}

func logBolt(path string) raftboltdb.Options {
	o := stableBolt(path)
	o.NoSync = fault.Broken(fault.SkipFsyncLog)
	return o
}

// openBolt opens a bbolt file, if it is whole.
func openBolt(o raftboltdb.Options) (*raftboltdb.BoltStore, error) {
	if err := checkBolt(o.Path); err != nil {
		return nil, err
	}
	bolt, err := raftboltdb.New(o)
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("open %s: it is in use by another process", o.Path)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", o.Path, err)
	}
	return bolt, nil
}

func openStable(path string, c storeConfig) (*stableStore, error) {
	there, err := datadir.Exists(path)
	if err != nil {
		return nil, err
	}
	bolt, err := openBolt(stableBolt(path))
	if err != nil {
		return nil, err
	}
	var stable raft.StableStore = summedStable{bolt}
	if fault.Enabled {
		stable = pointStable(stable, path, !there)
	}
	if c.under.stable != nil {
		stable = c.under.stable(stable)
	}
	s, err := newStableStore(stable, c.group, path, c.latch)
	if err != nil {
		return nil, errors.Join(err, bolt.Close())
	}
	if c.under.deadline != 0 {
		s.disk.deadline = c.under.deadline
	}
	return s, nil
}

func openLog(dir string, c storeConfig) (*logStore, error) {
	path := filepath.Join(dir, walDir)
	var log raft.LogStore
	var err error
	if c.kind == BoltDB {
		path = filepath.Join(dir, boltFile)
		log, err = openBolt(logBolt(path))
	} else {
		log, err = openWAL(path, c)
	}
	if err != nil {
		return nil, fmt.Errorf("open log in %s: %w", path, err)
	}
	if fault.Enabled {
		log = pointedLog{log}
	}
	if c.under.log != nil {
		log = c.under.log(log)
	}
	s := newLogStore(log, c.group, path, c.latch)
	if c.under.deadline != 0 {
		s.disk.deadline = c.under.deadline
	}
	return s, nil
}

func openWAL(dir string, c storeConfig) (raft.LogStore, error) {
	meta := &walMeta{}
	files := &tailFiler{SegmentFiler: segment.NewFiler(dir, logFiles(c.under)), meta: meta, dir: dir, group: c.group, log: c.log}
	meta.complete = files.completeRotation
	log, err := wal.Open(dir, wal.WithSegmentSize(c.segmentBytes), wal.WithMetaStore(meta), wal.WithSegmentFiler(files),
		wal.WithLogger(rotationLog{c.log, func(what string, err error) error {
			return c.latch.fail(fmt.Errorf("log of %s in %s: %s: %w", c.group, dir, what, err))
		}}))
	if err != nil {
		return nil, errors.Join(err, files.Close(), meta.Close())
	}
	return log, nil
}

// logFiles are the files of raft-wal.
func logFiles(u under) types.VFS {
	var files types.VFS = walfs.New()
	if fault.Enabled {
		files = pointedFiles{files}
	}
	if u.files != nil {
		files = u.files(files)
	}
	if fault.Broken(fault.SkipFsyncLog) {
		files = unsyncedFiles{files}
	}
	return files
}

func openSnapshots(dir string, log *logStore, c storeConfig) (*snapshotStore, error) {
	path := filepath.Join(dir, snapshotDir)
	if err := removeUnfinished(path); err != nil {
		return nil, err
	}
	files, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, c.log)
	if err != nil {
		return nil, fmt.Errorf("open snapshots in %s: %w", dir, err)
	}
	var snapshots raft.SnapshotStore = files
	if fault.Enabled {
		snapshots = pointedSnapshots{snapshots, path}
	}
	if c.under.snapshots != nil {
		snapshots = c.under.snapshots(snapshots)
	}
	return &snapshotStore{inner: snapshots, group: c.group, path: path, latch: c.latch, log: log}, nil
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
