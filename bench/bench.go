package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sutra-grid/sutra-grid/bench/report"
	"github.com/sutra-grid/sutra-grid/bench/servers"
	"github.com/sutra-grid/sutra-grid/internal/load"
)

// What P1 and its like have in flight, and over what (docs/performance.md).
const (
	inFlight    = 256
	connections = 8
)

// bench is one run of this program.
type bench struct {
	options
	self string // this program
	dir  string // of the servers' data
	errw io.Writer
	base report.Row // version, date and machine, for each row
}

// say tells who waits what goes on.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.errw, "%s  %s\n", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
}

// open begins a run: a directory for servers, and what the run says of itself. end deletes the directory.
func open(ctx context.Context, o options, errw io.Writer) (b *bench, end func() error, err error) {
	b = &bench{options: o, errw: errw}
	if b.self, err = os.Executable(); err != nil {
		return nil, nil, err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return nil, nil, err
	}
	if b.dir, err = os.MkdirTemp(o.temp, "gridbench-"); err != nil {
		return nil, nil, err
	}
	end = func() error { return os.RemoveAll(b.dir) }
	err = os.Chmod(b.dir, 0o711) // a database that does not run as root must get through
	if err == nil {
		b.base, err = b.identity(ctx)
	}
	if err != nil {
		return nil, nil, errors.Join(err, end())
	}
	return b, end, nil
}

// measure runs the suites that have a row that is wanted. What is measured is written after each suite, so that an end in the middle loses
// nothing.
func measure(ctx context.Context, o options, errw io.Writer) (err error) {
	if err := room(o); err != nil {
		return err
	}
	b, end, err := open(ctx, o, errw)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	b.say("%s on %s; rounds %d, duration %s, seed %d", b.base.Version, b.base.Machine, o.rounds, o.duration, o.seed)
	about := b.about()
	for _, s := range suites() {
		wanted := slices.DeleteFunc(slices.Clone(s.ids), func(id string) bool { return !o.wants(id) })
		if len(wanted) == 0 {
			continue
		}
		rows, failed := s.run(ctx, b)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := b.write(complete(b.base, wanted, rows, failed), about); err != nil {
			return err
		}
		if failed != nil {
			b.say("%s: %v", strings.Join(wanted, " "), failed)
		}
	}
	return nil
}

// What a run's servers write before it is deleted, with room to spare.
const (
	fullRoom  = 10 << 30
	quickRoom = 3 << 30
)

// room refuses a disk that would fill up in the middle.
func room(o options) error {
	if o.quick || len(o.only) > 0 {
		return roomFor(o.temp, quickRoom)
	}
	return roomFor(o.temp, fullRoom)
}

// roomFor refuses a place with fewer bytes free.
func roomFor(dir string, need uint64) error {
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		return fmt.Errorf("look for room in %s: %w", dir, err)
	}
	if free := disk.Bavail * uint64(disk.Bsize); free < need {
		return fmt.Errorf("%s has %d MiB free, want %d: say where there is more with --temp", dir, free>>20, need>>20)
	}
	return nil
}

// complete gives each row that a suite did not bring one that says why.
func complete(base report.Row, wanted []string, rows []report.Row, failed error) []report.Row {
	for _, id := range wanted {
		if slices.ContainsFunc(rows, func(r report.Row) bool { return r.ID == id }) {
			continue
		}
		row := base
		row.ID, row.Note = id, "failed"
		if failed != nil {
			row.Note = "failed: " + failed.Error()
		}
		rows = append(rows, row)
	}
	return rows
}

// write puts rows into the two files, beside what they have of other rows.
func (b *bench) write(fresh []report.Row, about []string) error {
	path := filepath.Join(b.out, "RESULTS.json")
	old, err := report.Read(path)
	if err != nil {
		return err
	}
	rows := report.Merge(reportSubjects(), old, fresh)
	text, err := report.Encode(rows)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.out, "RESULTS.md"), []byte(report.Table(reportSubjects(), rows, about)), 0o644)
}

// row begins a row.
func (b *bench) row(id, unit string) report.Row {
	r := b.base
	r.ID, r.Unit, r.Rounds = id, unit, b.rounds
	return r
}

// done tells of a row.
func (b *bench) done(r report.Row) report.Row {
	text := "nothing"
	if r.Value != nil {
		text = fmt.Sprintf("%.4g %s", *r.Value, r.Unit)
	}
	if r.Ratio != nil {
		text += fmt.Sprintf(", %.3g x the peer's %.4g", *r.Ratio, *r.Peer)
	}
	b.say("%s: %s; %s; met: %v", r.ID, text, r.Note, r.Met)
	return r
}

