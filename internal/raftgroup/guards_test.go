package raftgroup

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/sutra-grid/sutra-grid/transport"
)

// badDisk is a log store below the guards that can hang, fail, or lie.
type badDisk struct {
	raft.LogStore
	hang chan struct{} // writes wait for it
	mu   sync.Mutex
	fail error         // guarded by mu
	slow time.Duration // guarded by mu; every write takes so long
	flip bool          // guarded by mu; entries come back with a bit changed
}

func (b *badDisk) StoreLogs(logs []*raft.Log) error {
	b.mu.Lock()
	hang, fail, slow := b.hang, b.fail, b.slow
	b.mu.Unlock()
	time.Sleep(slow)
	if hang != nil {
		<-hang
	}
	if fail != nil {
		return fail
	}
	return b.LogStore.StoreLogs(logs)
}

func (b *badDisk) takes(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.slow = d
}

func (b *badDisk) GetLog(i uint64, l *raft.Log) error {
	err := b.LogStore.GetLog(i, l)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil && b.flip && len(l.Data) > 0 {
		l.Data = append([]byte(nil), l.Data...)
		l.Data[len(l.Data)/2] ^= 1
	}
	return err
}

func (b *badDisk) Close() error { return b.LogStore.(io.Closer).Close() }

func onBadDisks(c *cluster) map[*node]*badDisk {
	disks := map[*node]*badDisk{}
	for _, n := range c.nodes {
		d := &badDisk{}
		disks[n] = d
		n.tune = func(cfg *Config) {
			cfg.under.log = func(s raft.LogStore) raft.LogStore {
				d.LogStore = s
				return d
			}
		}
	}
	return disks
}

// A disk that is slow, with half a second for each write, costs nobody the leadership: on a follower it is hardly noticed, on the
// leader it slows every write down.
func TestSlowDiskDeposesNobody(t *testing.T) {
	for _, leads := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, transport.NewMemory(), 3)
			disks := onBadDisks(c)
			c.start()
			defer c.stop()
			l := c.leader()
			l.must("a")
			_, term, _ := l.group.Leader()
			slow := c.others(l)[0]
			if leads {
				slow = l
			}
			disks[slow].takes(500 * time.Millisecond)
			defer disks[slow].takes(0)
			begun := time.Now()
			var last Result
			for range 60 {
				last = l.must("b")
			}
			took := time.Since(begun)
			if leads && took < 30*time.Second || !leads && took > time.Second {
				t.Errorf("60 writes took %v with the slow disk on the leader: %v", took, leads)
			}
			time.Sleep(time.Minute)
			for _, n := range c.nodes {
				n.wait(last.Index)
				if id, now, ok := n.group.Leader(); !ok || now != term || id != l.id {
					t.Errorf("%s follows %s in term %d; it was %s in term %d", n.id, id, now, l.id, term)
				}
			}
		})
	}
}

// A leader whose disk hangs leaves within the write deadline, says why, and another leads.
func TestHungLogStoreLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3)
		disks := onBadDisks(c)
		c.start()
		defer c.stop()
		l := c.leader()
		l.must("a")
		d := disks[l]
		d.mu.Lock()
		d.hang = make(chan struct{})
		d.mu.Unlock()
		begun := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		outcome := make(chan error, 1)
		go func() {
			_, err := l.group.Propose(ctx, []byte("hangs"))
			outcome <- err
		}()
		var why error
		select {
		case why = <-l.fatal:
		case <-time.After(time.Minute): // virtual
			close(d.hang)
			t.Fatal("it does not leave")
		}
		if took := time.Since(begun); took < writeDeadline || took > writeDeadline+100*time.Millisecond {
			t.Fatalf("it left after %v", took)
		}
		if !errors.Is(why, errHung) || !strings.Contains(why.Error(), filepath.Join(l.dir, walDir)) {
			t.Fatalf("it says %v, want the path and the cause", why)
		}
		if err := <-outcome; kindOf(err) != "unknown_outcome" {
			t.Fatalf("the command that hung: %v", err)
		}
		next := c.leader(l)
		next.must("b")
		if _, err := l.group.Propose(ctx, []byte("c")); err == nil {
			t.Fatal("it takes commands still")
		}
		if err := l.group.Close(); err == nil || !strings.Contains(err.Error(), "hangs") {
			t.Fatalf("close says %v", err)
		}
		close(d.hang) // so that the bubble can end
		synctest.Wait()
		l.closeHost()
		l.group = nil
		d.Close() // nobody else does
		select {
		case again := <-l.fatal:
			t.Fatalf("told twice: %v", again)
		default:
		}
	})
}

func TestFailedLogStoreLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3)
		disks := onBadDisks(c)
		c.start()
		defer c.stop()
		l := c.leader()
		f := c.others(l)[0]
		full := errors.New("no space left")
		disks[f].mu.Lock()
		disks[f].fail = full
		disks[f].mu.Unlock()
		l.must("a") // without it
		if why := <-f.fatal; !errors.Is(why, full) {
			t.Fatalf("it says %v", why)
		}
		l.must("b")
		synctest.Wait()
		for _, p := range l.group.Peers() {
			if p.ID == f.id && p.MatchIndex >= l.group.Applied() {
				t.Fatal("it still acknowledges entries")
			}
		}
	})
}

// A damaged entry ends the replica that reads it, at run time and at start, and is never applied or sent on.
func TestDamagedEntryLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3)
		disks := onBadDisks(c)
		c.start()
		defer c.stop()
		l := c.leader()
		behind := c.others(l)[0]
		behind.stop()
		l.must("a", "b", "c")
		disks[l].mu.Lock()
		disks[l].flip = true
		disks[l].mu.Unlock()
		behind.start() // needs what the leader must read
		if why := <-l.fatal; !errors.Is(why, errSum) {
			t.Fatalf("it says %v", why)
		}
		next := c.leader(l)
		r := next.must("d")
		behind.wait(r.Index)
		behind.wantLines("a", "b", "c", "d")
		l.stop()
		disks[l].mu.Lock()
		disks[l].flip = true
		disks[l].mu.Unlock()
		if err := l.tryStart(); err == nil || !errors.Is(err, errSum) {
			t.Fatalf("a damaged log started: %v", err)
		}
	})
}

// A bit flipped in the file is found too: the log's own format would not see it.
func TestFlippedBitOnDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 1).start()
		n := c.leader()
		n.must("needle-needle-needle", "x")
		n.stop()
		files, err := filepath.Glob(filepath.Join(n.dir, walDir, "*.wal"))
		if err != nil || len(files) != 1 {
			t.Fatalf("%q, %v", files, err)
		}
		b, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		flip(t, files[0], bytes.Index(b, []byte("needle-needle"))+5)
		if err := n.tryStart(); err == nil || !errors.Is(err, errSum) {
			if err == nil {
				n.stop()
			}
			t.Fatalf("started with %v", err)
		}
	})
}

// An entry that the log gives back whole but the proposer did not make so is not applied.
func TestUndecodableEntryLeaves(t *testing.T) {
	for name, data := range map[string][]byte{
		"not ours":   []byte("hello, world"),
		"no entry":   nil,
		"newer kind": newerEntry(),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, transport.NewMemory(), 1).start()
				defer c.stop()
				n := c.leader()
				n.must("a")
				err := await(n.group.raft.ApplyLog(raft.Log{Data: data}, time.Second), contextOf(n))
				if err == nil {
					t.Fatal("it was answered")
				}
				if why := <-n.fatal; !strings.Contains(why.Error(), "apply entry") {
					t.Fatalf("it says %v", why)
				}
				if _, err := n.group.Propose(context.Background(), []byte("b")); err == nil {
					t.Fatal("it goes on")
				}
				n.wantLines("a")
			})
		})
	}
}

// contextOf ends when the replica has told why it stops.
func contextOf(n *node) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		why := <-n.fatal
		n.fatal <- why
		cancel()
	}()
	return ctx
}

