package feed

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// history makes records that continue one another.
type history struct {
	seq     uint64
	chain   event.Chain
	time    int64
	records []fsm.Record
}

func (h *history) add(tb testing.TB, step time.Duration, body event.Body) fsm.Record {
	tb.Helper()
	h.seq++
	h.time += max(step.Microseconds(), 1)
	e := &event.Envelope{Seq: h.seq, RaftIndex: 2*h.seq + 5, Type: body.Type(), Time: h.time, Actor: "test", Body: body}
	b, err := event.Seal(nil, h.chain, e)
	if err != nil {
		tb.Fatal(err)
	}
	h.chain = e.Chain
	r := fsm.Record{Seq: h.seq, Type: e.Type, Bytes: b}
	h.records = append(h.records, r)
	return r
}

func (h *history) setting(tb testing.TB, step time.Duration, value string) fsm.Record {
	return h.add(tb, step, event.SettingChanged{Key: "k", Value: value, Version: h.seq + 1})
}

// fork is another history with the same past.
func (h *history) fork() *history {
	f := *h
	f.records = append([]fsm.Record(nil), h.records...)
	return &f
}

func settings(tb testing.TB, n int) *history {
	h := &history{time: 1_700_000_000_000_000}
	for range n {
		h.setting(tb, time.Millisecond, "v")
	}
	return h
}

func openMem(tb testing.TB, fs vfs.FS, keepAge time.Duration, keepBytes int64) *Outbox {
	tb.Helper()
	o, err := OpenOutbox("outbox", OutboxOptions{FS: fs, KeepAge: keepAge, KeepBytes: keepBytes})
	if err != nil {
		tb.Fatal(err)
	}
	return o
}

// newOutbox is an outbox in memory that is closed with the test.
func newOutbox(tb testing.TB) *Outbox {
	o := openMem(tb, vfs.NewMem(), 24*time.Hour, 1<<30)
	tb.Cleanup(func() {
		if err := o.Close(); err != nil {
			tb.Error(err)
		}
	})
	return o
}

func mustAppend(tb testing.TB, o *Outbox, index uint64, records ...fsm.Record) {
	tb.Helper()
	if err := o.Append(index, records); err != nil {
		tb.Fatal(err)
	}
}

// differ says where two runs of records are not the same; empty: nowhere.
func differ(want, got []fsm.Record) string {
	if len(want) != len(got) {
		return fmt.Sprintf("%d records, want %d", len(got), len(want))
	}
	for i, w := range want {
		if g := got[i]; g.Seq != w.Seq || g.Type != w.Type || !bytes.Equal(g.Bytes, w.Bytes) {
			return fmt.Sprintf("record %d of %d is event %d of type %d, want event %d of type %d", i, len(got), g.Seq, g.Type, w.Seq, w.Type)
		}
	}
	return ""
}
