package master

import (
	"context"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
	"github.com/sutra-grid/sutra-grid/master/placement"
)

// reconcileEvery is how often placement is planned when nothing seems to change: what was not accepted is tried again.
const reconcileEvery = 5 * time.Second

// reconcile brings the placement from what it is to what it should be, one event at a time, whenever agents or nodes change.
func (o *office) reconcile(ctx context.Context) error {
	tick := time.NewTicker(reconcileEvery)
	defer tick.Stop()
	for {
		changed := o.replica.fleet.Changed()
		if !o.frozen.Shut() {
			o.place(ctx)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		case <-tick.C:
		}
	}
}

// place takes the planned steps. One that is refused ends the pass: the plan was made for another state.
func (o *office) place(ctx context.Context) {
	for _, action := range placement.Plan(placement.Observe(o.replica.View())) {
		if ctx.Err() != nil || !o.note(ctx, eventOf(action)) {
			return
		}
		o.log.Info("placed", "step", action.String())
	}
}

// eventOf is the event that asks for a step. Replicas get fresh ids here, and keep them for ever.
func eventOf(a placement.Action) event.Body {
	if a.Spawn != nil {
		return event.SpawnRequested{NodeID: a.Spawn.Node, AgentID: a.Spawn.Agent}
	}
	voters := make([]event.Voter, len(a.Shard.Nodes))
	for i, node := range a.Shard.Nodes {
		voters[i] = event.Voter{ReplicaID: event.NewReplicaID(string(node), datadir.NewStoreID()), NodeID: node}
	}
	return event.ShardCreated{ShardID: a.Shard.ID, Voters: voters}
}
