package storagenode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

const damageShard = event.ShardID("shard-0")

// damaged is a node's directory as a crash leaves it, whole, and what a node has to serve from it.
type damaged struct {
	c    *testCluster
	dir  string
	hash transport.ContentHashOk
	near []transport.VectorResult
}

// newDamaged makes a directory with every class of file: a log of two files, of which the last holds entries that the store had not
// written yet, a snapshot, a store with tables, a stored vector index, a cached map.
func newDamaged(t *testing.T) *damaged {
	t.Helper()
	c := newCluster(t, 1, 1, func(cfg *Config) {
		timeouts := &cfg.Groups.Timeouts
		timeouts.Heartbeat, timeouts.Election, timeouts.Lease = 30*time.Millisecond, 30*time.Millisecond, 30*time.Millisecond
	})
	d := &damaged{c: c, dir: filepath.Join(c.dir, "crashed")}
	learn := func(from, to int, size int, embed bool) {
		for i := from; i < to; i++ {
			q := concept(fmt.Sprintf("c-%02d", i))
			q.Content = strings.Repeat(fmt.Sprintf("%02d", i), size/2)
			if embed {
				q.Embedding = []float32{1, float32(i), 2, 3}
			}
			must[transport.LearnConceptOk](t)(c.route(write(damageShard, q)))
		}
	}
	learn(0, 20, 64<<10, true)
	c.stop("node-1") // saves the vector index
	n := c.start("node-1", false)
	c.lead(t, n)
	if err := n.replicas.all()[0].group.Snapshot(); err != nil {
		t.Fatal(err)
	}
	learn(20, 26, 3000, false)
	if err := os.CopyFS(d.dir, os.DirFS(c.config("node-1", false).Data)); err != nil {
		t.Fatal(err)
	}
	var err error
	if d.hash, d.near, err = d.ask(n); err != nil {
		t.Fatal(err)
	}
	c.stop("node-1")
	return d
}

// lead waits until a node's one replica leads.
func (c *testCluster) lead(t *testing.T, n *Node) {
	t.Helper()
	limit := time.After(testLimit)
	for _, g := n.maps.current(), n.replicas.all()[0].group; !g.IsLeader(); {
		changed := g.LeaderChanged()
		if g.IsLeader() {
			return
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatal("no leader")
		}
	}
}

// ask reads all that a node has.
func (d *damaged) ask(n *Node) (hash transport.ContentHashOk, near []transport.VectorResult, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), testLimit)
	defer cancel()
	h, err := askNode[transport.ContentHashOk](ctx, d.c.pool, n.Addr(), &transport.ContentHash{})
	if err != nil {
		return hash, nil, err
	}
	v, err := askNode[transport.VectorSearchOk](ctx, d.c.pool, n.Addr(), &transport.VectorSearch{QueryVector: []float32{1, 7, 2, 3}, K: 5})
	if err != nil {
		return hash, nil, err
	}
	return *h, v.Results, nil
}

func askNode[T any](ctx context.Context, p *transport.Pool, addr string, q any) (*T, error) {
	ok, err := transport.Call[transport.RoutedOk](ctx, p, addr, ask(damageShard, q))
	if err != nil {
		return nil, err
	}
	return transport.As[T](ok.Reply.Value, nil)
}

// outcomeOf starts a node on a copy of the directory that damage was done to. It serves exactly what was
// acknowledged, or why says why not; said is what it logged.
func (d *damaged) outcomeOf(t *testing.T, number int, harm func(dir string)) (said string, why error) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "node")
	if err := os.CopyFS(dir, os.DirFS(d.dir)); err != nil {
		t.Fatal(err)
	}
	harm(dir)
	cfg := d.c.config("node-1", false)
	var log lockedBuffer
	cfg.Data, cfg.Listen, cfg.Log = dir, fmt.Sprintf("case-%d:50053", number), slog.New(slog.NewTextHandler(&log, nil))
	n, err := Open(cfg)
	if err != nil {
		return log.String(), err
	}
	hash, near, err := d.settled(n)
	failed := n.Err()
	if e := n.Close(); e != nil && failed == nil {
		t.Error(e)
	}
	if err != nil {
		return log.String(), errors.Join(err, failed)
	}
	if hash != d.hash {
		t.Errorf("serves entry %d, %x; want entry %d, %x\n%s", hash.Applied, hash.Digest[:4], d.hash.Applied, d.hash.Digest[:4], log.String())
	}
	if fmt.Sprint(near) != fmt.Sprint(d.near) {
		t.Errorf("nearest %v, want %v\n%s", near, d.near, log.String())
	}
	return log.String(), nil
}

