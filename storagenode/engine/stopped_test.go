package engine

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sutra-grid/sutra-grid/internal/pack"
	"github.com/sutra-grid/sutra-grid/transport"
)

// findingsOf verifies the closed engine on fs.
func findingsOf(t failer, fs vfs.FS) (found []string) {
	t.Helper()
	x, err := OpenStopped("engine", Options{ShardID: testShard, Log: slog.New(slog.DiscardHandler), fs: fs})
	if err != nil {
		t.Fatalf("open stopped: %v", err)
	}
	if err := x.Verify(context.Background(), func(err error) { found = append(found, err.Error()) }); err != nil {
		t.Fatalf("verify: %v", err)
	}
	if err := x.Close(); err != nil {
		t.Fatalf("close stopped: %v", err)
	}
	return found
}

// verifiable fills an engine with a row of every kind, and closes it.
func verifiable(t *testing.T) vfs.FS {
	fs := vfs.NewMem()
	e := mustOpen(t, testOptions(t, fs))
	a := concept("a")
	a.Embedding, a.Metadata = []float32{1, 2}, &transport.Metadata{Attributes: map[string]string{"k": "v"}, Tags: []string{"t"}}
	do(t, e, writeOf(1, issuedBy(e), a, concept("b"), concept("c"), association("a", "b", 3), association("c", "c", 0)))
	do(t, e, writeOf(2, issuedBy(e), half(transport.OpLinkOut, "b", "elsewhere")))
	do(t, e, prepareOf(9, 1, 5, concept("d")))
	mustClose(t, e)
	return fs
}

// spoil changes a closed engine's rows behind its back.
func spoil(t *testing.T, fs vfs.FS, change func(*pebble.DB) error) {
	t.Helper()
	name, err := current(fs, "engine")
	must(t, err)
	s, err := openStore(filepath.Join("engine", name), storeConfig{fs: fs, cacheBytes: 1 << 20, log: slog.New(slog.DiscardHandler), fatal: func(err error) { t.Error(err) }})
	must(t, err)
	must(t, change(s.db))
	must(t, s.db.Flush())
	s.release()
	<-s.closed
	must(t, s.err)
}

func TestVerifyFindsRowsThatDisagree(t *testing.T) {
	if found := findingsOf(t, verifiable(t)); len(found) > 0 {
		t.Fatalf("findings in a sound store: %q", found)
	}
	remove := func(key []byte) func(*pebble.DB) error {
		return func(db *pebble.DB) error { return db.Delete(key, pebble.NoSync) }
	}
	set := func(key, value []byte) func(*pebble.DB) error {
		return func(db *pebble.DB) error { return db.Set(key, value, pebble.NoSync) }
	}
	for _, tt := range []struct {
		name   string
		change func(*pebble.DB) error
		want   string
	}{
		{"a concept is gone", remove(conceptKey(nil, "b")), "concepts: 2 rows, must be 3"},
		{"its concept is gone", remove(conceptKey(nil, "a")), "vectors: key 1161: its concept"},
		{"a vector is gone", remove(vectorKey(nil, "a")), "it says dimension 2"},
		{"a vector nobody has", set(vectorKey(nil, "b"), appendVector(nil, []float32{1, 2})), "concepts: key 1062: it says dimension 0"},
		{"another dimension", set(vectorKey(nil, "a"), appendVector(nil, []float32{1})), "dimension 1, must be 2"},
		{"half a number", set(vectorKey(nil, "a"), []byte{1, 2, 3}), "vector of 3 bytes"},
		{"a link's place is gone", remove(indexKey(nil, outgoing, "a", "b", 3)), "its place"},
		{"another place", set(indexKey(nil, outgoing, "a", "b", 3), order{1, 9}.append(nil)), "must be"},
		{"a place of no link", set(indexKey(nil, incoming, "a", "b", 8), order{1, 9}.append(nil)), "places of incoming links: 3 rows, must be 2"},
		{"half an association", func(db *pebble.DB) error {
			return db.DeleteRange(linkPrefix(nil, incoming, "b"), linkPrefix(nil, incoming, "c"), pebble.NoSync)
		}, "places of incoming links"},
		{"its other half is gone", remove(indexKey(nil, incoming, "b", "a", 3)), "its other half"},
		{"not a link", set(linkKey(nil, outgoing, "a", order{1, 7}), []byte{0xc1}), "outgoing links: key"},
		{"a link of the future", set(linkKey(nil, outgoing, "a", order{99, 7}), (&link{Other: "b"}).append(nil)), "of entry 99"},
		{"an index row is gone", func(db *pebble.DB) error {
			return db.DeleteRange(tagPrefix(nil, "t"), prefixEnd(nil, tagPrefix(nil, "t")), pebble.NoSync)
		}, "its row in an index"},
		{"an index row of nobody", set(timeKey([]byte{tableByTime}, 5, "b"), nil), "indexes: "},
		{"a short index row", set([]byte{tableByTag, 1}, nil), "index by tag"},
		{"a request that is none", set(outcomeKey(nil, id(1)), []byte{0x90}), "requests: key"},
		{"a transaction that is none", set(preparedKey(nil, id(9)), []byte{0x01}), "transactions in doubt: key"},
		{"an attempt that is none", set([]byte{tableAttempt, 1}, nil), "ended attempts: key"},
		{"a table that is none", set([]byte{0x77, 1}, nil), "table 0x77"},
		{"another count", func(db *pebble.DB) error {
			value, err := encodeMeta(meta{Format: formatVersion, ShardID: testShard, Applied: 3, Concepts: 3, Edges: 7, Vectors: 1, Dimension: 2})
			if err != nil {
				return err
			}
			return db.Set([]byte{tableMeta}, value, pebble.NoSync)
		}, "associations: 3 rows, must be 7"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fs := verifiable(t)
			spoil(t, fs, tt.change)
			if found := strings.Join(findingsOf(t, fs), "\n"); !strings.Contains(found, tt.want) {
				t.Errorf("found %q, want %q in it", found, tt.want)
			}
		})
	}
}

