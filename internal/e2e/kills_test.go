package e2e

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// graph is what the input file says: the truth the grid is compared with.
type graph struct {
	lines    []string
	concepts map[string]string // id -> content
	out, in  map[string]map[edge]bool
	edges    int
}

// edge is an association seen from one end.
type edge struct {
	other string
	typ   string
}

func readGraph(t *testing.T, path string) *graph {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	g := &graph{concepts: map[string]string{}, out: map[string]map[edge]bool{}, in: map[string]map[edge]bool{}}
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 16<<20)
	for sc.Scan() {
		g.lines = append(g.lines, sc.Text())
		g.add(t, sc.Bytes())
	}
	if err := sc.Err(); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *graph) add(t *testing.T, line []byte) {
	t.Helper()
	var j struct {
		Concept     *struct{ ID, Content string }
		Association *struct{ Source, Target, Type string }
	}
	if err := json.Unmarshal(line, &j); err != nil {
		t.Fatal(err)
	}
	if j.Concept != nil {
		g.concepts[j.Concept.ID] = j.Concept.Content
		return
	}
	a := j.Association
	if !put(g.out, a.Source, edge{a.Target, a.Type}) {
		return
	}
	put(g.in, a.Target, edge{a.Source, a.Type})
	g.edges++
}

func put(m map[string]map[edge]bool, id string, e edge) (isNew bool) {
	if m[id] == nil {
		m[id] = map[edge]bool{}
	}
	isNew = !m[id][e]
	m[id][e] = true
	return isNew
}

func inputFile() string {
	if f := os.Getenv("GRID_E2E_FILE"); f != "" {
		return f
	}
	return filepath.Join("..", "..", "testdata", "wordnet-sample.ndjson")
}

// TestImportSurvivesKills imports through gridctl while the leading master, an agent and a storage node are killed with
// SIGKILL, each at a known place in the file.
func TestImportSurvivesKills(t *testing.T) {
	want := readGraph(t, inputFile())
	g := startGrid(t)
	var kills []func() string
	kills = append(kills, g.killLeader, g.killAgent, g.killNode)
	begun := time.Now()
	lastKill := g.importWithKills(want, kills)
	t.Logf("import of %d lines with three kills took %v", len(want.lines), time.Since(begun).Round(time.Millisecond))

	healthy := eventually(t, time.Until(lastKill.Add(60*time.Second)), "status healthy", func() (bool, string) {
		var st transport.ClusterStatus
		g.ctlJSON(&st, "status")
		return st.Level == "healthy" && st.FeedLagEvents == 0, fmt.Sprintf("%s (%s), feed lag %d", st.Level, st.Reason, st.FeedLagEvents)
	})
	t.Logf("healthy %v after the import's end, %v after the last kill", healthy.Round(time.Millisecond), time.Since(lastKill).Round(time.Millisecond))
	g.checkData(want)
	g.checkFeed(map[event.Type]int{event.TypeNodeCrashed: 1, event.TypeNodeRestarted: 1, event.TypeLeaderElected: 2, event.TypeIncarnationStarted: 1})
	g.checkRestart(want)
}

// importWithKills writes the file into `gridctl import -` and kills at 1/4, 2/4 and 3/4 of it; it returns the time of the last kill.
func (g *grid) importWithKills(want *graph, kills []func() string) time.Time {
	g.t.Helper()
	cmd := g.command("import", "-")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		g.t.Fatal(err)
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	w := bufio.NewWriter(stdin)
	var last time.Time
	for i, line := range want.lines {
		if part := len(want.lines) / (len(kills) + 1); i > 0 && i%part == 0 && i/part <= len(kills) {
			if err := w.Flush(); err != nil {
				g.t.Fatalf("import ended early: %v\n%s", err, out.String())
			}
			g.t.Logf("line %d: %s", i, kills[i/part-1]())
			last = time.Now()
		}
		if _, err := w.WriteString(line + "\n"); err != nil {
			g.t.Fatalf("import ended early: %v\n%s", err, out.String())
		}
	}
	if err := w.Flush(); err != nil {
		g.t.Fatal(err)
	}
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		g.t.Fatalf("import: %v\n%s", err, out.String())
	}
	g.t.Logf("gridctl import: %s", strings.TrimSpace(out.String()))
	return last
}

