package given

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/transport"
)

// hooked is a grid that nobody answers for, with a program that writes down how it was called, and then does what body says.
func hooked(t *testing.T, body string) (g *Grid, calls func() string) {
	t.Helper()
	dir := t.TempDir()
	hook, log := filepath.Join(dir, "hook"), filepath.Join(dir, "calls")
	if err := os.WriteFile(hook, []byte("#!/bin/sh\necho $1 $2 >>"+log+"\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Masters: []string{"127.0.0.1:1"}, Hook: hook}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	g = &Grid{cfg: cfg, pool: transport.NewPool(transport.PoolConfig{})}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g, func() string {
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(string(text), "\n", "; ")
	}
}

var cut = rig.Fault{Kind: rig.KindHook, Label: "cut"}

// TestHook: the program begins and ends a fault, the first line that it prints at the end is the proof, and no line is none.
func TestHook(t *testing.T) {
	for body, want := range map[string]rig.Proof{
		`echo "$1 of $2, shown"; echo more; echo trouble >&2`: {What: "end of cut, shown", Count: 1, Met: "cut"},
		`echo trouble >&2`: {Met: "cut"},
		`sleep 2 & echo x`: {What: "x", Count: 1, Met: "cut"}, // it holds the output, and nobody waits for it
	} {
		g, calls := hooked(t, body)
		in, err := g.Inject(t.Context(), cut)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.Inject(t.Context(), cut); err == nil {
			t.Error("a second fault while the first lasts")
		}
		if proof, err := in.Heal(t.Context()); err != nil || proof != want {
			t.Errorf("%s: %+v, %v; want %+v", body, proof, err, want)
		}
		if _, err := in.Heal(t.Context()); err == nil {
			t.Error("it was ended twice")
		}
		if got := calls(); got != "begin cut; end cut; " {
			t.Errorf("%s: called %s", body, got)
		}
	}
}

// TestHookAlwaysEnds: what was begun, in part too, is ended once: when the program fails, when it is killed for its time, when the caller's
// context is over, and when the grid is closed.
func TestHookAlwaysEnds(t *testing.T) {
	g, calls := hooked(t, `[ $1 = end ] || { echo "no such machine" >&2; exit 7; }`)
	if _, err := g.Inject(t.Context(), cut); err == nil || !strings.Contains(err.Error(), "begin cut: exit status 7: no such machine") {
		t.Errorf("a program that fails: %v", err)
	}
	if got := calls(); got != "begin cut; end cut; " {
		t.Errorf("it fails: called %s", got)
	}
	g, calls = hooked(t, `[ $1 = end ] || sleep 60`)
	over, cancel := context.WithCancelCause(t.Context())
	go func() { // its time is over when it has begun
		for t.Context().Err() == nil { // nothing to read: it has not begun
			if text, _ := os.ReadFile(filepath.Join(filepath.Dir(g.cfg.Hook), "calls")); len(text) > 0 {
				cancel(context.DeadlineExceeded)
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	if _, err := g.Inject(over, cut); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "killed") {
		t.Errorf("a program that does not come back: %v", err)
	}
	if got := calls(); got != "begin cut; end cut; " {
		t.Errorf("it was killed: called %s", got)
	}
	g, calls = hooked(t, "")
	if _, err := g.Inject(t.Context(), cut); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(g.Close(), g.Close()); err != nil {
		t.Error(err)
	}
	if _, err := g.Inject(t.Context(), cut); err == nil || calls() != "begin cut; end cut; " {
		t.Errorf("closed: called %s, %v", calls(), err)
	}
}

// TestHookAlone: what rigs of ours do is not done to a grid of others.
func TestHookAlone(t *testing.T) {
	g, _ := hooked(t, "")
	if _, err := g.Inject(t.Context(), rig.Fault{Kind: rig.KillLeader}); !errors.Is(err, rig.ErrUnsupported) {
		t.Errorf("a kill: %v", err)
	}
	if _, err := Open(t.Context(), Config{Masters: []string{"127.0.0.1:1"}}); !errors.Is(err, rig.ErrUnsupported) || !strings.Contains(err.Error(), "127.0.0.1:1 does not answer") {
		t.Errorf("nobody is there: %v", err)
	}
}
