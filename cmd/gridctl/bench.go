package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/internal/load"
	"github.com/sutra-grid/sutra-grid/transport"
)

// benchDeadline bounds one bench: longer than anybody measures, and a soak ends by its --duration.
const benchDeadline = 7 * 24 * time.Hour

// benchJSON is the outcome of `gridctl bench`.
type benchJSON struct {
	Workload    string  `json:"workload"`
	Connections int     `json:"connections"`
	Weight      int     `json:"records_per_request"`
	Records     float64 `json:"records_per_second"`
	Lag         *uint64 `json:"feed_lag_events,omitempty"` // of feed: what event storage did not have at the end
	*load.Report
}

func benchCommand(out *printer) *cli.Command {
	bench := &cli.Command{
		Name: "bench", Usage: "make load on a running grid and measure what its users wait for",
		Description: "Closed loop: --clients requests are under way all the time. Open loop (--rate): requests are due by the clock, and one that\n" +
			"finds every client busy is timed from when it was due. What a bench stores stays: concepts bench-SEED-N, settings bench.N.",
	}
	for _, w := range load.Names() {
		bench.Subcommands = append(bench.Subcommands, &cli.Command{Name: w.Name, Usage: w.About, ArgsUsage: " ", Flags: benchFlags(),
			Action: func(c *cli.Context) error { return runBench(c, out, w.Name) }})
	}
	return bench
}

func benchFlags() []cli.Flag {
	d := load.DefaultOptions()
	return []cli.Flag{
		&cli.Float64Flag{Name: "rate", Usage: "requests due a second; 0 for as many as are answered"},
		&cli.DurationFlag{Name: "duration", Value: 10 * time.Second, Usage: "how long is measured"},
		&cli.DurationFlag{Name: "warmup", Value: time.Second, Usage: "how long before that is not"},
		&cli.IntFlag{Name: "clients", Value: 64, Usage: "requests under way at once, at most"},
		&cli.IntFlag{Name: "connections", Value: 8, Usage: "connections that they share"},
		&cli.Uint64Flag{Name: "seed", Usage: "of what is drawn: ids, contents, vectors (default: a new one, which is printed)"},
		&cli.IntFlag{Name: "size", Value: d.Size, Usage: "bytes of a content or value"},
		&cli.IntFlag{Name: "keys", Value: d.Keys, Usage: "concepts that get, txn and search store before they begin"},
		&cli.IntFlag{Name: "batch", Value: d.Batch, Usage: "concepts in one transaction of import"},
		&cli.IntFlag{Name: "dimension", Value: d.Dimension, Usage: "of the vectors of search: the grid's"},
		&cli.IntFlag{Name: "k", Value: d.K, Usage: "results of a search"},
	}
}

func runBench(c *cli.Context, out *printer, name string) (err error) {
	if c.Args().Present() {
		return usagef("bench %s takes no arguments", name)
	}
	s, err := open(c, benchDeadline)
	if err != nil {
		return err
	}
	defer s.close()
	seed := cmp.Or(c.Uint64("seed"), rand.Uint64()>>12) // so that JSON's readers keep all of its digits
	o := load.Options{Seed: seed, Size: c.Int("size"), Keys: c.Int("keys"), Batch: c.Int("batch"), Dimension: c.Int("dimension"), K: c.Int("k")}
	w, err := load.New(name, load.Target{Masters: s.addrs, Connections: c.Int("connections")}, o)
	if err != nil {
		return usageError{err}
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	fmt.Fprintf(out.errw, "seed %d\n", seed)
	if err := w.Prepare(s.ctx); err != nil {
		return err
	}
	plan := load.Plan{InFlight: c.Int("clients"), Rate: c.Float64("rate"), Warmup: c.Duration("warmup"), Duration: c.Duration("duration"), Seed: seed,
		Progress: func(s load.Second) { fmt.Fprintln(out.errw, s) }}
	r, err := load.Run(s.ctx, plan, w.Do)
	if err != nil {
		return usageError{err}
	}
	result := benchJSON{Workload: name, Connections: c.Int("connections"), Weight: w.Weight(), Records: r.PerSecond * float64(w.Weight()), Report: r}
	if name == "feed" {
		result.Lag, err = feedLag(s)
	}
	return errors.Join(err, showBench(out, result))
}

// feedLag asks how far event storage is behind; Ctrl-C that ended the load does not keep it from that.
func feedLag(s *session) (*uint64, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), defaultTimeout)
	defer cancel()
	status, err := transport.As[transport.ClusterStatus](s.masters.Call(ctx, &transport.GetClusterStatus{}))
	if err != nil {
		return nil, err
	}
	return &status.FeedLagEvents, nil
}

// showBench prints the outcome; requests that failed make the command fail.
func showBench(out *printer, j benchJSON) error {
	err := out.show(j, func(w io.Writer) {
		_ = j.Write(w) // as all that is printed here
		if j.Weight > 1 {
			fmt.Fprintf(w, "%.0f records/s, %d in a request\n", j.Records, j.Weight)
		}
		if j.Lag != nil {
			fmt.Fprintf(w, "event storage is %d events behind\n", *j.Lag)
		}
	})
	if err == nil && (j.Failed > 0 || j.Done == 0) {
		return statusError(exitFailed)
	}
	return err
}
