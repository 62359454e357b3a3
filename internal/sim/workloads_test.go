package sim

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/workload"
	"github.com/sutra-grid/sutra-grid/internal/history"
	"github.com/sutra-grid/sutra-grid/transport"
)

// sound is a world as the workloads of the fault suite see one; nothing ever happens to it.
type sound struct{ w *world }

// Layout implements rig.Grid.
func (s sound) Layout() rig.Layout {
	l := rig.Layout{Events: eventsHost + ":50052", Shards: 2, Replicas: 3}
	for _, p := range s.w.peers {
		l.Masters = append(l.Masters, rig.Member{ID: p.ID, Address: p.Grid})
	}
	for _, e := range s.w.settled {
		l.Agents = append(l.Agents, e.id)
	}
	return l
}

func (s sound) Network(client string) transport.Network { return s.w.net.Host(client) }

func (s sound) Inject(context.Context, rig.Fault) (rig.Injected, error) {
	return nil, rig.ErrUnsupported
}
func (s sound) Trouble() []string           { return nil }
func (s sound) Usage() ([]rig.Usage, error) { return nil, errors.ErrUnsupported }
func (s sound) Close() error                { return nil }

// tryout is one run of a workload.
type tryout struct {
	log    *history.Log
	checks []history.Report
	tally  *workload.Tally
}

// try runs a workload on a sound grid for a while; meanwhile happens beside it.
func try(t *testing.T, spec workload.Spec, env workload.Env, lasts time.Duration, meanwhile func(w *world)) (out tryout) {
	t.Helper()
	w := newWorld(t, scenario{seed: 1, masters: 3, estates: 3})
	defer w.close()
	var file bytes.Buffer
	env.Grid, env.History, env.Seed = sound{w}, history.NewRecorder(&file), 1
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	inside, err := workload.NewInspector(ctx, env.Grid)
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	load := spec.New(env)
	if err := load.Setup(ctx); err != nil {
		t.Fatal(err)
	}
	run, stop := context.WithTimeout(ctx, lasts)
	defer stop()
	if meanwhile != nil {
		meanwhile(w)
	}
	if err := errors.Join(load.Run(run), load.Settle(ctx), load.Close(), env.History.Close()); err != nil {
		t.Fatal(err)
	}
	out.tally = load.Tally()
	if out.log, err = history.ReadLog(&file); err != nil {
		t.Fatal(err)
	}
	rest, end := context.WithTimeout(context.Background(), 15*time.Second)
	defer end()
	out.checks = append(load.Check(out.log), inside.Inspect(rest)...)
	return out
}

// inMemory puts the directories of a test into memory, where there is such a place: what a disk does is not what it is about.
func inMemory(t *testing.T) {
	if dir, err := os.MkdirTemp("/dev/shm", "sim-"); err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		t.Setenv("TMPDIR", dir)
	}
}

// TestWorkloads: what the fault suite lets clients do is sound on a sound grid.
func TestWorkloads(t *testing.T) {
	inMemory(t)
	for _, spec := range workload.Workloads() {
		t.Run(spec.ID, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := try(t, spec, workload.Env{Rate: 100}, 2*time.Second, nil)
				for _, r := range got.checks {
					if err := r.Err(); err != nil || r.Checked == 0 {
						t.Error(r)
					}
					t.Log(r)
				}
				if ok, fail, unknown := got.tally.Counts(); ok < 100 || unknown > 0 || ok < fail {
					t.Errorf("%s: too few to prove anything", got.tally)
				}
				again, err := workload.Check(got.log)
				if err != nil || len(again) == 0 {
					t.Errorf("a history judged by itself: %v", err)
				}
				for _, r := range again {
					if err := r.Err(); err != nil {
						t.Error("a history judged by itself:", r)
					}
				}
			})
		})
	}
}

// TestBrokenHarness: a harness that deceives itself is noticed, on a grid that does nothing wrong.
func TestBrokenHarness(t *testing.T) {
	inMemory(t)
	for broken, tt := range map[workload.Broken]struct {
		id        string
		rate      float64
		lasts     time.Duration
		want      []history.Class // any of these
		meanwhile func(w *world)
	}{
		workload.EmptyHistory: {"W4", 50, time.Second, []history.Class{history.Empty}, nil},
		workload.DropsHistory: {"W1", 400, 2 * time.Second, []history.Class{history.Incomplete}, nil},
		workload.UnknownAsFail: {"W4", 40, 20 * time.Second, []history.Class{history.G1a}, func(w *world) { // requests arrive, their answers are lost
			answers := func(l transport.Link) {
				for i := range 10 {
					for _, m := range w.masterHosts() {
						w.net.SetLink(m, clientHost(i), l)
					}
				}
			}
			time.AfterFunc(2*time.Second, func() { answers(transport.Link{Cut: true}) })
			time.AfterFunc(18*time.Second, func() { answers(usual("master", "client")) })
		}},
	} {
		t.Run(string(broken), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				spec, err := workload.Lookup(tt.id)
				if err != nil {
					t.Fatal(err)
				}
				got := try(t, spec, workload.Env{Rate: tt.rate, Broken: broken}, tt.lasts, tt.meanwhile)
				caught := false
				for _, r := range got.checks {
					for _, c := range tt.want {
						caught = caught || r.Has(c)
					}
					t.Log(r)
				}
				if !caught {
					t.Errorf("want one of %v (%s)", tt.want, got.tally)
				}
			})
		})
	}
}
