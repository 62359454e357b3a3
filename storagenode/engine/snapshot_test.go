package engine

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/transport"
)

// fillWith learns n concepts that start with prefix, each linked to the one before.
func fillWith(t failer, e *Engine, prefix string, n int) {
	t.Helper()
	for i := range n {
		name := fmt.Sprintf("%s%04d", prefix, i)
		c := concept(name)
		c.Embedding = []float32{float32(i), 1}
		c.Content = strings.Repeat(name, 40)
		write(t, e, c)
		if i > 0 {
			write(t, e, association(fmt.Sprintf("%s%04d", prefix, i-1), name, 0))
		}
	}
}

func TestSnapshotMakesTheStateDurable(t *testing.T) {
	fs := vfs.NewCrashableMem()
	e := mustOpen(t, testOptions(t, fs))
	defer func() { mustClose(t, e) }()
	fillWith(t, e, "c", 20)
	applied, want := e.Applied(), digestOf(t, e)
	if lost := mustOpen(t, testOptions(t, fs.CrashClone(vfs.CrashCloneCfg{}))); lost.Applied() != 0 {
		t.Fatalf("applied %d after a crash without a flush: this test shows nothing", lost.Applied())
	} else {
		mustClose(t, lost)
	}
	keptOf(t, e)
	after := mustOpen(t, testOptions(t, fs.CrashClone(vfs.CrashCloneCfg{})))
	defer func() { mustClose(t, after) }()
	if after.Applied() != applied || digestOf(t, after) != want {
		t.Fatalf("applied %d after a crash behind a snapshot at %d: raft has truncated the rest", after.Applied(), applied)
	}
}

// TestAbortLosesWhatIsNotFlushed, and Close nothing: a simulated crash must leave what a real one does.
func TestAbortLosesWhatIsNotFlushed(t *testing.T) {
	o := testOptions(t, vfs.NewMem())
	e := mustOpen(t, o)
	fillWith(t, e, "c", 10)
	flushed := e.Applied()
	if err := e.Flush(); err != nil {
		t.Fatal(err)
	}
	fillWith(t, e, "d", 10)
	if err := errors.Join(e.Abort(), e.Close(), e.Abort()); err != nil {
		t.Fatal(err)
	}
	if e = mustOpen(t, o); e.Applied() != flushed {
		t.Errorf("applied %d behind a crash, %d were flushed", e.Applied(), flushed)
	}
	fillWith(t, e, "d", 10)
	applied := e.Applied()
	mustClose(t, e)
	if e = mustOpen(t, o); e.Applied() != applied {
		t.Errorf("applied %d behind a stop, %d before", e.Applied(), applied)
	}
	mustClose(t, e)
}

// TestCrashBetweenFlushAndTruncation: the store is ahead of every snapshot that raft has, so the whole log comes again.
func TestCrashBetweenFlushAndTruncation(t *testing.T) {
	fs := vfs.NewCrashableMem()
	o := testOptions(t, fs)
	var after *vfs.MemFS
	o.step = func(label fault.Label) error {
		if label == fault.EngineFlushed {
			after = fs.CrashClone(vfs.CrashCloneCfg{})
		}
		return nil
	}
	e := mustOpen(t, o)
	defer func() { mustClose(t, e) }()
	var log []raftgroup.Entry
	for i := uint64(1); i <= 20; i++ {
		ops := []transport.Op{concept("a")}
		if i > 1 {
			ops = append(ops, association("a", "a", uint32(i)))
		}
		log = append(log, entryAt(t, i, writeOf(byte(i), testTime+int64(i), ops...)))
	}
	e.Apply(log)
	keptOf(t, e)
	again := mustOpen(t, testOptions(t, after))
	defer func() { mustClose(t, again) }()
	if again.Applied() != 20 {
		t.Fatalf("applied %d, 20 were flushed", again.Applied())
	}
	again.Apply(log)
	if digestOf(t, again) != digestOf(t, e) {
		t.Fatal("entries were applied twice")
	}
}

