package episode

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/workload"
	"github.com/sutra-grid/sutra-grid/internal/history"
)

// setupLimit is how long a fresh grid may take to serve and to hold what workloads begin with.
const setupLimit = 30 * time.Second

// faultLimit is how long a fault may take to begin, and its processes to run again.
const faultLimit = 30 * time.Second

// readable is the length of a load that can be read again, and its feed, within RestLimit. A longer one gets as much more time as it is longer.
const readable = time.Minute

// sampleEvery is how often it is asked what the processes use.
const sampleEvery = 5 * time.Second

// run is one plan on its way.
type run struct {
	grid  rig.Grid
	plan  Plan
	dir   string
	v     *Verdict
	loads []*load
	begun time.Time     // of the load
	ended time.Duration // after begun

	leaders []led // observe's, until the load has ended
}

// load is one workload of a run.
type load struct {
	workload.Workload
	id    string
	rec   *history.Recorder
	file  *os.File
	begun time.Time    // when its history began
	log   *history.Log // set when it is read again, to be judged
}

// Run takes a grid that has just been started, or was given, through a plan. The histories are kept in dir as history-W….jsonl. An error is
// the harness's own; a grid that breaks its promises is a Verdict that is not valid.
func Run(ctx context.Context, g rig.Grid, p Plan, dir string) (*Verdict, error) {
	return RunAnnounced(ctx, g, p, dir, func([]string) {})
}

// RunAnnounced is Run, which says before it writes anything what all that it leaves on the grid will be called (Verdict.Wrote).
func RunAnnounced(ctx context.Context, g rig.Grid, p Plan, dir string, announce func(wrote []string)) (*Verdict, error) {
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	r := &run{grid: g, plan: p, dir: dir, v: &Verdict{Plan: p, Version: version(), Began: time.Now(), Findings: []Finding{}}}
	err := r.open()
	if err == nil {
		announce(r.v.Wrote)
		err = r.live(ctx)
	}
	if err := errors.Join(err, r.close()); err != nil {
		return nil, err
	}
	if err := r.judge(); err != nil {
		return nil, err
	}
	r.v.Took = time.Since(r.v.Began)
	r.v.Valid = len(r.v.Findings) == 0
	return r.v, nil
}

func (r *run) found(rule Rule, what string, at time.Duration, format string, args ...any) {
	r.v.Findings = append(r.v.Findings, Finding{rule, what, fmt.Sprintf(format, args...), at})
}

// open makes the workloads and their histories.
func (r *run) open() error {
	for i, id := range r.plan.Workloads {
		spec, err := workload.Lookup(id)
		if err != nil {
			return err
		}
		f, err := os.Create(r.history(id))
		if err != nil {
			return err
		}
		l := &load{id: id, rec: history.NewRecorder(f), file: f, begun: time.Now()}
		l.Workload = spec.New(workload.Env{Grid: r.grid, History: l.rec, Seed: r.plan.Seed + uint64(i), Clients: r.plan.Clients,
			Rate: r.plan.Rate / float64(len(r.plan.Workloads)), Broken: r.plan.Harness.workload()})
		r.loads = append(r.loads, l)
		r.v.Wrote = append(r.v.Wrote, l.Leaves()...)
	}
	return nil
}

func (r *run) history(id string) string { return History(r.dir, id) }

// History is where a run in dir keeps the history of a workload.
func History(dir, workload string) string { return filepath.Join(dir, "history-"+workload+".jsonl") }

// close writes out the histories.
func (r *run) close() error {
	var errs []error
	for _, l := range r.loads {
		errs = append(errs, l.Close(), l.rec.Close(), l.file.Close())
	}
	return errors.Join(errs...)
}

// live is the load, the faults and the peace behind them.
func (r *run) live(ctx context.Context) error {
	setup, cancel := context.WithTimeout(ctx, setupLimit)
	defer cancel()
	for _, l := range r.loads {
		if err := l.Setup(setup); err != nil {
			return fmt.Errorf("set up %s: %w", l.id, err)
		}
	}
	inside, err := workload.NewInspector(setup, r.grid)
	if err != nil {
		return fmt.Errorf("look at the grid: %w", err)
	}
	r.begun = time.Now()
	loading, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	errs := make([]error, len(r.loads))
	for i, l := range r.loads {
		wg.Go(func() {
			if err := l.Run(loading); err != nil {
				errs[i] = fmt.Errorf("run %s: %w", l.id, err)
			}
		})
	}
	var looking error
	wg.Go(func() { r.sample(loading) })
	wg.Go(func() { looking = r.observe(loading) })
	if err = r.faults(ctx); err == nil {
		r.more(ctx)
	}
	stop()
	wg.Wait()
	r.ended = time.Since(r.begun)
	if err := errors.Join(append(errs, err, looking)...); err != nil {
		return errors.Join(err, inside.Close())
	}
	r.settle(ctx, inside)
	return errors.Join(ctx.Err(), inside.Close())
}

