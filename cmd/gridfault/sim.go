package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/bubble"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/episode"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/sim"
	"github.com/sutra-grid/sutra-grid/internal/fault"
)

// Bounds of a run in virtual time: of the real time and the memory it may take. One that takes more is not valid.
const (
	simLimit  = 3 * time.Minute
	simMemory = 3 << 30
)

// childVerb is the command that is a child of this program.
const childVerb = "child"

// job is what a child is told, in one line.
type job struct {
	Plan episode.Plan `json:"plan"`
	Dir  string       `json:"dir"` // with slashes behind it up to dirLength: nothing in a child's memory lies elsewhere for it
}

const dirLength = 1024

// result is what it answers.
type result struct {
	Verdict *episode.Verdict `json:"verdict,omitempty"`
	Err     string           `json:"err,omitempty"` // of the harness
}

func childCommand() *cli.Command {
	return &cli.Command{Name: childVerb, Hidden: true, Action: func(*cli.Context) error {
		bubble.Serve(live)
		return nil
	}}
}

// live is one run in a bubble.
func live(ctx context.Context, line []byte) []byte {
	var r result
	v, err := simulate(ctx, line)
	if r.Verdict = v; err != nil {
		r.Err = err.Error()
	}
	b, err := json.Marshal(r)
	if err != nil {
		b = fmt.Appendf(nil, `{"err":%q}`, err.Error())
	}
	return b
}

func simulate(ctx context.Context, line []byte) (*episode.Verdict, error) {
	var j job
	if err := json.Unmarshal(line, &j); err != nil {
		return nil, err
	}
	if j.Plan.Mutation != "" {
		mend, err := fault.Break(j.Plan.Mutation)
		if err != nil {
			return nil, err
		}
		defer mend()
	}
	if err := os.Chdir(j.Dir); err != nil {
		return nil, err
	}
	bubble.Settle(j.Plan.Seed)
	trace, cfg := sim.NewTrace(nil), sim.DefaultConfig()
	cfg.Seed, cfg.Masters, cfg.Shards, cfg.Replicas = j.Plan.Seed, j.Plan.Masters, uint32(j.Plan.Shards), uint32(j.Plan.Replicas)
	cfg.Trace = trace
	g, err := sim.Open(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("start the grid: %w", err)
	}
	v, err := episode.Run(ctx, g, j.Plan, ".")
	if err == nil {
		err = seal(trace, j.Plan)
		v.Trace, v.Repeats = trace.String(), bubble.Repeats
	}
	return v, errors.Join(err, g.Close())
}

// seal adds to a trace what clients have asked and were told.
func seal(trace *sim.Trace, p episode.Plan) error {
	for _, id := range p.Workloads {
		b, err := os.ReadFile(episode.History(".", id))
		if err != nil {
			return fmt.Errorf("trace: %w", err)
		}
		_, _ = trace.Write(b) // never fails
	}
	return nil
}

// simulate runs plans of rig S, several at once, and hands each verdict on until one of them says stop.
func (s *suite) simulate(ctx context.Context, plans []episode.Plan, each func(dir string, v *episode.Verdict) (stop bool, err error)) error {
	if len(plans) == 0 {
		return nil
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	batch := bubble.Batch{Path: exe, Args: []string{childVerb}, Processes: min(s.parallel, len(plans)), Limit: simLimit, MemoryBytes: simMemory, Yields: s.yields, Next: s.jobs(plans, end)}
	err = bubble.Run(ctx, batch, func(o bubble.Outcome) {
		dir, v, err := verdict(o)
		if err == nil {
			var enough bool
			if enough, err = each(dir, v); enough && err == nil {
				err = errEnough
			}
		}
		if err != nil {
			end(err)
		}
	})
	err = errors.Join(err, sim.Sweep(""))
	if cause := context.Cause(ctx); errors.Is(cause, errEnough) {
		return nil
	} else if cause != nil {
		return cause
	}
	return err
}

// jobs hands out plans, each with a directory of its own; what goes wrong ends the batch.
func (s *suite) jobs(plans []episode.Plan, end context.CancelCauseFunc) func() ([]byte, bool) {
	next := 0
	return func() ([]byte, bool) {
		if next == len(plans) {
			return nil, false
		}
		p := plans[next]
		next++
		dir, err := s.place(p)
		var b []byte
		if err == nil {
			b, err = json.Marshal(job{p, dir + strings.Repeat("/", max(0, dirLength-len(dir)))})
		}
		if err != nil {
			end(err)
		}
		return b, err == nil
	}
}

// errEnough ends a batch before its last plan.
var errEnough = errors.New("enough was seen")

// verdict is what came of a job. One that ended its process has a verdict too.
func verdict(o bubble.Outcome) (dir string, v *episode.Verdict, err error) {
	var j job
	if err := json.Unmarshal(o.Job, &j); err != nil {
		return "", nil, err
	}
	dir = filepath.Clean(j.Dir)
	ended := func(err error) *episode.Verdict {
		v := episode.Ended(j.Plan, err, o.Output, o.Took)
		v.Repeats = bubble.Repeats
		return v
	}
	if o.Err != nil {
		return dir, ended(o.Err), nil
	}
	var r result
	if err := json.Unmarshal(o.Result, &r); err != nil {
		return dir, nil, fmt.Errorf("seed %d: the child's answer: %w", j.Plan.Seed, err)
	}
	if r.Err != "" {
		return dir, ended(errors.New(r.Err)), nil
	}
	return dir, r.Verdict, nil
}
