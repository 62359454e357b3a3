package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/storagenode"
	"github.com/sutra-grid/sutra-grid/transport"
)

// verb runs an offline verb.
func verb(args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	status = run(context.Background(), append([]string{"gridnode"}, args...), env{stdout: &out, stderr: &errs, getenv: func(string) string { return "" }})
	return status, out.String(), errs.String()
}

// storedNode is the directory of a stopped node that holds 200 concepts, each linked to the next.
func storedNode(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "node")
	withNode(t, dir, func(ctx context.Context, call func(any)) {
		var concepts, links []transport.Any
		for i := range 200 {
			concepts = append(concepts, transport.Any{Value: &transport.LearnConcept{ConceptID: name(i), Content: "content of " + name(i) + noise(i), Strength: 1, Confidence: 0.5,
				Embedding: []float32{1, float32(i), 2, 3}, Metadata: &transport.Metadata{Attributes: map[string]string{"n": fmt.Sprint(i)}, Tags: []string{"t"}}}})
			if i > 0 {
				links = append(links, transport.Any{Value: &transport.LearnAssociation{SourceID: name(i - 1), TargetID: name(i), AssocType: 7, Confidence: 0.5}})
			}
		}
		call(&transport.Batch{Requests: concepts})
		call(&transport.Batch{Requests: links})
	})
	return dir
}

// noise is 4 KiB that cannot be compressed.
func noise(i int) string {
	b := make([]byte, 2048)
	rand.NewChaCha8([32]byte{byte(i)}).Read(b)
	return hex.EncodeToString(b)
}

func name(i int) string { return fmt.Sprintf("concept-%03d", i) }