func TestSnapshotIsAPointInTime(t *testing.T) {
	e := newEngine(t)
	fillWith(t, e, "c", 30)
	want, applied := digestOf(t, e), e.Applied()
	s, err := e.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	fillWith(t, e, "d", 30)
	write(t, e, concept("c0003"))
	var b bytes.Buffer
	if err := s.Write(&b); err != nil {
		t.Fatal(err)
	}
	s.Release()
	other := newEngine(t)
	if err := other.Restore(&b); err != nil {
		t.Fatal(err)
	}
	if other.Applied() != applied || digestOf(t, other) != want {
		t.Fatalf("restored at %d, the snapshot was taken at %d", other.Applied(), applied)
	}
	if got, err := other.IDs("c", 100); err != nil || len(got) != 30 {
		t.Fatalf("%d ids, %v", len(got), err)
	}
	// Equal states give equal streams, whatever the stores went through.
	again := newEngine(t)
	fillWith(t, again, "c", 30)
	if err := again.Flush(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(snapshotOf(t, again), snapshotOf(t, other)) {
		t.Fatal("two replicas with one state wrote different snapshots")
	}
}

// TestCrashInRestore stops the machine at every labelled step and looks at what is left: one state or the other, whole.
func TestCrashInRestore(t *testing.T) {
	source := newEngine(t)
	fillWith(t, source, "new", 10)
	stream, newState := snapshotOf(t, source), digestOf(t, source)
	for _, label := range []fault.Label{fault.EngineFilled, fault.EngineSwitched} {
		for _, kept := range []int{0, 50, 100} {
			t.Run(fmt.Sprintf("%s %d%%", fault.Name(label), kept), func(t *testing.T) {
				fs := vfs.NewCrashableMem()
				var after *vfs.MemFS
				o := testOptions(t, fs)
				o.step = func(at fault.Label) error {
					if at == label {
						after = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: kept, RNG: testRand(kept)})
					}
					return nil
				}
				e := mustOpen(t, o)
				defer func() { mustClose(t, e) }()
				fillWith(t, e, "old", 25)
				if err := e.Flush(); err != nil {
					t.Fatal(err)
				}
				oldState := digestOf(t, e)
				if err := e.Restore(bytes.NewReader(stream)); err != nil {
					t.Fatal(err)
				}
				if digestOf(t, e) != newState {
					t.Fatal("the running engine is not in the restored state")
				}
				again := mustOpen(t, testOptions(t, after))
				defer func() { mustClose(t, again) }()
				want := oldState
				if label == fault.EngineSwitched {
					want = newState
				}
				if digestOf(t, again) != want {
					t.Fatalf("after a crash when %s the state at %d is neither", fault.Name(label), again.Applied())
				}
				if names, err := after.List("engine"); err != nil || len(names) != 2 {
					t.Errorf("%q are left in the directory, want one store and CURRENT (%v)", names, err)
				}
				write(t, again, concept("alive"))
			})
		}
	}
}

