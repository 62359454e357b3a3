package processes

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/sutra-grid/sutra-grid/agent"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/transport"
)

// desk is how the rig itself asks the grid: from an address that no fault cuts off.
type desk struct {
	g       *Grid
	pool    *transport.Pool
	masters *transport.Masters
}

func newDesk(g *Grid) (*desk, error) {
	pool := transport.NewPool(transport.PoolConfig{Network: g.Network(deskName)})
	var addresses []string
	for _, m := range g.of(roleMaster) {
		addresses = append(addresses, m.grid)
	}
	return &desk{g: g, pool: pool, masters: transport.NewMasters(addresses, pool)}, nil
}

// deskName is the rig's own name among the clients.
const deskName = "gridfault"

func (d *desk) close() error { return d.pool.Close() }

// lookEvery is how often is asked what can only be asked for.
const lookEvery = 25 * time.Millisecond

// until asks until ok says nil, or ctx ends; then what was missing last is the error.
func until(ctx context.Context, what string, ok func(context.Context) error) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		missing := ok(ctx)
		if missing == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w", what, context.Cause(ctx), missing)
		case <-tick.C:
		}
	}
}

// askLimit bounds one question.
const askLimit = 2 * time.Second

// ask asks any master.
func ask[T any](ctx context.Context, d *desk, req any) (*T, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	return transport.As[T](d.masters.Call(ctx, req))
}

// awaitWhole waits until the grid serves.
func (d *desk) awaitWhole(ctx context.Context) error {
	return until(ctx, "the grid does not serve", func(ctx context.Context) error {
		for _, m := range d.g.machines {
			if !m.proc.Load().lives() {
				return fmt.Errorf("%s has ended: %s", m.id, lastLine(m.log))
			}
		}
		return d.recovered(ctx)
	})
}

// recovered tells what the grid lacks to be whole.
func (d *desk) recovered(ctx context.Context) error {
	s, err := ask[transport.ClusterStatus](ctx, d, &transport.GetClusterStatus{})
	if err != nil {
		return err
	}
	if err := d.whole(s); err != nil {
		return err
	}
	_, err = ask[transport.StatsOk](ctx, d, &transport.GetStats{}) // which takes the leader of each shard
	return err
}

// whole judges what the masters say.
func (d *desk) whole(s *transport.ClusterStatus) error {
	cfg := d.g.cfg
	switch {
	case s.Status != "ok" || s.Leader == "":
		return errors.New("the masters have no leader")
	case int(s.HealthyAgents) < cfg.Agents:
		return fmt.Errorf("%d of %d agents are healthy", s.HealthyAgents, cfg.Agents)
	case len(s.Shards) < cfg.Shards:
		return fmt.Errorf("%d of %d shards are placed", len(s.Shards), cfg.Shards)
	}
	for _, h := range s.Shards {
		if h.State != shardmap.Formed || h.Leader == "" || h.Live < h.Want {
			return fmt.Errorf("%s is %s, led by %q, with %d of %d replicas", h.ShardID, h.State, h.Leader, h.Live, h.Want)
		}
	}
	return nil
}

// stir has the masters record something time and again until ctx ends. Whether they can is not asked: they may be without a majority.
func (d *desk) stir(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		body, err := event.AppendBody(nil, event.SettingChanged{Key: deskName, Value: strconv.Itoa(n)})
		if err != nil {
			panic(err) // it is always the same
		}
		_, _ = ask[transport.ProposeOk](ctx, d, &transport.Propose{Actor: deskName, Type: event.TypeSettingChanged, Body: body})
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// findLimit bounds the search for a leader, which may have to be elected first.
const findLimit = 10 * time.Second

// leader is the machine of the leading master, and its term.
func (d *desk) leader(ctx context.Context) (*machine, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, findLimit)
	defer cancel()
	var lead *machine
	var term uint64
	err := until(ctx, "find the leading master", func(ctx context.Context) error {
		s, err := ask[transport.ClusterStatus](ctx, d, &transport.GetClusterStatus{})
		if err != nil {
			return err
		}
		for _, m := range d.g.of(roleMaster) {
			if m.masterID() == s.Leader {
				lead, term = m, s.Term
				return nil
			}
		}
		return fmt.Errorf("no machine of ours is the leader %q", s.Leader)
	})
	return lead, term, err
}

