package raftgroup

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sutra-grid/sutra-grid/transport"
)

// newKeeping is a cluster whose state machines keep their state themselves.
func newKeeping(t *testing.T, n int) *cluster {
	c := newCluster(t, transport.NewMemory(), n)
	for _, n := range c.nodes {
		n.fsm.durable, n.fsm.keeps = true, true
		n.tune = func(c *Config) { c.TrailingLogs = maxOutstanding + 1 }
	}
	return c
}

// onDisk is the size of a replica's snapshots.
func (n *node) onDisk() (size int64) {
	n.c.t.Helper()
	files, err := filepath.Glob(filepath.Join(n.dir, snapshotDir, "*", "*"))
	for _, f := range files {
		stat, err1 := os.Stat(f)
		if err = errors.Join(err, err1); err == nil {
			size += stat.Size()
		}
	}
	if err != nil {
		n.c.t.Fatal(err)
	}
	return size
}

// fill proposes n lines and returns all of them.
func (n *node) fill(lines []string, count int) []string {
	n.c.t.Helper()
	for range count {
		lines = append(lines, fmt.Sprint(len(lines)))
		n.must(lines[len(lines)-1])
	}
	return lines
}

// A snapshot that stays is a record. A replica that lacks the log gets the state as it is by then, and goes on behind exactly
// that; also when it ends between having stored it and having taken it over, or just behind that.
func TestKeptSnapshots(t *testing.T) {
	for _, crash := range []string{"", "before it is restored", "behind"} {
		t.Run(crash, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { keptSnapshots(t, crash) })
		})
	}
}

func keptSnapshots(t *testing.T, crash string) {
	c := newKeeping(t, 3).start()
	defer c.stop()
	l := c.leader()
	away := c.others(l)[0]
	lines := l.fill(nil, 1)
	away.wait(l.group.Applied())
	away.stop()
	lines = l.fill(lines, 60)
	if err := l.group.Snapshot(); err != nil {
		t.Fatal(err)
	}
	if size := l.onDisk(); size == 0 || size > 4<<10 {
		t.Fatalf("the record has %d bytes", size)
	}
	lines = l.fill(lines, 5) // behind the record, in what is sent
	sent := l.group.Applied()
	if crash != "" {
		away.fsm.broken, away.fsm.late = errors.New("ended here"), crash == "behind"
		away.start()
		if err := <-away.fatal; !strings.Contains(err.Error(), "ended here") {
			t.Fatal(err)
		}
		away.stop()
		away.fsm.broken = nil
		c.wire.isolate(away.owner, true) // from its own disk
	}
	away.start()
	away.wait(sent)
	synctest.Wait() // the leader has the answer
	if away.fsm.restores != 1 || away.fsm.applied != sent {
		t.Fatalf("%d restores, of a state at %d; the leader was at %d", away.fsm.restores, away.fsm.applied, sent)
	}
	if end := away.group.stores.log.covered.index; end != sent {
		t.Fatalf("raft believes to have entries up to %d, the state sent has %d", end, sent)
	}
	if size := away.onDisk(); size < 3*chunkBytes {
		t.Fatalf("what was sent is gone: %d bytes", size)
	}
	if crash != "" {
		return
	}
	// Its own log explains its state at any time.
	away.stop()
	away.start()
	lines = l.fill(lines, 3)
	away.wait(l.group.Applied())
	away.wantLines(lines...)
	if away.fsm.restores != 1 {
		t.Fatalf("%d restores, want 1", away.fsm.restores)
	}
}

// Whatever is applied meanwhile, a state that is sent ends exactly with the entry that it is said to end with.
func TestSentStateIsWhatItClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newKeeping(t, 1).start()
		defer c.stop()
		n := c.leader()
		lines := n.fill(nil, 2)
		if err := n.group.Snapshot(); err != nil {
			t.Fatal(err)
		}
		writing := make(chan []string)
		go func() { writing <- n.fill(lines, 50) }()
		for range 20 {
			state, meta := sentBy(t, n)
			if len(state.Lines) == 0 || state.Applied != meta.Index {
				t.Fatalf("the state ends at %d with %d lines and is said to end at %d", state.Applied, len(state.Lines), meta.Index)
			}
		}
		lines = <-writing
		if state, meta := sentBy(t, n); len(state.Lines) != len(lines) || meta.Index != n.group.Applied() {
			t.Fatalf("%d lines of %d, entry %d of %d", len(state.Lines), len(lines), meta.Index, n.group.Applied())
		}
		// A leader's first entries are not for the state machine, and the log may be cut off behind them.
		n.stop()
		n.start()
		n.group.machine.applied.get()
		c.leader()
		n.fill(lines, 1)
		n.stop()
		n.start()
		c.leader()
		if err := n.group.Snapshot(); err != nil {
			t.Fatal(err)
		}
		metas, err := n.group.stores.snapshots.List()
		if err != nil {
			t.Fatal(err)
		}
		state, meta := sentBy(t, n)
		if meta.Index < metas[0].Index || meta.Term < metas[0].Term || state.Applied > meta.Index {
			t.Fatalf("entry %d of term %d is sent with a state of entry %d; the newest snapshot has entry %d of term %d",
				meta.Index, meta.Term, state.Applied, metas[0].Index, metas[0].Term)
		}
	})
}

