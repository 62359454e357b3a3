package feed

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

func TestOutboxKeepsOneUnbrokenRun(t *testing.T) {
	o := newOutbox(t)
	h := settings(t, 5)
	mustAppend(t, o, 7, h.records[:3]...)

	other := settings(t, 2).fork()
	other.setting(t, time.Second, "another third event")
	altered := h.records[3]
	altered.Bytes = bytes.Clone(altered.Bytes)
	altered.Bytes[len(altered.Bytes)-1] ^= 1
	other.setting(t, time.Second, "after another third")

	for _, tt := range []struct {
		name   string
		record fsm.Record
		want   error
	}{
		{"a gap", h.records[4], ErrGap},
		{"an altered event", altered, ErrBroken},
		{"an event of another history", other.records[3], ErrBroken},
		{"another event under a seq that is taken", other.records[2], ErrBroken},
		{"a record with another event's seq", fsm.Record{Seq: 4, Type: h.records[4].Type, Bytes: h.records[4].Bytes}, ErrBroken},
	} {
		if err := o.Append(8, []fsm.Record{tt.record}); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
		if o.Last() != 3 || o.Applied() != 7 {
			t.Fatalf("%s changed the outbox: it ends at %d", tt.name, o.Last())
		}
	}
	if err := o.Append(8, []fsm.Record{{Seq: 4, Type: h.records[3].Type, Bytes: []byte{1, 2}}}); err == nil {
		t.Error("an event that does not decode was accepted")
	}

	mustAppend(t, o, 9, h.records...) // replay: the first three are there already
	got, err := o.Range(1, 100, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if diff := differ(h.records, got); diff != "" {
		t.Error(diff)
	}
}

func TestRangeIsBounded(t *testing.T) {
	o := newOutbox(t)
	h := settings(t, 10)
	mustAppend(t, o, 1, h.records...)
	size := len(h.records[0].Bytes)
	for _, tt := range []struct {
		from          uint64
		limit, bytes  int
		first, number uint64
	}{
		{1, 3, 1 << 20, 1, 3},
		{4, 100, 2*size + 1, 4, 2},
		{4, 100, 1, 4, 1}, // one at least, or nobody would ever pass it
		{10, 100, 1 << 20, 10, 1},
		{11, 100, 1 << 20, 0, 0},
		{99, 100, 1 << 20, 0, 0},
		{1, 0, 1 << 20, 0, 0},
	} {
		got, err := o.Range(tt.from, tt.limit, tt.bytes)
		if err != nil || uint64(len(got)) != tt.number || len(got) > 0 && got[0].Seq != tt.first {
			t.Errorf("Range(%d, %d, %d) = %d records, %v", tt.from, tt.limit, tt.bytes, len(got), err)
		}
	}
	if _, err := o.Range(0, 1, 1); !errors.Is(err, ErrTrimmed) {
		t.Errorf("event 0: %v", err)
	}
}

// TestTrimKeepsTheNewest: below what all sinks hold, and not the newest by age or size, whichever is less.
func TestTrimKeepsTheNewest(t *testing.T) {
	h := &history{time: 1_700_000_000_000_000}
	for range 10 {
		h.setting(t, time.Hour, "0123456789")
	}
	size := int64(len(h.records[9].Bytes))
	for _, tt := range []struct {
		name    string
		age     time.Duration
		bytes   int64
		through uint64
		first   uint64
	}{
		{"nothing acknowledged", 0, 0, 0, 1},
		{"acknowledged and not kept", 0, 0, 7, 8},
		{"everything acknowledged", 0, 0, 10, 11},
		{"acknowledged beyond the end", 0, 0, 99, 11},
		{"kept by age", 3 * time.Hour, 1 << 30, 10, 7},
		{"kept by size", 24 * time.Hour, 4 * size, 10, 7},
		{"the smaller one counts", 2 * time.Hour, 5 * size, 10, 8},
		{"not beyond what is acknowledged", 2 * time.Hour, 5 * size, 3, 4},
	} {
		o := openMem(t, vfs.NewMem(), tt.age, tt.bytes)
		mustAppend(t, o, 1, h.records...)
		if err := o.Trim(tt.through); err != nil {
			t.Fatal(err)
		}
		if o.First() != tt.first {
			t.Errorf("%s: first %d, want %d", tt.name, o.First(), tt.first)
		}
		if _, err := o.Range(o.First()-1, 1, 1); !errors.Is(err, ErrTrimmed) {
			t.Errorf("%s: reading below the first event: %v", tt.name, err)
		}
		if got, err := o.Range(o.First(), 100, 1<<20); err != nil || len(got) != int(11-tt.first) {
			t.Errorf("%s: %d events left, %v", tt.name, len(got), err)
		}
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWaitWakesOnAppendAndClose(t *testing.T) {
	o := openMem(t, vfs.NewMem(), time.Hour, 1<<30)
	h := settings(t, 2)
	ctx, cancel := context.WithCancel(t.Context())
	results := make(chan error)
	for _, seq := range []uint64{1, 2, 3} {
		go func() { results <- o.Wait(t.Context(), seq) }()
	}
	go func() { results <- o.Wait(ctx, 3) }()
	mustAppend(t, o, 1, h.records[0])
	mustAppend(t, o, 2, h.records[1])
	for range 2 {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-results; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-results; !errors.Is(err, ErrClosed) {
		t.Fatalf("got %v", err)
	}
	if err := o.Wait(t.Context(), 1); !errors.Is(err, ErrClosed) {
		t.Fatalf("got %v", err)
	}
}

// TestCrashLosesNothingBehindASnapshot: raft truncates its log behind a snapshot whose Stream has returned. Whatever a
// power loss takes, the outbox then holds every event of the snapshot, and replaying the log completes it.
func TestCrashLosesNothingBehindASnapshot(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 1))
		fs := vfs.NewCrashableMem()
		o := openMem(t, fs, 0, 0)
		h := settings(t, 400)
		at, snapshot, flushed := 0, 0, 0
		for at < len(h.records) {
			n := min(1+rng.IntN(20), len(h.records)-at)
			mustAppend(t, o, uint64(at+n), h.records[at:at+n]...)
			at += n
			switch rng.IntN(8) {
			case 0:
				s := o.Snapshot()
				if err := s.Stream(&bytes.Buffer{}, uint64(at)); err != nil {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				snapshot = at
			case 1:
				if err := o.Trim(uint64(at - rng.IntN(at))); err != nil {
					t.Fatal(err)
				}
			case 2: // what a full memtable does by itself
				if err := o.db.Flush(); err != nil {
					t.Fatal(err)
				}
				flushed = at
			}
		}
		after := openMem(t, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: int(seed) * 3, RNG: rng}), 0, 0)
		if int(after.Last()) < max(snapshot, flushed) {
			t.Fatalf("seed %d: the crash took events %d to %d, which the log no longer has", seed, after.Last()+1, snapshot)
		}
		if err := after.DropAbove(uint64(snapshot)); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		mustAppend(t, after, 1000, h.records[snapshot:]...)
		first := after.First()
		got, err := after.Range(first, 1000, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if diff := differ(h.records[first-1:], got); diff != "" || len(got) == 0 {
			t.Fatalf("seed %d: %s", seed, diff)
		}
		if err := errors.Join(o.Close(), after.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBoundsAreFoundAgain: after a crash the outbox knows of what was appended behind the bounds that were written last.
func TestBoundsAreFoundAgain(t *testing.T) {
	fs := vfs.NewCrashableMem()
	o := openMem(t, fs, time.Hour, 1<<30)
	h := settings(t, 30)
	for i := range h.records {
		mustAppend(t, o, 2*uint64(i+1)+5, h.records[i])
		if i == 9 {
			if err := o.mark(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := o.db.Flush(); err != nil {
		t.Fatal(err)
	}
	after := openMem(t, fs.CrashClone(vfs.CrashCloneCfg{}), time.Hour, 1<<30)
	if got, want := after.bounds(), o.bounds(); got != want {
		t.Errorf("after the crash %+v, before it %+v", got, want)
	}
	reader, err := readBounds(after.db)
	if err != nil || reader.applied != 65 {
		t.Errorf("read: %+v, %v", reader, err)
	}
	if err := errors.Join(o.Close(), after.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestAppendedEventsAreWrittenOnce: compactions leave them where they are; while the oldest are removed, but for the files that are cut.
func TestAppendedEventsAreWrittenOnce(t *testing.T) {
	raw := make([]byte, 45<<10)
	rand.NewChaCha8([32]byte{}).Read(raw) // nothing that compresses
	value := base64.RawStdEncoding.EncodeToString(raw)
	for _, c := range []struct{ keep, part int64 }{{1 << 30, 8}, {48 << 20, 1}} {
		o := openMem(t, vfs.NewMem(), time.Hour, c.keep)
		h := &history{time: 1_700_000_000_000_000}
		for i := range uint64(1600) {
			mustAppend(t, o, i+1, h.setting(t, time.Millisecond, value))
			h.records = h.records[:0]
			if err := o.Trim(h.seq); err != nil {
				t.Fatal(err)
			}
		}
		flushed, compacted := uint64(0), uint64(0)
		m := o.db.Metrics()
		for _, l := range m.Levels {
			flushed, compacted = flushed+l.TableBytesFlushed, compacted+l.TableBytesCompacted
		}
		if flushed < 80<<20 || compacted > flushed/uint64(c.part) {
			t.Errorf("keeping %d MiB: flushes wrote %d MiB, compactions %d MiB again", c.keep>>20, flushed>>20, compacted>>20)
		}
		if first := o.First(); (first > 1) != (c.keep < 1<<30) {
			t.Errorf("keeping %d MiB: the first event is %d", c.keep>>20, first)
		}
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDropAboveRefusesAStateThatIsAhead(t *testing.T) {
	o := newOutbox(t)
	h := settings(t, 3)
	mustAppend(t, o, 1, h.records...)
	if err := o.DropAbove(4); !errors.Is(err, ErrGap) {
		t.Fatalf("got %v", err)
	}
}

// TestReadsBesideRemovals: what was removed and came again, as when a master starts, and what is trimmed, is never a hole to those who read.
func TestReadsBesideRemovals(t *testing.T) {
	o := openMem(t, vfs.NewMem(), 0, 0)
	h := settings(t, 300)
	mustAppend(t, o, 1, h.records[:200]...)
	done := make(chan struct{})
	var reads errgroup.Group
	for range 4 {
		reads.Go(func() error {
			for from := uint64(1); ; {
				records, err := o.Range(from, 50, 1<<20)
				if errors.Is(err, ErrTrimmed) {
					from = o.First()
				} else if err != nil {
					return err
				}
				if d := differ(h.records[from-1:from-1+uint64(len(records))], records); d != "" && err == nil {
					return errors.New(d)
				}
				select {
				case <-done:
					return nil
				default:
				}
			}
		})
	}
	for range 300 {
		if err := o.DropAbove(0); err != nil {
			t.Error(err)
		}
		mustAppend(t, o, 1, h.records[:200]...)
	}
	for i := range uint64(100) {
		mustAppend(t, o, i+2, h.records[200+i])
		if err := o.Trim(i + 1); err != nil {
			t.Error(err)
		}
	}
	close(done)
	if err := errors.Join(reads.Wait(), o.Close()); err != nil {
		t.Error(err)
	}
}

// model is the dumb second version of the outbox.
type model struct {
	h     *history
	first uint64 // of what is kept
	known bool   // the chain below first is known, so another history is noticed
}

func (m *model) kept() []fsm.Record { return m.h.records[m.first-1:] }

func TestOutboxAgainstASlice(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		fs := vfs.NewMem()
		keepBytes := int64(rapid.IntRange(0, 3000).Draw(rt, "keep bytes"))
		o := openMem(t, fs, time.Hour, keepBytes)
		defer func() { _ = o.Close() }()
		m := &model{h: &history{time: 1_700_000_000_000_000}, first: 1, known: true}
		var stream []byte
		var streamed *history
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) {
				n := rapid.IntRange(1, 20).Draw(rt, "n")
				again := rapid.IntRange(0, min(5, len(m.kept()))).Draw(rt, "replayed before")
				for range n {
					m.h.setting(t, time.Duration(rapid.IntRange(1, 20).Draw(rt, "minutes"))*time.Minute, "value")
				}
				mustAppend(t, o, m.h.seq, m.h.records[len(m.h.records)-n-again:]...)
			},
			"trim": func(rt *rapid.T) {
				through := rapid.Uint64Range(0, m.h.seq+2).Draw(rt, "through")
				if err := o.Trim(through); err != nil {
					rt.Fatal(err)
				}
				m.trim(through, time.Hour, keepBytes)
			},
			"drop": func(rt *rapid.T) {
				seq := m.h.seq - uint64(rapid.IntRange(0, min(30, int(m.h.seq))).Draw(rt, "above"))
				if err := o.DropAbove(seq); err != nil {
					rt.Fatal(err)
				}
				m.drop(seq)
			},
			"restart": func(rt *rapid.T) {
				if err := o.Close(); err != nil {
					rt.Fatal(err)
				}
				o = openMem(t, fs, time.Hour, keepBytes)
			},
			"snapshot": func(rt *rapid.T) {
				if !m.known && len(m.kept()) == 0 {
					return
				}
				var buf bytes.Buffer
				s := o.Snapshot()
				err := s.Stream(&buf, rapid.Uint64Range(0, m.h.seq).Draw(rt, "above"))
				if err := errors.Join(err, s.Close()); err != nil {
					rt.Fatal(err)
				}
				stream, streamed = buf.Bytes(), m.h.fork()
			},
			"restore": func(rt *rapid.T) {
				if streamed == nil {
					return
				}
				if err := o.Restore(bytes.NewReader(stream)); err != nil {
					rt.Fatal(err)
				}
				m.h = streamed.fork()
				m.first, m.known = o.First(), true // at least what was streamed; the content is compared below
			},
			"": func(rt *rapid.T) { compare(rt, o, m) },
		})
	})
}

func (m *model) trim(through uint64, age time.Duration, keepBytes int64) {
	total := int64(0)
	for _, r := range m.kept() {
		total += int64(len(r.Bytes))
	}
	if len(m.kept()) == 0 || total <= keepBytes+keepBytes/trimShare && timeOf(m.kept()[0]) >= m.h.time-(age+age/trimShare).Microseconds() {
		return
	}
	for len(m.kept()) > 0 && m.first <= through {
		oldest := m.kept()[0]
		if total <= keepBytes && timeOf(oldest) >= m.h.time-age.Microseconds() {
			return
		}
		total -= int64(len(oldest.Bytes))
		m.first++
		m.known = true
	}
}

func (m *model) drop(seq uint64) {
	m.h.seq = seq
	m.h.records = m.h.records[:seq]
	if seq+1 < m.first {
		m.first, m.known = seq+1, false
	}
	if seq == 0 {
		*m.h = history{time: m.h.time}
		return
	}
	last := m.h.records[seq-1]
	m.h.chain, _ = chainOf(last.Bytes)
	m.h.time = timeOf(last)
}

func timeOf(r fsm.Record) int64 {
	e, err := event.DecodeEnvelope(r.Bytes)
	if err != nil {
		panic(err)
	}
	return e.Time
}

func compare(rt *rapid.T, o *Outbox, m *model) {
	if o.Last() != m.h.seq || o.First() != m.first {
		rt.Fatalf("outbox has %d to %d, want %d to %d", o.First(), o.Last(), m.first, m.h.seq)
	}
	got, err := o.Range(m.first, 10000, 1<<30)
	if err != nil {
		rt.Fatal(err)
	}
	if diff := differ(m.kept(), got); diff != "" {
		rt.Fatal(diff)
	}
	size := int64(0)
	for _, r := range m.kept() {
		size += int64(len(r.Bytes))
	}
	if o.Bytes() != size {
		rt.Fatalf("outbox counts %d bytes, want %d", o.Bytes(), size)
	}
}

// TestAbandonLosesWhatWasNotFlushed, as a crash does, and the log brings it again; Close loses nothing.
func TestAbandonLosesWhatWasNotFlushed(t *testing.T) {
	h, fs := settings(t, 5), vfs.NewMem()
	o := openMem(t, fs, 24*time.Hour, 1<<30)
	mustAppend(t, o, 3, h.records[:3]...)
	if err := o.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		end  func(o *Outbox) error
		last uint64
	}{{"abandoned", (*Outbox).Abandon, 3}, {"closed", (*Outbox).Close, 5}} {
		mustAppend(t, o, 5, h.records...)
		if err := tt.end(o); err != nil {
			t.Fatal(err)
		}
		o = openMem(t, fs, 24*time.Hour, 1<<30)
		if o.Last() != tt.last {
			t.Errorf("%s with event 5 applied and 3 flushed, it ends at %d, want %d", tt.name, o.Last(), tt.last)
		}
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
}
