package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

const (
	rollingDown = 500 * time.Millisecond // how long a process of a rolling restart is down
	rollingUp   = 500 * time.Millisecond // and then runs before the next
	askEach     = 10 * time.Second       // for one request of the rig's own
)

// rest waits, or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// ask has one of the masters answer.
func ask[T any](ctx context.Context, g *Grid, req any) (*T, error) {
	var addrs []string
	for _, p := range g.masters {
		if p.alive() {
			addrs = append(addrs, p.host()+":7002")
		}
	}
	if len(addrs) == 0 {
		return nil, errNoMaster
	}
	ctx, cancel := context.WithTimeout(ctx, askEach)
	defer cancel()
	return transport.As[T](transport.NewMasters(addrs, g.pool).Call(ctx, req))
}

// snapshot has every master take one; a storage node takes its own whenever its log has so many entries.
func (g *Grid) snapshot(ctx context.Context, _ rig.Fault) (*injected, error) {
	in := &injected{heal: func(context.Context) error { return nil }}
	for _, p := range g.masters {
		if !p.alive() {
			continue
		}
		if _, err := ask[transport.TakeSnapshotOk](ctx, g, &transport.TakeSnapshot{MasterID: p.id}); err != nil {
			return nil, fmt.Errorf("snapshot of %s: %w", p.id, err)
		}
		in.count++
		in.met += " " + p.name()
	}
	return in, nil
}

// transfer hands the masters' leadership over.
func (g *Grid) transfer(ctx context.Context, f rig.Fault) (*injected, error) {
	p, term, ok := g.leader()
	if !ok {
		return nil, errNoLeader
	}
	done, err := ask[transport.TransferLeadershipOk](ctx, g, &transport.TransferLeadership{})
	if err != nil {
		return nil, err
	}
	in := &injected{met: fmt.Sprintf("%s, to %s", p.id, done.Leader), heal: func(context.Context) error { return nil }}
	if done.Term > term {
		in.count = int64(done.Term - term)
	}
	return in, nil
}

// shardTransfer has the node that leads a shard end in good order, which hands over all shards that it leads; its agent starts it again.
func (g *Grid) shardTransfer(_ context.Context, f rig.Fault) (*injected, error) {
	s, host, err := g.shardLeader(dice(f))
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(g.homes, func(h *home) bool { return h.host() == host })
	l := g.homes[at].lodger()
	l.stop()
	in := &injected{met: fmt.Sprintf("%s of %s", host, s.ID)}
	in.heal = func(ctx context.Context) error {
		if err := l.start(ctx); err != nil {
			return err
		}
		return g.until(ctx, fmt.Sprintf("%s led in a later term than %d", s.ID, s.Term), func(v *fsm.State) bool {
			in.count = int64(v.Shard(s.ID).Term - s.Term)
			return in.count > 0
		})
	}
	return in, nil
}

var errNoStranger = errors.New("every node has a replica of the shard: the grid needs more agents")

// replaceReplica has a voter of a shard replaced by a node that has no replica of it.
func (g *Grid) replaceReplica(ctx context.Context, f rig.Fault) (*injected, error) {
	r := dice(f)
	s, _, err := g.shardLeader(r)
	if err != nil {
		return nil, err
	}
	v, err := g.view()
	if err != nil {
		return nil, err
	}
	var in event.NodeID
	for n := range v.Nodes() {
		if _, has := v.ReplicaAt(s, n.ID); !has && n.Status == fsm.NodeRunning {
			in = n.ID
		}
	}
	if in == "" {
		return nil, errNoStranger
	}
	out := s.Voters[r.IntN(len(s.Voters))].NodeID
	req := &transport.AssignReplica{ShardID: s.ID, NodeID: in, Role: event.RoleLearner, Replaces: out}
	if _, err := ask[transport.AssignReplicaOk](ctx, g, req); err != nil {
		return nil, err
	}
	i := &injected{met: fmt.Sprintf("%s of %s, by %s", out, s.ID, in)}
	i.heal = func(ctx context.Context) error {
		if err := g.until(ctx, fmt.Sprintf("%s in place of %s in %s", in, out, s.ID), func(v *fsm.State) bool {
			voters := v.Shard(s.ID).Voters
			return v.Members(v.Shard(s.ID)).Since == 0 && votes(voters, in) && !votes(voters, out)
		}); err != nil {
			return err
		}
		i.count = 2 // one came, one went
		return nil
	}
	return i, nil
}

func votes(voters []event.Voter, node event.NodeID) bool {
	return slices.ContainsFunc(voters, func(v event.Voter) bool { return v.NodeID == node })
}

// replaceMaster removes a master that follows. Its process ends, and when the fault is healed it comes back on an empty disk: it announces
// itself, is added, and votes.
func (g *Grid) replaceMaster(ctx context.Context, f rig.Fault) (*injected, error) {
	leads, _, ok := g.leader()
	if !ok {
		return nil, errNoLeader
	}
	followers := slices.DeleteFunc(slices.Clone(g.masters), func(p *masterProcess) bool { return p == leads || !p.alive() })
	if len(followers) == 0 {
		return nil, errNobody
	}
	p := followers[dice(f).IntN(len(followers))]
	if _, err := ask[transport.RemoveMasterOk](ctx, g, &transport.RemoveMaster{ID: string(p.id), Shrink: true}); err != nil {
		return nil, err
	}
	if err := p.kill(); err != nil {
		return nil, err
	}
	p.renew()
	in := &injected{met: string(p.id), count: 1}
	in.heal = func(ctx context.Context) error {
		if err := g.join(ctx, p); err != nil {
			return err
		}
		in.count++
		return nil
	}
	return in, nil
}

// renew gives the master an empty disk.
func (p *masterProcess) renew() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.life++
}

// join starts a master on an empty disk, and adds it: it is open when it is on record, and joined when it votes. As long as it does not, the
// loss of one more leaves no majority.
func (g *Grid) join(ctx context.Context, p *masterProcess) error {
	opened := make(chan error, 1)
	go func() { opened <- p.start(ctx) }()
	for open := false; ; {
		ok, err := ask[transport.AddMasterOk](ctx, g, &transport.AddMaster{MasterID: p.id}) // again: what it is by now
		switch {
		case open && err == nil && ok.Suffrage == "voter":
			return nil
		case open && ctx.Err() != nil:
			return fmt.Errorf("%s does not vote: %w", p.id, errors.Join(context.Cause(ctx), err))
		case open || err == nil || errors.Is(err, &event.Error{Kind: event.KindNotFound}) || errors.Is(err, &event.Error{Kind: event.KindUnavailable}): // not announced yet
		default:
			return errors.Join(err, <-opened)
		}
		select {
		case err := <-opened:
			if open = true; err != nil {
				return err
			}
		case <-time.After(joinAgain):
		}
	}
}

// joinAgain is how long to wait before a master that has not announced itself is asked for again.
const joinAgain = 200 * time.Millisecond