// sentBy reads what a replica would send.
func sentBy(t *testing.T, n *node) (s journalState, p Point) {
	t.Helper()
	metas, err := n.group.stores.snapshots.List()
	if err != nil {
		t.Fatal(err)
	}
	meta, content, err := n.group.stores.snapshots.Open(metas[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	counted := &countingReader{r: content}
	r, h, err := newChunkReader(counted, testGroup)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(r).Decode(&s); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatal(err)
	}
	if counted.n != meta.Size || h.Index != meta.Index || h.FSMIndex != s.Applied || h.Kept {
		t.Fatalf("%d bytes with header %+v, described as %+v", counted.n, h, meta)
	}
	return s, Point{Index: meta.Index, Term: meta.Term}
}

// A reader that goes away ends the writer, and nothing stays behind.
func TestSendingIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newKeeping(t, 1).start()
		defer c.stop()
		n := c.leader()
		n.fill(nil, 2)
		if err := n.group.Snapshot(); err != nil {
			t.Fatal(err)
		}
		metas, err := n.group.stores.snapshots.List()
		if err != nil {
			t.Fatal(err)
		}
		_, content, err := n.group.stores.snapshots.Open(metas[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := content.Read(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		if err := content.Close(); err != nil { // the bubble fails if the writer still runs
			t.Fatal(err)
		}
	})
}

// A store that lost what its record stands for is refused, by name, with what to do; another replica's state mends it.
func TestRecordWithoutItsState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newKeeping(t, 3).start()
		defer c.stop()
		l := c.leader()
		f := c.others(l)[0]
		lines := l.fill(nil, 60)
		f.wait(l.group.Applied())
		if err := f.group.Snapshot(); err != nil {
			t.Fatal(err)
		}
		f.stop()
		f.fsm = &journal{durable: true, keeps: true}
		err := f.tryStart()
		if !errors.Is(err, ErrStateLost) || !strings.Contains(err.Error(), filepath.Join(f.dir, snapshotDir)) || !strings.Contains(err.Error(), errRecord.Error()) {
			t.Fatalf("%v", err)
		}
		if err := f.reinstallConfig(l).try(); err != nil {
			t.Fatal(err)
		}
		f.start()
		f.wait(l.must("end").Index)
		f.wantLines(append(lines, "end")...)
	})
}

// While entries come again that the state holds, there is no snapshot: the state is ahead of what raft would say. What is sent is
// of the entry that the state holds.
func TestSentWhileReplaying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newKeeping(t, 3).start()
		defer c.stop()
		l := c.leader()
		l.fill(nil, 20)
		f := c.others(l)[0]
		f.wait(l.group.Applied())
		want, err := f.group.Fix(func() error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range c.nodes {
			n.stop()
		}
		f.start() // alone: nothing is known to be committed
		p, err := f.group.Fix(func() error { return nil })
		if err != nil || p.FSMIndex != want.FSMIndex || p.Index != p.FSMIndex || p.Term != want.Term || p.Time != want.Time || !reflect.DeepEqual(p.configuration, want.configuration) {
			t.Fatalf("%+v, %v; before the stop it was %+v", p, err, want)
		}
		if _, err := f.group.machine.Snapshot(); err == nil {
			t.Fatal("a snapshot of a state that is ahead")
		}
	})
}

// A leader that has just started may know of nothing that is committed until it has sent its state: the only other replica that runs
// lacks what the log no longer has.
func TestLeaderThatStartsSendsItsState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newKeeping(t, 3).start()
		defer c.stop()
		l := c.leader()
		others := c.others(l)
		behind, gone := others[0], others[1]
		lines := l.fill(nil, 1)
		behind.wait(l.group.Applied())
		behind.stop()
		lines = l.fill(lines, 3*maxOutstanding)
		gone.wait(l.group.Applied())
		if err := l.group.Snapshot(); err != nil {
			t.Fatal(err)
		}
		lines = l.fill(lines, 5) // which the state holds and the snapshot does not
		l.stop()
		gone.stop()
		l.start()
		behind.start()
		lines = append(lines, "end")
		c.leader().must("end")
		behind.wait(c.leader().group.Applied())
		behind.wantLines(lines...)
	})
}

func TestPoint(t *testing.T) {
	p := Point{Index: 9, Term: 2, FSMIndex: 8, Level: 3, Time: -5, configuration: testOffer().conf}
	const golden = "9709020803fb0494a96e6f64652d312e6161c3a96e6f64652d322e6262c2"
	if got := hex.EncodeToString(p.Encode()); got != golden {
		t.Errorf("encoded as %s, want %s", got, golden)
	}
	if back, err := DecodePoint(p.Encode()); err != nil || !reflect.DeepEqual(back, p) {
		t.Errorf("%+v became %+v, %v", p, back, err)
	}
	for name, change := range map[string]func(*Point){
		"no index": func(p *Point) { p.Index, p.FSMIndex = 0, 0 }, "no term": func(p *Point) { p.Term = 0 }, "ahead": func(p *Point) { p.FSMIndex = 10 },
		"configuration ahead": func(p *Point) { p.configuration.index = 10 }, "no voter": func(p *Point) { p.configuration.servers = nil },
	} {
		bad := p
		change(&bad)
		if _, err := DecodePoint(bad.Encode()); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func FuzzPoint(f *testing.F) {
	f.Add(Point{Index: 9, Term: 2, FSMIndex: 8, configuration: testOffer().conf}.Encode())
	f.Add([]byte{0x97, 1, 1, 1, 1, 1, 1, 0xdd, 0xff, 0xff, 0xff, 0xfe})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := DecodePoint(b)
		if err != nil {
			return
		}
		if back, err := DecodePoint(p.Encode()); err != nil || !reflect.DeepEqual(back, p) {
			t.Fatalf("%+v became %+v, %v", p, back, err)
		}
	})
}
