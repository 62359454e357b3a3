package sim

import (
	"bytes"
	"context"
	"errors"
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

// TestWorkloads: what the fault suite lets clients do is sound on a sound grid.
func TestWorkloads(t *testing.T) {
	for _, spec := range workload.Workloads() {
		t.Run(spec.ID, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, scenario{seed: 1, masters: 3, estates: 3})
				defer w.close()
				var file bytes.Buffer
				record := history.NewRecorder(&file)
				load := spec.New(workload.Env{Grid: sound{w}, History: record, Seed: 1, Rate: 100})
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				inside, err := workload.NewInspector(ctx, sound{w})
				if err != nil {
					t.Fatal(err)
				}
				defer inside.Close()
				if err := load.Setup(ctx); err != nil {
					t.Fatal(err)
				}
				begun := time.Now()
				run, stop := context.WithTimeout(ctx, 2*time.Second)
				defer stop()
				if err := errors.Join(load.Run(run), load.Settle(ctx), load.Close(), record.Close()); err != nil {
					t.Fatal(err)
				}
				log, err := history.ReadLog(&file)
				if err != nil {
					t.Fatal(err)
				}
				rest, end := context.WithTimeout(context.Background(), 15*time.Second)
				defer end()
				for _, r := range append(load.Check(log), inside.Inspect(rest)...) {
					if err := r.Err(); err != nil || r.Checked < 1 {
						t.Error(r)
					}
					t.Log(r)
				}
				if ok, all := load.Tally().Window(begun, time.Now()); ok < 100 || ok*10 < all*6 {
					t.Errorf("%d of %d requests were answered: too few to prove anything", ok, all)
				}
				t.Logf("%s, %d bytes", load.Tally(), file.Cap())
			})
		})
	}
}