// shards is the map.
func (d *desk) shards(ctx context.Context) (*shardmap.Map, error) {
	r, err := ask[transport.ShardMapOk](ctx, d, &transport.GetShardMap{})
	if err != nil {
		return nil, err
	}
	return &r.Map, nil
}

// shardLeader is the node that leads a shard, and the machines of all its voters, the leader's first.
func (d *desk) shardLeader(ctx context.Context, number uint64) (shard *shardmap.Shard, lead victim, voters []*machine, err error) {
	ctx, cancel := context.WithTimeout(ctx, findLimit)
	defer cancel()
	err = until(ctx, "find a shard's leader", func(ctx context.Context) error {
		m, err := d.shards(ctx)
		if err != nil {
			return err
		}
		if len(m.Shards) == 0 {
			return errors.New("the map is empty")
		}
		shard, voters = &m.Shards[number%uint64(len(m.Shards))], nil
		for _, r := range shard.Replicas {
			host := d.g.byAgent(r.AgentID)
			switch {
			case host == nil:
				return fmt.Errorf("no machine of ours is %q", r.AgentID)
			case r.NodeID == shard.Leader:
				lead = victim{host, r.NodeID}
				voters = append([]*machine{host}, voters...)
			case r.Role == shardmap.Voter:
				voters = append(voters, host)
			}
		}
		if shard.Leader == "" || lead.node != shard.Leader {
			return fmt.Errorf("%s has no leader", shard.ID)
		}
		return nil
	})
	return shard, lead, voters, err
}

func (g *Grid) byAgent(id event.AgentID) *machine {
	for _, m := range g.of(roleAgent) {
		if m.agentID() == id {
			return m
		}
	}
	return nil
}

// reviveLimit bounds the start of what a fault has ended.
const reviveLimit = 20 * time.Second

// revive starts every program that has ended, and returns when all of them listen and every node of an agent runs.
func (g *Grid) revive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reviveLimit)
	defer cancel()
	var faults []error
	for _, m := range g.machines {
		faults = append(faults, g.start(m))
	}
	for _, m := range g.machines {
		faults = append(faults, g.awaitUp(ctx, m))
	}
	return errors.Join(faults...)
}

// awaitUp waits until a machine's program listens, and its nodes run.
func (g *Grid) awaitUp(ctx context.Context, m *machine) error {
	return until(ctx, m.id+" does not come back", func(ctx context.Context) error {
		if !m.proc.Load().lives() {
			return fmt.Errorf("it has ended: %s", lastLine(m.log))
		}
		ctx, cancel := context.WithTimeout(ctx, askLimit)
		defer cancel()
		conn, err := g.Network(deskName).Dial(ctx, m.grid)
		if err != nil {
			return err
		}
		if err := conn.Close(); err != nil || m.role != roleAgent {
			return err
		}
		return m.nodesRun()
	})
}

// nodesRun tells which node that an agent's machine must run does not.
func (m *machine) nodesRun() error {
	r, err := agent.ReadRecord(m.data())
	if err != nil {
		return err
	}
	runs := map[int]bool{}
	for _, n := range scanNodes(m) {
		runs[n.pid] = true
	}
	for _, n := range r.Nodes {
		if n.Wanted && (n.Phase != agent.Running || !runs[n.PID]) { // the agent may not have noticed an end
			return fmt.Errorf("%s is %s as pid %d, if that lives", n.NodeID, n.Phase, n.PID)
		}
	}
	return nil
}
