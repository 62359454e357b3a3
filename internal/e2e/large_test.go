package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/transport"
)

// The bars of a large shard.
const (
	largeCacheMB    = 256
	largeOverMB     = 300 // RSS above the cache
	largeRestart    = 10 * time.Second
	largeHub        = "hub"
	largeBatch      = 1000
	largeLoaders    = 4
	largeConceptLen = 64 // bytes of content
)

// large is one gridnode process that runs alone on a directory.
type large struct {
	t    *testing.T
	dir  string
	addr string
	cmd  *exec.Cmd
	log  *os.File
	pool *transport.Pool
}

// start runs the node and waits until it serves.
func (l *large) start() time.Duration {
	l.t.Helper()
	ready, said, err := os.Pipe()
	if err != nil {
		l.t.Fatal(err)
	}
	defer ready.Close()
	l.cmd = exec.Command(filepath.Join(binaries, "gridnode"), "--data", l.dir, "--listen", l.addr, "--cache-mb", fmt.Sprint(largeCacheMB))
	l.cmd.Env = append(os.Environ(), "GRID_READY_FD=3")
	l.cmd.ExtraFiles = []*os.File{said}
	l.cmd.Stderr = l.log
	begun := time.Now()
	if err := l.cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	said.Close()
	var word, addr, store string
	if _, err := fmt.Fscanf(ready, "%s %s %s\n", &word, &addr, &store); err != nil {
		b, _ := os.ReadFile(l.log.Name())
		l.t.Fatalf("gridnode did not become ready: %v\n%s", err, b)
	}
	return time.Since(begun)
}

// end stops the node with a signal and waits for it.
func (l *large) end(signal syscall.Signal) {
	l.t.Helper()
	if err := l.cmd.Process.Signal(signal); err != nil {
		l.t.Fatal(err)
	}
	if err := l.cmd.Wait(); signal == syscall.SIGTERM && err != nil {
		l.t.Errorf("gridnode ended with %v", err)
	}
}

// rss is the process's present and highest resident memory, MiB.
func (l *large) rss() (now, peak int) {
	l.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.cmd.Process.Pid))
	if err != nil {
		l.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kib, _ := strconv.Atoi(f[1])
		switch f[0] {
		case "VmRSS:":
			now = kib >> 10
		case "VmHWM:":
			peak = kib >> 10
		}
	}
	return now, peak
}

// within fails the test when the node takes more memory than it should.
func (l *large) within(when string) {
	l.t.Helper()
	now, peak := l.rss()
	l.t.Logf("%s: RSS %d MiB, highest %d MiB", when, now, peak)
	if bar := largeCacheMB + largeOverMB; peak > bar {
		l.t.Errorf("%s: RSS was %d MiB, may be %d", when, peak, bar)
	}
}

// load sends n requests in batches, over several connections.
func (l *large) load(ctx context.Context, what string, n int, request func(i int) any) {
	l.t.Helper()
	begun := time.Now()
	var next atomic.Int64
	var loading sync.WaitGroup
	for range largeLoaders {
		loading.Go(func() {
			pool := transport.NewPool(transport.PoolConfig{Network: transport.TCP()})
			defer pool.Close()
			for {
				first := int(next.Add(largeBatch)) - largeBatch
				if first >= n || l.t.Failed() {
					return
				}
				var b transport.Batch
				for i := first; i < min(n, first+largeBatch); i++ {
					b.Requests = append(b.Requests, transport.Any{Value: request(i)})
				}
				reply, err := transport.Call[transport.BatchOk](ctx, pool, l.addr, &b)
				if err != nil {
					l.t.Errorf("%s from %d: %v", what, first, err)
					return
				}
				for i, r := range reply.Replies {
					if err, bad := r.Value.(error); bad {
						l.t.Errorf("%s %d: %v", what, first+i, err)
						return
					}
				}
				if first/largeBatch%1000 == 0 {
					now, _ := l.rss()
					l.t.Logf("%s: %d, RSS %d MiB", what, first, now)
				}
			}
		})
	}
	loading.Wait()
	took := time.Since(begun)
	l.t.Logf("%s: %d in %v, %.0f/s", what, n, took.Round(time.Second), float64(n)/took.Seconds())
}

func largeID(i int) string { return fmt.Sprintf("concept-%09d", i) }

