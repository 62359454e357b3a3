package raftgroup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
)

// snapshotStore guards the snapshots: the first error of the disk, or a snapshot that does not match its checksum, ends the
// replica. Before the replica runs an unreadable snapshot is only reported, for an older one with its log may do.
type snapshotStore struct {
	inner raft.SnapshotStore
	group string
	path  string
	latch *latch
	log   *logStore // is told what a snapshot covers
	state *machine  // has what a record is of; nil: nobody, as offline

	damage error // the first snapshot that could not be restored while the replica started
}

// Create implements raft.SnapshotStore.
func (s *snapshotStore) Create(version raft.SnapshotVersion, index, term uint64, conf raft.Configuration, confIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	if err := s.latch.err(); err != nil {
		return nil, err
	}
	for {
		var sink raft.SnapshotSink
		err := s.step(func() (err error) {
			sink, err = s.inner.Create(version, index, term, conf, confIndex, trans)
			return err
		})
		if err != nil {
			return nil, s.fail(fmt.Sprintf("begin the snapshot at %d", index), err)
		}
		taken, err := datadir.Exists(filepath.Join(s.path, sink.ID()))
		if err != nil {
			return nil, s.fail(fmt.Sprintf("begin the snapshot at %d", index), errors.Join(err, sink.Cancel()))
		}
		if !taken {
			return &snapshotSink{SnapshotSink: sink, store: s, index: index, term: term}, nil
		}
		// Snapshots are named by index, term and millisecond; this one was taken in the same.
		if err := sink.Cancel(); err != nil {
			return nil, s.fail("cancel snapshot "+sink.ID(), err)
		}
		time.Sleep(time.Millisecond)
	}
}

// List implements raft.SnapshotStore.
func (s *snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	if err := s.latch.err(); err != nil {
		return nil, err
	}
	metas, err := s.inner.List()
	if err != nil {
		return nil, s.fail("list", err)
	}
	return slices.DeleteFunc(metas, func(m *raft.SnapshotMeta) bool {
		err := named(m)
		return err != nil && s.damaged(m.ID, err) != nil
	}), nil
}

// damaged says that a snapshot cannot be read.
func (s *snapshotStore) damaged(id string, err error) error {
	return s.useless(id, fmt.Errorf("it is damaged: %w", err))
}

// useless remembers the first snapshot that cannot be restored, for Open to say.
func (s *snapshotStore) useless(id string, err error) error {
	err = fmt.Errorf("snapshot %s: %w", filepath.Join(s.path, id), err)
	if s.damage == nil && !s.latch.isRunning() {
		s.damage = err
	}
	return err
}

// Open implements raft.SnapshotStore. For a record it gives the state as it is now, with its own index, term and configuration
// (live); when the replica starts there is none yet, and the record is of no use.
func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, content, err := s.stored(id)
	if err != nil {
		return nil, nil, err
	}
	h, content := peek(content, s.group)
	if !h.Kept {
		return meta, &openSnapshot{content, meta}, nil
	}
	if err := content.Close(); err != nil {
		return nil, nil, err
	}
	if !s.latch.isRunning() {
		return nil, nil, s.useless(id, errRecord)
	}
	return s.live(meta)
}

// stored opens what the disk has of a snapshot.
func (s *snapshotStore) stored(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if err := s.latch.err(); err != nil {
		return nil, nil, err
	}
	meta, content, err := s.inner.Open(id)
	switch {
	case err == nil:
		return meta, content, nil
	case errors.Is(err, fs.ErrNotExist): // newer ones have replaced it since it was listed
		return nil, nil, err
	case !s.latch.isRunning():
		return nil, nil, s.damaged(id, err)
	}
	return nil, nil, s.fail("open snapshot "+id, err)
}

// named checks that a snapshot is of the entry that its name says; raft has a checksum for the content only.
func named(meta *raft.SnapshotMeta) error {
	if strings.HasPrefix(meta.ID, fmt.Sprintf("%d-%d-", meta.Term, meta.Index)) {
		return nil
	}
	return fmt.Errorf("its description says entry %d of term %d", meta.Index, meta.Term)
}

// step runs one step of writing a snapshot, which may touch a disk that hangs. It is given up on at the deadline, and soon
// when the replica stops: raft would wait for it.
func (s *snapshotStore) step(run func() error) error {
	result := make(chan error, 1)
	go func() { result <- run() }()
	timer := time.NewTimer(snapshotDeadline)
	defer timer.Stop()
	select {
	case err := <-result:
		return err
	case <-s.latch.stopped:
	case <-timer.C:
		return fmt.Errorf("no answer within %v: %w", snapshotDeadline, errHung)
	}
	timer.Reset(writeDeadline)
	select {
	case err := <-result:
		return err
	case <-timer.C:
		return fmt.Errorf("no answer within %v of closing: %w", writeDeadline, errHung)
	}
}

// openSnapshot is a snapshot's content that knows what it is of: raft does not tell the FSM.
type openSnapshot struct {
	io.ReadCloser
	meta *raft.SnapshotMeta
}

// metaOf finds out what raft hands to Restore; nil for content of another origin.
func metaOf(content io.Reader) *raft.SnapshotMeta {
	for {
		switch c := content.(type) {
		case *openSnapshot:
			return c.meta
		case raft.ReadCloserWrapper:
			content = c.WrappedReadCloser()
		default:
			return nil
		}
	}
}

func configurationIn(meta *raft.SnapshotMeta) *configuration {
	return &configuration{meta.ConfigurationIndex, meta.Configuration.Servers}
}

func (s *snapshotStore) fail(what string, err error) error {
	return s.latch.fail(fmt.Errorf("snapshots of %s in %s: %s: %w", s.group, s.path, what, err))
}

// snapshotSink guards one snapshot while it is written.
type snapshotSink struct {
	raft.SnapshotSink
	store       *snapshotStore
	index, term uint64
	left        bool // a step that hangs has it still
}

// step runs one step, if none before is under way still.
func (s *snapshotSink) step(run func() error) error {
	if s.left {
		return errHung
	}
	err := s.store.step(run)
	s.left = errors.Is(err, errHung)
	return err
}

// Cancel implements raft.SnapshotSink.
func (s *snapshotSink) Cancel() error { return s.step(s.SnapshotSink.Cancel) }

// Write implements io.Writer.
func (s *snapshotSink) Write(p []byte) (int, error) {
	if err := s.store.latch.err(); err != nil {
		return 0, err
	}
	if err := s.step(func() error { _, err := s.SnapshotSink.Write(p); return err }); err != nil {
		return 0, s.store.fail("write snapshot "+s.ID(), err)
	}
	return len(p), nil
}

// complete also syncs the directory that has the names of the snapshot's files: raft syncs them and the one that has its name, and then cuts
// the log off.
func (s *snapshotSink) complete() error {
	if err := s.SnapshotSink.Close(); err != nil {
		return err
	}
	return datadir.SyncDir(filepath.Join(s.store.path, s.ID()))
}

// Close implements io.Closer: the snapshot is complete and durable.
func (s *snapshotSink) Close() error {
	if err := s.store.latch.err(); err != nil {
		return err
	}
	if err := s.step(s.complete); err != nil {
		return s.store.fail("complete snapshot "+s.ID(), err)
	}
	if err := s.store.log.began(); err != nil {
		return err
	}
	return s.store.log.coveredBy(s.index, s.term)
}
