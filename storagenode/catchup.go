package storagenode

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/storagenode/engine"
	"github.com/sutra-grid/sutra-grid/transport"
)

// fetchSuffix marks, beside the directory of a replica that is to be, the files that are fetched for it.
const fetchSuffix = ".fetch"

const (
	// fetchTries is how often a file that arrived damaged is fetched.
	fetchTries = 3
	// fetchTimeout bounds one request: the source may have to flush for the first, and makes the others wait for its rate.
	fetchTimeout = time.Minute
)

// source is a replica whose state is fetched: one that is open, best the leader, since its log is what the new one goes on with.
type source struct {
	replica event.ReplicaID
	address string // of its node, host:port
}

// beginning is a state that a replica begins with.
type beginning struct {
	files string          // the directory of its store
	at    raftgroup.Point // the entry that it is of
}

func (n *Node) fetchDir(id event.ShardID) string { return n.shardDir(id) + fetchSuffix }

// fetch is one replica's state on its way here.
type fetch struct {
	n    *Node
	from source
	req  transport.OpenCheckpoint
	dir  string // of the files; its name is the checkpoint's
}

// fetch fetches the state of another replica as files, every one checked with its sum, for a replica that joins. Raft then replays
// only what has been committed since. The leader's log has to last that long: it keeps Groups.TrailingLogs entries behind its
// snapshots, so with the defaults 10 GiB, which take 200 s, allow for about 80 entries a second, each of up to 1,024 writes. Beyond
// that raft sends the state again by itself, as a stream and unthrottled, which is right and only costs the second sending.
//
// What was fetched stays through errors and restarts, and the next call goes on there as long as the source still has the same
// checkpoint (checkpointIdle); otherwise it begins again.
func (n *Node) fetch(ctx context.Context, a assignment, from source) (*beginning, error) {
	if n.pool == nil {
		return nil, errors.New("a node that runs alone has nobody to fetch from")
	}
	if !n.maps.current().known() {
		return nil, errors.New("no map is known yet, and so not which history of the grid this is")
	}
	f := &fetch{n: n, from: from, req: transport.OpenCheckpoint{
		GridID: n.gridID(), Incarnation: n.maps.current().incarnation, ShardID: a.shard, For: a.replica, Checkpoint: fetched(n.fetchDir(a.shard)),
	}}
	start := time.Now()
	c, err := request[transport.OpenCheckpointOk](ctx, f, &f.req)
	if err != nil {
		return nil, err
	}
	at, err := raftgroup.DecodePoint(c.Point)
	if err != nil {
		return nil, err
	}
	if err := checkFiles(c.Files); err != nil {
		return nil, err
	}
	if err := f.prepare(c); err != nil {
		return nil, err
	}
	bytes := uint64(0)
	for _, file := range c.Files {
		if err := f.file(ctx, file); err != nil {
			return nil, err
		}
		bytes += file.Bytes
	}
	if err := datadir.SyncDir(f.dir); err != nil {
		return nil, err
	}
	n.log.Info("state fetched", "shard", string(a.shard), "from", string(from.replica), "index", at.Index, "bytes", bytes, "took", time.Since(start))
	done := &transport.CloseCheckpoint{ShardID: a.shard, Checkpoint: c.Checkpoint}
	if _, err := request[transport.CloseCheckpointOk](ctx, f, done); err != nil {
		n.log.Info("the source keeps its checkpoint for a while", "shard", string(a.shard), "error", err)
	}
	return &beginning{files: f.dir, at: at}, nil
}

// fetched is the checkpoint that an earlier try has begun to fetch; zero: none.
func fetched(dir string) (id [16]byte) {
	found, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(found) != 1 {
		return id
	}
	b, err := hex.DecodeString(filepath.Base(found[0]))
	if err != nil || len(b) != len(id) {
		return id
	}
	return [16]byte(b)
}

// checkFiles refuses names that lead elsewhere.
func checkFiles(files []transport.CheckpointFile) error {
	if len(files) == 0 || len(files) > transport.MaxCheckpointFiles {
		return fmt.Errorf("a checkpoint of %d files: want 1 to %d", len(files), transport.MaxCheckpointFiles)
	}
	seen := map[string]bool{}
	for _, f := range files {
		if f.Name == "" || f.Name == "." || f.Name == ".." || len(f.Name) > 255 || strings.ContainsAny(f.Name, "/\\\x00") || seen[f.Name] || f.Bytes > 1<<62 {
			return fmt.Errorf("a checkpoint with a file %.64q of %d bytes", f.Name, f.Bytes)
		}
		seen[f.Name] = true
	}
	return nil
}