func largeContent(i int) string {
	return fmt.Sprintf("%-*s", largeConceptLen, fmt.Sprintf("the content of concept number %d", i))
}

// check compares counts, and some concepts all over the shard.
func (l *large) check(ctx context.Context, concepts, edges int) {
	l.t.Helper()
	s, err := transport.Call[transport.StatsOk](ctx, l.pool, l.addr, &transport.GetStats{})
	if err != nil {
		l.t.Fatal(err)
	}
	if s.Concepts != uint64(concepts)+1 || s.Edges != uint64(edges) {
		l.t.Errorf("%d concepts and %d edges, want %d and %d", s.Concepts, s.Edges, concepts+1, edges)
	}
	for i := 0; i < concepts; i += max(1, concepts/1000) {
		q, err := transport.Call[transport.QueryConceptOk](ctx, l.pool, l.addr, &transport.QueryConcept{ConceptID: largeID(i)})
		if err != nil || !q.Found || q.Content != largeContent(i) {
			l.t.Fatalf("concept %d: %+v, %v", i, q, err)
		}
	}
}

// neighbours pages through the hub's edges: each comes once.
func (l *large) neighbours(ctx context.Context, edges int) {
	l.t.Helper()
	begun, pages, slowest := time.Now(), 0, time.Duration(0)
	seen := make([]bool, edges)
	q := &transport.Neighbors{ConceptID: largeHub, Direction: "out", Limit: 10_000}
	for found := 0; ; pages++ {
		at := time.Now()
		page, err := transport.Call[transport.NeighborsOk](ctx, l.pool, l.addr, q)
		if err != nil {
			l.t.Fatal(err)
		}
		slowest = max(slowest, time.Since(at))
		for _, n := range page.Items {
			i, err := strconv.Atoi(strings.TrimPrefix(n.ID, "concept-"))
			if err != nil || i >= edges || seen[i] {
				l.t.Fatalf("neighbour %q is not expected, or came twice", n.ID)
			}
			seen[i] = true
			found++
		}
		if q.Cursor = page.Cursor; q.Cursor == "" {
			if found != edges {
				l.t.Errorf("%d neighbours, want %d", found, edges)
			}
			l.t.Logf("%d neighbours in %d pages in %v, the slowest took %v", found, pages+1, time.Since(begun).Round(time.Millisecond), slowest.Round(time.Millisecond))
			return
		}
	}
}

// TestLargeShard fills one shard of one voter with GRID_E2E_LARGE concepts of 64 bytes, a tenth of them neighbours of one hub,
// and holds the process to its memory and its time to start, also after a kill.
func TestLargeShard(t *testing.T) {
	concepts, err := strconv.Atoi(os.Getenv("GRID_E2E_LARGE"))
	if err != nil {
		t.Skip("GRID_E2E_LARGE says how many concepts; `make e2e-large`")
	}
	edges := concepts / 10
	dir := t.TempDir()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	l := &large{t: t, dir: filepath.Join(dir, "node"), addr: fmt.Sprintf("127.0.0.1:%d", freeBase(t)), log: log,
		pool: transport.NewPool(transport.PoolConfig{Network: transport.TCP()})}
	defer l.pool.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
	defer cancel()
	l.start()
	defer func() { _ = l.cmd.Process.Kill() }()
	l.load(ctx, "hub", 1, func(int) any {
		return &transport.LearnConcept{ConceptID: largeHub, Content: "hub", Strength: 1, Confidence: 1}
	})
	l.load(ctx, "concepts", concepts, func(i int) any {
		return &transport.LearnConcept{ConceptID: largeID(i), Content: largeContent(i), Strength: 1, Confidence: 1}
	})
	l.load(ctx, "edges", edges, func(i int) any {
		return &transport.LearnAssociation{SourceID: largeHub, TargetID: largeID(i), AssocType: 1, Confidence: 1}
	})
	l.within("loaded")
	l.check(ctx, concepts, edges)
	l.neighbours(ctx, edges)
	l.within("read")
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		l.end(signal)
		took := l.start()
		t.Logf("serving %v after a start that followed %v", took.Round(time.Millisecond), signal)
		if took > largeRestart {
			t.Errorf("the start took %v, may take %v", took, largeRestart)
		}
		l.check(ctx, concepts, edges)
		l.neighbours(ctx, edges)
		l.within("restarted")
	}
	l.end(syscall.SIGTERM)
}
