package storagenode

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/storagenode/engine"
)

// The node's directory:
//
//	DIR/ IDENTITY LOCK   whose it is, and that one process at a time uses it
//	     replicas.json   the manifest
//	     shardmap.mp     the last map the masters sent
//	     shards/<id>/    one replica: IDENTITY, raft/, engine/, vectors (the index, made from the engine where it is missing)
//	     shards/<id>.new a replica whose making a crash cut off; thrown away
//	     shards/<id>.fetch/<checkpoint>/      what has arrived of a state that a replica will begin with
//	     shards/<id>/checkpoints/<checkpoint>/ a state that another node fetches; thrown away at the start
const (
	identityFile = "IDENTITY"
	lockFile     = "LOCK"
	shardsDir    = "shards"
	raftDir      = "raft"
	engineDir    = "engine"
	vectorsFile  = "vectors"
	newSuffix    = ".new"
	tmpSuffix    = ".tmp" // of a file that datadir was about to replace
)

// kindReplica marks the directory of one replica; its id is the shard's.
const kindReplica datadir.Kind = "replica"

func (n *Node) shardDir(id event.ShardID) string {
	return n.dir.Path(shardsDir, string(id))
}

// openDir takes the node's directory: it must be this node's, or be allowed to become it.
func openDir(c *Config) (*datadir.Dir, *manifest, error) {
	known, err := datadir.Exists(filepath.Join(c.Data, identityFile))
	if err != nil {
		return nil, nil, err
	}
	if !known {
		return makeDir(c)
	}
	dir, err := datadir.Open(c.Data, datadir.KindNode, string(c.nodeID()))
	if err != nil {
		return nil, nil, err
	}
	made, err := checkDir(c, dir)
	if err != nil {
		return nil, nil, errors.Join(err, dir.Close())
	}
	return dir, made, nil
}

// checkDir holds a known directory against the configuration.
func checkDir(c *Config, dir *datadir.Dir) (*manifest, error) {
	if id, _ := dir.Identity(); c.Grid != nil && id.GridID != c.Grid.ID {
		return nil, fmt.Errorf("data directory %s belongs to grid %s, not to %s", c.Data, id.GridID, c.Grid.ID)
	}
	return loadManifest(c.Data)
}

// makeDir makes the directory where that is allowed.
func makeDir(c *Config) (*datadir.Dir, *manifest, error) {
	if c.Grid != nil && !c.Grid.Init {
		return nil, nil, fmt.Errorf("data directory %s has no %s: its disk is missing or was emptied; a node that never ran starts with --init", c.Data, identityFile)
	}
	dir, err := datadir.Lock(c.Data)
	if err != nil {
		return nil, nil, err
	}
	if err := mayInit(c.Data); err != nil {
		return nil, nil, errors.Join(err, dir.Close())
	}
	made, err := initDir(c, dir)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("make data directory %s: %w", c.Data, err), dir.Close())
	}
	return dir, made, nil
}

