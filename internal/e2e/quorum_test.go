package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/transport"
)

// halted is agents that are stopped and nodes that are killed, so that nobody starts them again.
type halted []int // processes of the agents

// halt takes nodes away until resume.
func (g *grid) halt(nodes ...event.NodeID) (h halted) {
	g.t.Helper()
	var d devFile
	eventually(g.t, 5*time.Second, "the nodes' processes in dev.json", func() (bool, string) {
		d = g.dev()
		return !slices.ContainsFunc(d.Nodes, func(n devNode) bool { return n.PID == 0 }), fmt.Sprint(d.Nodes)
	})
	for _, n := range d.Nodes {
		if !slices.Contains(nodes, event.NodeID(n.ID)) {
			continue
		}
		for _, a := range d.Agents {
			if a.ID != n.Agent {
				continue
			}
			if err := syscall.Kill(a.PID, syscall.SIGSTOP); err != nil {
				g.t.Fatal(err)
			}
			h = append(h, a.PID)
		}
		g.kill(n.PID)
	}
	if len(h) != len(nodes) {
		g.t.Fatalf("%v: stopped %d agents of %+v", nodes, len(h), d)
	}
	return h
}

// resume lets the agents go on; what they find, they do.
func (h halted) resume() {
	for _, pid := range h {
		_ = syscall.Kill(pid, syscall.SIGCONT) // it may have been ended by the test's end
	}
}

// quorumless chooses n nodes without which at least one shard has no majority, and at least one has.
func quorumless(t *testing.T, m *shardmap.Map, n int) (out []event.NodeID, lost, kept []event.ShardID) {
	t.Helper()
	for _, s := range m.Shards {
		out, lost, kept = nil, nil, nil
		for _, r := range s.Replicas[:n] {
			out = append(out, r.NodeID)
		}
		for _, s := range m.Shards {
			with := 0
			for _, r := range s.Replicas {
				if !slices.Contains(out, r.NodeID) {
					with++
				}
			}
			if 2*with > len(s.Replicas) {
				kept = append(kept, s.ID)
			} else {
				lost = append(lost, s.ID)
			}
		}
		if len(lost) > 0 && len(kept) > 0 {
			return out, lost, kept
		}
	}
	t.Fatalf("no shard lives on without the nodes of another one: %+v", m.Shards)
	return nil, nil, nil
}

// apart moves a replica of the second shard to the node that has none, so that the shards are not on the same nodes.
func (g *grid) apart() {
	g.t.Helper()
	s := g.shardMap().Shards[1]
	for _, n := range g.dev().Nodes {
		if _, has := s.Replica(event.NodeID(n.ID)); has {
			continue
		}
		if _, stderr, status := g.ctl("shards", "replicas", "replace", string(s.ID), "--from", string(s.Replicas[0].NodeID), "--to", n.ID, "--yes"); status != 0 {
			g.t.Fatalf("gridctl shards replicas replace: %s", stderr)
		}
	}
}

func (g *grid) shardMap() *shardmap.Map {
	g.t.Helper()
	pool := transport.NewPool(transport.PoolConfig{Network: transport.TCP()})
	defer pool.Close()
	got, err := transport.As[transport.ShardMapOk](pool.Call(g.t.Context(), g.masters()[0], &transport.GetShardMap{}))
	if err != nil {
		g.t.Fatal(err)
	}
	return &got.Map
}

// idsIn makes n ids of a shard.
func idsIn(m *shardmap.Map, shard event.ShardID, n int) (ids []string) {
	for i := 0; len(ids) < n; i++ {
		id := fmt.Sprintf("q%d", i)
		if s, err := m.Shard(id); err == nil && s.ID == shard {
			ids = append(ids, id)
		}
	}
	return ids
}

func put3(id string) transport.Op {
	return transport.Op{Kind: transport.OpLearnConcept, ID: id, Content: "3", Strength: 1, Confidence: 1}
}

// TestAShardWithoutQuorum: the majority of one shard's replicas is gone. Work on the other shards goes on; queries over all name
// the shard, or answer without it where that is allowed; a transaction that touches it aborts within its deadline and leaves no lock;
// and when the nodes are back, everything works again and nothing acknowledged is lost, without anybody's doing.
func TestAShardWithoutQuorum(t *testing.T) {
	t.Parallel()
	g := startGrid(t, "--agents", "4", "--shards", "2", "--replicas", "3")
	g.apart()
	const majority = 2
	g.withoutQuorum(majority)
}

