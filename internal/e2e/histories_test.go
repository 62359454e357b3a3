package e2e

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/internal/history"
	"github.com/sutra-grid/sutra-grid/transport"
)

// span is how long a test under load lasts: what the variable says, or the usual.
func span(t *testing.T, variable string, usual time.Duration) time.Duration {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return usual
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return d
}

// TestHistories: clients of a whole grid of processes append to lists, write registers and transfer money, over four shards of three
// replicas and through all masters, while one process after the other is killed, some where they take a step of a transaction. What they
// were told is what a machine could have told them that does one transaction after the other. docs/testing.md says how to read a failure.
func TestHistories(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it kills processes for a minute")
	}
	lasts := span(t, "GRID_HISTORIES", time.Minute)
	g := newArmed(t)
	g.start()
	path := filepath.Join(t.TempDir(), "history.jsonl")
	if keep := os.Getenv("GRID_HISTORY_FILE"); keep != "" {
		path = keep
	}
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	record := history.NewRecorder(file)
	load := newTxnLoad(t, record, context.Background())
	ways := g.ways()
	load.start(ways)
	n := &nemesis{armed: g, rng: rand.New(rand.NewPCG(1, 2)), killed: map[string]int{}, deaths: map[string]int{}}
	ctx, cancel := context.WithTimeout(context.Background(), lasts)
	defer cancel()
	n.run(ctx, txnLabels)
	load.end(ways[1])
	if err := record.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s; %d transactions committed, %d aborted, %d unknown, %d times asked again", n, load.committed.Load(), load.aborted.Load(), load.unknown.Load(), load.repeated.Load())
	judge(t, path, int(lasts.Seconds()))
	if len(n.killed) == 0 {
		t.Error("nobody was killed: this test tests nothing")
	}
}

// ways is how each client reaches the grid.
func (g *grid) ways() (all [][]sender) {
	g.t.Helper()
	masters := g.masters()
	for i := range workers {
		first := i % len(masters)
		turned := append(append([]string{}, masters[first:]...), masters[:first]...)
		if i%2 == 0 {
			c, err := client.New(client.Config{Masters: turned, Network: transport.TCP()})
			if err != nil {
				g.t.Fatal(err)
			}
			g.t.Cleanup(func() { c.Close() })
			all = append(all, throughLibrary(c))
			continue
		}
		pool := transport.NewPool(transport.PoolConfig{Network: transport.TCP()})
		g.t.Cleanup(func() { pool.Close() })
		all = append(all, throughMasters(pool, turned))
	}
	return all
}

// judge lets all checkers look at a history of so many seconds.
func judge(t *testing.T, path string, seconds int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h, err := history.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	having := func(prefix string) history.Concepts {
		return func(id string) bool { return strings.HasPrefix(id, prefix) }
	}
	money := history.Accounts{Key: "balance", Total: accounts * deposit}
	for k := range accounts {
		money.IDs = append(money.IDs, accountID(k))
	}
	begun := time.Now()
	for _, r := range []history.Report{
		history.Lists(h, having("list-")),
		history.Linear(h, history.LinearConfig{Of: having("register-"), Timeout: time.Minute}),
		history.Bank(h, money),
	} {
		if err := r.Err(); err != nil {
			t.Error(err)
			if keep := os.Getenv("GRID_HISTORY_FILE"); keep == "" {
				t.Log("GRID_HISTORY_FILE=path keeps the next history")
			}
		}
		if r.Checked < seconds/2 {
			t.Errorf("too little happened to prove anything: %s", r)
		}
		t.Log(r)
	}
	t.Logf("%d transactions were judged in %v", len(h), time.Since(begun).Round(time.Millisecond))
}
