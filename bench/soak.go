package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/bench/servers"
	"github.com/sutra-grid/sutra-grid/bench/soak"
	"github.com/sutra-grid/sutra-grid/internal/load"
	"github.com/sutra-grid/sutra-grid/internal/usage"
)

// What a soak is (docs/performance.md).
const (
	soakShare = 0.7 // of the peak
	warmShare = 3   // the warm-up before the peak is a third of it
)

// soakShape is the grid of a soak: every shard on every node, so that each has followers to keep up.
var soakShape = servers.Shape{Agents: 3, Shards: 2, Replicas: 3}

// The bounds of its flags: under ten seconds there is nothing to see, and a peak of less than three is a start.
const (
	leastSoak = 10 * time.Second
	leastPeak = 3 * time.Second
)

func soakCommand(stderr io.Writer) *cli.Command {
	return &cli.Command{Name: "soak", Usage: "load a grid steadily and see whether it grows: SOAK.md and SOAK.json; status 1 if it does",
		Flags: append(placeFlags("SOAK.md and SOAK.json"),
			&cli.DurationFlag{Name: "length", Value: time.Hour, Usage: "how long"},
			&cli.DurationFlag{Name: "peak", Value: time.Minute, Usage: "how long the peak is measured before"},
			&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "of what the load draws"}),
		Action: func(c *cli.Context) error {
			o := options{seed: c.Uint64("seed")}
			if err := o.placesOf(c); err != nil {
				return err
			}
			s := &steadily{length: c.Duration("length"), peakFor: c.Duration("peak")}
			if s.length < leastSoak || s.peakFor < leastPeak {
				return fmt.Errorf("--length %s --peak %s: want at least %s and %s", s.length, s.peakFor, leastSoak, leastPeak)
			}
			return s.measure(c.Context, o, stderr)
		}}
}

// steadily is one soak.
type steadily struct {
	*bench
	length, peakFor time.Duration
	grid            *servers.Grid
	mix             *mix
	sampler         *sampler
}

// measure starts a grid, finds its peak, loads it, and writes what came of it.
func (s *steadily) measure(ctx context.Context, o options, errw io.Writer) (err error) {
	if err := roomFor(o.temp, quickRoom); err != nil {
		return err
	}
	b, end, err := open(ctx, o, errw)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	s.bench = b
	b.say("%s on %s; starting a grid: %d agents, %d shards, %d replicas", b.base.Version, b.base.Machine, soakShape.Agents, soakShape.Shards, soakShape.Replicas)
	if s.grid, err = servers.StartGrid(ctx, b.bin, b.dir, soakShape, servers.TraceGC); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.grid.Close()) }()
	if s.mix, err = newMix(ctx, s.grid, b.seed); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.mix.Close()) }()
	peak, err := s.peak(ctx)
	if err != nil {
		return fmt.Errorf("measure the peak: %w", err)
	}
	run, err := s.load(ctx, soakShare*peak.Sustained)
	if err != nil {
		return err
	}
	return s.result(peak, run)
}

// peak is what the grid sustains: as many of the mix's requests as 256 clients get answered, by the time until event storage has what
// they committed. Answered alone would be a rate at which the feed falls behind for ever.
func (s *steadily) peak(ctx context.Context) (p soak.Peak, err error) {
	loop := load.Plan{InFlight: inFlight, Duration: s.peakFor / warmShare, Seed: s.seed}
	if _, err := drive(ctx, loop, s.mix.Do); err != nil {
		return p, fmt.Errorf("warm-up: %w", err)
	}
	if err := s.grid.AwaitShipped(ctx, shipPatience); err != nil {
		return p, err
	}
	before, err := usage.Disk(s.dir)
	if err != nil {
		return p, err
	}
	began := time.Now()
	loop.Duration = s.peakFor
	r, err := drive(ctx, loop, s.mix.Do)
	if err != nil {
		return p, err
	}
	if err := s.grid.AwaitShipped(ctx, shipPatience); err != nil {
		return p, err
	}
	p = soak.Peak{Answered: r.PerSecond, Sustained: float64(r.Done) / time.Since(began).Seconds(), Seconds: r.Seconds}
	s.say("peak: %.0f requests/s answered, p99 %.1f ms; %.0f/s sustained; %s", p.Answered, r.Latency.P99, p.Sustained, aboutMix())
	after, err := usage.Disk(s.dir)
	if err != nil {
		return p, err
	}
	return p, s.enough(float64(after-before)/float64(r.Done), soakShare*p.Sustained)
}

