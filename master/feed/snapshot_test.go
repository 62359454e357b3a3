package feed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

func streamOf(tb testing.TB, o *Outbox, above uint64) []byte {
	tb.Helper()
	var buf bytes.Buffer
	s := o.Snapshot()
	err := s.Stream(&buf, above)
	if err := errors.Join(err, s.Close()); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

func all(tb testing.TB, o *Outbox) []fsm.Record {
	tb.Helper()
	got, err := o.Range(o.First(), 1<<20, 1<<30)
	if err != nil {
		tb.Fatal(err)
	}
	return got
}

// TestSnapshotIsOneMoment: what happens after Snapshot is not in the stream.
func TestSnapshotIsOneMoment(t *testing.T) {
	o := openMem(t, vfs.NewMem(), 0, 0)
	defer func() { _ = o.Close() }()
	h := settings(t, 3000) // several chunks
	mustAppend(t, o, 1, h.records[:2900]...)
	s := o.Snapshot()
	mustAppend(t, o, 2, h.records[2900:]...)
	if err := o.Trim(2950); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := errors.Join(s.Stream(&buf, 10), s.Close()); err != nil {
		t.Fatal(err)
	}
	to := newOutbox(t)
	rest := io.MultiReader(&buf, bytes.NewReader([]byte("what follows the outbox in a snapshot")))
	if err := to.Restore(rest); err != nil {
		t.Fatal(err)
	}
	if tail, _ := io.ReadAll(rest); string(tail) != "what follows the outbox in a snapshot" {
		t.Errorf("Restore left %q", tail)
	}
	if diff := differ(h.records[10:2900], all(t, to)); diff != "" {
		t.Error(diff)
	}
	mustAppend(t, to, 2, h.records[2900:]...)
}

func TestRestore(t *testing.T) {
	h := settings(t, 60)
	other := settings(t, 20).fork()
	for range 31 {
		other.setting(t, time.Second, "another history")
	}
	source := newOutbox(t)
	mustAppend(t, source, 9, h.records[:50]...)

	for _, tt := range []struct {
		name        string
		held        []fsm.Record
		trim        uint64
		above       uint64
		first, last uint64 // afterwards
	}{
		{"into an empty outbox", nil, 0, 20, 21, 50},
		{"nothing above", nil, 0, 50, 51, 50},
		{"into a shorter one", h.records[:30], 0, 20, 21, 50},
		{"into one that has it: what is older stays", h.records[:50], 0, 20, 1, 50},
		{"into one that has more: what is newer goes", h.records[:55], 0, 20, 1, 50},
		{"nothing above, into one that has it", h.records[:55], 0, 50, 1, 50},
		{"into one that was trimmed further", h.records[:55], 30, 20, 21, 50},
		{"into another history", other.records, 0, 20, 21, 50},
	} {
		o := openMem(t, vfs.NewMem(), 0, 0)
		if len(tt.held) > 0 {
			mustAppend(t, o, 3, tt.held...)
		}
		if err := o.Trim(tt.trim); err != nil {
			t.Fatal(err)
		}
		if err := o.Restore(bytes.NewReader(streamOf(t, source, tt.above))); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if o.First() != tt.first || o.Last() != tt.last {
			t.Errorf("%s: %d to %d, want %d to %d", tt.name, o.First(), o.Last(), tt.first, tt.last)
		}
		if diff := differ(h.records[tt.first-1:50], all(t, o)); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
		if err := o.Append(10, other.records[50:51]); err == nil {
			t.Errorf("%s: an event of another history continues it", tt.name)
		}
		mustAppend(t, o, 10, h.records[50:]...)
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRestoreIsAtomic: a stream that breaks anywhere leaves the outbox as it was, also when the process dies there.
func TestRestoreIsAtomic(t *testing.T) {
	h := &history{time: 1_700_000_000_000_000}
	for range 200 { // more than one batch of writes
		h.setting(t, time.Second, strings.Repeat("large", 8<<10))
	}
	source := newOutbox(t)
	mustAppend(t, source, 9, h.records...)
	stream := streamOf(t, source, 0)
	held := settings(t, 7)
	held.setting(t, time.Second, "ours")
	for _, cut := range []int{0, 3, len(streamMagic), 100, 1 << 20, len(stream) / 2, restoreBatch + 1<<20, len(stream) - 1} {
		fs := vfs.NewCrashableMem()
		o := openMem(t, fs, 0, 0)
		mustAppend(t, o, 1, held.records...)
		if err := o.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := o.Restore(io.MultiReader(bytes.NewReader(stream[:cut]), crash{o})); !errors.Is(err, errCrash) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		after := openMem(t, fs.CrashClone(vfs.CrashCloneCfg{}), 0, 0)
		for _, o := range []*Outbox{o, after} {
			if diff := differ(held.records, all(t, o)); diff != "" {
				t.Fatalf("cut at %d: %s", cut, diff)
			}
			if err := o.Restore(bytes.NewReader(stream)); err != nil {
				t.Fatal(err)
			}
			if got := all(t, o); len(got) != 200 {
				t.Fatalf("cut at %d: %d events after the second restore", cut, len(got))
			}
			if err := o.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

var errCrash = errors.New("the stream broke")

// crash is the end of a broken stream, at which everything written so far reaches the disk.
type crash struct{ o *Outbox }

func (c crash) Read([]byte) (int, error) { return 0, errors.Join(errCrash, c.o.Flush()) }

// FuzzReadStream: whatever the stream, reading it does not panic, allocates by what is there, and gives an unbroken run.
// (The store is left out: its goroutines would hide what an input covers.)
func FuzzReadStream(f *testing.F) {
	h := settings(f, 20)
	source := newOutbox(f)
	mustAppend(f, source, 9, h.records...)
	for _, above := range []uint64{0, 5, 20} {
		f.Add(streamOf(f, source, above))
	}
	f.Add([]byte(streamMagic))
	f.Add(binary.BigEndian.AppendUint32([]byte(streamMagic), 1<<31))
	f.Fuzz(func(t *testing.T, stream []byte) {
		var got []fsm.Record
		b, err := readStream(bytes.NewReader(stream), func(r fsm.Record, _ int64) error {
			r.Bytes = bytes.Clone(r.Bytes)
			got = append(got, r)
			return nil
		})
		for i, r := range got {
			e, derr := event.DecodeEnvelope(r.Bytes)
			if derr != nil || e.Seq != r.Seq || e.Type != r.Type || r.Seq != got[0].Seq+uint64(i) {
				t.Fatalf("record %d is event %d of type %d: %v", i, r.Seq, r.Type, derr)
			}
			if i == 0 {
				continue
			}
			prev, _ := chainOf(got[i-1].Bytes)
			if lerr := checkLink(prev, r.Bytes, e); lerr != nil {
				t.Fatal(lerr)
			}
		}
		if err == nil && (uint64(len(got)) != b.last+1-b.first || len(got) > 0 && got[0].Seq != b.first) {
			t.Fatalf("%d events, and bounds %d to %d", len(got), b.first, b.last)
		}
	})
}
