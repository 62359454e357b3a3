package raftgroup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
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

// onBoth runs a test over the in-memory network in virtual time, and over TCP.
func onBoth(t *testing.T, f func(*testing.T, transport.Network)) {
	t.Run("memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { f(t, transport.NewMemory()) })
	})
	t.Run("tcp", func(t *testing.T) { f(t, transport.TCP()) })
}

// reinstallConfig fetches n's state from another replica.
func (n *node) reinstallConfig(from *node) ReinstallConfig {
	g := testGrid()
	return ReinstallConfig{
		GroupID: testGroup, LocalID: n.id, Dir: n.dir, GridID: g.GridID, Incarnation: g.Incarnation,
		From: from.id, Address: from.addr, Network: n.c.wire.Network, Log: discard(),
	}
}

func (c ReinstallConfig) try() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return Reinstall(ctx, c)
}

// spoil makes a follower's state wrong, and its newest snapshot with it, and closes it; the log is right.
func spoil(c *cluster) (l, f *node) {
	c.t.Helper()
	l = c.leader()
	f = c.others(l)[0]
	f.wait(l.must("a", "b").Index)
	if err := l.group.Snapshot(); err != nil {
		c.t.Fatal(err)
	}
	f.wait(l.must("c").Index)
	f.fsm.mu.Lock()
	f.fsm.lines[0] = "wrong"
	f.fsm.mu.Unlock()
	if err := f.group.Snapshot(); err != nil {
		c.t.Fatal(err)
	}
	f.wait(l.must("d").Index)
	f.wantLines("wrong", "b", "c", "d")
	f.stop()
	return l, f
}

// kept is what Reinstall must leave alone: term, vote and log.
func kept(t *testing.T, n *node) string {
	t.Helper()
	s, err := openStores(n.dir, storeConfig{group: testGroup, segmentBytes: 1 << 20, latch: newLatch(nil), log: newRaftLog(discard())})
	if err != nil {
		t.Fatal(err)
	}
	term, err1 := s.stable.GetUint64([]byte(keyCurrentTerm))
	vote, err2 := s.stable.inner.Get([]byte(keyVote))
	if err2 != nil && err2.Error() == notFound {
		err2 = nil
	}
	first, err3 := s.log.FirstIndex()
	last, err4 := s.log.LastIndex()
	out := fmt.Sprintf("term %d, vote %x, log %d to %d:", term, vote, first, last)
	for i := first; i <= last; i++ {
		var l raft.Log
		if err := s.log.get(i, &l); err != nil {
			t.Fatal(err)
		}
		out += fmt.Sprintf(" %d/%d", l.Term, len(l.Data))
	}
	if err := errors.Join(err1, err2, err3, err4, s.Close()); err != nil {
		t.Fatal(err)
	}
	return out
}

// A replica whose state is wrong gets another's, replays its own log behind it, and keeps log, term and vote; its wrong
// snapshot, though newer, is gone.
func TestReinstall(t *testing.T) {
	onBoth(t, func(t *testing.T, network transport.Network) {
		c := newCluster(t, network, 3).start()
		defer c.stop()
		l, f := spoil(c)
		f.start()
		f.wait(l.must("e").Index)
		f.wantLines("wrong", "b", "c", "d", "e") // what is to be mended
		f.stop()
		before := kept(t, f)
		if err := f.reinstallConfig(l).try(); err != nil {
			t.Fatal(err)
		}
		if after := kept(t, f); after != before {
			t.Fatalf("before: %s\nafter: %s", before, after)
		}
		if all, err := filepath.Glob(filepath.Join(f.dir, snapshotDir, "*")); err != nil || len(all) != 1 {
			t.Fatalf("snapshots %q (%v), want the new one only", all, err)
		}
		for range 2 {
			f.start()
			f.wait(l.group.Applied())
			f.wantLines("a", "b", "c", "d", "e")
			f.stop()
		}
	})
}

// The snapshot may end behind the log of the replica, and begins to be taken when the other has none that reaches to where
// the log begins.
func TestReinstallOfALaterState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3)
		for _, n := range c.nodes {
			n.tune = func(c *Config) { c.TrailingLogs = maxOutstanding + 1 }
		}
		c.start()
		defer c.stop()
		l := c.leader()
		f := c.others(l)[0]
		want := []string{}
		put := func(n int) {
			for range n {
				want = append(want, fmt.Sprint(len(want)))
				l.must(want[len(want)-1])
			}
		}
		put(40)
		f.wait(l.group.Applied())
		if err := f.group.Snapshot(); err != nil { // cuts its log; the leader has no snapshot
			t.Fatal(err)
		}
		f.stop()
		for round, name := range []string{"one is taken", "a later one is there"} {
			if round == 1 {
				put(40)
				if err := l.group.Snapshot(); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.reinstallConfig(l).try(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			f.start()
			put(1)
			f.wait(l.group.Applied())
			f.wantLines(want...)
			sameLogs(t, f, l)
			f.stop()
		}
	})
}