func newerEntry() []byte {
	b := []byte{0x94, entryVersion + 1, 1, 0, 0x90}
	return binary.BigEndian.AppendUint32(b, bodySum(testGroup, b))
}

func TestFSMThatStopsLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 1)
		c.nodes[0].fsm.refuse = "poison"
		c.start()
		defer c.stop()
		n := c.leader()
		n.must("a")
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := n.group.Propose(ctx, []byte("poison")); kindOf(err) != "unknown_outcome" {
			t.Fatalf("answered %v", err)
		}
		if why := <-n.fatal; !strings.Contains(why.Error(), "the state machine stopped") {
			t.Fatalf("it says %v", why)
		}
	})
}

// memoryStable counts writes, so that one that should be one is seen to be.
type memoryStable struct {
	*raft.InmemStore
	sets []string
	fail error
}

func (m *memoryStable) Set(k, v []byte) error {
	if m.fail != nil {
		return m.fail
	}
	m.sets = append(m.sets, string(k))
	return m.InmemStore.Set(k, v)
}

func (m *memoryStable) SetUint64(k []byte, v uint64) error {
	if m.fail != nil {
		return m.fail
	}
	m.sets = append(m.sets, string(k))
	return m.InmemStore.SetUint64(k, v)
}

// Get answers as raft-boltdb does.
func (m *memoryStable) Get(k []byte) ([]byte, error) {
	v, err := m.InmemStore.Get(k)
	if err == nil && v == nil {
		err = errors.New(notFound)
	}
	return v, err
}

func (m *memoryStable) GetUint64(k []byte) (uint64, error) {
	v, err := m.InmemStore.GetUint64(k)
	if err == nil && v == 0 {
		err = errors.New(notFound)
	}
	return v, err
}

// Term and candidate of a vote become durable together; a crash between raft's two calls leaves the vote before.
func TestVoteIsOneWrite(t *testing.T) {
	inner := &memoryStable{InmemStore: raft.NewInmemStore()}
	open := func() *stableStore {
		s, err := newStableStore(inner, testGroup, "x", newLatch(nil))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	vote := func(s *stableStore) (uint64, string) {
		term, err1 := s.GetUint64([]byte(keyLastVoteTerm))
		cand, err2 := s.Get([]byte(keyLastVoteCand))
		if err := errors.Join(err1, err2); err != nil {
			return 0, err.Error()
		}
		return term, string(cand)
	}
	s := open()
	if term, text := vote(s); term != 0 || text != notFound+"\n"+notFound {
		t.Fatalf("a fresh store answers %d, %q", term, text)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.SetUint64([]byte(keyLastVoteTerm), 7))
	must(s.Set([]byte(keyLastVoteCand), []byte("a")))
	if len(inner.sets) != 1 {
		t.Fatalf("%q: want one write", inner.sets)
	}
	must(s.SetUint64([]byte(keyLastVoteTerm), 8))
	for _, s := range []*stableStore{s, open()} { // the second one as after a crash
		if term, cand := vote(s); term != 7 || cand != "a" {
			t.Fatalf("half a vote counts: %d, %q", term, cand)
		}
	}
	must(s.Set([]byte(keyLastVoteCand), []byte("b")))
	if term, cand := vote(open()); term != 8 || cand != "b" {
		t.Fatalf("vote %d, %q", term, cand)
	}
	// The term itself is never held back, and written once.
	inner.sets = nil
	must(s.SetUint64([]byte(keyCurrentTerm), 9))
	must(s.SetUint64([]byte(keyCurrentTerm), 9))
	if got, err := open().GetUint64([]byte(keyCurrentTerm)); err != nil || got != 9 || len(inner.sets) != 1 {
		t.Fatalf("term %d, %v, writes %q", got, err, inner.sets)
	}
	// The first error stays.
	inner.fail = errors.New("broken")
	if err := s.SetUint64([]byte(keyCurrentTerm), 10); !errors.Is(err, inner.fail) {
		t.Fatal(err)
	}
	inner.fail = nil
	if err := s.Set([]byte("other"), nil); err == nil || len(inner.sets) != 1 {
		t.Fatalf("the store was used after it failed: %v, %q", err, inner.sets)
	}
}

// A follower has one request with entries to answer, so that it cannot wedge with others behind it (raft #612).
func TestOneRequestIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3).start()
		defer c.stop()
		l := c.leader()
		other := c.nodes[0]
		if other == l {
			other = c.nodes[1]
		}
		pipeline, err := l.group.peers.AppendEntriesPipeline(raft.ServerID(other.id), raft.ServerAddress(other.id))
		if !errors.Is(err, raft.ErrPipelineReplicationNotSupported) {
			t.Errorf("a pipeline to a follower: %v", err)
		}
		if err == nil {
			pipeline.Close()
		}
	})
}