func (g *grid) kill(pid int) {
	g.t.Helper()
	if pid == 0 {
		g.t.Fatal("the process to kill is down")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		g.t.Fatalf("kill %d: %v", pid, err)
	}
}

func (g *grid) killLeader() string {
	var peers []transport.Peer
	g.ctlJSON(&peers, "raft", "peers")
	for _, p := range peers {
		for _, m := range g.dev().Masters {
			if p.Leader && m.ID == string(p.ID) {
				g.kill(m.PID)
				return "killed the leading master, " + m.ID
			}
		}
	}
	g.t.Fatalf("no leader among %+v", peers)
	return ""
}

func (g *grid) killAgent() string {
	a := g.dev().Agents[0]
	g.kill(a.PID)
	return "killed " + a.ID
}

func (g *grid) killNode() string {
	nodes := g.dev().Nodes
	n := nodes[len(nodes)-1]
	g.kill(n.PID)
	return "killed " + n.ID
}

// checkData compares all of the grid with the file: the counts, every concept, every association from both ends.
func (g *grid) checkData(want *graph) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	store, err := client.New(client.Config{Masters: g.masters(), Network: transport.TCP()})
	if err != nil {
		g.t.Fatal(err)
	}
	defer store.Close()
	stats := g.statsThroughMaster(ctx)
	if int(stats.Concepts) != len(want.concepts) || int(stats.Edges) != want.edges {
		g.t.Errorf("stats: %d concepts, %d edges; the file has %d and %d", stats.Concepts, stats.Edges, len(want.concepts), want.edges)
	}
	names := g.typeNames(ctx)
	ids := make([]string, 0, len(want.concepts))
	for id := range want.concepts {
		ids = append(ids, id)
	}
	sort.Strings(ids)
	var wg sync.WaitGroup
	var faults sync.Map
	next := make(chan string)
	for range 32 {
		wg.Go(func() {
			for id := range next {
				if err := checkConcept(ctx, store, want, names, id); err != nil {
					faults.Store(id, err)
				}
			}
		})
	}
	for _, id := range ids {
		next <- id
	}
	close(next)
	wg.Wait()
	n := 0
	faults.Range(func(id, err any) bool {
		g.t.Errorf("%s: %v", id, err)
		n++
		return n < 20
	})
}

func (g *grid) statsThroughMaster(ctx context.Context) *transport.StatsOk {
	g.t.Helper()
	pool := transport.NewPool(transport.PoolConfig{Network: transport.TCP()})
	defer pool.Close()
	stats, err := transport.Call[transport.StatsOk](ctx, pool, g.masters()[0], &transport.GetStats{})
	if err != nil {
		g.t.Fatalf("GetStats through a master: %v", err)
	}
	return stats
}

func (g *grid) typeNames(ctx context.Context) map[uint32]string {
	g.t.Helper()
	pool := transport.NewPool(transport.PoolConfig{Network: transport.TCP()})
	defer pool.Close()
	r, err := transport.Call[transport.AssociationTypesOk](ctx, pool, g.masters()[0], &transport.AssociationTypes{})
	if err != nil {
		g.t.Fatalf("association types: %v", err)
	}
	names := map[uint32]string{}
	for i, n := range r.Numbers {
		names[n] = r.Names[i]
	}
	return names
}

func checkConcept(ctx context.Context, store *client.Client, want *graph, names map[uint32]string, id string) error {
	reply, err := store.Do(ctx, &transport.QueryConcept{ConceptID: id})
	if err != nil {
		return err
	}
	if q := reply.(*transport.QueryConceptOk); !q.Found || q.Content != want.concepts[id] {
		return fmt.Errorf("found %v with content %q, want %q", q.Found, q.Content, want.concepts[id])
	}
	if err := checkEdges(ctx, store, id, "out", want.out[id], names); err != nil {
		return err
	}
	return checkEdges(ctx, store, id, "in", want.in[id], names)
}

func checkEdges(ctx context.Context, store *client.Client, id, direction string, want map[edge]bool, names map[uint32]string) error {
	got := map[edge]bool{}
	req := &transport.Neighbors{ConceptID: id, Direction: direction}
	for {
		reply, err := store.Do(ctx, req)
		if err != nil {
			return err
		}
		page := reply.(*transport.NeighborsOk)
		for _, n := range page.Items {
			e := edge{n.ID, names[n.Type]}
			if got[e] {
				return fmt.Errorf("%s edge %+v is there twice", direction, e)
			}
			if !want[e] {
				return fmt.Errorf("%s edge %+v is not in the file", direction, e)
			}
			got[e] = true
		}
		if page.Cursor == "" {
			break
		}
		req.Cursor = page.Cursor
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d %s edges, want %d", len(got), direction, len(want))
	}
	return nil
}

