package master

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/master/feed"
	"github.com/sutra-grid/sutra-grid/transport"
)

// A message of a WatchEvents stream holds at most this much, or one event. What a watcher that takes nothing costs is a few of
// these: the page that waits, what the connection holds ahead of it (64 KiB), and what is being written.
const (
	tailPage  = 1000
	tailBytes = 32 << 10
)

// Events streams the feed from a position on, gap-free. A watcher that falls behind what the outbox keeps is told so, never
// skipped over.
func (w *watches) Events(ctx context.Context, to sender, req *transport.WatchEvents) error {
	return w.serve(ctx, to, streamEvents, func() error {
		if err := w.sameHistory(req.Incarnation.N, req.Incarnation); err != nil {
			return err
		}
		if err := req.Validate(); err != nil {
			return err
		}
		t := tail{watches: w, to: to, filter: &req.Filter, next: req.From}
		if t.next == 0 {
			t.next = w.outbox.Last() + 1
		} else if fault.Broken(fault.WatchResumesOffByOne) {
			t.next++
		}
		return t.run(ctx)
	})
}

// tail is one stream of events.
type tail struct {
	*watches
	to     sender
	filter *event.Filter
	next   uint64    // everything below was sent or filtered out
	sent   time.Time // when the last message was; zero: there was none
}

func (t *tail) run(ctx context.Context) error {
	contact := contactCheck{group: t.group}
	for {
		records, err := t.outbox.Range(t.next, tailPage, tailBytes)
		if errors.Is(err, feed.ErrTrimmed) {
			if oldest := t.outbox.First(); t.next < oldest {
				return trimmed(t.next, oldest, !t.sent.IsZero())
			}
			continue // a snapshot replaced the outbox meanwhile: it is there now
		}
		if err != nil {
			return err
		}
		if err := t.take(ctx, records); err != nil {
			return err
		}
		if len(records) > 0 {
			continue
		}
		if err := t.await(ctx, &contact); err != nil {
			return err
		}
	}
}

// take sends what the filter chooses. Without any, a message is due at the beginning and once a keep-alive period: the watcher
// must know where it is, however rare what it looks for.
func (t *tail) take(ctx context.Context, records []fsm.Record) error {
	var chosen [][]byte
	for _, r := range records {
		match, err := t.filter.Match(r.Type, r.Bytes)
		if err != nil {
			return fmt.Errorf("filter event %d: %w", r.Seq, err)
		}
		if match {
			chosen = append(chosen, r.Bytes)
		}
	}
	t.next += uint64(len(records))
	if len(chosen) == 0 && !t.sent.IsZero() && time.Since(t.sent) < t.keepAlive {
		return ctx.Err()
	}
	s := t.view() // published behind the outbox: what was just read there may be newer
	err := t.to.Send(ctx, &transport.EventsOk{Events: chosen, Last: t.next - 1, Incarnation: t.incarnation,
		Contract: transport.Contract{Seq: max(s.Seq(), t.next-1), Epoch: s.Epoch()}})
	t.sent = time.Now()
	return err
}

// await waits for the next event or until a message is due.
func (t *tail) await(ctx context.Context, contact *contactCheck) error {
	ctx, cancel := context.WithDeadlineCause(ctx, t.sent.Add(t.keepAlive), errDue)
	defer cancel()
	err := t.outbox.Wait(ctx, t.next)
	if errors.Is(err, errDue) {
		return contact.err()
	}
	return err
}

var errDue = errors.New("a message is due")

func trimmed(from, oldest uint64, began bool) error {
	kind := event.KindTrimmed
	if began {
		kind = event.KindLagging
	}
	return &event.Error{Kind: kind, Op: "watch events", Oldest: oldest, ResumeFrom: from,
		Message: fmt.Sprintf("the oldest event kept here is %d; read %d to %d from event storage, then go on", oldest, from, oldest-1)}
}