func TestCrashInCreation(t *testing.T) {
	fs := vfs.NewCrashableMem()
	e := mustOpen(t, testOptions(t, fs))
	mustClose(t, e)
	if e = mustOpen(t, testOptions(t, fs.CrashClone(vfs.CrashCloneCfg{}))); e.Applied() != 0 {
		t.Fatal("a new engine has entries")
	}
	mustClose(t, e)

	// What a creation that was cut short left beside the directory is thrown away, an empty directory is taken.
	fs = vfs.NewCrashableMem()
	for _, dir := range []string{"engine.new/store-000001", "engine"} {
		if err := fs.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	e = mustOpen(t, testOptions(t, fs))
	write(t, e, concept("a"))
	mustClose(t, e)
	if _, err := fs.List("engine.new"); err == nil {
		t.Error("engine.new is still there")
	}
}

func TestFailedRestoreLeavesTheOldState(t *testing.T) {
	source := newEngine(t)
	fillWith(t, source, "new", 8)
	stream := snapshotOf(t, source)
	elsewhere := testOptions(t, vfs.NewMem())
	elsewhere.ShardID = "shard-8"
	other := mustOpen(t, elsewhere)
	defer func() { mustClose(t, other) }()
	wide := testOptions(t, vfs.NewMem())
	wide.Dimension = 3
	wider := mustOpen(t, wide)
	defer func() { mustClose(t, wider) }()

	fs := vfs.NewMem()
	e := mustOpen(t, testOptions(t, fs))
	defer func() { mustClose(t, e) }()
	fillWith(t, e, "old", 4)
	want := digestOf(t, e)
	streams := map[string][]byte{"empty": nil, "another shard's": snapshotOf(t, other)}
	for n := 1; n < len(stream); n += len(stream)/40 + 1 {
		streams[fmt.Sprintf("cut at %d", n)] = stream[:n]
		damaged := slices.Clone(stream)
		damaged[n] ^= 0x10
		streams[fmt.Sprintf("damaged at %d", n)] = damaged
	}
	for name, b := range streams {
		if err := e.Restore(bytes.NewReader(b)); err == nil {
			t.Errorf("%s: restored", name)
		}
		if digestOf(t, e) != want {
			t.Fatalf("%s: a failed restore changed the state", name)
		}
	}
	if err := wider.Restore(bytes.NewReader(stream)); err == nil || !strings.Contains(err.Error(), "dimension 2") {
		t.Errorf("vectors of another dimension: %v", err)
	}
	if names, err := fs.List("engine"); err != nil || len(names) != 2 {
		t.Errorf("%q are left in the directory, want one store and CURRENT (%v)", names, err)
	}
	stop := errors.New("stop")
	e.o.step = func(fault.Label) error { return stop }
	if err := e.Restore(bytes.NewReader(stream)); !errors.Is(err, stop) {
		t.Errorf("stopped restore: %v", err)
	}
	e.o.step = func(fault.Label) error { return nil }
	write(t, e, concept("alive"))
	if err := e.Restore(bytes.NewReader(stream)); err != nil {
		t.Fatalf("the restore after all these: %v", err)
	}
}

// TestChunksOutOfPlace reorders and drops whole chunks: each is good by its own checksum.
func TestChunksOutOfPlace(t *testing.T) {
	var b bytes.Buffer
	header := snapshotHeader{snapshotMagic, formatVersion, testShard, 3}
	rows := [][]byte{appendRow(nil, []byte("k1"), []byte("v1")), appendRow(nil, []byte("k2"), nil)}
	build := func(order ...int) io.Reader {
		b.Reset()
		out := chunkWriter{w: bufio.NewWriter(&b), group: string(testShard)}
		sum := newDigest()
		sum.add([]byte("k1"), []byte("v1"))
		sum.add([]byte("k2"), nil)
		err := out.record(header)
		for _, i := range order {
			err = errors.Join(err, out.chunk(rows[i]))
		}
		err = errors.Join(err, out.chunk(nil), out.record(snapshotTrailer{sum.rows, sum.sum()}), out.w.Flush())
		if err != nil {
			t.Fatal(err)
		}
		return bytes.NewReader(b.Bytes())
	}
	take := func(body []byte, sum *digest) error {
		return eachChunkRow(body, func(key, value []byte) error { sum.add(key, value); return nil })
	}
	if got, err := readSnapshot(build(0, 1), testShard, take); err != nil || got != header {
		t.Fatalf("header %+v, %v", got, err)
	}
	for _, order := range [][]int{{1, 0}, {0}, {1}, {0, 1, 1}, {}} {
		if _, err := readSnapshot(build(order...), testShard, take); err == nil {
			t.Errorf("chunks %v were taken", order)
		}
	}
	if _, err := readSnapshot(build(0, 1), "shard-8", take); err == nil {
		t.Error("another shard's chunks were taken")
	}
}

// TestReadsGoOnDuringRestore reads the whole time; every answer is the old state's or the new one's.
func TestReadsGoOnDuringRestore(t *testing.T) {
	source := newEngine(t)
	write(t, source, concept("hub"), concept("x"))
	write(t, source, association("hub", "x", 0))
	stream := snapshotOf(t, source)
	e := newEngine(t)
	write(t, e, concept("hub"), concept("y"))
	write(t, e, association("hub", "y", 0))

	held, err := e.Snapshot() // keeps the old store through two restores
	if err != nil {
		t.Fatal(err)
	}
	stop, finished := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				finished <- nil
				return
			default:
			}
			ids, err := e.Targets("hub")
			if err != nil || len(ids) != 1 || (ids[0] != "x" && ids[0] != "y") {
				finished <- fmt.Errorf("targets %q: %w", ids, err)
				return
			}
		}
	}()
	for range 2 {
		if err := e.Restore(bytes.NewReader(stream)); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := <-finished; err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := held.Write(&b); err != nil {
		t.Fatalf("the snapshot of the replaced store: %v", err)
	}
	if bytes.Equal(b.Bytes(), stream) {
		t.Fatal("the snapshot is the new state's")
	}
	held.Release()
}

