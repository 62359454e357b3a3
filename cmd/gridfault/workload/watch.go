package workload

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/history"
)

// watch is W7: watchers follow the feed while W6 fills it, each in its own way, over all changes of masters.
type watch struct {
	*feed
	watchers []*watcher
}

// watcher is one that follows.
type watcher struct {
	name   string
	filter event.Filter
	from   func(newest uint64) uint64
	turn   time.Duration // after which it begins again, at another master; 0: it stays
	slow   time.Duration // for which it does nothing after each message

	mu   sync.Mutex
	next client.EventPosition // guarded by mu
	news chan struct{}        // guarded by mu; closed when next changes
}

// ahead is how far the position that is not there yet lies ahead.
const ahead = 25

func newWatch(env Env) Workload {
	w := &watch{feed: makeFeed(env, "W7")}
	old := func(newest uint64) uint64 { return newest }
	w.watchers = []*watcher{
		{name: "now", from: func(uint64) uint64 { return 0 }},
		{name: "old", from: old},
		{name: "future", from: func(newest uint64) uint64 { return newest + ahead }},
		{name: "in parts", from: old, turn: 700 * time.Millisecond},
		{name: "slow", from: old, slow: 300 * time.Millisecond},
		{name: "some", from: old, turn: 1100 * time.Millisecond, filter: event.Filter{Types: []event.Type{event.TypeTxnCommitted, event.TypeLeaderElected}}},
	}
	for _, x := range w.watchers {
		x.name, x.news = w.name+" "+x.name, make(chan struct{})
	}
	return w
}

// Run implements Workload: watchers go on until they have seen all that there was when the clients stopped, or that takes too long.
func (w *watch) Run(ctx context.Context) error {
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var wg sync.WaitGroup
	errs := make([]error, len(w.watchers))
	for i, x := range w.watchers {
		x.next.Seq = x.from(w.from)
		wg.Go(func() { errs[i] = w.follow(following, x, i) })
	}
	err := w.feed.Run(ctx)
	until, cancel := context.WithTimeout(following, catchUp)
	defer cancel()
	if through, failed := w.reader.newest(until); failed == nil {
		for _, x := range w.watchers {
			x.reaches(until, through)
		}
	}
	stop()
	wg.Wait()
	return errors.Join(append(errs, err)...)
}

// catchUp is how long watchers may take when nothing new comes. Who is later than that goes unpunished here: what matters is what it gets.
const catchUp = 10 * time.Second

// follow lets a watcher watch, time and again, each time at another master first.
func (w *watch) follow(ctx context.Context, x *watcher, index int) error {
	masters := w.env.Grid.Layout().Masters
	for begun := index; ctx.Err() == nil; begun++ {
		var addrs []string
		for k := range masters {
			addrs = append(addrs, masters[(begun+k)%len(masters)].Address)
		}
		lib, err := client.New(client.Config{Masters: addrs, Network: w.env.Grid.Network(fmt.Sprintf("client-%d", index))})
		if err != nil {
			return err
		}
		goes := w.watch(ctx, x, lib)
		if err := lib.Close(); err != nil || !goes {
			return err
		}
	}
	return nil
}

// watch follows until the watcher's turn is over; false: it cannot go on.
func (w *watch) watch(ctx context.Context, x *watcher, lib *client.Client) bool {
	if x.turn > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, x.turn)
		defer cancel()
	}
	x.mu.Lock()
	from := x.next
	x.mu.Unlock()
	step := history.WatchStep{Watcher: x.name, From: from.Seq, Begun: true}
	for _, t := range x.filter.Types {
		step.Types = append(step.Types, t.String())
	}
	err := lib.WatchEvents(ctx, from, x.filter, func(e client.Events) error {
		step.Next, step.Newest, step.Seqs = e.Next.Seq, e.Newest, nil
		for _, one := range e.Events {
			step.Seqs = append(step.Seqs, one.Seq)
		}
		w.saw(x, step, e.Next)
		step.Begun, step.From = false, 0
		wait(ctx, x.slow)
		return nil
	})
	if oldest, missed, gone := client.Oldest(err); gone {
		w.saw(x, history.WatchStep{Watcher: x.name, Missed: missed, Next: oldest, Newest: oldest}, client.EventPosition{Incarnation: from.Incarnation, Seq: oldest})
		return true
	}
	if err != nil { // what came does not continue the watch, or the masters refuse what they must not
		step.Fault, step.Seqs = err.Error(), nil
		w.saw(x, step, from)
	}
	return err == nil
}

func (w *watch) saw(x *watcher, step history.WatchStep, next client.EventPosition) {
	if w.env.Broken != EmptyHistory {
		w.env.History.Watch(step)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.next = next
	close(x.news)
	x.news = make(chan struct{})
}

// reaches waits until the watcher is behind an event, or ctx ends.
func (x *watcher) reaches(ctx context.Context, through uint64) {
	for {
		x.mu.Lock()
		next, news := x.next.Seq, x.news
		x.mu.Unlock()
		if next > through {
			return
		}
		select {
		case <-news:
		case <-ctx.Done():
			return
		}
	}
}

// Check implements Workload.
func (w *watch) Check(l *history.Log) []history.Report { return append(checkWatch(l), Complete(l)) }

func checkWatch(l *history.Log) []history.Report {
	lists, err := prefixes(l, "W7")
	if err != nil {
		return []history.Report{history.Fault("watch", err)}
	}
	return []history.Report{history.Watches(l), history.Feed(l), history.Lists(l.Txns, lists)}
}
