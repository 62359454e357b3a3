package raftgroup

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/sutra-grid/sutra-grid/transport"
)

// hook stops what passes it, from hold until the returned release.
type hook struct {
	mu   sync.Mutex
	gate chan struct{} // guarded by mu; nil: open
}

func (h *hook) hold() (release func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	gate := make(chan struct{})
	h.gate = gate
	return sync.OnceFunc(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.gate = nil
		close(gate)
	})
}

func (h *hook) pass() {
	h.mu.Lock()
	gate := h.gate
	h.mu.Unlock()
	if gate != nil {
		<-gate
	}
}

// hooks are the places where a replica's disk can hang.
type hooks struct{ store, remove, stable, sink hook }

type hookedLog struct {
	raft.LogStore
	h *hooks
}

func (l hookedLog) StoreLogs(logs []*raft.Log) error {
	l.h.store.pass()
	return l.LogStore.StoreLogs(logs)
}

func (l hookedLog) DeleteRange(lo, hi uint64) error {
	l.h.remove.pass()
	return l.LogStore.DeleteRange(lo, hi)
}

func (l hookedLog) Close() error { return l.LogStore.(io.Closer).Close() }

type hookedStable struct {
	raft.StableStore
	h *hooks
}

func (s hookedStable) Set(k, v []byte) error {
	s.h.stable.pass()
	return s.StableStore.Set(k, v)
}

func (s hookedStable) SetUint64(k []byte, v uint64) error {
	s.h.stable.pass()
	return s.StableStore.SetUint64(k, v)
}

func (s hookedStable) Close() error { return s.StableStore.(io.Closer).Close() }

type hookedSnapshots struct {
	raft.SnapshotStore
	h *hooks
}

func (s hookedSnapshots) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, t raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(v, index, term, c, ci, t)
	return hookedSink{sink, s.h}, err
}

type hookedSink struct {
	raft.SnapshotSink
	h *hooks
}

func (s hookedSink) Write(p []byte) (int, error) {
	s.h.sink.pass()
	return s.SnapshotSink.Write(p)
}

// hooked puts hooks below every replica's guards.
func hooked(c *cluster, change func(*Config)) map[*node]*hooks {
	all := map[*node]*hooks{}
	for _, n := range c.nodes {
		h := &hooks{}
		all[n] = h
		n.tune = func(cfg *Config) {
			cfg.TrailingLogs = maxOutstanding + 1
			cfg.under.log = func(s raft.LogStore) raft.LogStore { return hookedLog{s, h} }
			cfg.under.stable = func(s raft.StableStore) raft.StableStore { return hookedStable{s, h} }
			cfg.under.snapshots = func(s raft.SnapshotStore) raft.SnapshotStore { return hookedSnapshots{s, h} }
			if change != nil {
				change(cfg)
			}
		}
	}
	return all
}

// Whatever a disk does not do within the deadline ends the replica, with the path and the cause, and the others go on.
func TestHungDiskLeavesOverTCP(t *testing.T) {
	for name, tc := range map[string]struct {
		where func(*hooks) *hook
		path  string
		cause func(*cluster, *node) // has the replica write there
	}{
		"entries": {func(h *hooks) *hook { return &h.store }, walDir, func(_ *cluster, n *node) {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if _, err := n.group.Propose(ctx, []byte("hangs")); err == nil {
				n.c.t.Error("acknowledged")
			}
		}},
		"deletion": {func(h *hooks) *hook { return &h.remove }, walDir, func(_ *cluster, n *node) {
			_ = n.group.Snapshot() // fails or not; the replica's last words count
		}},
		"term": {func(h *hooks) *hook { return &h.stable }, stableFile, func(c *cluster, n *node) {
			_ = n.group.TransferLeadership(context.Background()) // the next term reaches it, and it cannot say so
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits for the deadline
			c := newCluster(t, transport.TCP(), 3)
			all := hooked(c, nil)
			c.start()
			defer c.stop()
			l := c.leader()
			for range 3 * maxOutstanding {
				l.must("x")
			}
			release := tc.where(all[l]).hold()
			defer release()
			tc.cause(c, l)
			why := <-l.fatal
			if !errors.Is(why, errHung) || !strings.Contains(why.Error(), filepath.Join(l.dir, tc.path)) {
				t.Fatalf("it says %v, want the path and the cause", why)
			}
			c.leader(l).must("on")
			if err := l.group.Close(); err == nil || !strings.Contains(err.Error(), "a write still hangs") {
				t.Errorf("close says %v", err)
			}
			l.closeHost()
			l.group = nil
		})
	}
}

// A snapshot whose disk hangs does not keep the replica from closing.
func TestHungSnapshotDoesNotHoldUpClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 1)
		all := hooked(c, nil)
		c.start()
		n := c.leader()
		n.must("a")
		release := all[n].sink.hold()
		taken := make(chan error, 1)
		go func() { taken <- n.group.Snapshot() }()
		synctest.Wait()
		begun := time.Now()
		n.stop()
		if took := time.Since(begun); took > 2*writeDeadline {
			t.Errorf("closing took %v", took)
		}
		if err := <-taken; err == nil {
			t.Error("a snapshot that was never written was taken")
		}
		release()
	})
}

// A snapshot step that hangs while the replica runs ends it, in time.
func TestHungSnapshotLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 1)
		all := hooked(c, nil)
		c.start()
		defer c.stop()
		n := c.leader()
		n.must("a")
		release := all[n].sink.hold()
		defer release()
		if err := n.group.Snapshot(); err == nil {
			t.Error("taken")
		}
		if why := <-n.fatal; !errors.Is(why, errHung) || !strings.Contains(why.Error(), filepath.Join(n.dir, snapshotDir)) {
			t.Fatalf("it says %v", why)
		}
	})
}