// The race behind raft #695: a heartbeat of the term that is just being left. It must not be handled beside the main loop
// while, or after, that writes the new term; and the new term must not be written while one is handled.
func TestHeartbeatAndTermExcludeEachOther(t *testing.T) {
	inner := &memoryStable{InmemStore: raft.NewInmemStore()}
	s, err := newStableStore(inner, testGroup, "x", newLatch(nil))
	if err != nil {
		t.Fatal(err)
	}
	key := []byte(keyCurrentTerm)
	if err := s.SetUint64(key, 5); err != nil {
		t.Fatal(err)
	}
	yes := func() bool { return true }
	written := make(chan error, 1)
	passed := s.terms.while(5, yes, func() {
		go func() { written <- s.SetUint64(key, 6) }()
		for s.terms.mu.TryRLock() { // until the writer waits
			s.terms.mu.RUnlock()
			select {
			case err := <-written:
				t.Errorf("the term was written while a heartbeat is handled (%v)", err)
				written <- err
				return
			default:
				runtime.Gosched()
			}
		}
		if err := s.SetUint64(key, 5); err != nil { // what raft does for a candidate; it must not wait for itself
			t.Error(err)
		}
	})
	if !passed {
		t.Fatal("a heartbeat of the current term did not pass")
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	// raft still holds 5 in memory: no term may pass beside the main loop now.
	inMemory := uint64(5)
	for _, term := range []uint64{5, 6, 7} {
		if s.terms.while(term, func() bool { return inMemory == term }, func() {}) {
			t.Fatalf("a heartbeat of term %d passed between the two writes of term 6", term)
		}
	}
	inMemory = 6
	if !s.terms.while(6, func() bool { return inMemory == 6 }, func() {}) {
		t.Fatal("heartbeats of the new term do not pass")
	}
}

// A heartbeat of a higher term, delayed until its receiver leads, goes through the main loop: the leader steps down in order
// and its log stays what it was.
func TestDelayedHeartbeatOfAHigherTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3).start()
		defer c.stop()
		l := c.leader()
		l.must("a")
		g, term := l.group, l.group.raft.CurrentTerm()
		if l.besides(term) || l.besides(term+1) || l.besides(term-1) {
			t.Fatal("a leader takes a heartbeat beside its main loop")
		}
		if f := c.others(l)[0]; !f.besides(term) || f.besides(term+1) || f.besides(term-1) {
			t.Fatal("a follower takes heartbeats beside its main loop exactly in its term")
		}
		// As it would arrive from the network.
		answer := make(chan raft.RPCResponse, 1)
		other := c.others(l)[0]
		rpc := raft.RPC{RespChan: answer, Command: &raft.AppendEntriesRequest{
			RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte(other.id), Addr: []byte(other.id)}, Term: term + 5,
		}}
		g.peers.heartbeat(rpc)
		if r := (<-answer).Response.(*raft.AppendEntriesResponse); !r.Success || r.Term != term+5 {
			t.Fatalf("answered %+v", r)
		}
		if g.IsLeader() {
			t.Fatal("it leads on")
		}
		r := c.leader().must("b")
		for _, n := range c.nodes {
			n.wait(r.Index)
			n.wantLines("a", "b")
		}
	})
}