// prepare makes the place of the files. What is there of another checkpoint goes, and of this one what is none of its files.
func (f *fetch) prepare(c *transport.OpenCheckpointOk) error {
	root := f.n.fetchDir(f.req.ShardID)
	f.dir = filepath.Join(root, hex.EncodeToString(c.Checkpoint[:]))
	if c.Checkpoint != f.req.Checkpoint {
		if f.req.Checkpoint != [16]byte{} {
			f.n.log.Info("the source's former checkpoint is gone: beginning again", "shard", string(f.req.ShardID))
		}
		if err := os.RemoveAll(root); err != nil {
			return err
		}
	}
	f.req.Checkpoint = c.Checkpoint
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, file := range c.Files {
		wanted[file.Name] = true
	}
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !wanted[e.Name()] {
			if err := os.RemoveAll(filepath.Join(f.dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// file completes one file. What a crash or a disk made of an earlier part of it shows in its sum: then all of it is fetched again.
func (f *fetch) file(ctx context.Context, c transport.CheckpointFile) error {
	path := filepath.Join(f.dir, c.Name)
	for range fetchTries {
		if err := f.complete(ctx, path, c); err != nil {
			return fmt.Errorf("fetch %s: %w", c.Name, err)
		}
		want, err := f.read(ctx, c.Name, c.Bytes, 0)
		if err != nil {
			return fmt.Errorf("fetch the sum of %s: %w", c.Name, err)
		}
		got, err := sumFile(path)
		if err != nil {
			return err
		}
		if got == want.Sum {
			return nil
		}
		f.n.log.Warn("a file arrived damaged and is fetched again", "shard", string(f.req.ShardID), "file", path, "crc", got, "want", want.Sum)
		if err := os.Truncate(path, 0); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s arrived damaged %d times", path, fetchTries)
}

// complete fetches what a file lacks, and makes it durable.
func (f *fetch) complete(ctx context.Context, path string, c transport.CheckpointFile) (err error) {
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	info, err := w.Stat()
	if err != nil {
		return err
	}
	at := uint64(info.Size())
	if at > c.Bytes {
		at = 0
		if err := w.Truncate(0); err != nil {
			return err
		}
	}
	for at < c.Bytes {
		part, err := f.read(ctx, c.Name, at, uint32(min(c.Bytes-at, transport.MaxCheckpointRead)))
		if err != nil {
			return err
		}
		if len(part.Data) == 0 || uint64(len(part.Data)) > c.Bytes-at {
			return fmt.Errorf("%d bytes at offset %d of %d", len(part.Data), at, c.Bytes)
		}
		if _, err := w.WriteAt(part.Data, int64(at)); err != nil {
			return err
		}
		at += uint64(len(part.Data))
	}
	return datadir.SyncFile(w)
}

func (f *fetch) read(ctx context.Context, name string, offset uint64, bytes uint32) (*transport.ReadCheckpointOk, error) {
	q := &transport.ReadCheckpoint{ShardID: f.req.ShardID, Checkpoint: f.req.Checkpoint, Name: name, Offset: offset, Bytes: bytes}
	return request[transport.ReadCheckpointOk](ctx, f, q)
}

// request sends one request to the source.
func request[T any](ctx context.Context, f *fetch, req any) (*T, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	return transport.Call[T](ctx, f.n.pool, f.from.address, req)
}

// beginEngine makes the engine's directory of what was fetched.
func (n *Node) beginEngine(dir string, shard event.ShardID, b *beginning) error {
	o := engine.Options{ShardID: shard, Dimension: n.cfg.Dimension, CacheBytes: 1 << 20, Log: n.log, Fatal: n.fail}
	return engine.Adopt(dir, b.files, b.at.FSMIndex, o)
}

// forgetFetched deletes what was fetched for replicas that the map gives to others by now.
func (n *Node) forgetFetched(m *mapState) error {
	all, err := filepath.Glob(filepath.Join(n.dir.Path(shardsDir), "*"+fetchSuffix))
	if err != nil || len(all) == 0 || !m.known() {
		return err
	}
	for _, a := range assignments(&m.Map, m.node) {
		all = slices.DeleteFunc(all, func(dir string) bool { return dir == n.fetchDir(a.shard) })
	}
	for _, dir := range all {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

// removeCheckpoints deletes what an earlier process has made for others.
func removeCheckpoints(path string) error {
	return os.RemoveAll(filepath.Join(path, checkpointsDir))
}
