package raftgroup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"

	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// stableBucket is where raft-boltdb keeps what StableStore is given.
const stableBucket = "conf"

// Inspection reads the directory of a replica that is stopped. It never writes a byte of it: the log's files are read as
// they are, because the log store repairs what it opens, and the small databases are opened for reading. Damage is
// reported with its place, and what is behind it is read all the same.
//
// Its methods are not safe for concurrent use.
type Inspection struct {
	dir, group string
	segments   []types.SegmentInfo // by base index
	held       uint64              // as in walMeta
	bolt       string              // the log's file, if it is kept in boltdb
	first      uint64              // of that
}

// Inspect looks into the directory that Create made for a replica of group. A replica that runs holds the stable store, and
// is refused.
func Inspect(dir, group string) (*Inspection, error) {
	kind, err := logStoreOf(dir)
	if err != nil {
		return nil, err
	}
	if err := mustExist(dir, kind); err != nil {
		return nil, err
	}
	i := &Inspection{dir: dir, group: group}
	if _, err := i.Vote(); err != nil {
		return nil, err
	}
	if kind == BoltDB {
		i.bolt = filepath.Join(dir, boltFile)
		return i, withBoltLog(i.bolt, group, func(l *boltLog) { i.first = l.first() })
	}
	i.segments, i.held, err = readSegments(filepath.Join(dir, walDir, metadb.FileName))
	return i, err
}

// Vote is what a replica remembers of elections.
type Vote struct {
	Term      uint64          // current term
	VotedTerm uint64          // 0: it never voted
	Candidate event.ReplicaID // of VotedTerm
}

// Vote reads the stable store.
func (i *Inspection) Vote() (v Vote, err error) {
	path := filepath.Join(i.dir, stableFile)
	err = viewBolt(path, func(tx *bbolt.Tx) error {
		bucket := tx.Bucket([]byte(stableBucket))
		if bucket == nil {
			return fmt.Errorf("%s has no bucket %q", path, stableBucket)
		}
		return bucket.ForEach(func(k, raw []byte) error {
			value, err := withoutSum(string(k), raw)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			switch string(k) {
			case keyCurrentTerm:
				v.Term = binary.BigEndian.Uint64(value)
			case keyVote:
				v.VotedTerm, v.Candidate = binary.BigEndian.Uint64(value), event.ReplicaID(value[8:])
			}
			return nil
		})
	})
	return v, err
}

// First is the first entry of the log; 0: it is empty.
func (i *Inspection) First() uint64 {
	if len(i.segments) == 0 {
		return i.first
	}
	return i.segments[0].MinIndex
}

// Log walks the log in order, from entry first to entry last; 0 means its beginning or its end. Damage takes the place of
// what it destroyed and does not end the walk. What a step gives is valid until the next. Memory is that of the largest
// entry.
func (i *Inspection) Log(first, last uint64) iter.Seq[LogEntry] {
	return func(yield func(LogEntry) bool) {
		if i.bolt != "" {
			err := withBoltLog(i.bolt, i.group, func(l *boltLog) { l.entries(first, last, yield) })
			if err != nil {
				yield(LogEntry{Index: max(first, i.first), File: i.bolt, Damage: err})
			}
			return
		}
		w := logWalk{group: i.group, from: first, to: last, held: i.held, yield: yield}
		for n, info := range i.segments {
			if info.MaxIndex != 0 && info.MaxIndex < first {
				w.next = info.MaxIndex + 1
				continue
			}
			if last != 0 && info.MinIndex > last {
				return
			}
			if !w.segment(filepath.Join(i.dir, walDir), info, n == len(i.segments)-1) {
				return
			}
		}
	}
}

// readSegments reads what the log store knows of its files.
func readSegments(path string) (_ []types.SegmentInfo, held uint64, err error) {
	var state types.PersistentState
	err = viewBolt(path, func(tx *bbolt.Tx) (err error) {
		state, held, err = readMeta(tx)
		return err
	})
	slices.SortFunc(state.Segments, func(a, b types.SegmentInfo) int { return int(int64(a.BaseIndex - b.BaseIndex)) })
	return state.Segments, held, err
}

// viewBolt checks a database (checkPages, then the library's own check) and reads it, without writing to it. The library panics, or
// touches memory that is not there, when a page is damaged: so it sees the pages last, and that is an error here.
func viewBolt(path string, read func(*bbolt.Tx) error) (err error) {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return fmt.Errorf("%s is damaged: it is empty", path)
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s is damaged: %v", path, p)
		}
	}()
	db, err := bbolt.Open(path, 0, &bbolt.Options{ReadOnly: true, Timeout: lockWait})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return fmt.Errorf("%s is in use by another process: stop it first, or read a copy of the directory", path)
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := checkPages(path); err != nil {
		return err
	}
	return db.View(func(tx *bbolt.Tx) error {
		var found error
		for err := range tx.Check() {
			if found == nil {
				found = err
			}
		}
		if found != nil {
			return fmt.Errorf("%s is damaged: %w", path, found)
		}
		return read(tx)
	})
}

// checkBolt checks a database that is about to be opened for writing; one that is not there is about to be made.
func checkBolt(path string) error {
	err := viewBolt(path, func(*bbolt.Tx) error { return nil })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
