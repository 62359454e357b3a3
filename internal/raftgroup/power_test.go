//go:build faults

package raftgroup

import (
	"errors"
	"io"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	disks "github.com/sutra-grid/sutra-grid/cmd/gridfault/disk"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
)

// forgetful is a replica's directory on a disk that has what was synced, and nothing else when the power is back.
func forgetful(t *testing.T) (dir string, cycle func()) {
	t.Helper()
	d, err := disks.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	unmount, err := fault.Mount(d.Root(), d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(unmount)
	dir = filepath.Join(d.Root(), "raft")
	if err := Create(dir, CreateConfig{GroupID: testGroup, LocalID: "a", Voters: []event.ReplicaID{"a"}, SegmentBytes: 64 << 10}); err != nil {
		t.Fatal(err)
	}
	return dir, func() {
		t.Helper()
		_, err := d.PowerOff(0, nil)
		if err = errors.Join(err, d.PowerOn()); err != nil {
			t.Fatal(err)
		}
	}
}

func openForgetful(t *testing.T, dir string) *stores {
	t.Helper()
	if err := mustExist(dir, WAL); err != nil {
		t.Fatal(err)
	}
	s, err := openStores(dir, storeConfig{group: testGroup, segmentBytes: 64 << 10, latch: newLatch(nil), log: newRaftLog(discard())})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func storeAt(t *testing.T, s *stores, index uint64) {
	t.Helper()
	if err := s.log.StoreLogs([]*raft.Log{{Index: index, Term: 1, Data: make([]byte, 4<<10)}}); err != nil {
		t.Fatal(err)
	}
}

// TestPowerLossBehindASnapshot: a snapshot is there before the log is cut off, with its files.
func TestPowerLossBehindASnapshot(t *testing.T) {
	dir, cycle := forgetful(t)
	s := openForgetful(t, dir)
	sink, err := s.snapshots.Create(raft.SnapshotVersionMax, 1, 1, raft.Configuration{}, 1, &peers{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sink.Write([]byte("state")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sink.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	cycle()
	s = openForgetful(t, dir)
	metas, err := s.snapshots.List()
	if err != nil || len(metas) != 1 {
		t.Fatalf("%d snapshots are there, %v", len(metas), err)
	}
	_, content, err := s.snapshots.stored(metas[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	state, err := io.ReadAll(content)
	if err = errors.Join(err, content.Close(), s.Close()); err != nil || string(state) != "state" {
		t.Errorf("%q, %v", state, err)
	}
}

// TestPowerLossBehindAKill: who made the log's last file was killed before anything was written to it; who writes to it then syncs its name.
func TestPowerLossBehindAKill(t *testing.T) {
	dir, cycle := forgetful(t)
	last := uint64(1) // Create's
	for range 40 {    // three files
		s := openForgetful(t, dir)
		last++
		storeAt(t, s, last)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openForgetful(t, dir)
		for range 3 {
			last++
			storeAt(t, s, last)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		cycle()
		s = openForgetful(t, dir)
		if has, err := s.log.LastIndex(); err != nil || has != last {
			t.Fatalf("entry %d was acknowledged, %d is the last one, %v", last, has, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPowerLossBehindAVote: a term and a vote that were given are there.
func TestPowerLossBehindAVote(t *testing.T) {
	dir, cycle := forgetful(t)
	s := openForgetful(t, dir)
	for _, err := range []error{s.stable.SetUint64([]byte(keyCurrentTerm), 7), s.stable.SetUint64([]byte(keyLastVoteTerm), 7), s.stable.Set([]byte(keyLastVoteCand), []byte("b")), s.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	cycle()
	s = openForgetful(t, dir)
	term, err := s.stable.GetUint64([]byte(keyCurrentTerm))
	if err != nil || term != 7 {
		t.Errorf("term %d, %v", term, err)
	}
	if term, who, err := s.stable.vote(); err != nil || term != 7 || string(who) != "b" {
		t.Errorf("a vote in term %d for %q, %v", term, who, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
