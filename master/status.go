package master

import (
	"context"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// The statuses of a master, as in ClusterStatus.
const (
	statusOK       = "ok"
	statusNoLeader = "no_leader"
	statusStarting = "starting"
)

// statusLimit is how long a status may wait for a leader: whoever asks wants to know that there is none.
const statusLimit = 2 * time.Second

// status is the body of GET /api/health. Before there is a core it says so.
func (f *front) status(ctx context.Context, want transport.Reading) (*transport.ClusterStatus, error) {
	if err := want.Validate(); err != nil {
		return nil, err
	}
	if c := f.core.Load(); c != nil {
		return c.status(ctx, want), nil
	}
	return &transport.ClusterStatus{Status: statusStarting, Level: fsm.Critical, Reason: "this master is starting", ReadMode: transport.Stale,
		Masters: []transport.Peer{}, Shards: []transport.ShardHealth{}}, nil
}

// status describes the grid as want asks for, or, when that cannot be had, from what this master knows, and then says so.
func (c *core) status(ctx context.Context, want transport.Reading) *transport.ClusterStatus {
	ctx, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	status := statusOK
	s, err := c.reads.At(ctx, want)
	if err != nil {
		age, _ := c.group.Age()
		s, status = sight{c.replica.View(), transport.Read{ReadMode: transport.Stale, AgeMillis: millisUp(age)}}, statusNoLeader
	}
	cluster := s.Cluster()
	out := &transport.ClusterStatus{Status: status, Level: cluster.Level, Reason: cluster.Reason, GridID: c.founding.GridID,
		TotalAgents: cluster.TotalAgents, HealthyAgents: cluster.HealthyAgents, TotalStorageNodes: cluster.TotalNodes,
		RunningStorageNodes: cluster.RunningNodes, Shards: shardHealth(s.State), FeedLagEvents: feedLag(s.State), EventSink: firstSink(s.State),
		Seq: s.Seq(), Epoch: s.Epoch().Seq, ReadMode: s.read.ReadMode, AgeMillis: s.read.AgeMillis, Term: s.read.Term}
	if status != statusOK {
		out.Level, out.Reason = fsm.Critical, "no leader: "+err.Error()
	}
	if leader, _, known := c.group.Leader(); known {
		out.Leader = event.MasterID(leader.Owner())
	}
	out.Masters = c.localPeers()
	if status == statusOK && want.Mode() != transport.Stale { // who wants what is here must not wait for a leader
		if ok, err := c.peers(ctx, &transport.RaftPeers{}); err == nil {
			out.Masters = ok.Peers
			if ok.Halted != "" {
				out.Level, out.Reason = fsm.Critical, ok.Halted
			}
		}
	}
	return out
}

// peers lists the masters as the leader sees them: only it knows how far the others are.
func (c *core) peers(ctx context.Context, r *transport.RaftPeers) (ok *transport.RaftPeersOk, err error) {
	err = c.leading.Do(ctx, errand{
		what: "list the masters",
		safe: true,
		local: func(context.Context) error {
			ok = &transport.RaftPeersOk{Peers: c.localPeers()}
			if halted := c.proposer.halted.Load(); halted != nil {
				ok.Halted = halted.Message
			}
			return nil
		},
		remote: func(ctx context.Context, address string) (err error) {
			if r.Hops >= maxHops {
				return passedOn("list the masters", address)
			}
			ok, err = transport.Call[transport.RaftPeersOk](ctx, c.proposer.pool, address, &transport.RaftPeers{Hops: r.Hops + 1})
			return err
		},
	})
	return ok, err
}

func (c *core) localPeers() []transport.Peer {
	leader, _, _ := c.group.Leader()
	peers := []transport.Peer{}
	for _, p := range c.group.Peers() {
		address, err := c.raftAddress(p.ID)
		if err != nil {
			address = "" // it has not said so yet
		}
		peers = append(peers, transport.Peer{ID: event.MasterID(p.ID.Owner()), Address: address, Suffrage: string(p.Suffrage),
			Leader: p.ID == leader, MatchIndex: p.MatchIndex, ReplicaID: p.ID})
	}
	return peers
}
