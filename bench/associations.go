package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sutra-grid/sutra-grid/bench/report"
	"github.com/sutra-grid/sutra-grid/bench/servers"
	"github.com/sutra-grid/sutra-grid/internal/load"
)

// pairs is how many associations are under way in P5.
const pairs = 64

// associations is P5.
func associations(ctx context.Context, b *bench) ([]report.Row, error) {
	row := b.row("P5", "associations/s")
	err := b.onGrid(ctx, servers.Shape{Agents: 2, Shards: 2, Replicas: 1}, func(g *servers.Grid) error {
		w, err := b.prepared(ctx, g, "txn", connections, load.Options{})
		if err != nil {
			return err
		}
		defer w.Close()
		unloaded, err := drive(ctx, b.plan(1, b.short()), w.Do)
		if err != nil {
			return err
		}
		ours := b.throughput(w.Do, pairs, b.short())
		alone := fmt.Sprintf("unloaded p50 %.2f ms, p99 %.2f ms", unloaded.Latency.P50, unloaded.Latency.P99)
		pg, err := servers.StartPostgres(ctx, b.dir, 2*pairs+16)
		if errors.Is(err, servers.ErrNoPostgres) {
			rates, err := b.repeat(ctx, "P5", ours)
			row.SetAlone(rates)
			row.Met = atLeast(row.Value, 5000) && unloaded.Latency.P99 <= 15
			row.Note = fmt.Sprintf("%s; there is no PostgreSQL on this machine (%v), so the absolute target holds", alone, servers.ErrNoPostgres)
			return err
		}
		if err != nil {
			return err
		}
		defer pg.Close()
		theirs, err := newTwoPhase(ctx, pg.URLs, pairs)
		if err != nil {
			return err
		}
		defer theirs.close()
		x, y, err := b.alternate(ctx, "P5", ours, b.throughput(theirs.associate, pairs, b.short()))
		if err != nil {
			return err
		}
		row.Set(report.Compare(x, y))
		row.Met = atLeast(row.Ratio, 3) && unloaded.Latency.P99 <= 15
		row.Note = fmt.Sprintf("PostgreSQL %s: a row on each of two servers, prepared and committed side by side, %d connections to each, its coordinator keeps no record; ours %s",
			pg.Version, pairs, alone)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return []report.Row{b.done(row)}, nil
}

// twoPhase makes associations over two PostgreSQL servers: a row on each, by two-phase commit.
type twoPhase struct {
	conns [2][]*pgconn.PgConn // by server, by worker
}

// schema is what a server holds of an association: one end's row, found from that end.
const schema = `CREATE TABLE IF NOT EXISTS association (source text, target text, type int, confidence real, PRIMARY KEY (source, type, target))`

func newTwoPhase(ctx context.Context, urls []string, workers int) (*twoPhase, error) {
	t := &twoPhase{}
	for side, url := range urls {
		for range workers {
			c, err := pgconn.Connect(ctx, url)
			if err != nil {
				return nil, errors.Join(err, t.close())
			}
			t.conns[side] = append(t.conns[side], c)
		}
		if err := t.conns[side][0].Exec(ctx, schema).Close(); err != nil {
			return nil, errors.Join(err, t.close())
		}
	}
	return t, nil
}

func (t *twoPhase) close() error {
	var errs []error
	for _, side := range t.conns {
		for _, c := range side {
			errs = append(errs, c.Close(context.Background()))
		}
	}
	return errors.Join(errs...)
}

// associate is one: prepare on both at once, then commit on both at once.
func (t *twoPhase) associate(ctx context.Context, w *load.Worker) error {
	id := fmt.Sprintf("bench-%d-%d-%x", w.Index, w.N, w.Rand.Uint64())
	source, target := w.Rand.IntN(5000), w.Rand.IntN(5000)
	insert := func(from, to string) string { // no two workers have a row in common: nothing over two servers would end their deadlock
		return fmt.Sprintf("BEGIN; INSERT INTO association VALUES ('%s-%d-%06d', '%s-%d-%06d', 0, 1) ON CONFLICT (source, type, target) DO UPDATE SET confidence = 1; PREPARE TRANSACTION '%s'",
			from, w.Index, source, to, w.Index, target, id)
	}
	if err := t.both(ctx, w, [2]string{insert("a", "b"), insert("b", "a")}); err != nil {
		return err
	}
	commit := "COMMIT PREPARED '" + id + "'"
	return t.both(ctx, w, [2]string{commit, commit})
}

func (t *twoPhase) both(ctx context.Context, w *load.Worker, sql [2]string) error {
	var wg sync.WaitGroup
	var errs [2]error
	for side := range sql {
		wg.Go(func() { errs[side] = t.conns[side][w.Index].Exec(ctx, sql[side]).Close() })
	}
	wg.Wait()
	return errors.Join(errs[0], errs[1])
}
