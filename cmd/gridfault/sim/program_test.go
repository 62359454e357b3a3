package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/bubble"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
)

// childMark makes this test binary the child of a batch: an ordinary program, as far as package bubble is concerned.
const childMark = "GRIDFAULT_SIM_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childMark) != "" {
		bubble.Serve(func(ctx context.Context, job []byte) []byte {
			said, err := serveOnce(ctx, job)
			if err != nil {
				return fmt.Appendf(nil, "%q", err.Error())
			}
			return said
		})
	}
	os.Exit(m.Run())
}

// serveOnce opens a grid, takes its leader away for a moment, and closes it.
func serveOnce(ctx context.Context, job []byte) (_ []byte, err error) {
	cfg := DefaultConfig()
	if err := json.Unmarshal(job, &cfg.Seed); err != nil {
		return nil, err
	}
	bubble.Settle(cfg.Seed)
	cfg.Replicas, cfg.Agents, cfg.Trace = 1, 2, NewTrace(nil)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	g, err := Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	err = try(ctx, g, rig.Fault{Kind: rig.KillLeader, Hold: time.Second})
	if e := g.Close(); err == nil {
		err = e
	}
	if err != nil {
		return nil, err
	}
	return []byte(cfg.Trace.String()), nil
}

// TestProgram: grids run in children of a program, a batch of seeds in each.
func TestProgram(t *testing.T) {
	seed := 0
	err := bubble.Run(t.Context(), bubble.Batch{Path: os.Args[0], Env: []string{childMark + "=1"}, Processes: 1, Limit: time.Minute,
		Next: func() ([]byte, bool) { seed++; return fmt.Append(nil, seed), seed <= 2 },
	}, func(o bubble.Outcome) {
		if o.Err != nil || !strings.Contains(string(o.Result), " of ") {
			t.Errorf("seed %s: %s, %v\n%s", o.Job, o.Result, o.Err, o.Output)
		}
		t.Logf("seed %s: %s", o.Job, o.Took)
	})
	if err != nil {
		t.Fatal(err)
	}
}