func TestRefusedDirectories(t *testing.T) {
	prepare := func(t *testing.T) *vfs.MemFS {
		fs := vfs.NewMem()
		e := mustOpen(t, testOptions(t, fs))
		c := concept("a")
		c.Embedding = []float32{1, 2}
		write(t, e, c)
		mustClose(t, e)
		return fs
	}
	create := func(t *testing.T, fs vfs.FS, name, content string) {
		f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	cases := map[string]struct {
		damage func(*testing.T, vfs.FS, *Options)
		says   string
	}{
		"no CURRENT":        {func(t *testing.T, fs vfs.FS, _ *Options) { must(t, fs.Remove("engine/CURRENT")) }, "CURRENT"},
		"empty CURRENT":     {func(t *testing.T, fs vfs.FS, _ *Options) { create(t, fs, "engine/CURRENT", "") }, "damaged"},
		"torn CURRENT":      {func(t *testing.T, fs vfs.FS, _ *Options) { create(t, fs, "engine/CURRENT", "store-00") }, "damaged"},
		"CURRENT elsewhere": {func(t *testing.T, fs vfs.FS, _ *Options) { create(t, fs, "engine/CURRENT", "store-/../../x\n") }, "damaged"},
		"no store":          {func(t *testing.T, fs vfs.FS, _ *Options) { must(t, fs.RemoveAll("engine/store-000001")) }, "store-000001"},
		"something else":    {func(t *testing.T, fs vfs.FS, _ *Options) { create(t, fs, "engine/photo.jpg", "x") }, "photo.jpg"},
		"another shard":     {func(_ *testing.T, _ vfs.FS, o *Options) { o.ShardID = "shard-8" }, "shard-7"},
		"another dimension": {func(_ *testing.T, _ vfs.FS, o *Options) { o.Dimension = 3 }, "--dimension 2"},
		"no options":        {func(_ *testing.T, _ vfs.FS, o *Options) { o.Fatal = nil }, "Fatal"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			fs := prepare(t)
			o := testOptions(t, fs)
			c.damage(t, fs, &o)
			e, err := Open("engine", o)
			if err == nil {
				mustClose(t, e)
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("%q does not say %q", err, c.says)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestClosed(t *testing.T) {
	e := mustOpen(t, testOptions(t, vfs.NewMem()))
	mustClose(t, e)
	mustClose(t, e)
	if _, _, err := e.Concept("a"); !errors.Is(err, ErrClosed) {
		t.Errorf("read: %v", err)
	}
	if err := e.Flush(); !errors.Is(err, ErrClosed) {
		t.Errorf("flush: %v", err)
	}
	if _, err := e.Snapshot(); !errors.Is(err, ErrClosed) {
		t.Errorf("snapshot: %v", err)
	}
}