// checkFeed reads event storage from seq 1 to the end: no gap, the chain unbroken, and at least so many events of each type.
func (g *grid) checkFeed(atLeast map[event.Type]int) uint64 {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	pool := transport.NewPool(transport.PoolConfig{Network: transport.TCP()})
	defer pool.Close()
	counts := map[event.Type]int{}
	var st transport.ClusterStatus
	g.ctlJSON(&st, "status") // before the reading: events go on
	var chain event.Chain
	var last uint64
	for {
		page := g.feedPage(ctx, pool, last+1)
		for _, e := range page {
			if e.Seq != last+1 {
				g.t.Fatalf("event storage: %d follows %d", e.Seq, last)
			}
			if err := event.Verify(chain, e); err != nil {
				g.t.Fatalf("event storage: %v", err)
			}
			chain = e.Chain
			counts[e.Type]++
			last = e.Seq
		}
		if len(page) < feedPageSize {
			break
		}
	}
	if last < st.Seq-st.FeedLagEvents {
		g.t.Errorf("event storage ends at %d; the masters are at %d with a lag of %d", last, st.Seq, st.FeedLagEvents)
	}
	for typ, n := range atLeast {
		if counts[typ] < n {
			g.t.Errorf("event storage has %d %v events, want at least %d; all: %v", counts[typ], typ, n, counts)
		}
	}
	g.t.Logf("event storage: 1 to %d without a gap, chain unbroken", last)
	return last
}

const feedPageSize = 500

func (g *grid) feedPage(ctx context.Context, pool *transport.Pool, from uint64) []*event.Envelope {
	g.t.Helper()
	var batch transport.Batch
	for seq := from; seq < from+feedPageSize; seq++ {
		batch.Requests = append(batch.Requests, transport.Any{Value: &transport.QueryConcept{ConceptID: event.ConceptID(seq)}})
	}
	r, err := transport.Call[transport.BatchOk](ctx, pool, g.dev().Events, &batch)
	if err != nil {
		g.t.Fatalf("read event storage: %v", err)
	}
	var page []*event.Envelope
	for i, any := range r.Replies {
		q, ok := any.Value.(*transport.QueryConceptOk)
		if !ok {
			g.t.Fatalf("read event %d: %v", from+uint64(i), any.Value)
		}
		if !q.Found {
			break
		}
		e, err := event.FromJSON([]byte(q.Content))
		if err != nil {
			g.t.Fatalf("event %d: %v", from+uint64(i), err)
		}
		page = append(page, e)
	}
	return page
}

// checkRestart stops the grid as Ctrl-C does and starts it again: same map, same data, seq continues.
func (g *grid) checkRestart(want *graph) {
	g.t.Helper()
	var before, after struct {
		Epoch  uint64 `json:"epoch"`
		Shards []struct {
			ShardID  string `json:"shard_id"`
			Replicas []struct {
				NodeID string `json:"node_id"`
			} `json:"replicas"`
		} `json:"shards"`
	}
	var stBefore, stAfter transport.ClusterStatus
	g.ctlJSON(&before, "shards", "map")
	g.ctlJSON(&stBefore, "status")
	g.stop()
	g.start()
	g.ctlJSON(&after, "shards", "map")
	g.ctlJSON(&stAfter, "status")
	if b, a := fmt.Sprintf("%+v", before.Shards), fmt.Sprintf("%+v", after.Shards); a != b {
		g.t.Errorf("the map changed over a restart:\n%s\n%s", b, a)
	}
	if stAfter.Seq < stBefore.Seq || stAfter.GridID != stBefore.GridID {
		g.t.Errorf("after the restart: grid %s seq %d, before: grid %s seq %d", stAfter.GridID, stAfter.Seq, stBefore.GridID, stBefore.Seq)
	}
	g.checkData(want)
	g.checkFeed(map[event.Type]int{event.TypeIncarnationStarted: 1})
}
