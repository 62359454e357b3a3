package processes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/transport"
)

// snapshotSaid is what hashicorp/raft says of a snapshot that is complete.
const snapshotSaid = "snapshot complete up to"

// forceSnapshots has every master take a snapshot now. Shards take theirs by their threshold while the fault lasts, which few entries
// reach; theirs are counted too.
func forceSnapshots(ctx context.Context, t *trial) error {
	var from []places
	for _, m := range t.g.machines {
		from = append(from, t.g.logs.place(m))
	}
	t.onHeal(func(context.Context) error {
		var faults []error
		for _, p := range from {
			said, err := t.g.logs.since(p)
			t.count.Add(int64(strings.Count(said, snapshotSaid)))
			faults = append(faults, err)
		}
		return errors.Join(faults...)
	})
	for _, m := range t.g.of(roleMaster) {
		if _, err := ask[transport.TakeSnapshotOk](ctx, t.g.desk, &transport.TakeSnapshot{MasterID: m.masterID()}); err != nil {
			return err
		}
		t.met = append(t.met, m.id)
	}
	return nil
}

func transferLeader(ctx context.Context, t *trial) error {
	from, term, err := t.g.desk.leader(ctx)
	if err != nil {
		return err
	}
	t.met = append(t.met, from.id)
	r, err := ask[transport.TransferLeadershipOk](ctx, t.g.desk, &transport.TransferLeadership{})
	if err != nil {
		return err
	}
	if r.Term > term && r.Leader != from.masterID() {
		t.count.Add(1)
	}
	return nil
}

// transferShard asks the node that leads a shard to end, before which it hands its shards over; its agent starts it again.
func transferShard(ctx context.Context, t *trial) error {
	shard, lead, _, err := t.g.desk.shardLeader(ctx, t.rng.Uint64())
	if err != nil {
		return err
	}
	t.meets(lead)
	limited, cancel := context.WithTimeout(ctx, handOverLimit)
	defer cancel()
	if _, err := slay(limited, unix.SIGTERM, lead); err != nil {
		return err
	}
	return until(limited, string(shard.ID)+" is not led by another", func(ctx context.Context) error {
		now, err := t.g.desk.shard(ctx, shard.ID)
		if err != nil {
			return err
		}
		if now.Term <= shard.Term || now.Leader == "" {
			return fmt.Errorf("it is in term %d, led by %q", now.Term, now.Leader)
		}
		t.count.Add(int64(now.Term - shard.Term))
		return nil
	})
}

// handOverLimit bounds the orderly end of a node, and the masters' notice of who leads then.
const handOverLimit = 10 * time.Second

// shard is one shard as the map has it now.
func (d *desk) shard(ctx context.Context, id event.ShardID) (*shardmap.Shard, error) {
	m, err := d.shards(ctx)
	if err != nil {
		return nil, err
	}
	s, ok := m.ByID(id)
	if !ok {
		return nil, fmt.Errorf("%s is not in the map", id)
	}
	return s, nil
}

// replaceReplica has a voter of a shard replaced by one on a node that has none of it.
func replaceReplica(ctx context.Context, t *trial) error {
	shard, _, _, err := t.g.desk.shardLeader(ctx, t.rng.Uint64())
	if err != nil {
		return err
	}
	to, err := t.spare(ctx, shard)
	if err != nil {
		return err
	}
	from := pick(t, shard.Replicas).NodeID
	if _, err := ask[transport.AssignReplicaOk](ctx, t.g.desk, &transport.AssignReplica{ShardID: shard.ID, NodeID: to, Role: event.RoleLearner, Replaces: from}); err != nil {
		return err
	}
	t.met = append(t.met, fmt.Sprintf("%s: %s for %s", shard.ID, to, from))
	t.onHeal(func(ctx context.Context) error { return t.replaced(ctx, shard.ID, from, to) })
	return nil
}

// spare is a node without a replica of the shard.
func (t *trial) spare(ctx context.Context, shard *shardmap.Shard) (event.NodeID, error) {
	r, err := ask[transport.ListNodesOk](ctx, t.g.desk, &transport.ListNodes{})
	if err != nil {
		return "", err
	}
	for _, n := range r.Nodes {
		has := slices.ContainsFunc(shard.Replicas, func(r shardmap.Replica) bool { return r.NodeID == n.NodeID || r.AgentID == n.AgentID })
		if !has && n.Status == "running" {
			return n.NodeID, nil
		}
	}
	return "", fmt.Errorf("every node that runs has a replica of %s: start the grid with more agents than voters", shard.ID)
}

// replaceLimit bounds how long the new voter may take behind the fault's end.
const replaceLimit = 15 * time.Second

// replaced waits for the new voter to vote and the old one to be gone.
func (t *trial) replaced(ctx context.Context, id event.ShardID, from, to event.NodeID) error {
	ctx, cancel := context.WithTimeout(ctx, replaceLimit)
	defer cancel()
	return until(ctx, "the voter is not replaced", func(ctx context.Context) error {
		now, err := t.g.desk.shard(ctx, id)
		if err != nil {
			return err
		}
		votes := false
		for _, r := range now.Replicas {
			if r.NodeID == from {
				return fmt.Errorf("%s still has %s", id, from)
			}
			votes = votes || r.NodeID == to && r.Role == shardmap.Voter
		}
		if !votes {
			return fmt.Errorf("%s does not vote in %s", to, id)
		}
		t.count.Add(2) // one came, one went
		return nil
	})
}

// replaceMaster removes a master that does not lead, which ends it; Heal has it join again, on an empty disk.
func replaceMaster(ctx context.Context, t *trial) error {
	followers, err := t.followers(ctx)
	if err != nil {
		return err
	}
	m := pick(t, followers)
	v := victim{m: m}
	p, err := v.open()
	if err != nil {
		return err
	}
	defer p.close()
	t.meets(v)
	if _, err := ask[transport.RemoveMasterOk](ctx, t.g.desk, &transport.RemoveMaster{ID: m.id, Shrink: true}); err != nil {
		return err
	}
	t.count.Add(1)
	t.onHeal(func(ctx context.Context) error { return t.join(ctx, m) })
	limited, cancel := context.WithTimeout(ctx, handOverLimit)
	defer cancel()
	return p.exited(limited)
}

// joinLimit bounds how long a master may take to vote that begins anew: it has to have kept up for five seconds (safety S14).
const joinLimit = 30 * time.Second

// join begins a master anew, has it admitted, and waits for it to vote: as long as it does not, the loss of one more leaves no majority.
func (t *trial) join(ctx context.Context, m *machine) error {
	ctx, cancel := context.WithTimeout(ctx, joinLimit)
	defer cancel()
	if _, err := slay(ctx, unix.SIGKILL, victim{m: m}); err != nil {
		return err
	}
	parts, err := filepath.Glob(filepath.Join(m.data(), "*"))
	for _, p := range parts {
		err = errors.Join(err, os.RemoveAll(p))
	}
	if err != nil {
		return err
	}
	for i, a := range m.args {
		if a == "--bootstrap" {
			m.args[i] = "--join"
		}
	}
	if err := t.g.start(m); err != nil {
		return err
	}
	return until(ctx, m.id+" does not vote", func(ctx context.Context) error {
		ok, err := ask[transport.AddMasterOk](ctx, t.g.desk, &transport.AddMaster{MasterID: m.masterID()}) // again: what it is by now
		if err != nil {
			return err
		}
		if ok.Suffrage != "voter" {
			return fmt.Errorf("it is a %s", ok.Suffrage)
		}
		t.count.Add(1)
		return nil
	})
}
