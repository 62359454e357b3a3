package raftgroup

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
	"github.com/sutra-grid/sutra-grid/transport"
)

// ErrStateLost is in Open's error when the snapshots and the log do not make the whole state, though log, term and vote are
// there: Reinstall mends it.
var ErrStateLost = errors.New("the state cannot be made from what is on this disk: fetch a snapshot from another replica (re-install), or replace this replica by a new one")

// ReinstallConfig says whose state to fetch, and from whom.
type ReinstallConfig struct {
	GroupID     string
	LocalID     event.ReplicaID
	Dir         string // of a replica that is closed
	GridID      string
	Incarnation event.Incarnation

	From    event.ReplicaID   // a replica of the group whose state is right, and which is open
	Address string            // where From listens, "host:port"
	Network transport.Network // opens the connection
	TLS     *tls.Config       // of it; nil is plain

	Log *slog.Logger

	after func(step string) error // tests: a crash, here
}

func (c *ReinstallConfig) validate() error {
	var errs []error
	for name, empty := range map[string]bool{
		"GroupID": c.GroupID == "", "LocalID": c.LocalID == "", "Dir": c.Dir == "", "GridID": c.GridID == "", "From": c.From == "",
		"Address": c.Address == "", "Network": c.Network == nil, "Log": c.Log == nil,
	} {
		if empty {
			errs = append(errs, fmt.Errorf("%s is empty", name))
		}
	}
	if c.From == c.LocalID {
		errs = append(errs, fmt.Errorf("the replica to fetch from is %s itself", c.LocalID))
	}
	return errors.Join(errs...)
}

// Reinstall replaces the state of a closed replica by a snapshot of another one, which the next Open restores before it
// replays the replica's own log (safety S9). Log, term and vote stay what they are, all other snapshots go, as they may be
// of the wrong state. An FSM that keeps its state on disk must forget it (Config.Applied 0) behind a success, before Open.
//
// Every checksum of the content is checked before the snapshot counts. Until then, and after an error or a crash at any
// moment, the directory holds the snapshots it held; from then on, the new one. ctx bounds the whole, which includes the
// time that the other replica takes for a new snapshot, should its newest end before this replica's log begins.
//
// The snapshot may end behind this replica's log, which S9 does not ask for and raft's own InstallSnapshot does: a snapshot
// holds only committed entries, so every entry at or below its end that this replica has acknowledged and that was
// committed is in it; it has acknowledged none behind its own log's end; and an entry of the log that the snapshot
// contradicts was never committed. So nothing that a majority relies on is lost, whichever of the two ends later. In
// elections raft compares the later of both. And a log that ends before a snapshot is closed up before the next entry is
// stored behind it (logStore.closeGap), so it is never sent on with a hole.
func Reinstall(ctx context.Context, c ReinstallConfig) error {
	err := c.validate()
	if err == nil {
		err = c.run(ctx)
	}
	if err != nil && ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	if err != nil {
		return fmt.Errorf("re-install the state of %s of %s in %s from %s: %w", c.LocalID, c.GroupID, c.Dir, c.From, err)
	}
	return nil
}