// settled asks until the node serves, or its replica is out of service, or it has failed.
func (d *damaged) settled(n *Node) (hash transport.ContentHashOk, near []transport.VectorResult, err error) {
	for limit := time.Now().Add(testLimit); time.Now().Before(limit); {
		if hash, near, err = d.ask(n); err == nil {
			return hash, near, nil
		}
		if n.Err() != nil || n.replicas.refusals() != nil {
			return hash, near, errors.Join(n.replicas.refusals(), err)
		}
		select {
		case <-n.Failed():
		case <-time.After(5 * time.Millisecond):
		}
	}
	return hash, near, err
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// What may become of a damaged file.
const (
	refused  = 'R' // the replica, or the node, is out of service, and says which file
	dropped  = 'W' // what was acknowledged is served, and a warning names the file: it is of no use, or made again
	rebuilt  = 'B' // what was acknowledged is served, and it is said that the index was built
	unneeded = 'S' // what was acknowledged is served
	either   = 'A' // unneeded, or refused: what is hit may be in use or not
)

// TestDamage damages the files of every class, in several ways. Never is anything else served than what was acknowledged.
func TestDamage(t *testing.T) {
	d := newDamaged(t)
	const shard, store = "shards/shard-0/", "store-000001"
	hows := []string{"start", "middle", "end", "cut", "emptied", "gone"}
	for n, class := range []struct {
		file, want string // one letter for each of hows
		names      string // what is said; "": the file's name
	}{
		{"IDENTITY", "RRRRRR", ""},
		{"LOCK", "SSSSSS", ""},
		{"replicas.json", "RRRRRR", ""},
		{"shardmap.mp", "WWWWWS", ""},
		{shard + "IDENTITY", "RRRRRR", ""},
		{shard + "engine/CURRENT", "RRRRRR", ""},
		{shard + "engine/store-*/MANIFEST-*", "RRARRR", ""},
		{shard + "engine/store-*/OPTIONS-*", "AAAASS", store},
		{shard + "engine/store-*/marker.manifest.*", "SSSSSR", store}, // its name is all there is
		{shard + "engine/store-*/*.sst", "RARRRR", "0000"},
		{shard + "vectors", "WWWWWB", ""},
		{shard + "raft/stable.db", "RAARRR", ""},
		{shard + "raft/wal/wal-meta.db", "RAARRR", ""},
		{shard + "raft/wal/00000000000000000001-*.wal", "RSSRRR", ""}, // its entries are in the store; seals are checked when they are read
		{shard + "raft/wal/*.wal", "RRRRRR", ""},
		{shard + "raft/snapshots/*/meta.json", "AAWWWW", "failed to read metadata"},
		{shard + "raft/snapshots/*/state.bin", "RRRRRR", ""},
	} {
		for m, how := range hows {
			t.Run(class.file+" "+how, func(t *testing.T) {
				t.Parallel()
				d.check(t, 10*n+m, rune(class.want[m]), class.names, func(dir string) string {
					file := d.one(t, filepath.Join(dir, class.file))
					harm(t, file, how)
					return file
				})
			})
		}
	}
	// A MANIFEST that ends earlier is an older store. If it opens, the log must reach back to it.
	manifest := filepath.Join(shard, "engine/store-*/MANIFEST-*")
	whole, err := os.ReadFile(d.one(t, filepath.Join(d.dir, manifest)))
	if err != nil {
		t.Fatal(err)
	}
	for n := range 12 {
		t.Run(fmt.Sprint("MANIFEST cut, part ", n), func(t *testing.T) {
			t.Parallel()
			d.check(t, 1000+n, either, store, func(dir string) string {
				file := d.one(t, filepath.Join(dir, manifest))
				if err := os.WriteFile(file, whole[:len(whole)*n/12], 0o644); err != nil {
					t.Fatal(err)
				}
				return file
			})
		})
	}
	for n, left := range []string{"IDENTITY.tmp", "replicas.json.tmp", "shardmap.mp.tmp", shard + "IDENTITY.tmp", shard + "vectors.tmp", shard + "engine/CURRENT.tmp",
		shard + "engine/store-000009/000001.sst", shard + "raft/snapshots/9-999-1.tmp/state.bin", "shards/shard-9.new/IDENTITY", "shards/shard-9.fetch/00/000001.sst"} {
		t.Run("left over "+left, func(t *testing.T) {
			t.Parallel()
			d.check(t, 2000+n, unneeded, "", func(dir string) string {
				file := filepath.Join(dir, left)
				if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte("half a f"), 0o644)); err != nil {
					t.Fatal(err)
				}
				return file
			})
		})
	}
}

