package storagenode

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
)

// manifestFile is the list of the replicas that this directory holds, made together with IDENTITY. Its loss is refused:
// without it nobody can tell a replica that was never made from one whose disk was emptied (safety S1).
const manifestFile = "replicas.json"

// manifest is the content of replicas.json, ordered by shard. An entry is written after the replica's directory is
// complete and durable, and before its raft first runs. When the group has removed the replica, it says so before the
// directory is deleted; it goes when the shard gets another replica here.
type manifest struct {
	Replicas []manifestEntry `json:"replicas"`
}

// manifestEntry is one replica that was made here.
type manifestEntry struct {
	ShardID   event.ShardID   `json:"shard_id"`
	ReplicaID event.ReplicaID `json:"replica_id"`
	Removed   bool            `json:"removed,omitempty"` // for certain; what is left of its directory is of no use
}

// lookup finds a shard's entry.
func (m *manifest) lookup(id event.ShardID) (manifestEntry, bool) {
	for _, e := range m.Replicas {
		if e.ShardID == id {
			return e, true
		}
	}
	return manifestEntry{}, false
}

// with is a manifest that names e too, in place of what it said of the shard.
func (m *manifest) with(e manifestEntry) *manifest {
	others := slices.DeleteFunc(slices.Clone(m.Replicas), func(o manifestEntry) bool { return o.ShardID == e.ShardID })
	out := &manifest{Replicas: append(others, e)}
	slices.SortFunc(out.Replicas, func(a, b manifestEntry) int {
		return strings.Compare(string(a.ShardID), string(b.ShardID))
	})
	return out
}

// save replaces the file durably.
func (m *manifest) save(dir string) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("encode manifest: %w", err)
	}
	path := filepath.Join(dir, manifestFile)
	if err := datadir.WriteFileAtomic(path, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write manifest %s: %w", path, err)
	}
	return nil
}

// loadManifest reads the list; a missing or damaged one is an error that says what to do.
func loadManifest(dir string) (*manifest, error) {
	path := filepath.Join(dir, manifestFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("manifest %s is missing: the list of this directory's replicas is lost; give the node a new directory under a new id", path)
	}
	if err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", path, err)
	}
	m := &manifest{}
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("read manifest %s: %w; give the node a new directory under a new id", path, err)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("read manifest %s: %w; give the node a new directory under a new id", path, err)
	}
	return m, nil
}

// check holds what save wrote: shards once each, with complete replica ids.
func (m *manifest) check() error {
	if m.Replicas == nil {
		return errors.New("it has no list of replicas")
	}
	for i, e := range m.Replicas {
		if i > 0 && m.Replicas[i-1].ShardID >= e.ShardID {
			return fmt.Errorf("manifest names %s twice or out of order", e.ShardID)
		}
		if err := checkReplicaID(e.ReplicaID); err != nil {
			return fmt.Errorf("manifest entry of %s: %w", e.ShardID, err)
		}
		if err := checkShardID(e.ShardID); err != nil {
			return fmt.Errorf("manifest: %w", err)
		}
	}
	return nil
}

// checkShardID refuses what cannot be the name of a directory of its own.
func checkShardID(id event.ShardID) error {
	s := string(id)
	if s == "" || s == "." || s == ".." || len(s) > 64 || strings.ContainsAny(s, "/\\\x00") || strings.HasSuffix(s, newSuffix) || strings.HasSuffix(s, fetchSuffix) {
		return fmt.Errorf("shard id %q: not a name for a directory", id)
	}
	return nil
}

// checkReplicaID wants "<owner>.<32 hexadecimal digits>".
func checkReplicaID(id event.ReplicaID) error {
	store := id.StoreID()
	if id.Owner() == string(id) || id.Owner() == "" || len(store) != 32 || strings.Trim(store, "0123456789abcdef") != "" {
		return fmt.Errorf("replica id %q: want <node>.<32 hexadecimal digits>", id)
	}
	return nil
}