// TestTwoHoldersOfARow needs two transactions, which Apply never lets prepare one row.
func TestTwoHoldersOfARow(t *testing.T) {
	fs := verifiable(t)
	spoil(t, fs, func(db *pebble.DB) error {
		value, err := pack.AppendArray(nil, preparedRecord{Attempt: 2, Ops: formOfOps([]transport.Op{concept("d")})})
		if err != nil {
			return err
		}
		return db.Set(preparedKey(nil, id(10)), value, pebble.NoSync)
	})
	if found := strings.Join(findingsOf(t, fs), "\n"); !strings.Contains(found, `holds "d", as another one does`) {
		t.Errorf("found %q", found)
	}
}

func TestStoppedReadsWhatIsThere(t *testing.T) {
	fs := verifiable(t)
	x, err := OpenStopped("engine", Options{ShardID: testShard, Log: slog.New(slog.DiscardHandler), fs: fs})
	must(t, err)
	s, err := x.Summary()
	must(t, err)
	if s.Concepts != 3 || s.Edges != 3 || s.Vectors != 1 || s.Applied != 3 || s.Dimension != 2 || s.Tables == 0 || s.Bytes == 0 {
		t.Errorf("summary %+v", s)
	}
	var got []string
	must(t, x.Concepts(t.Context(), func(c *Concept, v []float32) error {
		got = append(got, c.ID+" "+c.Content)
		if (v != nil) != (c.ID == "a") {
			t.Errorf("%s has vector %v", c.ID, v)
		}
		return nil
	}))
	must(t, x.Associations(t.Context(), func(a Association) error {
		got = append(got, a.Source+"->"+a.Target)
		return nil
	}))
	want := "a about a,b about b,c about c,a->b,b->elsewhere,c->c"
	if strings.Join(got, ",") != want {
		t.Errorf("got %q, want %q", strings.Join(got, ","), want)
	}
	prepared, err := x.Prepared()
	if must(t, err); len(prepared) != 1 || prepared[0].TxnID != id(9) {
		t.Errorf("prepared %+v", prepared)
	}
	must(t, x.Close())
	if _, err := OpenStopped("engine", Options{ShardID: "another", Log: slog.New(slog.DiscardHandler), fs: fs}); err == nil || !strings.Contains(err.Error(), "holds shard") {
		t.Errorf("another shard's store: %v", err)
	}
}

// TestCompact: whatever levels the rows were in, behind it they are in one, and nothing that was deleted is in it.
func TestCompact(t *testing.T) {
	e := newEngine(t)
	fillWith(t, e, "c", 300)
	must(t, e.Flush())
	must(t, e.Compact(t.Context()))
	for i := range 290 {
		write(t, e, deleting(fmt.Sprintf("c%04d", i)))
	}
	must(t, e.Compact(t.Context()))
	var levels, tombstones int
	e.mu.Lock()
	defer e.mu.Unlock()
	tables, err := e.store.db.SSTables(pebble.WithProperties())
	must(t, err)
	for _, level := range tables {
		if len(level) > 0 {
			levels++
		}
		for _, table := range level {
			tombstones += int(table.Properties.NumDeletions)
		}
	}
	if levels != 1 || tombstones > 0 {
		t.Errorf("the rows are in %d levels, with %d deletions", levels, tombstones)
	}
}
