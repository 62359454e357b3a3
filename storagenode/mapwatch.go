package storagenode

import (
	"context"
	"fmt"
	"time"

	"github.com/sutra-grid/sutra-grid/transport"
)

// watchAgain is the pause after the masters refused to stream the map; they are asked again for as long as the node lives.
const watchAgain = 5 * time.Second

// watchMap follows the masters' shard map until ctx ends. What a map changes is done by reconcileLoop.
func (n *Node) watchMap(ctx context.Context) error {
	request := func() any { return &transport.WatchShardMap{Epoch: n.maps.current().Epoch} }
	for {
		err := n.masters.Stream(ctx, request, n.takeMap)
		if ctx.Err() != nil {
			return nil
		}
		n.log.Error("the masters refuse to stream the shard map; the node goes on with the one it has", "error", err)
		if pause(ctx, watchAgain) != nil {
			return nil
		}
	}
}

// takeMap keeps a map that is newer, and makes the reconciler look in any case: what failed before is tried again.
func (n *Node) takeMap(msg any) error {
	m, ok := msg.(*transport.ShardMapOk)
	if !ok {
		return fmt.Errorf("unexpected message %s", transport.VariantName(msg))
	}
	if err := n.maps.update(m); err != nil {
		n.log.Error("shard map from the masters", "epoch", m.Map.Epoch.Seq, "error", err)
	}
	n.mapped.nudge()
	return nil
}

// reconcileLoop brings the replicas to the present map, once per nudge.
func (n *Node) reconcileLoop(ctx context.Context) error {
	last := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.mapped:
		}
		m := n.maps.current()
		if !m.known() {
			continue
		}
		if err := n.reconcile(m); err != nil {
			if last != err.Error() { // the same fault comes back with every map; HealthCheck shows it all the time
				n.log.Error("replicas do not match the map", "error", err)
			}
			last = err.Error()
			continue
		}
		last = ""
	}
}
