package storagenode

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

const (
	// checkpointsDir is in a replica's directory, so that its files are links and not copies. It is emptied at the start.
	checkpointsDir = "checkpoints"

	// checkpointIdle is how long a checkpoint outlives its last use: a receiver that is restarted finds it, and the files that it
	// keeps from being deleted do not stay for ever.
	checkpointIdle = 5 * time.Minute
	// maxCheckpoints bounds those of one node. Each may hold on to as many bytes as its shard has.
	maxCheckpoints = 4
)

type checkpointID [16]byte

// checkpoint is a replica's state as files that do not change.
type checkpoint struct {
	shard event.ShardID
	by    event.ReplicaID // who fetches it
	dir   string
	reply *transport.OpenCheckpointOk
	sizes map[string]uint64
	idle  *time.Timer
}

// checkpoints are the states that other nodes fetch from this one. An entry goes, and its files with it, when it is closed, has not
// been used for checkpointIdle, is replaced for the same receiver, or the node ends.
type checkpoints struct {
	log  *slog.Logger
	pace pace

	making sync.Mutex // held while one is made, which flushes, or deleted
	mu     sync.Mutex
	open   map[checkpointID]*checkpoint // guarded by mu; nil after close
}

func newCheckpoints(log *slog.Logger, bytesPerSecond int64) *checkpoints {
	return &checkpoints{log: log, pace: pace{perSecond: bytesPerSecond}, open: map[checkpointID]*checkpoint{}}
}

// use finds a checkpoint and keeps it from going for a while.
func (c *checkpoints) use(shard event.ShardID, id checkpointID) (*checkpoint, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.open[id]
	if !ok || p.shard != shard {
		return nil, false
	}
	p.idle.Reset(checkpointIdle)
	return p, true
}

// add takes a complete checkpoint in.
func (c *checkpoints) add(p *checkpoint) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		return &event.Error{Kind: event.KindUnavailable, Message: "the node ends"}
	}
	id := checkpointID(p.reply.Checkpoint)
	p.idle = time.AfterFunc(checkpointIdle, func() { c.remove(id, "nobody fetches it any more") })
	c.open[id] = p
	return nil
}

// former lists what a new one of by replaces, and says whether there is room beside the others.
func (c *checkpoints) former(shard event.ShardID, by event.ReplicaID) (ids []checkpointID, room bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, p := range c.open {
		if p.shard == shard && p.by == by {
			ids = append(ids, id)
		}
	}
	return ids, len(c.open)-len(ids) < maxCheckpoints
}

// remove deletes a checkpoint's files.
func (c *checkpoints) remove(id checkpointID, why string) {
	c.making.Lock()
	defer c.making.Unlock()
	c.removeLocked(id, why)
}

// removeLocked is remove, with making held.
func (c *checkpoints) removeLocked(id checkpointID, why string) {
	c.mu.Lock()
	p, ok := c.open[id]
	delete(c.open, id)
	c.mu.Unlock()
	if !ok {
		return
	}
	p.idle.Stop()
	if err := os.RemoveAll(p.dir); err != nil {
		c.log.Warn("a checkpoint is left to the next start", "dir", p.dir, "error", err)
		return
	}
	c.log.Info("checkpoint removed", "shard", string(p.shard), "for", string(p.by), "why", why)
}