// one is the last file of a pattern: the newest is in use.
func (d *damaged) one(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("no %s: %v", pattern, err)
	}
	return found[len(found)-1]
}

// check holds a damaged directory's outcome to what it may be; harm returns the file.
func (d *damaged) check(t *testing.T, number int, want rune, names string, harm func(dir string) string) {
	t.Helper()
	file := ""
	said, err := d.outcomeOf(t, number, func(dir string) { file = harm(dir) })
	if names == "" {
		names = filepath.Base(file)
	}
	got := unneeded
	var warned strings.Builder
	for line := range strings.Lines(said) {
		if strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") {
			warned.WriteString(line)
		}
	}
	switch {
	case err != nil && !strings.Contains(err.Error(), names):
		t.Errorf("%q does not name %s", err, names)
		return
	case err != nil:
		got = refused
	case want == rebuilt && strings.Contains(said, "vector index built"):
		got = rebuilt
	case want == dropped && strings.Contains(warned.String(), names):
		got = dropped
	}
	if got != want && (want != either || got == dropped) {
		t.Errorf("got %c, want %c: %v\n%s", got, want, err, said)
	}
}

// TestDamagedReplicaOfThree: one replica is out of service and says why; the group goes on, and what it acknowledges is on the two others.
func TestDamagedReplicaOfThree(t *testing.T) {
	c := newCluster(t, 3, 1, nil)
	for i := range 5 {
		must[transport.LearnConceptOk](t)(c.route(write(damageShard, concept(fmt.Sprint("before-", i)))))
	}
	id, term := c.leader(damageShard, 0)
	c.stop(id)
	c.leader(damageShard, term)
	file := filepath.Join(c.dir, string(id), "shards/shard-0/raft/stable.db")
	harm(t, file, "cut")
	n := c.start(id, false)
	if err := n.replicas.refusals(); err == nil || !strings.Contains(err.Error(), file) {
		t.Fatalf("not refused: %v", err)
	}
	if h := n.health(); h.Healthy || !strings.Contains(h.Status, file) {
		t.Errorf("health does not name %s: %+v", file, h)
	}
	for i := range 5 {
		must[transport.LearnConceptOk](t)(c.route(write(damageShard, concept(fmt.Sprint("after-", i)))))
	}
	if stats := must[transport.StatsOk](t)(c.route(ask(damageShard, &transport.GetStats{}))); stats.Concepts != 10 {
		t.Errorf("%d concepts, want 10", stats.Concepts)
	}
	stale1 := ask(damageShard, &transport.GetStats{})
	stale1.Consistency = stale
	if e := wantKind(t, second(c.send(id, stale1)), event.KindUnavailable); !strings.Contains(e.Message, file) {
		t.Errorf("a stale read: %s", e.Message)
	}
}

// harm damages a file; of one that was made larger than what is in it, only that counts.
func harm(t *testing.T, path, how string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	used := len(bytes.TrimRight(b, "\x00"))
	switch how {
	case "gone":
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		return
	case "emptied":
		b = nil
	case "cut":
		b = b[:used/2]
	case "start", "middle", "end":
		if used == 0 {
			return
		}
		at := map[string]int{"start": min(2, used-1), "middle": used / 2, "end": used - 2}[how]
		b[max(at, 0)] ^= 0x10
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
