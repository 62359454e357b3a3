package master

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Bounds of an agent's record; the whole event must stay below 64 KiB.
const (
	maxName   = 512 // bytes of any id, name, address or version
	maxLabels = 100
)

// agents is what agents ask of a master, over either protocol.
type agents struct {
	gridID   string
	proposer *proposer
	reads    *reads
}

// Register adds or renews an agent's record; it answers when that is committed.
func (a *agents) Register(ctx context.Context, r *transport.RegisterAgent, actor string) (fsm.Answer, error) {
	if err := checkRegistration(r); err != nil {
		return fsm.Answer{}, err
	}
	if r.GridID != "" && r.GridID != a.gridID {
		return fsm.Answer{}, &event.Error{Kind: event.KindRefused, Op: "register " + string(r.AgentID),
			Message: fmt.Sprintf("it belongs to grid %s, this is grid %s; give it this grid's masters or an empty data directory", r.GridID, a.gridID)}
	}
	return a.proposer.decide(ctx, origin{actor, r.RequestID, r.Issued}, event.AgentRegistered{AgentID: r.AgentID, Hostname: r.Hostname, Platform: r.Platform,
		AgentEndpoint: r.AgentEndpoint, MaxStorageNodes: r.MaxStorageNodes, Version: r.Version, Zone: r.Zone, Labels: r.Labels, StoreID: r.StoreID})
}

// Heartbeat reports an agent's state; it answers when that is committed.
func (a *agents) Heartbeat(ctx context.Context, h *transport.Heartbeat, actor string) (fsm.Answer, error) {
	if err := checkName("agent_id", string(h.AgentID), true); err != nil {
		return fsm.Answer{}, err
	}
	return accepted(a.proposer.Propose(ctx, event.Command{Actor: actor, Type: event.TypeAgentHeartbeat,
		Body: event.AgentHeartbeat{AgentID: h.AgentID, StorageNodeCount: h.StorageNodeCount, Load: h.Load, Nodes: h.Nodes}}))
}

// Unregister removes an agent that runs nothing.
func (a *agents) Unregister(ctx context.Context, u *transport.UnregisterAgent, actor string) (fsm.Answer, error) {
	return a.proposer.decide(ctx, origin{actor, u.RequestID, u.Issued}, event.AgentUnregistered{AgentID: u.AgentID, Reason: u.Reason})
}

// List reads all agents.
func (a *agents) List(ctx context.Context, want transport.Reading) (*transport.ListAgentsOk, error) {
	s, err := a.reads.At(ctx, want)
	if err != nil {
		return nil, err
	}
	return &transport.ListAgentsOk{Agents: agentRecords(s.State), Seq: s.Seq(), Epoch: s.ShardMap().Epoch, Read: s.read}, nil
}

// Get reads one agent.
func (a *agents) Get(ctx context.Context, id event.AgentID, want transport.Reading) (*transport.GetAgentOk, error) {
	s, err := a.reads.At(ctx, want)
	if err != nil {
		return nil, err
	}
	agent := s.Agent(id)
	if agent == nil {
		return nil, &event.Error{Kind: event.KindNotFound, Op: "get agent", Message: fmt.Sprintf("agent %q is not registered", id)}
	}
	return &transport.GetAgentOk{Agent: agentRecord(s.State, agent), Seq: s.Seq(), Epoch: s.ShardMap().Epoch, Read: s.read}, nil
}

// Nodes reads all storage nodes.
func (a *agents) Nodes(ctx context.Context, want transport.Reading) (*transport.ListNodesOk, error) {
	s, err := a.reads.At(ctx, want)
	if err != nil {
		return nil, err
	}
	return &transport.ListNodesOk{Nodes: nodeRecords(s.State), Seq: s.Seq(), Epoch: s.ShardMap().Epoch, Read: s.read}, nil
}

// origin is who asks for something, under which request id; a zero one is made here.
type origin struct {
	actor  string
	id     event.RequestID
	issued int64
}

// decide proposes one event, which happens once however often it is passed on, or asked for under the same id, and turns a refusal into
// an error.
func (p *proposer) decide(ctx context.Context, o origin, body event.Body) (fsm.Answer, error) {
	cmd := event.Command{RequestID: o.id, Issued: o.issued, Actor: o.actor, Type: body.Type(), Body: body}
	if o.id.IsZero() {
		rand.Read(cmd.RequestID[:]) // never fails (crypto/rand)
		cmd.Issued = time.Now().UnixMicro()
	}
	return accepted(p.Propose(ctx, cmd))
}

// accepted turns the state machine's refusal into an error.
func accepted(answer fsm.Answer, err error) (fsm.Answer, error) {
	if err == nil && answer.Err != nil {
		err = answer.Err
	}
	return answer, err
}

func checkRegistration(r *transport.RegisterAgent) error {
	for _, f := range []struct {
		name, value string
		required    bool
	}{
		{"agent_id", string(r.AgentID), true}, {"hostname", r.Hostname, false}, {"platform", r.Platform, false},
		{"agent_endpoint", r.AgentEndpoint, false}, {"version", r.Version, false}, {"zone", r.Zone, false}, {"store_id", r.StoreID, false},
	} {
		if err := checkName(f.name, f.value, f.required); err != nil {
			return err
		}
	}
	if len(r.Labels) > maxLabels {
		return &event.Error{Kind: event.KindTooLarge, Message: fmt.Sprintf("labels: %d given, at most %d are kept", len(r.Labels), maxLabels)}
	}
	for k, v := range r.Labels {
		if len(k)+len(v) > maxName {
			return &event.Error{Kind: event.KindTooLarge, Message: fmt.Sprintf("label %.32q: %d bytes with its value, at most %d are kept", k, len(k)+len(v), maxName)}
		}
	}
	return nil
}

func checkName(name, value string, required bool) error {
	if value == "" && required {
		return &event.Error{Kind: event.KindInvalid, Message: name + ": missing"}
	}
	if len(value) > maxName {
		return &event.Error{Kind: event.KindTooLarge, Message: fmt.Sprintf("%s: %d bytes, at most %d are kept", name, len(value), maxName)}
	}
	return nil
}
