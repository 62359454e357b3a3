package workload

import (
	"context"

	"github.com/sutra-grid/sutra-grid/internal/history"
)

// feed is W6: what W4 does, mostly over several shards, and then the feed of that time, read from every master and from event storage.
type feed struct {
	*appends
	reader feedReader
	from   uint64
}

func newFeed(env Env) Workload { return makeFeed(env, "W6") }

func makeFeed(env Env, id string) *feed {
	f := &feed{appends: makeAppends(env, id)}
	f.reader = f.load.feedReader()
	return f
}

// feedReader reads through the first client.
func (l *load) feedReader() feedReader {
	return feedReader{pool: l.clients[0].pool, masters: l.clients[0].masters, storage: l.env.Grid.Layout().Events}
}

// Setup implements Workload.
func (f *feed) Setup(ctx context.Context) (err error) {
	if f.from, err = f.reader.newest(ctx); err != nil {
		return err
	}
	f.from = max(f.from, 1)
	return f.appends.Setup(ctx)
}

// Settle implements Workload: all that was decided until now is in event storage soon, and then read everywhere.
func (f *feed) Settle(ctx context.Context) error {
	if err := f.readLists(ctx); err != nil {
		return err
	}
	through, err := f.reader.newest(ctx)
	if err != nil {
		return err
	}
	if err := f.reader.shipped(ctx, through); err != nil {
		return err
	}
	take := f.env.History.Event
	if f.env.Broken == EmptyHistory {
		take = func(history.FeedEvent) {}
	}
	for _, m := range f.reader.masters {
		if err := f.reader.master(ctx, m, f.from, through, take); err != nil {
			return err
		}
	}
	if err := f.reader.stored(ctx, f.from, through, take); err != nil {
		return err
	}
	f.settled()
	return nil
}

// Check implements Workload.
func (f *feed) Check(l *history.Log) []history.Report { return append(checkFeed(l), Complete(l)) }

func checkFeed(l *history.Log) []history.Report {
	lists, err := prefixes(l, "W6")
	if err != nil {
		return []history.Report{history.Fault("feed", err)}
	}
	return []history.Report{history.Feed(l), history.Lists(l.Txns, lists)}
}
