package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/transport"
)

// patience is how much virtual time may pass before what must happen has not.
const patience = time.Minute

// inGrid runs f in a grid that serves.
func inGrid(t *testing.T, cfg Config, f func(t *testing.T, g *Grid)) {
	t.Helper()
	cfg.Dir = t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		g, err := Open(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := g.Close(); err != nil {
				t.Error(err)
			}
			for _, line := range g.Trouble() {
				t.Errorf("trouble: %s", line)
			}
			if t.Failed() {
				t.Log(g.Tail())
			}
		}()
		f(t, g)
	})
}

// user writes and reads over all shards until it is stopped, and knows what was acknowledged.
type user struct {
	g    *Grid
	sdk  *client.Client
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu    sync.Mutex
	acked []string // guarded by mu
}

func newUser(t *testing.T, g *Grid, name string, at int, pause time.Duration) *user {
	t.Helper()
	cfg := client.Config{Network: g.Network(name), Log: slog.New(slog.DiscardHandler)}
	cfg.Masters = []string{g.Layout().Masters[at].Address}
	sdk, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	u := &user{g: g, sdk: sdk}
	ctx, cancel := context.WithCancel(context.Background())
	u.stop = cancel
	t.Cleanup(func() {
		cancel()
		u.wg.Wait()
		if err := sdk.Close(); err != nil {
			t.Error(err)
		}
	})
	u.wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			u.write(ctx, fmt.Sprintf("%s-%d", name, i))
			rest(ctx, pause)
		}
	})
	return u
}

func (u *user) write(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	ids := []string{id, id + "-b", id + "-c"} // over all shards, most of the time
	var ops []transport.Op
	for _, id := range ids {
		ops = append(ops, transport.Op{Kind: transport.OpLearnConcept, ID: id, Content: id, Strength: 1, Confidence: 1})
	}
	if _, err := u.sdk.Txn(ctx, ops); err == nil {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.acked = append(u.acked, ids...)
	}
}

// end stops the user and compares what is there with what was acknowledged.
func (u *user) end(t *testing.T) {
	t.Helper()
	u.stop()
	u.wg.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	have, err := u.sdk.IDs(ctx)
	if err != nil {
		t.Error(err)
	}
	slices.Sort(have)
	for _, id := range u.acked {
		if _, there := slices.BinarySearch(have, id); !there {
			t.Errorf("%s was acknowledged, and is gone", id)
		}
	}
}

// done is how many writes were acknowledged so far.
func (u *user) done() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.acked)
}

// recovers waits until the user is served again.
func (u *user) recovers(t *testing.T) {
	t.Helper()
	before := u.done()
	for began := time.Now(); u.done() < before+3; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatalf("nobody is served %s after the fault was healed", patience)
		}
	}
}

// TestGridServes: without faults every request is answered, the masters' states agree, and nothing is said to be wrong.
func TestGridServes(t *testing.T) {
	for _, replicas := range []uint32{1, 3} {
		cfg := DefaultConfig()
		cfg.Seed, cfg.Replicas = 1, replicas
		inGrid(t, cfg, func(t *testing.T, g *Grid) {
			began := time.Now()
			u := newUser(t, g, "user", 0, 100*time.Millisecond)
			time.Sleep(3 * time.Second)
			u.end(t)
			if n := u.done(); n < 25 {
				t.Errorf("%d writes within %s", n, time.Since(began))
			}
			if n := g.states.compared(); n < 10 {
				t.Errorf("%d states were compared", n)
			}
			usage, err := g.Usage()
			if err != nil || len(usage) != 1 || usage[0].Goroutines < 50 || usage[0].Files < 10 || usage[0].DiskBytes == 0 || usage[0].HeapBytes == 0 {
				t.Errorf("%+v, %v", usage, err)
			}
		})
	}
}

// TestEveryKind: each fault shows that it happened, and when it is healed the grid serves again with all that it acknowledged.
func TestEveryKind(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Seed = 2
	inGrid(t, cfg, func(t *testing.T, g *Grid) {
		var users []*user
		for i := range g.Layout().Masters {
			users = append(users, newUser(t, g, fmt.Sprintf("user-%d", i), i, 200*time.Millisecond))
		}
		for i, spec := range rig.Kinds() {
			f := rig.Fault{Kind: spec.Kind, Dice: uint64(i), Hold: 2 * time.Second}
			if f.Kind == rig.KindPoint {
				f.Label, f.Action, f.Dice = "txn.decide.before", "crash", 0
			}
			if !Able(spec.Kind) {
				if _, err := g.Inject(t.Context(), f); !errors.Is(err, rig.ErrUnsupported) {
					t.Errorf("%s: %v, want unsupported", f.Kind, err)
				}
				continue
			}
			if err := live(t, g, users, f); err != nil {
				t.Fatalf("%s: %v", f.Kind, err)
			}
		}
		for _, u := range users {
			u.end(t)
		}
	})
}

// live lives through one fault under load, until all is well again.
func live(t *testing.T, g *Grid, users []*user, f rig.Fault) error {
	t.Helper()
	if err := try(t.Context(), g, f); err != nil {
		return err
	}
	for _, u := range users {
		u.recovers(t)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return errors.Join(g.whole(ctx), g.shipped(ctx))
}

// try injects a fault, holds it, heals it, and wants its proof.
func try(ctx context.Context, g *Grid, f rig.Fault) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	in, err := g.Inject(ctx, f)
	if err != nil {
		return err
	}
	time.Sleep(f.Hold)
	proof, err := in.Heal(ctx)
	if err != nil {
		return err
	}
	if proof.Count == 0 || proof.Met == "" || proof.What == "" {
		return fmt.Errorf("no proof: %+v", proof)
	}
	if _, err := in.Heal(ctx); err == nil {
		return errors.New("it was healed twice")
	}
	return nil
}

// TestPauseOfAnIdleProcess: that one stands still is shown though nobody has a word for it.
func TestPauseOfAnIdleProcess(t *testing.T) {
	inGrid(t, DefaultConfig(), func(t *testing.T, g *Grid) {
		host := g.homes[len(g.homes)-1].host()
		for _, tt := range []struct {
			what   string
			change func(*transport.Link)
			want   bool
		}{
			{"it stands still", func(l *transport.Link) { l.Cut = true }, true},
			{"it does not", func(*transport.Link) {}, false},
		} {
			pause := network(func(*Grid, *rand.Rand) (*effect, string, error) {
				e := cut(alone(host))
				e.change, e.idle = tt.change, net.JoinHostPort(host, "1")
				return e, host, nil
			})
			in, err := pause(g, t.Context(), rig.Fault{Kind: rig.PauseRandom})
			if err != nil {
				t.Fatal(err)
			}
			if err := in.heal(t.Context()); err != nil || in.count > 0 != tt.want {
				t.Errorf("%s: %d shown, want some: %v; %v", tt.what, in.count, tt.want, err)
			}
		}
	})
}
