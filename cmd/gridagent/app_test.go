package main

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/agent"
)

// configured is what the flags come to.
func configured(t *testing.T, args ...string) (cfg agent.Config, err error) {
	t.Helper()
	app := &cli.App{Flags: flags(), Writer: io.Discard, ErrWriter: io.Discard, Action: func(c *cli.Context) error {
		cfg, err = config(c, io.Discard)
		return nil
	}}
	if err := app.Run(append([]string{"gridagent", "--id", "agent-1", "--data", t.TempDir(), "--masters", "h:1"}, args...)); err != nil {
		t.Fatal(err)
	}
	return cfg, err
}

// TestLogStore: the nodes are told, and a wrong name is noticed before one is started.
func TestLogStore(t *testing.T) {
	for name, want := range map[string][]string{"": nil, "wal": {"--log-store", "wal"}, "boltdb": {"--log-store", "boltdb"}} {
		if cfg, err := configured(t, "--log-store", name); err != nil || !slices.Equal(cfg.NodeArgs, want) {
			t.Errorf("%q: nodes get %q, %v; want %q", name, cfg.NodeArgs, err, want)
		}
	}
	if _, err := configured(t, "--log-store", "tape"); err == nil || !strings.Contains(err.Error(), `--log-store: log store "tape"; want wal or boltdb`) {
		t.Errorf("tape: %v", err)
	}
}