// close removes all of them; none is added afterwards.
func (c *checkpoints) close() {
	c.making.Lock()
	defer c.making.Unlock()
	c.mu.Lock()
	var ids []checkpointID
	for id := range c.open {
		ids = append(ids, id)
	}
	c.mu.Unlock()
	for _, id := range ids {
		c.removeLocked(id, "the node ends")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = nil
}

// checkpointRequest answers the requests of another node, most of them of one that fetches a state; ok is false for every other request.
func (n *Node) checkpointRequest(ctx context.Context, req any) (reply any, ok bool, err error) {
	switch req.(type) {
	case *transport.ShardLevel:
		if n.cfg.level() < gatedLevel {
			return nil, true, unsupported(req) // as the versions before do
		}
	}
	switch req.(type) {
	case *transport.OpenCheckpoint, *transport.ReadCheckpoint, *transport.CloseCheckpoint, *transport.ShardLevel:
		if err := transport.Validate(req, 0); err != nil {
			return nil, true, err
		}
	}
	switch q := req.(type) {
	case *transport.OpenCheckpoint:
		reply, err = n.openCheckpoint(q)
	case *transport.ReadCheckpoint:
		reply, err = n.readCheckpoint(ctx, q)
	case *transport.CloseCheckpoint:
		if _, known := n.replicas.checkpoints.use(q.ShardID, q.Checkpoint); known {
			n.replicas.checkpoints.remove(q.Checkpoint, "it was fetched")
		}
		reply = &transport.CloseCheckpointOk{}
	case *transport.ShardLevel:
		reply, err = n.shardLevel(q)
	default:
		return nil, false, nil
	}
	return reply, true, err
}

func (n *Node) openCheckpoint(q *transport.OpenCheckpoint) (*transport.OpenCheckpointOk, error) {
	m := n.maps.current()
	if q.GridID != n.gridID() || q.Incarnation != m.incarnation {
		return nil, &event.Error{Kind: event.KindOldIncarnation, Message: fmt.Sprintf("a state of grid %s is not for grid %s, or not of its incarnation", n.gridID(), q.GridID)}
	}
	r, err := n.replicas.get(m, q.ShardID)
	if err != nil {
		return nil, err
	}
	if p, ok := n.replicas.checkpoints.use(q.ShardID, q.Checkpoint); ok && p.by == q.For {
		return p.reply, nil
	}
	c := n.replicas.checkpoints
	c.making.Lock()
	defer c.making.Unlock()
	former, room := c.former(q.ShardID, q.For)
	if !room {
		return nil, &event.Error{Kind: event.KindBusy, RetryAfterMillis: 10_000,
			Message: fmt.Sprintf("%d states are being fetched from this node, the most that may be at once", maxCheckpoints)}
	}
	for _, id := range former {
		c.removeLocked(id, "it is fetched anew")
	}
	p, err := r.checkpoint(n.shardDir(r.shard), q.For)
	if err != nil {
		return nil, &event.Error{Kind: event.KindUnavailable, Op: "open checkpoint", Message: err.Error()}
	}
	if err := c.add(p); err != nil {
		return nil, errors.Join(err, os.RemoveAll(p.dir))
	}
	n.log.Info("checkpoint made", "shard", string(r.shard), "for", string(q.For), "files", len(p.reply.Files))
	return p.reply, nil
}

// checkpoint fixes the replica's state as files. The first flush, which may be large, is before the state stands still.
func (r *replica) checkpoint(path string, by event.ReplicaID) (_ *checkpoint, err error) {
	p := &checkpoint{shard: r.shard, by: by, reply: &transport.OpenCheckpointOk{}, sizes: map[string]uint64{}}
	rand.Read(p.reply.Checkpoint[:])
	p.dir = filepath.Join(path, checkpointsDir, hex.EncodeToString(p.reply.Checkpoint[:]))
	if err := r.engine.Flush(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(p.dir))
		}
	}()
	at, err := r.group.Fix(func() error { return r.engine.Checkpoint(p.dir) })
	if err != nil {
		return nil, err
	}
	p.reply.Point = at.Encode()
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		p.sizes[e.Name()] = uint64(info.Size())
		p.reply.Files = append(p.reply.Files, transport.CheckpointFile{Name: e.Name(), Bytes: uint64(info.Size())})
	}
	return p, nil
}

func (n *Node) readCheckpoint(ctx context.Context, q *transport.ReadCheckpoint) (*transport.ReadCheckpointOk, error) {
	p, ok := n.replicas.checkpoints.use(q.ShardID, q.Checkpoint)
	if !ok {
		return nil, checkpointGone(q.Checkpoint)
	}
	size, ok := p.sizes[q.Name]
	if !ok || q.Offset > size {
		return nil, &event.Error{Kind: event.KindInvalid, Message: fmt.Sprintf("the checkpoint has no file %.64q with a byte %d", q.Name, q.Offset)}
	}
	path := filepath.Join(p.dir, q.Name)
	reply := &transport.ReadCheckpointOk{}
	var err error
	if q.Bytes == 0 {
		reply.Sum, err = sumFile(path)
	} else {
		reply.Data = make([]byte, min(uint64(q.Bytes), size-q.Offset))
		if err = n.replicas.checkpoints.pace.wait(ctx, len(reply.Data)); err == nil {
			err = readAt(path, reply.Data, int64(q.Offset))
		}
	}
	if errors.Is(err, fs.ErrNotExist) { // it ended meanwhile
		return nil, checkpointGone(q.Checkpoint)
	}
	if err != nil {
		return nil, fmt.Errorf("read checkpoint: %w", err)
	}
	return reply, nil
}

func checkpointGone(id checkpointID) *event.Error {
	return &event.Error{Kind: event.KindNotFound, Message: fmt.Sprintf("checkpoint %x is gone: open another", id)}
}

func readAt(path string, b []byte, offset int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() // read only
	_, err = f.ReadAt(b, offset)
	return err
}

// sumFile is a file's CRC-32C.
func sumFile(path string) (uint32, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close() // read only
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	if _, err := io.Copy(h, f); err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	return h.Sum32(), nil
}
