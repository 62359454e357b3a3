package e2e

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// TestProtocol holds real processes to the protocol page: a storage node alone, one of a grid that is asked for a shard, a
// master, and an import. With our own client, which sees the kind of an error, and with one that shares no code with us.
func TestProtocol(t *testing.T) {
	t.Parallel()
	g := startGrid(t)
	alone := startAlone(t)
	t.Run("limits", func(t *testing.T) { g.limits(t, alone) })
	t.Run("import", func(t *testing.T) { g.limitsOfImport(t) })
	t.Run("python", func(t *testing.T) {
		python, err := pythonWithMsgpack()
		if err != nil {
			t.Skip(err)
		}
		for name, addr := range map[string]string{"node": startAlone(t), "master": g.masters()[1]} {
			out, err := exec.Command(python, filepath.Join("testdata", "protocol.py"), addr).CombinedOutput()
			if err != nil {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
		}
	})
}

// pythonWithMsgpack finds an interpreter that has the library: the first in the path, or Debian's own.
func pythonWithMsgpack() (string, error) {
	errs := []error{errors.New("no python3 with msgpack is here (Debian: python3-msgpack)")}
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		out, err := exec.Command(python, "-c", "import msgpack").CombinedOutput()
		if err == nil {
			return python, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w %s", python, err, out))
	}
	return "", errors.Join(errs...)
}

// startAlone runs a storage node that is no part of a grid, and returns its address.
func startAlone(t *testing.T) string {
	t.Helper()
	addr := freeAddr(t)
	log, err := os.Create(filepath.Join(t.TempDir(), "node.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(binaries, "gridnode"), "--data", filepath.Join(t.TempDir(), "node"), "--listen", addr)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil || t.Failed() {
			b, _ := os.ReadFile(log.Name())
			t.Logf("gridnode ended: %v\n%s", err, b)
		}
		_ = log.Close()
	})
	pool := transport.NewPool(transport.PoolConfig{Network: transport.TCP()})
	defer pool.Close()
	eventually(t, 10*time.Second, "a storage node alone", func() (bool, string) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		h, err := transport.Call[transport.HealthCheckOk](ctx, pool, addr, &transport.HealthCheck{})
		return err == nil && h.Healthy, fmt.Sprint(h, err)
	})
	return addr
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// bad is a request that breaks a limit, and the error that the page calls for.
type bad struct {
	req  any
	kind event.Kind
}

// badRequests break one limit each.
func badRequests() map[string]bad {
	all := map[string]bad{}
	learn := func(name string, kind event.Kind, change func(c *transport.LearnConcept)) {
		c := &transport.LearnConcept{ConceptID: "bad", Content: "text", Strength: 1, Confidence: 1, Metadata: &transport.Metadata{}}
		change(c)
		all[name] = bad{c, kind}
	}
	nan, long, depth := float32(math.NaN()), strings.Repeat("x", transport.MaxID+1), uint32(21)
	learn("NaN", event.KindInvalid, func(c *transport.LearnConcept) { c.Strength = nan })
	learn("infinity", event.KindInvalid, func(c *transport.LearnConcept) { c.Confidence = float32(math.Inf(-1)) })
	learn("NaN in a vector", event.KindInvalid, func(c *transport.LearnConcept) { c.Embedding = make([]float32, 768); c.Embedding[7] = nan })
	learn("2,049 dimensions", event.KindTooLarge, func(c *transport.LearnConcept) { c.Embedding = make([]float32, 2049) })
	learn("another dimension", event.KindInvalid, func(c *transport.LearnConcept) { c.Embedding = make([]float32, 767) })
	learn("10 MiB + 1", event.KindTooLarge, func(c *transport.LearnConcept) { c.Content = strings.Repeat("x", transport.MaxContent+1) })
	learn("513 bytes of id", event.KindTooLarge, func(c *transport.LearnConcept) { c.ConceptID = long })
	learn("id no UTF-8", event.KindInvalid, func(c *transport.LearnConcept) { c.ConceptID = "a\xff" })
	learn("content no UTF-8", event.KindInvalid, func(c *transport.LearnConcept) { c.Content = "a\xff" })
	learn("tag no UTF-8", event.KindInvalid, func(c *transport.LearnConcept) { c.Metadata.Tags = []string{"a\xff"} })
	learn("attribute no UTF-8", event.KindInvalid, func(c *transport.LearnConcept) { c.Metadata.Attributes = map[string]string{"a": "\xff"} })
	learn("101 tags", event.KindTooLarge, func(c *transport.LearnConcept) { c.Metadata.Tags = make([]string, 101) })
	all["association of NaN"] = bad{&transport.LearnAssociation{SourceID: "a", TargetID: "b", Confidence: nan}, event.KindInvalid}
	all["association to 513 bytes"] = bad{&transport.LearnAssociation{SourceID: "a", TargetID: long}, event.KindTooLarge}
	all["delete of 513 bytes"] = bad{&transport.DeleteConcept{ConceptID: long}, event.KindTooLarge}
	all["depth 21"] = bad{&transport.FindPath{StartID: "a", EndID: "b", MaxDepth: depth}, event.KindTooLarge}
	all["depth 21, semantic"] = bad{&transport.FindPathSemantic{StartID: "a", EndID: "b", MaxDepth: depth}, event.KindTooLarge}
	all["depth 21, causal"] = bad{&transport.FindCausalChain{StartID: "a", MaxDepth: depth}, event.KindTooLarge}
	all["k 1,001"] = bad{&transport.VectorSearch{QueryVector: make([]float32, 768), K: 1001}, event.KindTooLarge}
	all["search for NaN"] = bad{&transport.VectorSearch{QueryVector: []float32{nan}, K: 1}, event.KindInvalid}
	all["search for 2,049 dimensions"] = bad{&transport.VectorSearch{QueryVector: make([]float32, 2049), K: 1}, event.KindTooLarge}
	all["1,001 contents"] = bad{&transport.LearnBatch{Contents: make([]string, 1001)}, event.KindTooLarge}
	all["contents no UTF-8"] = bad{&transport.LearnConceptV2{Content: "a\xff"}, event.KindInvalid}
	return all
}

