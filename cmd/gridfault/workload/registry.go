package workload

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/history"
	"github.com/sutra-grid/sutra-grid/transport"
)

// registry is W2: a few clients are agents that run nothing (they register again and again, say that they live, and leave); all others
// read them, the nodes and the shard map, each at one master. Nodes are spawned, stopped and claimed by what the nemesis does to the
// grid's own agents.
//
// An agent's record is a register with one writer, whose versions are numbered by it: what may have been written ends it, so none of its
// writes is late. One that has left does not come back.
type registry struct {
	*load
	agents []*agent // by client; nil: it only reads

	mu   sync.Mutex
	lost []*agent // guarded by mu; of which nobody knows whether they are registered
}

const (
	agentClients = 3 // more would be as many as the grid's own agents
	agentBeat    = 3 * time.Second
	agentLife    = 25      // registrations before it leaves
	left         = 1 << 40 // the version of an agent that has left
)

// agent is one that a client plays.
type agent struct {
	id      event.AgentID
	version uint64 // of its last registration
	beat    time.Time
	known   bool // it was acknowledged: others may read it
}

func newRegistry(env Env) Workload {
	r := &registry{load: newLoad(env, "W2")}
	for i := range r.clients {
		r.agents = append(r.agents, nil)
		if i < agentClients && i < len(r.clients)-1 {
			r.agents[i] = r.fresh()
		}
	}
	return r
}

func (r *registry) fresh() *agent { return &agent{id: event.AgentID(r.prefix() + r.next())} }

func (r *registry) prefix() string { return fmt.Sprintf("fault-%s-", strings.ToLower(r.name)) }

// Leaves implements Workload: agents leave at its end, unless it is killed.
func (r *registry) Leaves() []string { return []string{"agents " + r.prefix() + "* until it ends"} }

// Setup implements Workload.
func (r *registry) Setup(ctx context.Context) error {
	if err := r.announce(struct{}{}); err != nil {
		return err
	}
	return r.clients[0].mustQuery(ctx, history.QueryOp{Index: history.IndexNodes})
}

// Run implements Workload.
func (r *registry) Run(ctx context.Context) error {
	r.each(ctx, func(ctx context.Context, u *user) history.Outcome {
		if a := r.agents[u.index]; a != nil {
			return r.live(ctx, u, a)
		}
		switch u.rng.IntN(10) {
		case 0, 1:
			return u.query(ctx, history.QueryOp{Index: history.IndexNodes})
		case 2:
			return u.readMap(ctx)
		}
		return u.query(ctx, history.QueryOp{Index: history.IndexAgents})
	})
	return nil
}

// live is an agent's next step.
func (r *registry) live(ctx context.Context, u *user, a *agent) history.Outcome {
	switch {
	case a.known && time.Since(a.beat) > agentBeat:
		one, cancel := context.WithTimeout(ctx, attemptLimit)
		defer cancel()
		if _, err := u.pool.Call(one, u.masters[u.rng.IntN(len(u.masters))], &transport.Heartbeat{AgentID: a.id}); err == nil {
			a.beat = time.Now()
		}
		return history.OK // it is no request of the history: it says nothing that could be wrong
	case a.version > 0 && u.rng.IntN(3) > 0:
		return r.look(ctx, u, a)
	case a.version >= agentLife:
		return r.leave(ctx, u, a)
	}
	return r.register(ctx, u, a)
}

func (r *registry) register(ctx context.Context, u *user, a *agent) history.Outcome {
	a.version++
	version := a.version
	op := history.RegisterOp{Key: string(a.id), Kind: history.RegisterWrite, Value: fmt.Sprintf("%s v%d", a.id, version), Foreign: true}
	req := &transport.RegisterAgent{AgentID: a.id, Hostname: "gridfault", Platform: "gridfault", AgentEndpoint: "gridfault:1", Version: op.Value,
		RequestID: u.requestID(), Issued: time.Now().UnixMicro()}
	outcome := u.ask(ctx, writeLimit, op, req, func(reply any) history.RegisterAnswer {
		a.known, a.beat = true, time.Now()
		return history.RegisterAnswer{Version: version, Seq: reply.(*transport.RegisterAgentOk).Seq}
	})
	if outcome == history.Unknown {
		r.abandon(u, a)
	}
	return outcome
}

// abandon lets the client go on as another agent.
func (r *registry) abandon(u *user, a *agent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost = append(r.lost, a)
	r.agents[u.index] = r.fresh()
}

// leave unregisters the agent.
func (r *registry) leave(ctx context.Context, u *user, a *agent) history.Outcome {
	op := history.RegisterOp{Key: string(a.id), Kind: history.RegisterWrite, Value: history.LeftValue + r.next(), Foreign: true}
	req := &transport.UnregisterAgent{AgentID: a.id, Reason: "gridfault", RequestID: u.requestID(), Issued: time.Now().UnixMicro()}
	outcome := u.ask(ctx, writeLimit, op, req, func(reply any) history.RegisterAnswer {
		return history.RegisterAnswer{Version: left, Seq: reply.(*transport.UnregisterAgentOk).Seq}
	})
	switch outcome {
	case history.OK:
		r.agents[u.index] = r.fresh()
	case history.Unknown:
		r.abandon(u, a)
	}
	return outcome
}

// look reads the agent's own record at any master.
func (r *registry) look(ctx context.Context, u *user, a *agent) history.Outcome {
	at := u.masters[u.rng.IntN(len(u.masters))]
	op := history.RegisterOp{Key: string(a.id), Kind: history.RegisterRead, Foreign: true, At: at}
	return u.ask(ctx, writeLimit, op, &transport.GetAgent{AgentID: a.id}, func(reply any) history.RegisterAnswer {
		ok := reply.(*transport.GetAgentOk)
		_, number, _ := strings.Cut(ok.Agent.Version, " v")
		version, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			version = left - 1 // and its value is nobody's
		}
		return history.RegisterAnswer{Value: ok.Agent.Version, Version: version, Seq: ok.Seq, Epoch: ok.Epoch}
	})
}

// Settle implements Workload: agents leave, and all is read once more.
func (r *registry) Settle(ctx context.Context) error {
	u := r.clients[0]
	for _, a := range append(r.lost, r.agents...) {
		for a != nil && (a.version > 0) {
			if r.leave(ctx, u, a) == history.OK || u.kind == event.KindNotFound || u.kind == event.KindUnknownAgent {
				break
			}
			if ctx.Err() != nil {
				return fmt.Errorf("agent %s cannot leave: %w", a.id, context.Cause(ctx))
			}
			wait(ctx, time.Duration(50+u.rng.IntN(100))*time.Millisecond)
		}
	}
	for _, index := range []string{history.IndexNodes, history.IndexAgents} {
		if err := r.clients[0].mustQuery(ctx, history.QueryOp{Index: index}); err != nil {
			return err
		}
	}
	r.settled()
	return nil
}

// Check implements Workload.
func (r *registry) Check(l *history.Log) []history.Report {
	return append(checkRegistry(l), Complete(l))
}

func checkRegistry(l *history.Log) []history.Report {
	return []history.Report{history.Registers(l.Registers), history.Sessions(l.Registers), history.Owners(l), history.Members(l)}
}