// besides tells whether a heartbeat of that term would go past the replica's main loop.
func (n *node) besides(term uint64) bool {
	past := false
	p := &peers{terms: n.group.stores.stable.terms, beside: func(raft.RPC) { past = true }, incoming: make(chan raft.RPC, 1)}
	p.raft.Store(n.group.raft)
	p.heartbeat(raft.RPC{Command: &raft.AppendEntriesRequest{Term: term}})
	return past
}

// raft's futures have the way out that await relies on; a version of the library without it must turn this red.
func TestAwaitLeavesAnUnansweredFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3).start()
		defer c.stop()
		l := c.leader()
		c.wire.isolate(l.owner, true)
		for name, f := range map[string]raft.Future{
			"apply":  l.group.raft.ApplyLog(raft.Log{Data: l.group.stamped(nil)}, time.Second),
			"verify": l.group.raft.VerifyLeader(),
		} {
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			begun := time.Now()
			err := await(f, ctx)
			cancel()
			if !errors.Is(err, raft.ErrRaftShutdown) || time.Since(begun) != time.Millisecond {
				t.Errorf("%s: %v after %v", name, err, time.Since(begun))
			}
		}
		if err := await(l.group.raft.ApplyLog(raft.Log{}, time.Nanosecond), context.Background()); err == nil {
			t.Error("an error of a future that never was is lost")
		}
	})
}

// Entries that were damaged, enlarged or made for another group on the way are refused before raft sees them.
func TestInadmissibleEntries(t *testing.T) {
	whole := func() *raft.Log {
		l := &raft.Log{Index: 7, Term: 2, Type: raft.LogCommand, Data: []byte("data")}
		seal(testGroup, l)
		return l
	}
	p := &peers{self: "me", group: testGroup}
	if err := p.admissible(&raft.AppendEntriesRequest{Entries: []*raft.Log{whole(), whole()}}); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*raft.Log){
		"data": func(l *raft.Log) { l.Data[0] ^= 1 }, "index": func(l *raft.Log) { l.Index++ }, "term": func(l *raft.Log) { l.Term++ },
		"type": func(l *raft.Log) { l.Type = raft.LogNoop }, "no seal": func(l *raft.Log) { l.Extensions = nil },
		"other group": func(l *raft.Log) { seal("shard-1", l) },
		"too large":   func(l *raft.Log) { l.Data = make([]byte, MaxEntryBytes+1); seal(testGroup, l) },
	} {
		l := whole()
		change(l)
		if err := p.admissible(&raft.AppendEntriesRequest{Entries: []*raft.Log{whole(), l}}); err == nil {
			t.Errorf("%s: admitted", name)
		}
	}
	if err := p.admissible(&raft.RequestVoteRequest{}); err != nil {
		t.Fatal(err)
	}
}