// withoutQuorum takes n nodes away, the majority of a shard, and gives them back.
func (g *grid) withoutQuorum(n int) {
	t := g.t
	c, err := client.New(client.Config{Masters: g.masters()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	m := g.shardMap()
	out, lost, kept := quorumless(t, m, n)
	there, gone := idsIn(m, kept[0], 4), idsIn(m, lost[0], 4)
	for _, id := range append(slices.Clone(there[:2]), gone[:2]...) {
		if err := c.LearnConcept(t.Context(), &transport.LearnConcept{ConceptID: id, Content: "before", Strength: 1, Confidence: 1}); err != nil {
			t.Fatal(err)
		}
	}
	h := g.halt(out...)
	defer h.resume()
	t.Logf("%v are gone: %v without quorum, %v with", out, lost, kept)
	g.worksElsewhere(c, there)
	g.namesTheShards(c, lost, len(kept))
	abortsInTime(t, c, there[3], gone[3])
	if err := c.LearnConcept(t.Context(), &transport.LearnConcept{ConceptID: there[3], Content: "free", Strength: 1, Confidence: 1}); err != nil {
		t.Errorf("a row that the aborted transaction wanted: %v", err)
	}

	h.resume()
	recovered := eventually(t, 20*time.Second, "everything again", func() (bool, string) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := c.Txn(ctx, []transport.Op{put3(there[3]), put3(gone[3])})
		return err == nil, fmt.Sprint(err)
	})
	t.Logf("recovered %v after the agents went on", recovered.Round(10*time.Millisecond))
	for id, want := range map[string]string{there[0]: "during", there[1]: "before", there[3]: "3", gone[0]: "before", gone[1]: "before", gone[3]: "3"} {
		if r, err := c.Concept(t.Context(), id); err != nil || r.Content != want {
			t.Errorf("%s is %+v, %v; want %q", id, r, err, want)
		}
	}
}

// worksElsewhere writes, reads and associates on a shard that has its quorum.
func (g *grid) worksElsewhere(c *client.Client, ids []string) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 5*time.Second)
	defer cancel()
	if err := c.LearnConcept(ctx, &transport.LearnConcept{ConceptID: ids[0], Content: "during", Strength: 1, Confidence: 1}); err != nil {
		g.t.Errorf("write elsewhere: %v", err)
	}
	if err := c.LearnAssociation(ctx, &transport.LearnAssociation{SourceID: ids[0], TargetID: ids[1], Confidence: 1}); err != nil {
		g.t.Errorf("associate elsewhere: %v", err)
	}
	if path, found, err := c.Path(ctx, ids[0], ids[1], 3); err != nil || !found || !slices.Equal(path, ids[:2]) {
		g.t.Errorf("path elsewhere: %v, %v", path, err)
	}
	if _, err := c.Txn(ctx, []transport.Op{put3(ids[2])}); err != nil {
		g.t.Errorf("transaction elsewhere: %v", err)
	}
}

// namesTheShards asks all shards, through the SDK and through gridctl.
func (g *grid) namesTheShards(c *client.Client, lost []event.ShardID, kept int) {
	g.t.Helper()
	named := func(text string) bool {
		for _, shard := range lost {
			if !strings.Contains(text, string(shard)) {
				return false
			}
		}
		return true
	}
	missing := func(all []transport.MissingShard) bool {
		var ids []event.ShardID
		for _, m := range all {
			ids = append(ids, m.ShardID)
		}
		return slices.Equal(ids, lost)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		ctx, cancel := context.WithTimeout(g.t.Context(), time.Second)
		defer cancel()
		if _, err := c.Stats(ctx); err == nil || !named(err.Error()) {
			g.t.Errorf("statistics without %v: %v", lost, err)
		}
	})
	wg.Go(func() {
		ok, err := c.Query(g.t.Context(), &transport.Query{Request: transport.Any{Value: &transport.GetAllConceptIds{}}, Partial: true, TimeoutMillis: 1000})
		if err != nil || !missing(ok.Missing) || len(ok.Reads) != kept {
			g.t.Errorf("partial: %+v, %v", ok, err)
		}
	})
	args := []string{"--timeout", "1s", "--output", "json", "query", "--limit", "0"}
	if _, stderr, status := g.ctl(args...); status != 4 || !named(stderr) {
		g.t.Errorf("gridctl query: exit %d, %s", status, stderr)
	}
	stdout, stderr, status := g.ctl(append(args, "--partial")...)
	var found struct {
		Concepts []struct{ ID string }
		Missing  []transport.MissingShard `json:"missing"`
	}
	if err := json.Unmarshal([]byte(stdout), &found); err != nil || status != 0 || len(found.Concepts) == 0 || !missing(found.Missing) || !named(stderr) {
		g.t.Errorf("gridctl query --partial: exit %d, %s\n%s", status, stdout, stderr)
	}
}

// abortsInTime runs a transaction over both shards.
func abortsInTime(t *testing.T, c *client.Client, there, gone string) {
	t.Helper()
	const limit = 2 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), limit+5*time.Second)
	defer cancel()
	begun := time.Now()
	_, err := c.Do(ctx, &transport.Txn{Ops: []transport.Op{put3(there), put3(gone)}, TimeoutMillis: uint32(limit.Milliseconds())})
	took := time.Since(begun)
	if !errors.Is(err, &event.Error{Kind: event.KindAborted}) || took > limit+2*time.Second {
		t.Errorf("a transaction over a shard without quorum: %v after %v, want an abort within %v, or soon after on a busy machine", err, took, limit)
	}
	t.Logf("aborted after %v: %v", took.Round(time.Millisecond), err)
}
