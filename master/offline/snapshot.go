package offline

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/master/disk"
	"github.com/sutra-grid/sutra-grid/master/feed"
)

// Snapshot is a snapshot of the masters, read whole.
type Snapshot struct {
	Path            string // of its content
	Level           uint32
	Index, FSMIndex uint64 // the last entry included, and the last of them with commands
	Time            int64  // of the last entry, µs
	State           *fsm.State
	Outbox          feed.StreamInfo
}

// Section is how much of a snapshot one kind of object takes.
type Section struct {
	Name    string `json:"name"`
	Objects int    `json:"objects"`
	Bytes   int    `json:"bytes"`
}

// ReadSnapshot reads a snapshot, given as its folder or as the file with its content. Every checksum, both digests and the
// chain of the outbox are compared on the way; an error names the file and the offset.
func ReadSnapshot(path string) (*Snapshot, error) {
	c, err := raftgroup.OpenSnapshotContent(path, disk.GroupID)
	if err != nil {
		return nil, err
	}
	defer c.Close() // read only
	s := &Snapshot{Path: c.Path, Level: c.Level, Index: c.Index, FSMIndex: c.FSMIndex, Time: c.Time}
	if err := s.read(c); err != nil {
		return nil, fmt.Errorf("%s: %w", c.Path, err)
	}
	return s, nil
}

func (s *Snapshot) read(r io.Reader) (err error) {
	section := disk.NewSectionReader(r)
	if s.State, err = fsm.ReadState(section); err != nil {
		return err
	}
	if err := section.SkipRest(); err != nil {
		return err
	}
	if s.Outbox, err = feed.ReadStream(r, nil); err != nil {
		return err
	}
	if n, err := io.Copy(io.Discard, r); err != nil || n > 0 {
		return errors.Join(err, fmt.Errorf("%d bytes behind the outbox", n))
	}
	if s.Outbox.Last != s.State.Seq() || s.Outbox.Chain != s.State.Chain() {
		return fmt.Errorf("its state is at event %d, its outbox at %d, or their chains differ", s.State.Seq(), s.Outbox.Last)
	}
	return nil
}

// Sections says what the state consists of, in the order of the file.
func (s *Snapshot) Sections() []Section {
	var all []Section
	for o := range s.State.Objects() {
		if n := len(all); n == 0 || all[n-1].Name != o.Section {
			all = append(all, Section{Name: o.Section})
		}
		last := &all[len(all)-1]
		last.Objects++
		last.Bytes += o.Bytes
	}
	return all
}

// VerifySnapshot returns all that is wrong with a snapshot: with what raft says about it, with any of its checksums, with
// its digests or its chain. Each problem names its file.
func VerifySnapshot(path string) []error {
	var problems []error
	if stat, err := os.Stat(path); err != nil {
		return []error{err}
	} else if stat.IsDir() {
		problems = raftgroup.CheckSnapshot(path, disk.GroupID)
	}
	if len(problems) > 0 {
		return problems
	}
	if _, err := ReadSnapshot(path); err != nil {
		problems = append(problems, err)
	}
	return problems
}

// FindSnapshots lists the snapshots that a path means, newest first: a file with content, a snapshot's folder, the folder of
// all, or a data directory.
func FindSnapshots(path string) ([]string, error) {
	stat, err := os.Stat(path)
	if err != nil {
		return nil, notFound("find snapshots", "%v", err)
	}
	if !stat.IsDir() {
		return []string{path}, nil
	}
	for _, below := range []string{"", "snapshots", filepath.Join(disk.RaftDir, "snapshots")} {
		dir := filepath.Join(path, below)
		if ok, err := datadir.Exists(filepath.Join(dir, "state.bin")); err != nil || ok {
			return []string{dir}, err
		}
		found, err := filepath.Glob(filepath.Join(dir, "*-*-*", "state.bin"))
		if err != nil {
			return nil, err
		}
		var dirs []string
		for _, f := range found {
			if filepath.Ext(filepath.Dir(f)) != ".tmp" { // raft has not completed it
				dirs = append(dirs, filepath.Dir(f))
			}
		}
		if len(dirs) > 0 {
			return newestFirst(dirs), nil
		}
	}
	return nil, notFound("find snapshots", "there is no snapshot in %s", path)
}

// newestFirst sorts by what the snapshots say about themselves; one that says nothing readable is last.
func newestFirst(dirs []string) []string {
	index := func(dir string) uint64 {
		info, err := raftgroup.ReadSnapshotInfo(dir)
		if err != nil {
			return 0
		}
		return info.Index
	}
	slices.SortFunc(dirs, func(a, b string) int { return cmp.Compare(index(b), index(a)) })
	return dirs
}
