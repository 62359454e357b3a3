package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	sdk "github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// watchers is how many follow the feed through the client library, each from another host and another master first.
const watchers = 3

func watcherHost(i int) string { return fmt.Sprintf("watcher-%d", i) }

// observer follows the feed as a user's program does. What it is given must be the feed: every event that it wants, once and in
// order, whatever became of the masters meanwhile.
type observer struct {
	w      *world
	filter event.Filter
	lib    *sdk.Client
	stop   context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	next    sdk.EventPosition // guarded by mu; everything below has come, or was filtered out
	seen    []sighting        // guarded by mu
	missed  [][2]uint64       // guarded by mu; what the masters said that they no longer keep: from, up to and without
	epoch   event.Position    // guarded by mu; of the newest map
	changed chan struct{}     // guarded by mu; closed when one of the above changes
}

// sighting is one event as an observer was given it.
type sighting struct {
	seq   uint64
	typ   event.Type
	chain event.Chain
}

func (w *world) startWatchers() {
	for i := range watchers {
		var addrs []string
		for k := range w.peers {
			addrs = append(addrs, w.peers[(i+k)%len(w.peers)].Grid)
		}
		lib, err := sdk.New(sdk.Config{Masters: addrs, Network: w.net.Host(watcherHost(i))})
		if err != nil {
			w.t.Fatal(err)
		}
		o := &observer{w: w, lib: lib, next: sdk.EventPosition{Seq: 1}, done: make(chan struct{}), changed: make(chan struct{})}
		if i == watchers-1 {
			o.filter = event.Filter{Types: []event.Type{event.TypeLeaderElected, event.TypeSettingChanged}, Kinds: []string{event.EntityCluster}}
		}
		var ctx context.Context
		ctx, o.stop = context.WithCancel(context.Background())
		w.observers = append(w.observers, o)
		go func() {
			defer close(o.done)
			var wg sync.WaitGroup
			wg.Go(func() { o.follow(ctx) })
			wg.Go(func() { o.followMap(ctx) })
			wg.Wait()
		}()
	}
}

func (o *observer) close() {
	o.stop()
	<-o.done
	o.w.fault(o.lib.Close())
}

// follow watches; where the masters say that they no longer keep what comes next, it goes on with the oldest that they keep.
func (o *observer) follow(ctx context.Context) {
	for ctx.Err() == nil {
		o.mu.Lock()
		from := o.next
		o.mu.Unlock()
		err := o.lib.WatchEvents(ctx, from, o.filter, func(step sdk.Events) error {
			o.take(step)
			return nil
		})
		if oldest, missed, trimmed := sdk.Oldest(err); trimmed {
			o.change(func() {
				o.missed = append(o.missed, [2]uint64{missed, oldest})
				o.next.Seq = oldest
			})
			continue
		}
		if err != nil {
			o.w.fault(fmt.Errorf("a watcher at event %d: %w", from.Seq, err))
			return
		}
	}
}

func (o *observer) take(step sdk.Events) {
	o.change(func() {
		for _, e := range step.Events {
			o.seen = append(o.seen, sighting{e.Seq, e.Type, e.Chain})
		}
		if step.Next.Seq < o.next.Seq {
			o.w.faultf("a watcher at event %d was taken back to %d", o.next.Seq, step.Next.Seq)
		}
		o.next = step.Next
	})
}

// followMap sees that no map is older than the one before.
func (o *observer) followMap(ctx context.Context) {
	err := o.lib.WatchShardMap(ctx, event.Position{}, func(m *transport.ShardMapOk) error {
		o.change(func() {
			if !o.epoch.Less(m.Map.Epoch) {
				o.w.faultf("a watcher of the shard map was given epoch %v behind %v", m.Map.Epoch, o.epoch)
			}
			o.epoch = m.Map.Epoch
		})
		return nil
	})
	if err != nil {
		o.w.fault(fmt.Errorf("a watcher of the shard map: %w", err))
	}
}

func (o *observer) change(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
	close(o.changed)
	o.changed = make(chan struct{})
}

// reaches waits until the observer has everything through an event, and the newest map.
func (o *observer) reaches(through uint64, epoch event.Position) error {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		o.mu.Lock()
		next, has, changed := o.next.Seq, o.epoch, o.changed
		o.mu.Unlock()
		if next > through && !has.Less(epoch) {
			return nil
		}
		select {
		case <-changed:
		case <-o.done:
			return errors.New("a watcher has ended")
		case <-limit.C:
			return fmt.Errorf("a watcher has come to event %d of %d, and epoch %v of %v, after %s", next-1, through, has, epoch, patience)
		}
	}
}

// compare checks what the observer was given through an event against the feed.
func (o *observer) compare(l *ledger, through uint64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var want []sighting
	for seq := uint64(1); seq <= through; seq++ {
		p := l.at(seq)
		chosen := o.filter.All() || p.typ == event.TypeSettingChanged
		told := slices.ContainsFunc(o.missed, func(m [2]uint64) bool { return seq >= m[0] && seq < m[1] })
		if chosen && !told {
			want = append(want, sighting{seq, p.typ, p.chain})
		}
	}
	have := o.seen
	for len(have) > 0 && have[len(have)-1].seq > through {
		have = have[:len(have)-1]
	}
	for i := range min(len(want), len(have)) {
		if want[i] != have[i] {
			return fmt.Errorf("a watcher was given event %d (%s) where %d (%s) is next", have[i].seq, have[i].typ, want[i].seq, want[i].typ)
		}
	}
	if len(have) != len(want) {
		return fmt.Errorf("a watcher was given %d events through %d, there are %d", len(have), through, len(want))
	}
	return nil
}

// watched compares every observer with the feed.
func (w *world) watched(through uint64) {
	epoch := w.member(w.running()[0]).View().ShardMap().Epoch
	for _, o := range w.observers {
		if err := o.reaches(through, epoch); err != nil {
			w.fault(err)
			continue
		}
		w.fault(o.compare(w.ledger, through))
	}
}
