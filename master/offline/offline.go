// Package offline reads the data directory of a master that is stopped: its log, its snapshots, its outbox, and the state
// at any event, rebuilt as the master itself would.
//
//	log entry -> fsm.Machine (decide, evolve) -> events, state, digest, chain
//	             snapshot <= target first                 compared with what the outbox and the snapshots recorded
//
// Invariants:
//   - Not a byte of the directory is changed, and its master cannot start while it is read.
//   - What is rebuilt is never mixed with what was recorded: a difference between the two is a finding.
//   - Damage is named with file and offset; nothing is guessed over it.
//
// It imports neither master nor transport: what it needs to know of the form of a directory is in master/disk.
package offline

import (
	"errors"
	"fmt"
	"iter"
	"path/filepath"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/master/disk"
	"github.com/sutra-grid/sutra-grid/master/feed"
)

// Master is a stopped master's data directory. It is not safe for concurrent use.
type Master struct {
	dir    *datadir.Shared
	log    *raftgroup.Inspection
	outbox *feed.Reader
}

// Open takes a data directory for reading. One that a running process holds is refused with kind busy, and its pid.
func Open(dir string) (*Master, error) {
	shared, err := datadir.Share(dir)
	var busy *datadir.BusyError
	if errors.As(err, &busy) {
		return nil, &event.Error{Kind: event.KindBusy, Op: "read", Message: busy.Error()}
	}
	if err != nil {
		return nil, err
	}
	m := &Master{dir: shared}
	if err := m.open(); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

func (m *Master) open() (err error) {
	if kind := m.Identity().Kind; kind != datadir.KindMaster {
		return fmt.Errorf("%s is the data directory of a %s, not of a master", m.Dir(), kind)
	}
	if m.log, err = raftgroup.Inspect(m.dir.Path(disk.RaftDir), disk.GroupID); err != nil {
		return err
	}
	m.outbox, err = feed.OpenReader(m.dir.Path(disk.OutboxDir))
	return err
}

// Close lets the master start again.
func (m *Master) Close() error {
	var err error
	if m.outbox != nil {
		err = m.outbox.Close()
	}
	return errors.Join(err, m.dir.Close())
}

// Dir is the directory's path.
func (m *Master) Dir() string { return m.dir.Path() }

// Identity says whose directory it is.
func (m *Master) Identity() datadir.Identity { return m.dir.Identity() }

// Vote is what the master remembers of elections.
func (m *Master) Vote() (raftgroup.Vote, error) { return m.log.Vote() }

// Log walks the entries first to last, 0 meaning the beginning and the end; see raftgroup.Inspection.Log.
func (m *Master) Log(first, last uint64) iter.Seq[raftgroup.LogEntry] { return m.log.Log(first, last) }

// Snapshots lists the snapshots, newest first, and what is wrong with others.
func (m *Master) Snapshots() ([]raftgroup.SnapshotInfo, []error) { return m.log.Snapshots() }

// Outbox is the recorded feed.
func (m *Master) Outbox() *feed.Reader { return m.outbox }

// Committed is an entry up to which the log is known to be committed: applied entries are. What follows may have been, or
// may be replaced when the master starts; a stopped master cannot tell.
func (m *Master) Committed() uint64 {
	committed := m.outbox.Applied()
	if all, _ := m.log.Snapshots(); len(all) > 0 {
		committed = max(committed, all[0].Index)
	}
	return committed
}

// notFound is the error for what the directory does not hold.
func notFound(op, format string, args ...any) error {
	return &event.Error{Kind: event.KindNotFound, Op: op, Message: fmt.Sprintf(format, args...)}
}

// damaged is an entry's damage as an error.
func damaged(e raftgroup.LogEntry) error {
	return fmt.Errorf("entry %d (%s, offset %d): %w", e.Index, filepath.Base(e.File), e.Offset, e.Damage)
}
