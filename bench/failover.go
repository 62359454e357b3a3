package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/sutra-grid/sutra-grid/bench/report"
	"github.com/sutra-grid/sutra-grid/bench/servers"
	"github.com/sutra-grid/sutra-grid/internal/load"
)

// The driver that both systems get: each writer sends again what was not answered in time.
const (
	writers    = 16
	attempt    = 250 * time.Millisecond // of one request; half of it is jitter, so that writers do not wait in step
	retryPause = 5 * time.Millisecond
	calm       = time.Second      // of writes before the leader is lost
	recovery   = 20 * time.Second // in which writes must be back
	settled    = 200              // writes that show that they are
	minutely   = time.Minute      // a member that was killed must be back by then
)

// contender is a system whose leader is lost.
type contender struct {
	name string
	put  load.Op
	lose func(ctx context.Context) error // the leader
	heal func(ctx context.Context) error // until all members are there
}

// failover is P4.
func failover(ctx context.Context, b *bench) (rows []report.Row, err error) {
	err = b.onGrid(ctx, servers.Shape{Agents: 1, Shards: 1, Replicas: 1}, func(g *servers.Grid) error {
		e, err := servers.StartEtcd(ctx, b.self, b.dir)
		if err != nil {
			return err
		}
		defer e.Close()
		row, err := b.losses(ctx, g, e)
		if err == nil {
			rows = append(rows, b.done(row))
		}
		return err
	})
	return rows, err
}

// losses kills leaders of both in turn, twice a round (once in a quick run), and hands over with every other kill.
func (b *bench) losses(ctx context.Context, g *servers.Grid, e *servers.Etcd) (report.Row, error) {
	row := b.row("P4", "ms")
	w, err := b.prepared(ctx, g, "feed", connections, load.Options{})
	if err != nil {
		return row, err
	}
	defer w.Close()
	peer, err := newEtcdLoad(e.Endpoints, connections)
	if err != nil {
		return row, err
	}
	defer peer.close()
	signal := func(sig syscall.Signal) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			pid, _, err := g.Leader(ctx)
			if err != nil {
				return err
			}
			return syscall.Kill(pid, sig)
		}
	}
	whole := func(ctx context.Context) error { return g.AwaitWhole(ctx, minutely) }
	killed := contender{"the grid", w.Do, signal(syscall.SIGKILL), whole}
	handed := contender{"the grid, SIGTERM", w.Do, signal(syscall.SIGTERM), whole}
	lost := 0
	etcd := contender{"etcd", peer.put, func(ctx context.Context) (err error) {
		if lost, err = e.Leader(ctx); err != nil {
			return err
		}
		return e.Kill(lost)
	}, func(ctx context.Context) error { return e.Restart(ctx, lost) }}
	var ours, theirs, terms []float64
	kills := b.rounds * 2
	if b.quick {
		kills = b.rounds
	}
	for n := range kills {
		for _, c := range []struct {
			contender
			gaps *[]float64
			skip bool
		}{{killed, &ours, false}, {etcd, &theirs, false}, {handed, &terms, n%2 == 1}} {
			if c.skip {
				continue
			}
			gap, err := b.gap(ctx, c.contender)
			if err != nil {
				return row, fmt.Errorf("leader of %s, lost for the %d. time: %w", c.name, n+1, err)
			}
			b.say("P4, %s: no write acknowledged for %.0f ms", c.name, gap)
			*c.gaps = append(*c.gaps, gap)
		}
	}
	row.Set(report.Compare(ours, theirs))
	worst, hand := slices.Max(ours), report.Median(terms)
	row.Met = atMost(row.Ratio, 0.4) && atMost(row.Value, 500) && worst <= 650 && hand <= 50
	row.Rounds = len(ours)
	row.Note = fmt.Sprintf("%s, same driver: %d writers, attempts of %s; worst %.0f ms; SIGTERM %.0f ms (median of %d, worst %.0f)", etcdVersion(), writers, attempt, worst,
		hand, len(terms), slices.Max(terms))
	return row, nil
}

// gap is the longest time without an acknowledged write around the loss of a leader, in ms.
func (b *bench) gap(ctx context.Context, c contender) (ms float64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	acks := &acks{news: make(chan struct{}, 1)}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	for i := range writers {
		w := load.NewWorker(b.seed, i)
		wg.Go(func() { persist(ctx, w, c.put, acks) })
	}
	if err := acks.await(ctx, acks.count()+settled, recovery); err != nil {
		return 0, fmt.Errorf("before: %w", err)
	}
	select { // a leader that was just elected has rested
	case <-time.After(calm):
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	acks.arm()
	if err := c.lose(ctx); err != nil {
		return 0, err
	}
	if err := acks.back(ctx); err != nil {
		return 0, err
	}
	cancel(nil)
	wg.Wait()
	return millis(acks.longest()), c.heal(context.WithoutCancel(ctx))
}

// persist writes until ctx ends.
func persist(ctx context.Context, w *load.Worker, put load.Op, acks *acks) {
	for ctx.Err() == nil {
		limit := attempt/2 + time.Duration(w.Rand.Int64N(int64(attempt)))
		one, cancel := context.WithTimeout(ctx, limit)
		err := put(one, w)
		cancel()
		w.N++
		if err == nil {
			acks.add(time.Now())
			continue
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
		}
	}
}

// acks is when writes were acknowledged.
type acks struct {
	news chan struct{} // holds one: there is another

	mu    sync.Mutex
	n     int
	last  time.Time
	lost  time.Time // when the leader was lost; zero: not yet
	worst time.Duration
	since int // n when the worst gap ended
}

func (a *acks) add(now time.Time) {
	a.mu.Lock()
	if gap := now.Sub(a.last); !a.lost.IsZero() && gap > a.worst {
		a.worst, a.since = gap, a.n
	}
	a.n++
	if now.After(a.last) {
		a.last = now
	}
	a.mu.Unlock()
	select {
	case a.news <- struct{}{}:
	default:
	}
}

// arm begins to look for the longest gap.
func (a *acks) arm() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lost = time.Now()
}

func (a *acks) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.n
}

func (a *acks) longest() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.worst
}

var errSilent = errors.New("writes are not acknowledged")

// await waits for so many acknowledgements.
func (a *acks) await(ctx context.Context, n int, patience time.Duration) error {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for a.count() < n {
		select {
		case <-a.news:
		case <-limit.C:
			return errSilent
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// afterLoss is how long it is looked for a gap: longer than either system takes to notice, so that writes that were still answered by
// the lost leader are not taken for its successor's.
const afterLoss = 3 * time.Second

// back waits until the gap is over: enough writes since it ended, long enough after the loss.
func (a *acks) back(ctx context.Context) error {
	select {
	case <-time.After(afterLoss):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	a.mu.Lock()
	need := a.since + settled
	a.mu.Unlock()
	if err := a.await(ctx, need, recovery); err != nil {
		return err
	}
	return a.await(ctx, a.count()+settled, recovery) // and no gap is open now
}