// enough refuses a disk that would fill up on the way, by what a request has left on it: half as much again, for what compactions write
// before they delete, and what is still in memory.
func (s *steadily) enough(perRequest, rate float64) error {
	need := uint64(max(1.5*perRequest*rate*s.length.Seconds(), 0)) + spareRoom
	s.say("a request leaves %.0f bytes on disk, all nodes together: %d MiB must be free", perRequest, need>>20)
	return roomFor(s.temp, need)
}

// spareRoom is for logs, and for everybody else on the disk.
const spareRoom = 2 << 30

// load is the run itself. That ctx ends it is no error: it is then shorter.
func (s *steadily) load(ctx context.Context, rate float64) (*soak.Run, error) {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	s.sampler = newSampler(s.grid, s.say)
	var looking sync.WaitGroup
	looking.Go(func() { s.sampler.run(watching, lookEvery(s.length)) })
	clock := &clock{length: s.length, told: s.tell}
	s.say("%.0f requests/s for %s", rate, s.length)
	r, err := load.Run(ctx, load.Plan{InFlight: inFlight, Rate: rate, Duration: s.length, Seed: s.seed + 1, Progress: clock.second}, s.mix.Do)
	stop()
	looking.Wait()
	if err != nil {
		return nil, err
	}
	clock.over()
	return &soak.Run{Length: s.length, BrokenOff: ctx.Err() != nil, Load: r, Samples: s.sampler.samples, Parts: clock.byPart(), Minutes: clock.minutes,
		Restarts: s.sampler.restarts}, nil
}

// tell is a progress line.
func (s *steadily) tell(p soak.Part) {
	text := ""
	if p.Failed > 0 {
		text = fmt.Sprintf(", %d failed", p.Failed)
	}
	if sample, ok := s.sampler.last(); ok && sample.Lag != nil {
		text += fmt.Sprintf("; event storage %.0f events, %.2f s behind", sample.Lag.Events, sample.Lag.Seconds)
	}
	s.say("%3.0f of %.0f min: %.0f/s, p50 %.2f ms, p99 %.2f ms, max %.1f ms%s", p.To/60, s.length.Minutes(), float64(p.Done)/(p.To-p.From), p.Latency.P50, p.Latency.P99,
		p.Latency.Max, text)
}

// result judges, writes both files and tells of each rule. The error is that a rule is broken.
func (s *steadily) result(peak soak.Peak, run *soak.Run) error {
	res := &soak.Result{Version: s.base.Version, Date: s.base.Date, Machine: s.base.Machine, Peak: peak,
		About: fmt.Sprintf("%s; three masters, %d agents with a node each, %d shards of %d replicas, event storage, all with their defaults; %s", runtime.Version(), soakShape.Agents,
			soakShape.Shards, soakShape.Replicas, aboutMix())}
	res.Fill(run)
	text, err := res.Encode()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.out, "SOAK.json"), text, 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.out, "SOAK.md"), []byte(res.Table()), 0o644); err != nil {
		return err
	}
	for _, line := range res.Lines() {
		s.say("%s", line)
	}
	if res.Verdict == soak.Broken {
		return fmt.Errorf("not steady: %s", strings.Join(res.Broken(), ", "))
	}
	return nil
}