// A crash at any step leaves a directory that opens, with the old state or with the new one, and can be repeated.
func TestReinstallCrashes(t *testing.T) {
	crash := errors.New("crash")
	for step, old := range map[string]bool{"received": true, "stored": true, "dropped": false} {
		t.Run(step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, transport.NewMemory(), 3).start()
				defer c.stop()
				l, f := spoil(c)
				cfg := f.reinstallConfig(l)
				cfg.after = func(s string) error {
					if s == step {
						return crash
					}
					return nil
				}
				if err := cfg.try(); !errors.Is(err, crash) {
					t.Fatalf("got %v", err)
				}
				f.start()
				f.wait(l.group.Applied())
				if old {
					f.wantLines("wrong", "b", "c", "d") // its snapshot is the later one
				} else {
					f.wantLines("a", "b", "c", "d")
				}
				f.stop()
				if err := f.reinstallConfig(l).try(); err != nil {
					t.Fatal(err)
				}
				f.start()
				f.wait(l.group.Applied())
				f.wantLines("a", "b", "c", "d")
			})
		})
	}
}

// spoiler is a network whose incoming bytes are counted, and one of which is changed, or the last.
type spoiler struct {
	transport.Network
	at  int  // the byte; -1: none
	cut bool // the connection ends there instead
	got int
}

func (s *spoiler) Dial(ctx context.Context, addr string) (net.Conn, error) {
	c, err := s.Network.Dial(ctx, addr)
	s.got = 0
	return &spoiledConn{c, s}, err
}

type spoiledConn struct {
	net.Conn
	s *spoiler
}

func (c *spoiledConn) Read(p []byte) (int, error) {
	if c.s.cut && c.s.at >= 0 {
		if p = p[:min(len(p), c.s.at-c.s.got)]; len(p) == 0 {
			return 0, io.ErrUnexpectedEOF
		}
	}
	n, err := c.Conn.Read(p)
	if at := c.s.at - c.s.got; at >= 0 && at < n {
		p[at] ^= 0x10
	}
	c.s.got += n
	return n, err
}

// A stream with one changed byte, or one that ends early, is refused wherever that is, and costs nothing.
func TestReinstallRefusesADamagedStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3).start()
		defer c.stop()
		l, f := spoil(c)
		before := tree(t, filepath.Join(f.dir, snapshotDir))
		clean := &spoiler{Network: c.wire.Network, at: -1}
		cfg := f.reinstallConfig(l)
		cfg.Network = clean
		cfg.after = func(string) error { return io.ErrClosedPipe } // counts the bytes only
		if err := cfg.try(); !errors.Is(err, io.ErrClosedPipe) {
			t.Fatal(err)
		}
		cfg.after = nil
		for _, cut := range []bool{false, true} {
			for _, at := range []int{0, 1, 2, 8, 40, 100, 220, 1000, chunkBytes, 2*chunkBytes + 1000, clean.got - 9, clean.got - 1} {
				cfg.Network = &spoiler{Network: c.wire.Network, at: at, cut: cut}
				if err := cfg.try(); err == nil {
					t.Fatalf("byte %d of %d, cut %v: taken", at, clean.got, cut)
				}
				if now := tree(t, filepath.Join(f.dir, snapshotDir)); now != before {
					t.Fatalf("byte %d of %d, cut %v: the snapshots are\n%s, they were\n%s", at, clean.got, cut, now, before)
				}
			}
		}
	})
}

