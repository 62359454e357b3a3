package storagenode

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/internal/pack"
	"github.com/sutra-grid/sutra-grid/transport"
)

// mapFile is the last map that the masters sent, so that a node starts without them: a cachedMap and CRC-32C.
const mapFile = "shardmap.mp"

// cachedMap is what the file holds: of a ShardMapOk what is true of the map, and not what was true of one reply.
type cachedMap struct {
	ShardMapOk struct {
		Map         shardmap.Map      `wire:"map"`
		GridID      string            `wire:"grid_id"`
		Incarnation event.Incarnation `wire:"incarnation"`
		Horizon     event.Position    `wire:"horizon"`
	} `wire:"ShardMapOk"`
}

// mapState is one map as this node knows it. It is replaced, never changed.
type mapState struct {
	shardmap.Map
	incarnation event.Incarnation
	node        event.NodeID
}

func newMapState(node event.NodeID, msg *transport.ShardMapOk) *mapState {
	return &mapState{Map: msg.Map, incarnation: msg.Incarnation, node: node}
}

// known tells whether any map has been seen: every grid has an incarnation.
func (s *mapState) known() bool { return s.incarnation.N != 0 }

// gives tells whether the map gives this node a replica of the shard.
func (s *mapState) gives(id event.ShardID) bool {
	for _, a := range assignments(&s.Map, s.node) {
		if a.shard == id {
			return true
		}
	}
	return false
}

// left tells whether the map has the shard without this replica. Until its group confirms that, the replica is kept; it answers
// no stale reads, for it may never hear of another write.
func (s *mapState) left(r *replica) bool {
	shard, ok := s.ByID(r.shard)
	if !ok {
		return false
	}
	_, named := shard.ByReplica(r.id)
	return !named
}

// mapCache is the present map, in memory and in a file.
type mapCache struct {
	node   event.NodeID
	gridID string
	path   string
	state  atomic.Pointer[mapState]

	mu   sync.Mutex
	next chan struct{} // guarded by mu; closed by the next change; nil: nobody waits
}

// newMapCache starts with what the file holds, if anything.
func newMapCache(node event.NodeID, gridID, path string) (*mapCache, error) {
	c := &mapCache{node: node, gridID: gridID, path: path}
	c.state.Store(newMapState(node, &transport.ShardMapOk{GridID: gridID}))
	msg, err := readMap(path)
	if err != nil || msg == nil {
		return c, err
	}
	if err := c.fits(msg); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	c.state.Store(newMapState(node, msg))
	return c, nil
}

// fixedMap is the map of a node that runs alone.
func fixedMap(node event.NodeID, msg *transport.ShardMapOk) *mapCache {
	c := &mapCache{node: node, gridID: msg.GridID}
	c.state.Store(newMapState(node, msg))
	return c
}

func (c *mapCache) current() *mapState { return c.state.Load() }

// Changed is closed when there is a newer map than current would have returned before the call.
func (c *mapCache) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == nil {
		c.next = make(chan struct{})
	}
	return c.next
}

// address is where a replica can be dialled, by the present map.
func (c *mapCache) address(id event.ReplicaID) (string, error) {
	m := c.current()
	if addr, ok := m.Endpoint(id); ok {
		return addr, nil
	}
	return "", fmt.Errorf("the map of epoch %d has no endpoint for replica %s", m.Epoch.Seq, id)
}

// fits refuses another grid's map and another history's.
func (c *mapCache) fits(msg *transport.ShardMapOk) error {
	if msg.GridID != c.gridID {
		return fmt.Errorf("the map belongs to grid %s, this node to %s", msg.GridID, c.gridID)
	}
	now := c.current()
	if now.known() && msg.Incarnation != now.incarnation {
		return &event.Error{Kind: event.KindOldIncarnation, Message: fmt.Sprintf(
			"the map is of incarnation %d (%x), this node's of %d (%x)", msg.Incarnation.N, msg.Incarnation.Random, now.incarnation.N, now.incarnation.Random)}
	}
	return nil
}

// update takes a map that is newer; the watcher alone calls it. An error of writing the file leaves the node with the new map and an old copy.
func (c *mapCache) update(msg *transport.ShardMapOk) error {
	if err := c.fits(msg); err != nil {
		return err
	}
	now := c.current()
	if now.known() && !now.Epoch.Less(msg.Map.Epoch) && !fault.Broken(fault.EpochNotChecked) {
		return nil
	}
	c.state.Store(newMapState(c.node, msg))
	c.announce()
	return writeMap(c.path, msg)
}

func (c *mapCache) announce() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next != nil {
		close(c.next)
		c.next = nil
	}
}

func writeMap(path string, msg *transport.ShardMapOk) error {
	var c cachedMap
	c.ShardMapOk.Map, c.ShardMapOk.GridID, c.ShardMapOk.Incarnation, c.ShardMapOk.Horizon = msg.Map, msg.GridID, msg.Incarnation, msg.Horizon
	b, err := pack.Append(nil, &c)
	if err != nil {
		return fmt.Errorf("encode the shard map: %w", err)
	}
	if err := datadir.WriteFileAtomic(path, appendSum(b), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// readMap reads the file; nil: there is none.
func readMap(path string) (*transport.ShardMapOk, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the cached map: %w", err)
	}
	msg, err := decodeMap(b)
	if err != nil {
		return nil, fmt.Errorf("read the cached map %s: %w", path, err)
	}
	return msg, nil
}

func decodeMap(b []byte) (*transport.ShardMapOk, error) {
	body, ok := cutSum(b)
	if !ok {
		return nil, errors.New("its checksum is wrong")
	}
	var c cachedMap
	if err := pack.Unmarshal(body, &c); err != nil {
		return nil, err
	}
	m := c.ShardMapOk
	return &transport.ShardMapOk{Map: m.Map, GridID: m.GridID, Incarnation: m.Incarnation, Horizon: m.Horizon}, nil
}

func appendSum(b []byte) []byte {
	sum := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
	return append(b, byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum))
}

func cutSum(b []byte) ([]byte, bool) {
	if len(b) < 4 {
		return nil, false
	}
	body := b[:len(b)-4]
	full := appendSum(body[:len(body):len(body)])
	return body, string(full[len(body):]) == string(b[len(body):])
}
