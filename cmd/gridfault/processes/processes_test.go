package processes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// programs is where TestMain built the programs, with fault points.
var programs string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	if programs = os.Getenv("GRID_FAULT_PROGRAMS"); programs != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "gridfault-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-tags", "faults", "-ldflags=-s -w", "-o", dir+"/", "./cmd/gridmaster", "./cmd/gridagent", "./cmd/gridnode")
	build.Dir = filepath.Join("..", "..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	programs = dir
	return m.Run()
}

// open starts a grid, and ends it with the test; then nothing of it may be left.
func open(t *testing.T, change func(*Config)) *Grid {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Programs, cfg.Dir = programs, t.TempDir()
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	change(&cfg)
	begun := time.Now()
	g, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("open after %v", time.Since(begun).Round(time.Millisecond))
	t.Cleanup(func() {
		begun := time.Now()
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		t.Logf("closed after %v", time.Since(begun).Round(time.Millisecond))
		checkGone(t, g)
		if t.Failed() {
			for path, text := range g.logs.whole {
				t.Logf("--- %s\n%s", path, text[max(0, len(text)-4000):])
			}
		}
	})
	return g
}

// checkGone finds what a closed grid has left.
func checkGone(t *testing.T, g *Grid) {
	t.Helper()
	if _, err := os.Stat(g.run.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its directory: %v", err)
	}
	points, err := mountPoints()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range points {
		if strings.Contains(p, g.run.name) {
			t.Errorf("%s is still mounted", p)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(namespaces, g.run.name+"*")); len(left) > 0 {
		t.Errorf("namespaces are left: %v", left)
	}
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		if line, err := os.ReadFile(path); err == nil && strings.Contains(string(line), g.run.name) {
			t.Errorf("a process is left: %q", line)
		}
	}
}

// serves has the grid take a write and give it back, from now on within a limit.
func serves(t *testing.T, g *Grid, limit time.Duration) {
	t.Helper()
	var masters []string
	for _, m := range g.Layout().Masters {
		masters = append(masters, m.Address)
	}
	pool := transport.NewPool(transport.PoolConfig{Network: g.Network("test")})
	defer pool.Close()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	begun := time.Now()
	if _, err := transport.NewMasters(masters, pool).Call(ctx, concept(begun.UnixNano())); err != nil {
		t.Errorf("it does not serve: %v", err)
	}
	t.Logf("serves after %v", time.Since(begun).Round(time.Millisecond))
}

func concept(n int64) any {
	return &transport.LearnConcept{ConceptID: fmt.Sprintf("concept-%d", n), Content: "is here"}
}

// setting is a write to the masters' log.
func setting(c, n int64) any {
	body, err := event.AppendBody(nil, event.SettingChanged{Key: fmt.Sprintf("test-%d", c), Value: fmt.Sprint(n)})
	if err != nil {
		panic(err)
	}
	return &transport.Propose{Actor: "test", Type: event.TypeSettingChanged, Body: body}
}

// load has a few clients write until the test ends; what becomes of it does not matter.
func load(t *testing.T, g *Grid) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	for c := range int64(6) {
		pool := transport.NewPool(transport.PoolConfig{Network: g.Network(fmt.Sprintf("load-%d", c))})
		masters := g.Layout().Masters
		caller := transport.NewMasters([]string{masters[c%int64(len(masters))].Address}, pool) // each is pinned to one
		running.Go(func() {
			defer pool.Close()
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for n := int64(0); ctx.Err() == nil; n++ {
				limited, cancel := context.WithTimeout(ctx, 5*time.Second)
				_, _ = caller.Call(limited, concept(n<<8+c))
				_, _ = caller.Call(limited, setting(c, n))
				cancel()
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
}

// inject makes a fault happen, waits, and heals it; there must be a proof.
func inject(t *testing.T, g *Grid, f rig.Fault) {
	t.Helper()
	begun := time.Now()
	in, err := g.Inject(t.Context(), f)
	if err != nil {
		t.Fatalf("%s: %v", f.Kind, err)
	}
	began := time.Since(begun)
	hold := time.NewTimer(f.Hold)
	defer hold.Stop()
	<-hold.C
	begun = time.Now()
	proof, err := in.Heal(t.Context())
	if err != nil {
		t.Errorf("%s: %v", f.Kind, err)
	}
	t.Logf("%s %s: begun after %v; healed after %v; proof: %d %s, %s", f.Kind, f.Label, began.Round(time.Millisecond), time.Since(begun).Round(time.Millisecond),
		proof.Count, proof.What, proof.Met)
	if proof.Count == 0 || proof.What == "" || proof.Met == "" {
		t.Errorf("%s: %+v proves nothing", f.Kind, proof)
	}
}

// TestPlain: without namespaces and mounts a grid serves, processes of it are killed, stopped and struck at a point, it serves again,
// and kinds that need more are refused.
func TestPlain(t *testing.T) {
	g := open(t, func(c *Config) { c.Plain, c.Agents = true, 3 })
	if _, err := g.Inject(t.Context(), rig.Fault{Kind: rig.CutLeader}); !errors.Is(err, rig.ErrUnsupported) || !strings.Contains(err.Error(), "netns") {
		t.Errorf("a cut without namespaces: %v", err)
	}
	if _, err := g.Inject(t.Context(), rig.Fault{Kind: rig.KindPoint, Label: "no.such.point", Action: "crash"}); err == nil {
		t.Error("a point that is not there")
	}
	serves(t, g, 10*time.Second)
	load(t, g)
	for _, f := range []rig.Fault{
		{Kind: rig.KillLeader}, {Kind: rig.PauseRandom, Dice: 3}, {Kind: rig.KindPoint, Label: "raft.log.store", Action: "crash", Dice: 4},
	} {
		inject(t, g, f)
		serves(t, g, 10*time.Second)
	}
	usage, err := g.Usage()
	if err != nil || len(usage) < 10 || usage[0].Goroutines == 0 || usage[0].HeapBytes == 0 || usage[0].DiskBytes == 0 || usage[0].Files == 0 {
		t.Errorf("usage: %+v, %v", usage, err)
	}
	for _, line := range g.Trouble() {
		t.Errorf("trouble: %s", line)
	}
	saved := filepath.Join(t.TempDir(), "saved")
	if err := g.Save(saved); err != nil {
		t.Error(err)
	}
	for _, path := range []string{"logs/master-1.log", "logs/agent-2.node.log", "master-3/IDENTITY", "agent-1/agent.json", "events/IDENTITY"} {
		if info, err := os.Stat(filepath.Join(saved, path)); err != nil || info.Size() == 0 {
			t.Errorf("saved %s: %v", path, err)
		}
	}
}