// tree is the names and sizes of complete snapshots' files.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b bytes.Buffer
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if strings.HasSuffix(path, ".tmp") {
			return fs.SkipDir
		}
		content, err := os.ReadFile(path)
		if d.IsDir() {
			err = nil
		}
		fmt.Fprintf(&b, "%s %08x\n", path, bodySum("", content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A snapshot that is damaged on disk, with the log behind it cut off, is refused by name with what to do, and fetching it
// again is enough.
func TestDamagedSnapshotIsFetchedAgain(t *testing.T) {
	for _, file := range []string{"state.bin", "meta.json"} {
		t.Run(file, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, transport.NewMemory(), 3)
				for _, n := range c.nodes {
					n.tune = func(c *Config) { c.TrailingLogs = maxOutstanding + 1 }
				}
				c.start()
				defer c.stop()
				l := c.leader()
				f := c.others(l)[0]
				var want []string
				for i := range 40 {
					want = append(want, fmt.Sprint(i))
				}
				f.wait(l.must(want...).Index)
				if err := f.group.Snapshot(); err != nil {
					t.Fatal(err)
				}
				f.stop()
				dirs, err := filepath.Glob(filepath.Join(f.dir, snapshotDir, "*"))
				if err != nil || len(dirs) != 1 {
					t.Fatal(dirs, err)
				}
				if file == "state.bin" {
					flip(t, filepath.Join(dirs[0], file), 1000)
				} else {
					replace(t, filepath.Join(dirs[0], file), `"Index":4`, `"Index":5`)
				}
				err = f.tryStart()
				if err == nil {
					f.stop()
					t.Fatal("it started")
				}
				for _, part := range []string{dirs[0], "re-install", "replace"} {
					if !errors.Is(err, ErrStateLost) || !strings.Contains(err.Error(), part) {
						t.Fatalf("%v: %q is missing", err, part)
					}
				}
				if err := f.reinstallConfig(l).try(); err != nil {
					t.Fatal(err)
				}
				f.start()
				f.wait(l.must("end").Index)
				f.wantLines(append(want, "end")...)
			})
		})
	}
}

func replace(t *testing.T, path, from, to string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(b, []byte(from)) {
		t.Fatalf("%s: %q is not in %s (%v)", path, from, b, err)
	}
	if err := os.WriteFile(path, bytes.Replace(b, []byte(from), []byte(to), 1), 0o644); err != nil {
		t.Fatal(err)
	}
}

// It reaches exactly the replica it is meant for, one at a time, and only when this one is closed and whole.
func TestReinstallIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3).start()
		defer c.stop()
		l, f := spoil(c)
		other := c.others(l)[1]
		refused := func(name, want string, change func(*ReinstallConfig)) {
			t.Helper()
			cfg := f.reinstallConfig(l)
			change(&cfg)
			if err := cfg.try(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", name, err, want)
			}
		}
		refused("another grid", "this is grid grid", func(c *ReinstallConfig) { c.GridID = "other" })
		refused("another incarnation", "incarnation 1-", func(c *ReinstallConfig) { c.Incarnation.N++ })
		refused("another group", "no replica of", func(c *ReinstallConfig) { c.GroupID = "shard-7" })
		refused("another replica", "the replica of", func(c *ReinstallConfig) { c.From = other.id })
		refused("itself", "itself", func(c *ReinstallConfig) { c.From = c.LocalID })
		refused("nothing said", "Address is empty", func(c *ReinstallConfig) { c.Address = "" })
		refused("it runs", "in use by another process", func(c *ReinstallConfig) { c.LocalID, c.Dir = other.id, other.dir })
		refused("no directory", "is missing", func(c *ReinstallConfig) { c.Dir += "x" })

		// While one is served another is not; closing the group ends the first.
		l.fsm.gate = make(chan struct{})
		l.must("x")
		first := make(chan error, 1)
		cfg := f.reinstallConfig(l)
		emptyLogOf(t, f)
		go func() { first <- cfg.try() }()
		synctest.Wait()
		second := other.reinstallConfig(l)
		other.stop()
		if err := second.try(); err == nil || !strings.Contains(err.Error(), "already") {
			t.Errorf("a second one: %v", err)
		}
		var stopped sync.WaitGroup
		stopped.Go(func() { l.stop() })
		if err := <-first; err == nil {
			t.Error("it ended well though the group was closed")
		}
		close(l.fsm.gate)
		stopped.Wait()
	})
}

// emptyLogOf cuts a log's front off, so that only a snapshot which is still to be taken will do.
func emptyLogOf(t *testing.T, n *node) {
	t.Helper()
	s, err := openStores(n.dir, storeConfig{group: testGroup, segmentBytes: 1 << 20, latch: newLatch(nil), log: newRaftLog(discard())})
	if err != nil {
		t.Fatal(err)
	}
	last, err := s.log.LastIndex()
	if err == nil {
		err = s.log.DeleteRange(1, last-1)
	}
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
}
