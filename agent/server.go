package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// handler answers what an agent can be asked on its own port: whether it is there, and what it runs. It changes nothing: orders
// come from the masters' log only.
func (a *Agent) handler(_ context.Context, _ *transport.Session, req any) (any, error) {
	switch req.(type) {
	case *transport.HealthCheck:
		return &transport.HealthCheckOk{Healthy: true, Status: "ok", UptimeSeconds: uint64(time.Since(a.opened).Seconds())}, nil
	case *transport.ListNodes:
		return a.listNodes(), nil
	}
	return nil, &event.Error{Kind: event.KindUnsupported, Op: "answer " + transport.VariantName(req),
		Message: fmt.Sprintf("agent %s answers HealthCheck and ListNodes; ask a master for the rest", a.cfg.ID)}
}

// listNodes is what runs here now, ahead of what the masters have heard.
func (a *Agent) listNodes() *transport.ListNodesOk {
	s := a.keeper.status.Load()
	ok := &transport.ListNodesOk{Nodes: []transport.NodeRecord{}, Seq: s.revision}
	for _, n := range s.nodes {
		if !n.Wanted && n.Phase == Stopped {
			continue
		}
		ok.Nodes = append(ok.Nodes, transport.NodeRecord{NodeID: n.NodeID, AgentID: a.cfg.ID, Status: string(n.Phase), PID: uint32(n.PID),
			Endpoint: n.Endpoint, Shards: []event.ShardID{}, RestartCount: n.Restarts})
	}
	return ok
}
