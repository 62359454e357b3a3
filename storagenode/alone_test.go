package storagenode

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/transport"
)

var rewrite = flag.Bool("rewrite", false, "write testdata anew")

func aloneConfig(t *testing.T, network transport.Network, dir string) Config {
	cfg := DefaultConfig()
	cfg.Data, cfg.Listen, cfg.Network, cfg.Log = dir, "alone:0", network, testLog(t)
	cfg.Dimension = 4
	quicken(&cfg)
	return cfg
}

// openAlone starts a stand-alone node.
func openAlone(t *testing.T, network transport.Network, dir string) *Node {
	t.Helper()
	n, err := Open(aloneConfig(t, network, dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// TestGoldenExchange holds the plain protocol to its bytes. testdata/exchange.txt has one exchange per block:
//
//	name
//	> the request's payload, hexadecimal
//	< the reply's payload
func TestGoldenExchange(t *testing.T) {
	network := transport.NewMemory()
	n := openAlone(t, network, t.TempDir())
	conn := dial(t, network, n.Addr())
	path := filepath.Join("testdata", "exchange.txt")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for block := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n\n") {
		lines := strings.Split(block, "\n")
		name, request := lines[0], strings.TrimPrefix(lines[1], "> ")
		payload, err := hex.DecodeString(strings.ReplaceAll(request, " ", ""))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got := hex.EncodeToString(exchange(t, conn, payload))
		fmt.Fprintf(&out, "%s\n> %s\n< %s\n\n", name, request, got)
		if want := strings.TrimPrefix(lines[len(lines)-1], "< "); !*rewrite && got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, want)
		}
	}
	if *rewrite {
		if err := os.WriteFile(path, []byte(strings.TrimSpace(out.String())+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// exchange sends a payload as a frame and returns the reply's payload.
func exchange(t *testing.T, conn io.ReadWriter, payload []byte) []byte {
	t.Helper()
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(payload))), payload...)); err != nil {
		t.Fatal(err)
	}
	return readFrame(t, conn)
}

func readFrame(t *testing.T, conn io.Reader) []byte {
	t.Helper()
	var header [4]byte
	if _, err := io.ReadFull(conn, header[:]); err != nil {
		t.Fatal(err)
	}
	reply := make([]byte, binary.BigEndian.Uint32(header[:]))
	if _, err := io.ReadFull(conn, reply); err != nil {
		t.Fatal(err)
	}
	return reply
}

func TestAlone(t *testing.T) {
	network := transport.NewMemory()
	dir := t.TempDir()
	n := openAlone(t, network, dir)
	pool := transport.NewPool(transport.PoolConfig{Network: network})
	defer pool.Close()
	call := func(q any) (any, error) {
		ctx, cancel := context.WithTimeout(t.Context(), testLimit)
		defer cancel()
		return pool.Call(ctx, n.Addr(), q)
	}
	for _, id := range []string{"a", "b", "c", "island"} {
		must[transport.LearnConceptOk](t)(call(concept(id)))
	}
	vector := concept("v")
	vector.Embedding, vector.Metadata = []float32{1, 2, 3, 4}, &transport.Metadata{Attributes: map[string]string{"k": "v"}, Tags: []string{"t"}}
	must[transport.LearnConceptOk](t)(call(vector))
	for _, ends := range [][2]string{{"a", "b"}, {"b", "c"}, {"c", "a"}} {
		must[transport.LearnAssociationOk](t)(call(&transport.LearnAssociation{SourceID: ends[0], TargetID: ends[1], AssocType: 2, Confidence: 0.5}))
	}
	path := must[transport.FindPathOk](t)(call(&transport.FindPath{StartID: "a", EndID: "c", MaxDepth: 5}))
	if !path.Found || strings.Join(path.Path, " ") != "a b c" {
		t.Errorf("path %+v", path)
	}
	for _, q := range []*transport.FindPath{{StartID: "a", EndID: "island", MaxDepth: 20}, {StartID: "a", EndID: "nowhere", MaxDepth: 5}, {StartID: "a", EndID: "c", MaxDepth: 1}} {
		if path := must[transport.FindPathOk](t)(call(q)); path.Found {
			t.Errorf("%+v: found %q", q, path.Path)
		}
	}
	wantKind(t, second(call(&transport.FindPath{StartID: "a", EndID: "c", MaxDepth: 21})), event.KindTooLarge)
	stats := must[transport.StatsOk](t)(call(&transport.GetStats{}))
	if stats.Concepts != 5 || stats.Edges != 3 || stats.Vectors != 1 || stats.Written != 8 || stats.TotalConcepts != 5 || stats.TotalEdges != 3 || stats.Writes != 8 {
		t.Errorf("stats %+v", stats)
	}
	if h := must[transport.HealthCheckOk](t)(call(&transport.HealthCheck{})); !h.Healthy || h.Status != "ok" {
		t.Errorf("health %+v", h)
	}
	store := n.StoreID()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = openAlone(t, network, dir)
	if n.StoreID() != store {
		t.Errorf("store %s after a restart, %s before", n.StoreID(), store)
	}
	if again := must[transport.StatsOk](t)(call(&transport.GetStats{})); again.Concepts != 5 || again.Edges != 3 || again.Written != 8 {
		t.Errorf("stats after a restart %+v", again)
	}
	if got := must[transport.QueryConceptOk](t)(call(&transport.QueryConcept{ConceptID: "v"})); got.Metadata == nil || got.Metadata.Attributes["k"] != "v" {
		t.Errorf("concept after a restart %+v", got)
	}
}