// faults lets the faults happen: one after the other, and one under all others if that is planned.
func (r *run) faults(ctx context.Context) error {
	if err := wait(ctx, r.plan.Warm); err != nil {
		return err
	}
	var under *lasting
	if f := r.plan.Under; f != nil {
		var err error
		if under, err = r.begin(ctx, *f); err != nil {
			return fmt.Errorf("fault %s: %w", f.Name(), err)
		}
	}
	var errs []error
	for _, f := range r.plan.Faults {
		if err := r.fault(ctx, f); err != nil {
			errs = append(errs, fmt.Errorf("fault %s: %w", f.Name(), err))
			break
		}
	}
	if under != nil {
		if err := r.end(ctx, under); err != nil {
			errs = append(errs, fmt.Errorf("fault %s: %w", under.shown.Kind, err))
		}
	}
	return errors.Join(errs...)
}

// more loads on behind the faults where a slow machine has not done as much yet as can be judged by.
func (r *run) more(ctx context.Context) {
	done := func() (ok int) {
		for _, l := range r.loads {
			n, _, _ := l.Tally().Counts()
			ok += n
		}
		return ok
	}
	until := time.Now().Add(MoreTime)
	for done() < LeastOK && time.Now().Before(until) {
		if wait(ctx, tick) != nil {
			return
		}
	}
}

// fault is one fault from its beginning to the end of the rest behind it.
func (r *run) fault(ctx context.Context, f rig.Fault) error {
	l, err := r.begin(ctx, f)
	if err != nil || l == nil {
		return err
	}
	_ = wait(ctx, f.Hold) // what was begun is healed in any case
	return r.end(ctx, l)
}

// lasting is a fault that lasts.
type lasting struct {
	rig.Injected
	shown Shown
}

// begin makes a fault happen; nil: it could not be made, which is found.
func (r *run) begin(ctx context.Context, f rig.Fault) (*lasting, error) {
	limit, cancel := context.WithTimeout(ctx, faultLimit)
	defer cancel()
	injected, err := r.inject(limit, f)
	if err == nil { // whatever has become of ctx: what was begun is healed
		return &lasting{injected, Shown{Fault: f, Began: time.Since(r.begun)}}, nil
	}
	if errors.Is(err, rig.ErrUnsupported) || ctx.Err() != nil {
		return nil, err
	}
	if errors.Is(err, rig.ErrNotMet) {
		r.v.NotMet = append(r.v.NotMet, err.Error())
		return nil, nil
	}
	r.found(RuleHarness, f.Name(), time.Since(r.begun), "the fault could not be made: %v", err)
	return nil, nil
}

// end heals a fault and judges what was seen of it.
func (r *run) end(ctx context.Context, l *lasting) error {
	end := time.Now()
	heal, cancel := context.WithTimeout(context.WithoutCancel(ctx), faultLimit)
	defer cancel()
	var err error
	if l.shown.Proof, err = l.Heal(heal); err != nil {
		return fmt.Errorf("heal: %w", err)
	}
	healed := time.Now()
	l.shown.Healed = healed.Sub(r.begun)
	r.await(ctx, healed, l.shown.Rest)
	r.judgeFault(&l.shown, end, healed)
	r.v.Faults = append(r.v.Faults, l.shown)
	return ctx.Err()
}

// await rests behind a fault: for as long as is planned, and until an operation has succeeded or is overdue.
func (r *run) await(ctx context.Context, healed time.Time, rest time.Duration) {
	_ = wait(ctx, rest)
	if r.back(healed) >= 0 {
		return
	}
	_ = wait(ctx, RecoveryLimit-time.Since(healed)+tick)
}

// back is how long the slowest workload took for its first success behind a moment; below zero: it has had none yet.
func (r *run) back(healed time.Time) time.Duration {
	worst := time.Duration(0)
	for _, l := range r.loads {
		first, ok := l.Tally().FirstOKAfter(healed)
		if !ok {
			return -1
		}
		worst = max(worst, first.Sub(healed))
	}
	return worst
}

// settle lets every workload do its final reads, in time, and then looks at the grid from inside.
func (r *run) settle(ctx context.Context, inside *workload.Inspector) {
	rest := RestLimit + max(0, r.ended-readable)
	limit, cancel := context.WithTimeout(ctx, rest)
	defer cancel()
	for _, l := range r.loads {
		if err := l.Settle(limit); err != nil {
			r.found(RuleRest, l.id, time.Since(r.begun), "%s had not come to rest %s after the last fault: %v", l.id, rest, err)
		}
	}
	r.judgeReports("inside", inside.Inspect(limit))
	if given := r.grid.Layout().Given; given != nil {
		r.v.LeftOut = append(r.v.LeftOut, given.LeftOut...)
	}
	r.v.LeftOut = append(r.v.LeftOut, inside.LeftOut()...)
}

// sample notes what the processes use until ctx ends.
func (r *run) sample(ctx context.Context) {
	for {
		usage, err := r.grid.Usage()
		if err == nil && len(usage) > 0 {
			r.v.Usage = append(r.v.Usage, Sample{time.Since(r.begun), usage})
		}
		if wait(ctx, sampleEvery) != nil {
			return
		}
	}
}

// wait sleeps in the rig's time, at most until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// version is the commit that the suite was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return info.Main.Version
}