// mayInit refuses a directory that holds something. What initDir writes before IDENTITY may be left over from a crash; a
// shard's directory may not.
func mayInit(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !slices.Contains([]string{lockFile, manifestFile, identityFile, shardsDir}, strings.TrimSuffix(e.Name(), tmpSuffix)) {
			return fmt.Errorf("data directory %s has no %s but holds %s: a new node needs an empty directory", dir, identityFile, e.Name())
		}
	}
	shards, err := os.ReadDir(filepath.Join(dir, shardsDir))
	if err == nil && len(shards) > 0 {
		return fmt.Errorf("data directory %s has lost its %s but holds %s: give the node a new directory under a new id", dir, identityFile, shards[0].Name())
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// initDir fills the directory; IDENTITY comes last and completes it.
func initDir(c *Config, dir *datadir.Dir) (*manifest, error) {
	made := &manifest{Replicas: []manifestEntry{}}
	if err := os.MkdirAll(dir.Path(shardsDir), 0o755); err != nil {
		return nil, err
	}
	if err := made.save(c.Data); err != nil {
		return nil, err
	}
	return made, dir.SetIdentity(newIdentity(c))
}

// newIdentity is a grid of its own for a node that runs alone. A node of a grid learns the incarnation with the map.
func newIdentity(c *Config) datadir.Identity {
	id := datadir.Identity{Kind: datadir.KindNode, ID: string(c.nodeID()), StoreID: datadir.NewStoreID()}
	if c.Grid != nil {
		id.GridID = c.Grid.ID
		return id
	}
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // a version 4 UUID
	h := hex.EncodeToString(b[:])
	id.GridID = h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
	id.Incarnation.N = 1
	rand.Read(id.Incarnation.Random[:])
	return id
}

// makeReplica makes a replica's directory, complete and durable, and then names it in the manifest. A crash before the
// rename leaves what the next try throws away, one behind it a directory that the next try finds complete. Its raft has
// not run before the manifest names it.
func (n *Node) makeReplica(a assignment) error {
	return n.placeReplica(a, func(dir string) error { return n.buildReplica(dir, a, nil) })
}

func (n *Node) placeReplica(a assignment, build func(dir string) error) error {
	path := n.shardDir(a.shard)
	entry := manifestEntry{ShardID: a.shard, ReplicaID: a.replica}
	there, err := datadir.Exists(path)
	if err != nil {
		return err
	}
	if there {
		if err := n.checkMade(path, a); err != nil {
			return err
		}
		return n.replicas.record(n.dir.Path(), n.replicas.made.with(entry))
	}
	building := path + newSuffix
	if err := os.RemoveAll(building); err != nil {
		return err
	}
	if err := build(building); err != nil {
		return err
	}
	if err := os.Rename(building, path); err != nil {
		return err
	}
	if err := datadir.SyncDir(n.dir.Path(shardsDir)); err != nil {
		return err
	}
	return n.replicas.record(n.dir.Path(), n.replicas.made.with(entry))
}

// buildReplica fills dir: identity before any store (safety S1), then the stores of log and state; b is the state that the
// replica begins with, nil: none.
func (n *Node) buildReplica(dir string, a assignment, b *beginning) error {
	id := datadir.Identity{
		GridID: n.gridID(), Incarnation: n.maps.current().incarnation, Kind: kindReplica, ID: string(a.shard), StoreID: a.replica.StoreID(),
	}
	d, err := datadir.Create(dir, id)
	if err != nil {
		return err
	}
	c := raftgroup.CreateConfig{
		GroupID: string(a.shard), LocalID: a.replica, Voters: a.voters, Join: len(a.voters) == 0, LogStore: n.cfg.Groups.LogStore, SegmentBytes: n.cfg.Groups.SegmentBytes,
	}
	if b != nil {
		c.Voters, c.Join, c.At = nil, true, &b.at
	}
	err = raftgroup.Create(filepath.Join(dir, raftDir), c)
	if err == nil && b != nil {
		err = n.beginEngine(filepath.Join(dir, engineDir), a.shard, b)
	} else if err == nil {
		err = n.buildEngine(filepath.Join(dir, engineDir), a.shard)
	}
	return errors.Join(err, datadir.SyncDir(dir), d.Close())
}

func (n *Node) buildEngine(dir string, shard event.ShardID) error {
	first := uint32(0)
	if n.masters == nil { // alone there is no older version to understand it
		first = n.cfg.level()
	}
	e, err := engine.Open(dir, engine.Options{ShardID: shard, Dimension: n.cfg.Dimension, CacheBytes: 1 << 20, First: first, Log: n.log, Fatal: n.fail})
	if err != nil {
		return err
	}
	return e.Close()
}

// checkMade accepts a directory that is exactly the assigned replica's, complete, and was never named in the manifest.
func (n *Node) checkMade(path string, a assignment) error {
	d, err := datadir.Open(path, kindReplica, string(a.shard))
	if err != nil {
		return err
	}
	id, _ := d.Identity()
	if id.GridID != n.gridID() || id.StoreID != a.replica.StoreID() {
		err = fmt.Errorf("%s belongs to store %s of grid %s", path, id.StoreID, id.GridID)
	}
	return errors.Join(err, d.Close())
}