// TestLogStores: a replica keeps the log it was made with, whatever is asked for later.
func TestLogStores(t *testing.T) {
	for made, asked := range map[raftgroup.LogStore]raftgroup.LogStore{raftgroup.BoltDB: raftgroup.WAL, "": raftgroup.BoltDB} {
		network := transport.NewMemory()
		pool := transport.NewPool(transport.PoolConfig{Network: network})
		defer pool.Close()
		cfg := aloneConfig(t, network, t.TempDir())
		for i, kind := range []raftgroup.LogStore{made, asked, ""} {
			cfg.Groups.LogStore = kind
			n, err := Open(cfg)
			if err != nil {
				t.Fatalf("made with %q, start %d with %q: %v", made, i, kind, err)
			}
			call := func(q any) (any, error) {
				ctx, cancel := context.WithTimeout(t.Context(), testLimit)
				defer cancel()
				return pool.Call(ctx, n.Addr(), q)
			}
			must[transport.LearnConceptOk](t)(call(concept(fmt.Sprintf("c%d", i))))
			if stats := must[transport.StatsOk](t)(call(&transport.GetStats{})); stats.Concepts != uint64(i+1) {
				t.Errorf("made with %q, start %d with %q: %d concepts", made, i, kind, stats.Concepts)
			}
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
		}
		dir := filepath.Join(cfg.Data, shardsDir, string(aloneShard), raftDir)
		for path, want := range map[string]bool{"log.db": made == raftgroup.BoltDB, "wal": made != raftgroup.BoltDB} {
			if there, err := datadir.Exists(filepath.Join(dir, path)); err != nil || there != want {
				t.Errorf("made with %q: %s is there: %v, %v", made, path, there, err)
			}
		}
	}
}

func TestEventStorage(t *testing.T) {
	network := transport.NewMemory()
	cfg := aloneConfig(t, network, t.TempDir())
	cfg.Events = true
	n, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	pool := transport.NewPool(transport.PoolConfig{Network: network})
	defer pool.Close()
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	defer cancel()
	reply, err := pool.Call(ctx, n.Addr(), &transport.Batch{Requests: []transport.Any{
		{Value: concept("event-1")}, {Value: concept("agent-1")}, {Value: &transport.LearnAssociation{SourceID: "event-1", TargetID: "agent-1", Confidence: 1}},
	}})
	batch := must[transport.BatchOk](t)(reply, err)
	for i, r := range batch.Replies {
		if e, failed := r.Value.(*event.Error); failed {
			t.Errorf("reply %d: %s", i, e)
		}
	}
	if r := n.replicas.all()[0]; r.shard != "events" {
		t.Errorf("the shard is %s", r.shard)
	}
}