// withNode runs a real node on dir while fn asks it.
func withNode(t *testing.T, dir string, fn func(ctx context.Context, call func(any))) {
	t.Helper()
	cfg := storagenode.DefaultConfig()
	cfg.Data, cfg.Listen, cfg.Dimension, cfg.Log = dir, "127.0.0.1:0", 4, slog.New(slog.DiscardHandler)
	cfg.Groups.SegmentBytes = 1 << 20
	n, err := storagenode.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	pool := transport.NewPool(transport.PoolConfig{Network: cfg.Network})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	fn(ctx, func(q any) {
		t.Helper()
		if _, err := pool.Call(ctx, n.Addr(), q); err != nil {
			t.Fatal(err)
		}
	})
	if err := pool.Close(); err != nil {
		t.Error(err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

// content is a hash of every file below dir, by name.
func content(t *testing.T, dir string) map[string][32]byte {
	t.Helper()
	all := map[string][32]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = sha256.Sum256(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestOfflineVerbsChangeNothing(t *testing.T) {
	dir := storedNode(t)
	before := content(t, dir)
	status, stdout, stderr := verb("inspect", "--data", dir, "-o", "json")
	var r replicaJSON
	if err := json.Unmarshal([]byte(stdout), &r); status != exitDone || err != nil {
		t.Fatalf("inspect: status %d, %q, %q: %v", status, stdout, stderr, err)
	}
	if r.Concepts != 200 || r.Edges != 199 || r.Vectors != 200 || r.Dimension != 4 || r.Applied == 0 || r.Log.Last < r.Applied || len(r.Problems) > 0 {
		t.Errorf("inspect: %+v", r)
	}
	if status, stdout, _ := verb("inspect", "--data", dir); status != exitDone || !strings.Contains(stdout, "shard-0") {
		t.Errorf("inspect: status %d, %q", status, stdout)
	}
	if status, stdout, stderr := verb("verify", "--data", dir); status != exitDone || stdout != "shard-0: ok\n" {
		t.Errorf("verify: status %d, %q, %q", status, stdout, stderr)
	}
	status, stdout, stderr = verb("dump", "--data", dir)
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	if status != exitDone || len(lines) != 399 {
		t.Fatalf("dump: status %d, %d lines, %q", status, len(lines), stderr)
	}
	if want := `{"association":{"source":"concept-000","target":"concept-001","type":7,"confidence":0.5}}`; lines[200] != want {
		t.Errorf("line 201 is %s, want %s", lines[200], want)
	}
	if status, stdout, _ = verb("dump", "--data", dir, "--what", "log"); status != exitDone || !strings.Contains(stdout, `1 ops on [\"concept-199\"]`) {
		t.Errorf("dump of the log: status %d, %.300q", status, stdout)
	}
	if status, stdout, _ = verb("dump", "--data", dir, "--what", "transactions"); status != exitDone || stdout != "" {
		t.Errorf("dump of transactions: status %d, %q", status, stdout)
	}
	after := content(t, dir)
	for path, sum := range after {
		if before[path] != sum {
			t.Errorf("%s was changed", path)
		}
	}
	if len(after) != len(before) {
		t.Errorf("%d files, before %d", len(after), len(before))
	}
}

func TestDumpIsWhatIsStored(t *testing.T) {
	_, stdout, _ := verb("dump", "--data", storedNode(t), "--what", "concepts")
	for i, line := range strings.Split(strings.TrimSpace(stdout), "\n") {
		var l conceptLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		c := l.Concept
		if c.ID != name(i) || !strings.HasPrefix(c.Content, "content of "+name(i)) || c.Confidence != 0.5 || c.Embedding[1] != float32(i) || c.Attributes["n"] != fmt.Sprint(i) || c.Tags[0] != "t" {
			t.Errorf("line %d: %s", i+1, line)
		}
	}
}

func TestCompactTakesAwayWhatIsDeleted(t *testing.T) {
	dir := storedNode(t)
	if status, _, stderr := verb("compact", "--data", dir); status != exitDone { // so that the deletes alone lie above
		t.Fatal(stderr)
	}
	withNode(t, dir, func(_ context.Context, call func(any)) {
		var deletes []transport.Any
		for i := range 190 {
			deletes = append(deletes, transport.Any{Value: &transport.DeleteConcept{ConceptID: name(i)}})
		}
		call(&transport.Batch{Requests: deletes})
	})
	size := func() uint64 {
		_, stdout, _ := verb("inspect", "--data", dir, "-o", "json")
		var r replicaJSON
		if err := json.Unmarshal([]byte(stdout), &r); err != nil || r.Concepts != 10 {
			t.Fatalf("%q: %v", stdout, err)
		}
		return r.Bytes
	}
	before := size()
	if status, stdout, stderr := verb("compact", "--data", dir); status != exitDone || !strings.Contains(stdout, "shard-0: ") {
		t.Fatalf("compact: status %d, %q, %q", status, stdout, stderr)
	}
	if after := size(); after > before || after > 100<<10 { // of 400 KiB
		t.Errorf("%d bytes before, %d after", before, after)
	}
	if status, stdout, _ := verb("verify", "--data", dir); status != exitDone {
		t.Errorf("verify: %q", stdout)
	}
	withNode(t, dir, func(_ context.Context, call func(any)) { call(&transport.QueryConcept{ConceptID: name(195)}) })
}

func TestVerifyNamesTheDamagedFile(t *testing.T) {
	whole := storedNode(t)
	for _, class := range []struct {
		file  string
		at    int    // of the byte that is flipped, and of the cut; 0: a third of the file
		names string // what the finding says; "": the file
	}{
		{"IDENTITY", 0, ""}, {"replicas.json", 0, ""}, {"shards/shard-0/IDENTITY", 0, ""}, {"shards/shard-0/engine/CURRENT", 0, ""},
		{"shards/shard-0/engine/store-*/*.sst", 0, "engine/store-000001"},
		// Pebble takes a damaged record for the end of the file, and finds tables of before that are gone.
		{"shards/shard-0/engine/store-*/MANIFEST-*", 0, "engine/store-000001"},
		{"shards/shard-0/raft/wal/*.wal", 300, ""}, // a segment is made at its full size, most of it is empty
		{"shards/shard-0/raft/stable.db", 0, ""},
	} {
		for _, how := range []string{"flipped", "cut", "gone"} {
			if how == "flipped" && strings.HasSuffix(class.file, ".db") {
				continue // most of it are free pages
			}
			t.Run(class.file+" "+how, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "copy")
				if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
					t.Fatal(err)
				}
				found, err := filepath.Glob(filepath.Join(dir, class.file))
				if err != nil || len(found) == 0 {
					t.Fatalf("no %s: %v", class.file, err)
				}
				file := found[len(found)-1] // the newest is in use
				damage(t, file, how, class.at)
				status, stdout, stderr := verb("verify", "--data", dir)
				said := stdout + stderr
				if status != exitFailed {
					t.Fatalf("status %d: %q", status, said)
				}
				want := class.names
				if want == "" {
					want = filepath.Base(file)
				}
				if !strings.Contains(said, want) {
					t.Errorf("%q does not name %s", said, want)
				}
			})
		}
	}
}

func damage(t *testing.T, path, how string, at int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if at == 0 {
		at = len(b) / 3
	}
	switch how {
	case "gone":
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		return
	case "cut":
		b = b[:at]
	default:
		b[at] ^= 0x10
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestOfflineRefusals(t *testing.T) {
	dir := storedNode(t)
	for _, tt := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"inspect"}, exitUsage, "--data is missing"},
		{[]string{"verify", "--data", dir, "more"}, exitUsage, `unexpected argument "more"`},
		{[]string{"inspect", "--data", dir, "-o", "xml"}, exitUsage, `--output "xml"`},
		{[]string{"dump", "--data", dir, "--what", "all"}, exitUsage, `--what "all"`},
		{[]string{"inspect", "--data", dir, "--shard", "shard-9"}, exitFailed, "holds no replica of shard-9"},
		{[]string{"compact", "--data", dir, "--shard", "shard-9"}, exitFailed, "holds no replica of shard-9"},
		{[]string{"inspect", "--data", t.TempDir()}, exitFailed, "is not a data directory"},
	} {
		if status, _, stderr := verb(tt.args...); status != tt.status || !strings.Contains(stderr, tt.want) {
			t.Errorf("%q: status %d, %q; want %d and %q", tt.args, status, stderr, tt.status, tt.want)
		}
	}
	withNode(t, dir, func(context.Context, func(any)) {
		for _, v := range []string{"inspect", "verify", "dump", "compact"} {
			if status, _, stderr := verb(v, "--data", dir); status != exitFailed || !strings.Contains(stderr, fmt.Sprintf("in use by process %d", os.Getpid())) {
				t.Errorf("%s of a running node: status %d, %q", v, status, stderr)
			}
		}
	})
}