// measurement makes one row of a suite.
type measurement struct {
	id  string
	run func(ctx context.Context) (report.Row, error)
}

// each makes the rows that are wanted; one that fails does not keep the others.
func (b *bench) each(ctx context.Context, all []measurement) (rows []report.Row, err error) {
	var errs []error
	for _, m := range all {
		if !b.wants(m.id) || ctx.Err() != nil {
			continue
		}
		row, err := m.run(ctx)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", m.id, err))
			continue
		}
		rows = append(rows, b.done(row))
	}
	return rows, errors.Join(errs...)
}

// side measures one system once.
type side func(ctx context.Context) (float64, error)

// alternate measures two systems in turn.
func (b *bench) alternate(ctx context.Context, what string, ours, peer side) (a, p []float64, err error) {
	for round := range b.rounds {
		x, err := ours(ctx)
		if err != nil {
			return nil, nil, fmt.Errorf("%s, round %d: %w", what, round+1, err)
		}
		y, err := peer(ctx)
		if err != nil {
			return nil, nil, fmt.Errorf("%s, round %d, peer: %w", what, round+1, err)
		}
		b.say("%s, round %d: %.5g, peer %.5g", what, round+1, x, y)
		a, p = append(a, x), append(p, y)
	}
	return a, p, nil
}

// repeat measures one system.
func (b *bench) repeat(ctx context.Context, what string, ours side) (a []float64, err error) {
	for round := range b.rounds {
		x, err := ours(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s, round %d: %w", what, round+1, err)
		}
		b.say("%s, round %d: %.5g", what, round+1, x)
		a = append(a, x)
	}
	return a, nil
}

// short is the duration of a run that need not be as long as P1's.
func (b *bench) short() time.Duration { return max(b.duration/3, time.Second) }

// plan is a run's, of so many in flight.
func (b *bench) plan(requests int, duration time.Duration) load.Plan {
	return load.Plan{InFlight: requests, Warmup: min(duration/5, 3*time.Second), Duration: duration, Seed: b.seed}
}

// drive runs a load of which nothing may fail.
func drive(ctx context.Context, p load.Plan, op load.Op) (*load.Report, error) {
	r, err := load.Run(ctx, p, op)
	switch {
	case err != nil:
		return nil, err
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case r.Failed > 0:
		return nil, fmt.Errorf("%d of %d requests failed: %s", r.Failed, r.Done+r.Failed, r.Failures[0].Example)
	case r.Done == 0:
		return nil, errors.New("no request was answered")
	}
	return r, nil
}

// prepared makes a workload for a grid and stores what it needs.
func (b *bench) prepared(ctx context.Context, g *servers.Grid, name string, conns int, o load.Options) (load.Workload, error) {
	o.Seed = b.seed
	w, err := load.New(name, load.Target{Masters: g.Masters, Connections: conns}, o)
	if err != nil {
		return nil, err
	}
	if err := w.Prepare(ctx); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// throughput is a side that counts requests a second.
func (b *bench) throughput(op load.Op, requests int, duration time.Duration) side {
	return func(ctx context.Context) (float64, error) {
		r, err := drive(ctx, b.plan(requests, duration), op)
		if err != nil {
			return 0, err
		}
		return r.PerSecond, nil
	}
}

// latencies repeats one client's requests and gives the medians of p50 and p99, in milliseconds.
func (b *bench) latencies(ctx context.Context, what string, op load.Op, duration time.Duration) (p50, p99 float64, err error) {
	var worst []float64
	usual, err := b.repeat(ctx, what, func(ctx context.Context) (float64, error) {
		r, err := drive(ctx, b.plan(1, duration), op)
		if err != nil {
			return 0, err
		}
		worst = append(worst, r.Latency.P99)
		return r.Latency.P50, nil
	})
	return report.Median(usual), report.Median(worst), err
}

// latency is a side that takes the p50 of one client, in milliseconds.
func (b *bench) latency(op load.Op, duration time.Duration) side {
	return func(ctx context.Context) (float64, error) {
		r, err := drive(ctx, b.plan(1, duration), op)
		if err != nil {
			return 0, err
		}
		return r.Latency.P50, nil
	}
}

// times makes so many requests, some at once; the first that fails ends it.
func times(ctx context.Context, n, atOnce int, op load.Op) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for i := range atOnce {
		wg.Go(func() {
			for w := load.NewWorker(1, i); next.Add(1) <= int64(n) && ctx.Err() == nil; w.N++ {
				if err := op(ctx, w); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}
