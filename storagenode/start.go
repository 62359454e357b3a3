package storagenode

import (
	"errors"
	"fmt"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/transport"
)

// firstMap is what the node knows of the map before it has heard of any master: alone, all there is to know; in a grid, the
// cached one.
func (n *Node) firstMap(addr string) (*mapCache, error) {
	node := n.cfg.nodeID()
	if n.cfg.Grid == nil {
		return fixedMap(node, n.aloneMap(addr)), nil
	}
	cache, err := newMapCache(node, n.gridID(), n.dir.Path(mapFile))
	if err != nil {
		// It is a copy: the masters have the map.
		n.log.Warn("the cached shard map is not used; waiting for the masters", "error", err)
	}
	return cache, nil
}

// aloneMap is the map of a grid of one: this node, one shard, one voter.
func (n *Node) aloneMap(addr string) *transport.ShardMapOk {
	id, _ := n.dir.Identity()
	node := n.cfg.nodeID()
	return &transport.ShardMapOk{
		GridID: id.GridID, Incarnation: id.Incarnation,
		Map: shardmap.Map{
			Epoch: event.Position{N: id.Incarnation.N}, Strategy: "hash", Base: 1, Replicas: 1,
			Shards: []shardmap.Shard{{
				ID: n.cfg.aloneShardID(), State: shardmap.Forming,
				Replicas: []shardmap.Replica{{
					ReplicaID: event.NewReplicaID(string(node), id.StoreID), NodeID: node, Endpoint: addr, Role: shardmap.Voter,
				}},
			}},
		},
	}
}

// firstReplicas opens what the node knows of.
func (n *Node) firstReplicas() error {
	m := n.maps.current()
	if !m.known() {
		return nil
	}
	if err := n.forgetFetched(m); err != nil {
		n.log.Warn("what was fetched for replicas that are not to be is left", "error", err)
	}
	err := n.reconcile(m)
	if n.cfg.Grid == nil {
		return n.serveAlone(err)
	}
	if err != nil {
		n.log.Error("replicas do not match the map", "error", err)
	}
	return nil
}

// aloneLimit bounds the wait for a group of one to lead itself; it takes an election time-out.
const aloneLimit = 30 * time.Second

// serveAlone waits until the one replica leads, so that whoever is told that the node is ready can use it.
func (n *Node) serveAlone(err error) error {
	if err = errors.Join(err, n.replicas.refusals()); err != nil {
		return err
	}
	limit := time.NewTimer(aloneLimit)
	defer limit.Stop()
	r := n.replicas.all()[0]
	for {
		changed := r.group.LeaderChanged()
		if r.group.IsLeader() {
			return nil
		}
		select {
		case <-changed:
		case <-n.failure.done:
			return n.failure.err
		case <-limit.C:
			return fmt.Errorf("%s in %s has no leader after %s: see the log", r.shard, n.cfg.Data, aloneLimit)
		}
	}
}

// startHost takes the raft connections, once a map has said the incarnation.
func (n *Node) startHost(m *mapState) {
	if n.host != nil {
		return
	}
	n.host = raftgroup.NewHost(n.raft, raftgroup.HostConfig{GridID: n.gridID(), Incarnation: m.incarnation, Log: n.log})
	n.serve("raft", n.host.Serve)
}

func (n *Node) gridID() string {
	id, _ := n.dir.Identity()
	return id.GridID
}

// callMasters is nil alone.
func (n *Node) callMasters() caller {
	if n.masters == nil {
		return nil
	}
	return n.masters
}

// cacheShare is one engine's part of the block cache.
func (n *Node) cacheShare() int64 {
	shards := max(1, len(assignments(&n.maps.current().Map, n.cfg.nodeID())))
	return max(1<<20, n.cfg.CacheBytes/int64(shards))
}

// features are what a node knows beside what its server does: a client that sees "batch" sends many writes as one.
var features = []string{"batch", "routed"}

// hello fills the answer to a client's greeting.
func (n *Node) hello() transport.HelloOk {
	return transport.HelloOk{Features: features, GridID: n.gridID(), ShardEpoch: n.maps.current().Epoch, TimeMicros: time.Now().UnixMicro()}
}