// An entry that is too large is refused without ending the replica; deleted entries are not found, whatever the store says.
func TestLogStoreRefusesAndForgets(t *testing.T) {
	inner := raft.NewInmemStore()
	s := newLogStore(&keeper{inner}, testGroup, "x", newLatch(func(err error) { t.Errorf("fatal: %v", err) }))
	defer s.Close()
	if err := s.StoreLog(&raft.Log{Index: 1, Term: 1, Data: make([]byte, MaxEntryBytes+1)}); err == nil {
		t.Fatal("stored")
	}
	for i := uint64(1); i <= 10; i++ {
		if err := s.StoreLog(&raft.Log{Index: i, Term: 1, Data: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DeleteRange(1, 5); err != nil {
		t.Fatal(err)
	}
	var l raft.Log
	for i, want := range map[uint64]error{0: raft.ErrLogNotFound, 5: raft.ErrLogNotFound, 6: nil, 10: nil, 11: raft.ErrLogNotFound} {
		if err := s.GetLog(i, &l); err != want {
			t.Errorf("entry %d: %v, want %v", i, err, want)
		}
	}
}

// keeper moves its first index but finds what it deleted, as raft-wal does within a file.
type keeper struct{ *raft.InmemStore }

func (k *keeper) GetLog(i uint64, l *raft.Log) error {
	if i >= 1 && i <= 5 {
		*l = raft.Log{Index: i, Term: 1}
		seal(testGroup, l)
		return nil
	}
	return k.InmemStore.GetLog(i, l)
}

// brokenLog is a log store that fails while it is told to.
type brokenLog struct {
	*raft.InmemStore
	err  error
	used int // writes that were let through to it
}

func (b *brokenLog) StoreLogs(logs []*raft.Log) error {
	b.used++
	return errors.Join(b.err, b.InmemStore.StoreLogs(logs))
}

// What failed once is not used again, though the disk be well: not by a write, not by a deletion, not by a read. A damaged entry
// is not written, and is such a failure.
func TestLogStoreLatches(t *testing.T) {
	full := errors.New("no space left")
	whole := func(i uint64) *raft.Log {
		l := &raft.Log{Index: i, Term: 1, Data: []byte("data")}
		seal(testGroup, l)
		return l
	}
	damaged := whole(2)
	damaged.Data[0] ^= 1
	for name, tc := range map[string]struct {
		err   error // of the disk
		entry *raft.Log
		want  error
		used  int
	}{
		"full disk":     {full, whole(2), full, 2},
		"damaged entry": {nil, damaged, errSum, 1},
	} {
		inner := &brokenLog{InmemStore: raft.NewInmemStore()}
		s := newLogStore(inner, testGroup, "x", newLatch(func(error) {}))
		if err := s.StoreLog(whole(1)); err != nil {
			t.Fatal(err)
		}
		inner.err = tc.err
		first := s.StoreLog(tc.entry)
		inner.err = nil
		var l raft.Log
		for what, err := range map[string]error{"first": first, "store": s.StoreLog(whole(3)), "delete": s.DeleteRange(1, 1), "read": s.get(1, &l)} {
			if !errors.Is(err, tc.want) {
				t.Errorf("%s: %s: %v, want %v", name, what, err, tc.want)
			}
		}
		if inner.used != tc.used {
			t.Errorf("%s: the disk was written %d times, want %d", name, inner.used, tc.used)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// hungStable hangs in the write of a vote.
type hungStable struct {
	*memoryStable
	free chan struct{}
}

func (h hungStable) Set(k, v []byte) error {
	<-h.free
	return h.memoryStable.Set(k, v)
}

// A vote that the disk does not take in time ends the replica: nobody is told of it.
func TestHungVoteLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := hungStable{&memoryStable{InmemStore: raft.NewInmemStore()}, make(chan struct{})}
		l := newLatch(nil)
		s, err := newStableStore(inner, testGroup, "the/path", l)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SetUint64([]byte(keyLastVoteTerm), 7); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Minute, func() { close(inner.free) })
		begun := time.Now()
		err = s.Set([]byte(keyLastVoteCand), []byte("a"))
		if took := time.Since(begun); !errors.Is(err, errHung) || !strings.Contains(err.Error(), "the/path") || took != writeDeadline {
			t.Errorf("%v after %v", err, took)
		}
		if l.err() == nil {
			t.Error("the replica goes on")
		}
		<-inner.free
		synctest.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// slowFSM takes its time.
type slowFSM struct {
	*journal
	takes time.Duration
}

func (s slowFSM) Apply(entries []Entry) [][]any {
	time.Sleep(s.takes)
	return s.journal.Apply(entries)
}

// An Apply that takes over 100 ms is reported: raft waits behind it.
func TestSlowApplyIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := make(chan string, 10)
		for takes, want := range map[time.Duration]int{slowApply: 0, slowApply + time.Millisecond: 1} {
			m := &machine{fsm: slowFSM{&journal{}, takes}, group: testGroup, latch: newLatch(nil), applied: &progress{},
				log: slog.New(listenerFor{listener{discard().Handler(), said}})}
			if !m.hand([]Entry{{Index: 1, Term: 1, Commands: [][]byte{[]byte("a")}}}, []int{0}, make([]any, 1)) {
				t.Fatal("not applied")
			}
			if got := len(said); got != want {
				t.Errorf("%v: %d reports, want %d", takes, got, want)
			}
			for len(said) > 0 {
				<-said
			}
		}
	})
}
