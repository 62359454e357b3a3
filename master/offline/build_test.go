package offline

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/master/disk"
	"github.com/sutra-grid/sutra-grid/master/feed"
	"github.com/sutra-grid/sutra-grid/transport"
)

const (
	testStore = "00112233445566778899aabbccddeeff"
	testEpoch = int64(1_800_000_000_000_000) // µs
)

// replica is a master's state machine without a master around it. What alter makes of a command is what it applies: a log
// that says one thing and a state that says another.
type replica struct {
	machine *fsm.Machine
	outbox  *feed.Outbox
	alter   func([]byte) []byte
	err     error
}

// Apply implements raftgroup.FSM.
func (r *replica) Apply(entries []raftgroup.Entry) [][]any {
	var out [][]any
	for _, e := range entries {
		commands := e.Commands
		if r.alter != nil {
			commands = nil
			for _, c := range e.Commands {
				commands = append(commands, r.alter(c))
			}
		}
		answers, records, err := r.machine.Apply(fsm.EntryMeta{Index: e.Index, Time: e.Time, Level: e.Level}, commands)
		if err = errors.Join(err, r.outbox.Append(e.Index, records)); err != nil {
			r.err = err
			return nil
		}
		row := make([]any, len(answers))
		for i, a := range answers {
			row[i] = a
		}
		out = append(out, row)
	}
	return out
}

// Snapshot implements raftgroup.FSM.
func (r *replica) Snapshot() (raftgroup.Snapshot, error) {
	return &replicaSnapshot{r.machine.View(), r.outbox.Snapshot()}, nil
}

// Restore implements raftgroup.FSM.
func (r *replica) Restore(io.Reader) error { return errors.New("no test restores") }

type replicaSnapshot struct {
	state  *fsm.State
	outbox *feed.Snapshot
}

func (s *replicaSnapshot) Write(w io.Writer) error {
	section := disk.NewSectionWriter(w)
	if _, err := s.state.WriteTo(section); err != nil {
		return err
	}
	if err := section.Close(); err != nil {
		return err
	}
	return s.outbox.Stream(w, 0)
}

func (s *replicaSnapshot) Release() { s.outbox.Close() }

// directory is a master's data directory while it is made, by a real raft group of one voter.
type directory struct {
	t       *testing.T
	path    string
	replica *replica
	group   *raftgroup.Group
	now     int64
	undo    []func() error
}

func newDirectory(t *testing.T, path, id string, trailing uint64, kind ...raftgroup.LogStore) *directory {
	t.Helper()
	d := &directory{t: t, path: path, now: testEpoch}
	incarnation := event.Incarnation{N: 1, Random: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}}
	dir, err := datadir.Create(path, datadir.Identity{GridID: "grid-a", Incarnation: incarnation, Kind: datadir.KindMaster, ID: id, StoreID: testStore})
	d.must(err)
	d.undo = append(d.undo, dir.Close)
	self := event.NewReplicaID(id, testStore)
	create := raftgroup.CreateConfig{GroupID: disk.GroupID, LocalID: self, Voters: []event.ReplicaID{self}, SegmentBytes: 16 << 10}
	if len(kind) > 0 {
		create.LogStore = kind[0]
	}
	d.must(raftgroup.Create(dir.Path(disk.RaftDir), create))
	outbox, err := feed.OpenOutbox(dir.Path(disk.OutboxDir), feed.DefaultOutboxOptions())
	d.must(err)
	d.undo = append(d.undo, outbox.Close)
	d.replica = &replica{machine: fsm.NewMachine(), outbox: outbox}
	network := transport.NewMemory()
	l, err := network.Listen("a:7000")
	d.must(err)
	log := slog.New(slog.DiscardHandler)
	host := raftgroup.NewHost(l, raftgroup.HostConfig{GridID: "grid-a", Incarnation: incarnation, Log: log})
	served := make(chan error, 1)
	go func() { served <- host.Serve(context.Background()) }()
	d.undo = append(d.undo, func() error { return errors.Join(host.Close(), <-served) })
	lead := make(chan struct{}, 1)
	timeouts := raftgroup.LANMasters()
	timeouts.Election = time.Minute // or a slow disk makes the only voter stand a second time, and two directories differ in their terms
	d.group, err = raftgroup.Open(raftgroup.Config{
		GroupID: disk.GroupID, LocalID: self, Dir: dir.Path(disk.RaftDir), Host: host, Network: network,
		Addresses: func(event.ReplicaID) (string, error) { return "a:7000", nil }, Timeouts: timeouts, FSM: d.replica,
		SnapshotThreshold: 1 << 20, TrailingLogs: trailing, SegmentBytes: 16 << 10, Log: log,
		Fatal: func(err error) { t.Errorf("fatal: %v", errors.Join(err, d.replica.err)) },
		Now:   func() time.Time { return time.UnixMicro(d.now) },
		Lead:  func(ctx context.Context, _ uint64) { lead <- struct{}{}; <-ctx.Done() },
	})
	d.must(err)
	d.undo = append(d.undo, d.group.Close)
	select {
	case <-lead:
	case <-t.Context().Done():
		t.Fatal("no leader")
	}
	return d
}

func (d *directory) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// close stops the replica as a master that is asked to.
func (d *directory) close() string {
	d.t.Helper()
	for i := len(d.undo) - 1; i >= 0; i-- {
		d.must(d.undo[i]())
	}
	return d.path
}

// propose puts one command into an entry of its own, a second of log time after the one before.
func (d *directory) propose(c *event.Command) (index uint64, a fsm.Answer) {
	d.t.Helper()
	d.now += 1_000_000
	b, err := event.AppendCommand(nil, c)
	d.must(err)
	r, err := d.group.Propose(d.t.Context(), b)
	d.must(err)
	return r.Index, r.Answer.(fsm.Answer)
}

// all proposes bodies, each of which must be accepted.
func (d *directory) all(bodies ...event.Body) {
	d.t.Helper()
	for _, b := range bodies {
		if _, a := d.propose(event.NewCommand("test", b)); a.Err != nil {
			d.t.Fatalf("%s: %v", b.Type(), a.Err)
		}
	}
}

func started() event.Body {
	return event.IncarnationStarted{GridID: "grid-a", Incarnation: event.Incarnation{N: 1, Random: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}}, Reason: "formed", Level: 1}
}

func setting(value string) event.Body { return event.SettingChanged{Key: "note", Value: value} }

// settings makes a directory of n settings behind the beginning, with a snapshot in the middle. The log and what is applied
// can be made to differ from one command on.
func settings(t *testing.T, n int, id string, altered func(i int) event.Body, alter func([]byte) []byte) string {
	t.Helper()
	d := newDirectory(t, filepath.Join(t.TempDir(), id), id, 1000)
	d.replica.alter = alter
	d.all(started())
	for i := range n {
		if i == n/2 {
			d.must(d.group.Snapshot())
		}
		body := setting("value " + strings.Repeat("i", i))
		if altered != nil {
			if other := altered(i); other != nil {
				body = other
			}
		}
		d.all(body)
	}
	return d.close()
}

func open(t *testing.T, path string) *Master {
	t.Helper()
	m, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}
