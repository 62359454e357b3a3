package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/internal/history"
	"github.com/sutra-grid/sutra-grid/transport"
)

const (
	crowd   = 64 // clients that contend
	hot     = 10
	uniform = 100_000
)

// rush is what a crowd got done.
type rush struct {
	seconds            []atomic.Int64 // commits in each
	committed, aborted atomic.Int64
	other              atomic.Int64 // neither, for sure
}

func (r *rush) abortRate() float64 {
	return float64(r.aborted.Load()) / float64(max(1, r.aborted.Load()+r.committed.Load()))
}

// stampede lets a crowd run transactions of two operations for a while, each drawn by its client.
func stampede(t *testing.T, g *grid, lasts time.Duration, draw func(*rand.Rand) []transport.Op) *rush {
	t.Helper()
	r := &rush{seconds: make([]atomic.Int64, int(lasts.Seconds()))}
	libraries := make([]*client.Client, 8)
	for i := range libraries {
		c, err := client.New(client.Config{Masters: slices.Concat(g.masters()[i%3:], g.masters()[:i%3]), Network: transport.TCP()})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		libraries[i] = c
	}
	begun := time.Now()
	var wg sync.WaitGroup
	for i := range crowd {
		rng := rand.New(rand.NewPCG(uint64(i), 5))
		wg.Go(func() {
			for time.Since(begun) < lasts {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				_, err := libraries[i%len(libraries)].Do(ctx, &transport.Txn{Ops: draw(rng)})
				cancel()
				switch second := int(time.Since(begun).Seconds()); {
				case err == nil:
					r.committed.Add(1)
					if second < len(r.seconds) {
						r.seconds[second].Add(1)
					}
				case history.Aborted(err):
					r.aborted.Add(1)
				default:
					r.other.Add(1)
					t.Logf("%v", err)
				}
			}
		})
	}
	wg.Wait()
	return r
}

// TestContention: 64 clients move units between 10 concepts that all of them want: somebody gets through in every second, and nothing
// is made or lost. On 100,000 concepts next to nobody is in another one's way.
func TestContention(t *testing.T) {
	lasts := span(t, "GRID_CONTENTION", 5*time.Second)
	g := startGrid(t)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := client.New(client.Config{Masters: g.masters(), Network: transport.TCP()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var open, read []transport.Op
	for k := range hot {
		id := fmt.Sprintf("hot-%d", k)
		open, read = append(open, learn(id, nil)), append(read, transport.Op{Kind: transport.OpRead, ID: id})
	}
	if _, err := c.Do(ctx, &transport.Txn{Ops: open}); err != nil {
		t.Fatal(err)
	}
	r := stampede(t, g, lasts, func(rng *rand.Rand) []transport.Op {
		k := rng.Perm(hot)
		return []transport.Op{
			{Kind: transport.OpAdd, ID: fmt.Sprintf("hot-%d", k[0]), Key: "n", Number: -1},
			{Kind: transport.OpAdd, ID: fmt.Sprintf("hot-%d", k[1]), Key: "n", Number: 1},
		}
	})
	least := r.seconds[0].Load()
	for i := range r.seconds {
		least = min(least, r.seconds[i].Load())
	}
	t.Logf("%d clients on %d concepts, %v: %d committed, at least %d in each second; %d aborted (%.2f %%), %d unknown", crowd, hot, lasts, r.committed.Load(), least, r.aborted.Load(), 100*r.abortRate(), r.other.Load())
	if least == 0 {
		t.Error("there is a second in which nobody got through")
	}
	ctx, cancel = context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ok, err := transport.As[transport.TxnOk](c.Do(ctx, &transport.Txn{Ops: read}))
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, res := range ok.Results {
		var n int
		if text := res.Attributes["n"]; text != "" {
			if _, err := fmt.Sscan(text, &n); err != nil {
				t.Fatal(err)
			}
		}
		total += n
	}
	if total != 0 {
		t.Errorf("the concepts hold %d together, not 0", total)
	}
	u := stampede(t, g, lasts, func(rng *rand.Rand) []transport.Op {
		return []transport.Op{learn(fmt.Sprintf("key-%d", rng.IntN(uniform)), nil), learn(fmt.Sprintf("key-%d", rng.IntN(uniform)), nil)}
	})
	t.Logf("%d clients on %d concepts, %v: %d committed, %d aborted (%.3f %%), %d unknown", crowd, uniform, lasts, u.committed.Load(), u.aborted.Load(), 100*u.abortRate(), u.other.Load())
	if u.abortRate() >= 0.001 || u.committed.Load() < 100 {
		t.Errorf("%.3f %% of the transactions were aborted", 100*u.abortRate())
	}
}