func (c *ReinstallConfig) run(ctx context.Context) (err error) {
	kind, err := logStoreOf(c.Dir)
	if err != nil {
		return err
	}
	if err := mustExist(c.Dir, kind); err != nil {
		return err
	}
	// Holding the stores keeps the replica from being opened meanwhile.
	s, err := openStores(c.Dir, storeConfig{group: c.GroupID, kind: kind, latch: newLatch(nil), log: newRaftLog(c.Log)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	first, err := s.log.FirstIndex()
	if err != nil {
		return err
	}
	conn, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // the reader reports it
	o, err := c.ask(conn, demand{atLeast: max(first, 1) - 1})
	if err != nil {
		return err
	}
	id, err := c.receive(paced{conn, streamIdle}, o)
	if err != nil {
		return err
	}
	if err := c.dropOthers(id); err != nil {
		return err
	}
	c.Log.Info("state re-installed", "group", c.GroupID, "replica", c.LocalID, "from", c.From, "index", o.index, "bytes", o.bytes)
	return nil
}

func (c *ReinstallConfig) dial(ctx context.Context) (net.Conn, error) {
	conn, err := transport.Dial(ctx, c.Network, c.Address, c.TLS)
	if err != nil {
		return nil, err
	}
	said := hello{GridID: c.GridID, Incarnation: c.Incarnation, Group: c.GroupID, From: c.LocalID, To: c.From, Purpose: purposeSnapshot}
	if err := greet(conn, said, handshakeTimeout); err != nil {
		return nil, errors.Join(fmt.Errorf("%s at %s: %w", c.From, c.Address, err), conn.Close())
	}
	return conn, nil
}

// ask waits, as long as the connection lasts, for the other side to have a snapshot.
func (c *ReinstallConfig) ask(conn net.Conn, d demand) (o offer, err error) {
	if err := writeFrame(conn, c.GroupID, d.encode()); err != nil {
		return o, err
	}
	if err := readAnswer(conn); err != nil {
		return o, err
	}
	body, err := readFrame(conn, c.GroupID)
	if err != nil {
		return o, fmt.Errorf("offer: %w", err)
	}
	if o, err = decodeOffer(body); err != nil {
		return o, err
	}
	if o.index < d.atLeast {
		return o, fmt.Errorf("the snapshot ends at entry %d, and the log needs one to %d", o.index, d.atLeast)
	}
	return o, nil
}

// receive stores the snapshot durably, once all of it has been checked, and returns its id.
func (c *ReinstallConfig) receive(content io.Reader, o offer) (id string, err error) {
	// One that keeps all: which snapshots go is decided when the new one is safe, and not by their indexes.
	files, err := raft.NewFileSnapshotStoreWithLogger(c.Dir, math.MaxInt32, newRaftLog(c.Log))
	if err != nil {
		return "", err
	}
	store := &snapshotStore{inner: files, group: c.GroupID, path: filepath.Join(c.Dir, snapshotDir), latch: newLatch(nil)}
	guarded, err := store.Create(raft.SnapshotVersionMax, o.index, o.term, raft.Configuration{Servers: o.conf.servers}, o.conf.index, &peers{})
	if err != nil {
		return "", err
	}
	sink := guarded.(*snapshotSink).SnapshotSink // the guard would tell the log, which is left alone
	if err := c.copyChecked(sink, content, o); err != nil {
		return "", errors.Join(err, sink.Cancel())
	}
	if err := c.done("received"); err != nil {
		return "", err
	}
	if err := sink.Close(); err != nil {
		return "", err
	}
	if err := c.done("stored"); err != nil {
		return "", err
	}
	return sink.ID(), datadir.SyncDir(filepath.Join(c.Dir, snapshotDir, sink.ID()))
}

func (c *ReinstallConfig) copyChecked(w io.Writer, content io.Reader, o offer) error {
	whole := io.LimitReader(content, int64(o.bytes))
	r, h, err := newChunkReader(io.TeeReader(whole, w), c.GroupID)
	if err == nil && h.Index > o.index {
		err = fmt.Errorf("it holds entry %d and is said to end at %d", h.Index, o.index)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	if err != nil {
		return fmt.Errorf("the snapshot arrived damaged, the old one stays: %w", err)
	}
	if n, err := io.Copy(io.Discard, whole); err != nil || n > 0 {
		return fmt.Errorf("the snapshot arrived with %d bytes behind its end, the old one stays (%w)", n, err)
	}
	return nil
}

// dropOthers removes every other snapshot, each in one step: a name that ends in .tmp counts for nothing.
func (c *ReinstallConfig) dropOthers(keep string) error {
	dir := filepath.Join(c.Dir, snapshotDir)
	all, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range all {
		if e.Name() == keep {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if err := os.Rename(path, path+".tmp"); err != nil {
			return err
		}
		if err := c.done("dropped"); err != nil {
			return err
		}
	}
	if err := datadir.SyncDir(dir); err != nil {
		return err
	}
	return removeUnfinished(dir)
}

func (c *ReinstallConfig) done(step string) error {
	if c.after == nil {
		return nil
	}
	return c.after(step)
}