func TestHelloSaysWhatTheNodeKnows(t *testing.T) {
	network := transport.NewMemory()
	n := openAlone(t, network, t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	defer cancel()
	conn, err := transport.DialConn(ctx, transport.DialConfig{Network: network, Addr: n.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	hello := conn.Hello()
	for _, feature := range []string{"concurrent", "batch", "routed"} {
		if hello == nil || !slices.Contains(hello.Features, feature) {
			t.Errorf("%q is not announced: %+v", feature, hello)
		}
	}
	if hello.GridID != n.gridID() || hello.TimeMicros == 0 {
		t.Errorf("hello %+v", hello)
	}
}

func TestADirectoryOfSomethingElseIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.txt"), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if n, err := Open(aloneConfig(t, transport.NewMemory(), dir)); err == nil {
		_ = n.Close()
		t.Fatal("a directory with somebody's files was taken")
	} else if !strings.Contains(err.Error(), "thesis.txt") {
		t.Errorf("the refusal does not say what is there: %v", err)
	}
}

func TestAStandAloneReplicaThatIsGoneEndsTheStart(t *testing.T) {
	network, dir := transport.NewMemory(), t.TempDir()
	n := openAlone(t, network, dir)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	gone := filepath.Join(dir, shardsDir, "shard-0", engineDir)
	if err := os.RemoveAll(gone); err != nil {
		t.Fatal(err)
	}
	if n, err := Open(aloneConfig(t, network, dir)); err == nil {
		_ = n.Close()
		t.Fatal("started without its engine")
	} else if !strings.Contains(err.Error(), gone) {
		t.Errorf("the refusal does not name %s: %v", gone, err)
	}
}

func TestACrashWhileMakingTheReplicaIsMadeGood(t *testing.T) {
	for _, cut := range []string{"before the rename", "before the manifest"} {
		t.Run(cut, func(t *testing.T) {
			network, dir := transport.NewMemory(), t.TempDir()
			n := openAlone(t, network, dir)
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
			// The state of the disk at that point: the manifest does not name the replica yet.
			if err := (&manifest{Replicas: []manifestEntry{}}).save(dir); err != nil {
				t.Fatal(err)
			}
			if made := filepath.Join(dir, shardsDir, "shard-0"); cut == "before the rename" {
				if err := os.Rename(made, made+newSuffix); err != nil {
					t.Fatal(err)
				}
			}
			n = openAlone(t, network, dir)
			if _, ok := n.replicas.made.lookup("shard-0"); !ok {
				t.Error("the manifest does not name the replica")
			}
			if _, err := os.Stat(filepath.Join(dir, shardsDir, "shard-0"+newSuffix)); !os.IsNotExist(err) {
				t.Errorf("the cut-off directory is still there (%v)", err)
			}
		})
	}
}

func TestAFailedDiskEndsTheNode(t *testing.T) {
	n := openAlone(t, transport.NewMemory(), t.TempDir())
	if err := n.Err(); err != nil {
		t.Fatal(err)
	}
	cause := errors.New("write /data/shards/shard-0/raft/wal/1.wal: input/output error")
	n.fail(cause)
	n.fail(errors.New("a later one"))
	if err := n.Wait(t.Context()); !errors.Is(err, cause) {
		t.Errorf("got %v, want the first cause", err)
	}
}

// TestBadFrames: garbage gets an Error or a close, memory does not follow claimed lengths, and others are not affected.
func TestBadFrames(t *testing.T) {
	n, err := Open(func() Config {
		cfg := aloneConfig(t, transport.TCP(), t.TempDir())
		cfg.Listen = "127.0.0.1:0"
		return cfg
	}())
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range 300 {
		conn := dial(t, transport.TCP(), n.Addr())
		bad := [][]byte{
			{0xff, 0xff, 0xff, 0xff, 'x'},           // 4 GiB claimed
			{0x06, 0x40, 0x00, 0x00, 0x81, 0xac, 1}, // 100 MiB claimed, and nothing comes
			[]byte("GET / HTTP/1.1\r\n\r\n"),
			{0xc1, 'r', 'a', 'f', 't', 0xff, 0xff, 0xff, 0xff, 0xff}, // raft traffic of another world
			{0x16, 0x03, 0x01},
		}[i%5]
		if _, err := conn.Write(bad); err != nil {
			t.Fatal(err)
		}
		if i%5 == 0 || i%5 == 2 {
			if e := readFrame(t, conn); !bytes.Contains(e, []byte("Error")) {
				t.Errorf("%q: got %q, want an Error", bad, e)
			}
		}
		_ = conn.Close()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	// A frame that does not decode gets an Error that says why, and the connection lives.
	conn := dial(t, transport.TCP(), n.Addr())
	r := bufio.NewReader(conn)
	both := struct {
		io.Reader
		io.Writer
	}{r, conn}
	for _, bad := range [][]byte{{}, {0xc1}, {0x82, 0xa1, 'a', 0xc0, 0xa1, 'b', 0xc0}, append([]byte{0xa4}, "Nope"...)} {
		if e := exchange(t, both, bad); !bytes.Contains(e, []byte("Error")) {
			t.Errorf("%x: got %q, want an Error", bad, e)
		}
	}
	if ok := exchange(t, both, append([]byte{0xab}, "HealthCheck"...)); !bytes.Contains(ok, []byte("HealthCheckOk")) {
		t.Errorf("after bad frames: got %q", ok)
	}
}

func TestConfigReportsEverything(t *testing.T) {
	cfg := Config{Grid: &Grid{}, Events: true, Dimension: 4096, RequestTimeout: -time.Second}
	err := cfg.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"data directory", "address", "dimension 4096", "cache", "network", "request timeout -1s", "event storage", "grid id", "node id", "agent id", "masters"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not reported in: %v", want, err)
		}
	}
}