// limits sends each of them on every path, all over one connection for each path, which goes on afterwards; nothing is stored.
func (g *grid) limits(t *testing.T, alone string) {
	node, shard := g.leading(t)
	routed := func(req any) any { return toShard(shard, req) }
	plain := func(req any) any { return req }
	for path, to := range map[string]struct {
		addr string
		wrap func(any) any
	}{"node alone": {alone, plain}, "node of a grid": {node, routed}, "master": {g.masters()[0], plain}} {
		t.Run(path, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			conn, err := transport.DialConn(ctx, transport.DialConfig{Network: transport.TCP(), Addr: to.addr})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			before := statsOf(t, ctx, conn, to.wrap)
			for name, b := range badRequests() {
				_, err := conn.Call(ctx, to.wrap(b.req))
				wantError(t, name, err, b.kind)
				reply, err := conn.Call(ctx, to.wrap(&transport.Batch{Requests: []transport.Any{{Value: b.req}}}))
				wantError(t, name+", in a batch", inBatch(reply, err), b.kind)
			}
			full := &transport.Batch{Requests: make([]transport.Any, 1001)}
			for i := range full.Requests {
				full.Requests[i].Value = &transport.GetStats{}
			}
			_, err = conn.Call(ctx, to.wrap(full))
			wantError(t, "1,001 requests", err, event.KindTooLarge)
			if after := statsOf(t, ctx, conn, to.wrap); after.Written != before.Written || after.Concepts != before.Concepts {
				t.Errorf("something was stored: %+v, before %+v", after, before)
			}
		})
	}
}

func toShard(shard event.ShardID, req any) any {
	return &transport.Routed{ShardID: shard, RequestID: event.RequestID{1}, Issued: time.Now().UnixMicro(), Request: transport.Any{Value: req}}
}

// leading is the address of a node and a shard that it leads.
func (g *grid) leading(t *testing.T) (addr string, shard event.ShardID) {
	t.Helper()
	pool := transport.NewPool(transport.PoolConfig{Network: transport.TCP()})
	defer pool.Close()
	eventually(t, 10*time.Second, "a node that leads a shard", func() (bool, string) {
		for _, node := range g.dev().Nodes {
			for _, id := range node.Shards {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				_, err := pool.Call(ctx, node.Endpoint, toShard(event.ShardID(id), &transport.GetStats{}))
				cancel()
				if err == nil {
					addr, shard = node.Endpoint, event.ShardID(id)
					return true, ""
				}
			}
		}
		return false, "none leads"
	})
	return addr, shard
}

// inBatch is the error of the one request in a batch.
func inBatch(reply any, err error) error {
	if r, ok := reply.(*transport.RoutedOk); ok {
		reply = r.Reply.Value
	}
	if b, ok := reply.(*transport.BatchOk); ok {
		if e, ok := b.Replies[0].Value.(*event.Error); ok {
			return e
		}
	}
	return err
}

func wantError(t *testing.T, what string, err error, kind event.Kind) {
	t.Helper()
	if !errors.Is(err, &event.Error{Kind: kind}) {
		t.Errorf("%s: %v, want %s", what, err, kind)
	}
}

func statsOf(t *testing.T, ctx context.Context, conn *transport.Conn, wrap func(any) any) *transport.StatsOk {
	t.Helper()
	reply, err := conn.Call(ctx, wrap(&transport.GetStats{}))
	if r, ok := reply.(*transport.RoutedOk); ok {
		reply = r.Reply.Value
	}
	s, ok := reply.(*transport.StatsOk)
	if err != nil || !ok {
		t.Fatalf("stats: %T, %v", reply, err)
	}
	return s
}

// limitsOfImport: lines that break a limit are named and not stored, the others are.
func (g *grid) limitsOfImport(t *testing.T) {
	lines := map[string]string{
		"id":        fmt.Sprintf(`{"concept":{"id":%q,"content":"x"}}`, strings.Repeat("x", 513)),
		"UTF-8":     "{\"concept\":{\"id\":\"bad\",\"content\":\"a\xff\"}}",
		"content":   fmt.Sprintf(`{"concept":{"id":"bad","content":%q}}`, strings.Repeat("x", transport.MaxContent+1)),
		"embedding": fmt.Sprintf(`{"concept":{"id":"bad","content":"x","embedding":[1%s]}}`, strings.Repeat(",1", 2048)),
		"target":    fmt.Sprintf(`{"association":{"source":"a","target":%q}}`, strings.Repeat("x", 513)),
	}
	for name, line := range lines {
		file := filepath.Join(t.TempDir(), "limits.ndjson")
		if err := os.WriteFile(file, []byte(line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		stdout, stderr, status := g.ctl("import", file)
		if status != 1 || !strings.Contains(stderr, file+":1:") || !strings.Contains(stderr, name) || len(stderr) > 1000 {
			t.Errorf("%s: exit %d\n%.300s%.1000s", name, status, stdout, stderr)
		}
	}
	if _, _, status := g.ctl("get", "bad"); status != 3 {
		t.Errorf("something was stored: exit %d", status)
	}
}