// listener is a log handler that passes on the lines of an alarm.
type listener struct {
	slog.Handler
	said chan string
}

func (l listener) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "follower") {
		l.said <- r.Message
	}
	return nil
}

func (l listener) WithAttrs([]slog.Attr) slog.Handler { return l }

func (l listener) Enabled(context.Context, slog.Level) bool { return true }

// A follower whose main loop is stuck while its heartbeats pass is reported, and so is its recovery (raft #612).
func TestStalledFollowerIsReportedOverTCP(t *testing.T) {
	c := newCluster(t, transport.TCP(), 3)
	said := make(chan string, 100)
	all := hooked(c, func(cfg *Config) {
		cfg.under.stalled = 300 * time.Millisecond
		cfg.under.deadline = time.Minute // it is not the disk's deadline that ends this
		cfg.Log = slog.New(listener{discard().Handler(), said})
	})
	c.start()
	defer c.stop()
	l := c.leader()
	f := c.others(l)[0]
	f.wait(l.must("a").Index)
	release := all[f].store.hold()
	defer release()
	l.must("b")
	expect := func(want string) {
		t.Helper()
		for {
			select {
			case got := <-said:
				if strings.Contains(got, want) {
					return
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("nobody said %q", want)
			}
		}
	}
	expect("gets no further")
	if p := find(l.group.Peers(), f.id); !p.Stalled || time.Since(p.LastContact) > 5*time.Second {
		t.Fatalf("%+v: want it stalled, and in contact", p)
	}
	for _, n := range c.others(f) {
		if find(l.group.Peers(), n.id).Stalled {
			t.Errorf("%s is reported too", n.owner)
		}
	}
	release()
	expect("moves again")
	f.wait(l.must("c").Index)
	f.wantLines("a", "b", "c")
}

// One snapshot after the other with nothing applied in between is reported from the third on.
func TestManyRestoresAreReported(t *testing.T) {
	said := make(chan string, 10)
	m := &machine{fsm: &journal{}, group: testGroup, latch: newLatch(nil), applied: &progress{},
		log: slog.New(listenerFor{listener{discard().Handler(), said}})}
	for i := range manyRestores + 1 {
		if len(said) > 0 {
			t.Fatalf("reported after %d", i)
		}
		state, err := (&journal{}).Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		pr, pw := io.Pipe()
		go func() {
			w, err := newChunkWriter(pw, testGroup, snapshotHeader{Index: 9})
			if err == nil {
				err = state.Write(w)
			}
			pw.CloseWithError(errors.Join(err, w.Close()))
		}()
		if err := m.restore(pr); err != nil {
			t.Fatal(err)
		}
	}
	if len(said) != 1 {
		t.Fatalf("%d reports, want 1", len(said))
	}
}

// listenerFor passes on every line.
type listenerFor struct{ listener }

func (l listenerFor) Handle(_ context.Context, r slog.Record) error {
	l.said <- r.Message
	return nil
}

// The older log store does what the newer does, and neither is taken for the other.
func TestBoltDBLogStore(t *testing.T) {
	c := newCluster(t, transport.TCP(), 3)
	ids := c.nodes[0].voters()
	for _, n := range c.nodes {
		if err := os.RemoveAll(n.dir); err != nil {
			t.Fatal(err)
		}
		if err := Create(n.dir, CreateConfig{GroupID: testGroup, LocalID: n.id, Voters: ids, LogStore: BoltDB}); err != nil {
			t.Fatal(err)
		}
		n.tune = func(cfg *Config) { cfg.LogStore, cfg.TrailingLogs = BoltDB, maxOutstanding+1 }
	}
	c.start()
	defer c.stop()
	l := c.leader()
	f := c.others(l)[0]
	f.stop()
	var want []string
	for range 40 {
		want = append(want, "x")
	}
	l.must(want...)
	if err := l.group.Snapshot(); err != nil {
		t.Fatal(err)
	}
	if first, err := l.group.stores.log.FirstIndex(); err != nil || first < 10 {
		t.Fatalf("the log begins at %d (%v): nothing was cut off", first, err)
	}
	f.start()
	f.wait(l.must("y").Index)
	f.wantLines(append(want, "y")...)
	f.stop()
	if err := f.reinstallConfig(l).try(); err != nil {
		t.Fatal(err)
	}
	f.start()
	f.wait(l.must("z").Index)
	f.wantLines(append(want, "y", "z")...)
	if _, err := os.Stat(filepath.Join(f.dir, walDir)); !os.IsNotExist(err) {
		t.Errorf("there is another log too: %v", err)
	}
	f.stop()
	f.tune = func(cfg *Config) { cfg.LogStore = WAL }
	if err := f.tryStart(); err == nil || !strings.Contains(err.Error(), "kept in boltdb, not in wal") {
		t.Fatalf("opened as wal: %v", err)
	}
	f.tune = nil // as the directory says
	f.start()
	f.wait(l.must("again").Index)
	f.wantLines(append(want, "y", "z", "again")...)
	if _, err := os.Stat(filepath.Join(f.dir, walDir)); !os.IsNotExist(err) {
		t.Errorf("there is another log too: %v", err)
	}
	other := newCluster(t, transport.TCP(), 1)
	w := other.nodes[0]
	w.tune = func(cfg *Config) { cfg.LogStore = BoltDB }
	if err := w.tryStart(); err == nil || !strings.Contains(err.Error(), "kept in wal, not in boltdb") {
		t.Fatalf("opened as boltdb: %v", err)
	}
	w.tune = func(cfg *Config) { cfg.LogStore = "tape" }
	if err := w.tryStart(); err == nil || !strings.Contains(err.Error(), `log store "tape"`) {
		t.Fatalf("opened as tape: %v", err)
	}
}
