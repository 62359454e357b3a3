package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sdk "github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// district is a grid of three masters and agents with a storage node each, whose shards change their members.
type district struct {
	*world
	*chronicle
}

// inDistrict runs f in a grid of n storage nodes, two shards of three replicas, when it is healthy and at the newest level.
func inDistrict(t *testing.T, seed uint64, n int, f func(*district)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, scenario{seed: seed, masters: 3, estates: n})
		defer func() {
			w.close()
			for _, err := range w.broken() {
				t.Error(err)
			}
		}()
		d := &district{w, w.chronicle()}
		d.until("a healthy grid at the newest level", func(s *fsm.State) bool {
			formed := 0
			for sh := range s.Shards() {
				formed += int(min(sh.Term, 1))
			}
			return s.Cluster().RunningNodes == uint32(n) && formed == 2 && s.Level() == fsm.SupportedLevel
		})
		f(d)
	})
}

// until waits until the first running master's state is as wanted.
func (d *district) until(what string, right func(*fsm.State) bool) {
	d.world.t.Helper()
	for begun := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		for _, id := range d.running() {
			if m := d.member(id); m != nil && right(m.View()) {
				return
			}
		}
		if time.Since(begun) > patience {
			d.world.t.Fatalf("not %s; the feed has %s\n%s", what, d.tail(), d.world.tap.tail())
		}
	}
}

// ask has any master answer.
func (d *district) ask(req any) (any, error) {
	d.world.t.Helper()
	var addrs []string
	for _, id := range d.running() {
		addrs = append(addrs, string(id)+":7002")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return transport.NewMasters(addrs, d.pool).Call(ctx, req)
}

func (d *district) assign(shard event.ShardID, node event.NodeID, role string, replaces event.NodeID) *transport.AssignReplicaOk {
	d.world.t.Helper()
	ok, err := transport.As[transport.AssignReplicaOk](d.ask(&transport.AssignReplica{ShardID: shard, NodeID: node, Role: role, Replaces: replaces}))
	if err != nil {
		d.world.t.Fatal(err)
	}
	return ok
}

// voters are the nodes that vote in a shard as the first master knows it, in the map's order.
func voters(s *fsm.State, shard event.ShardID) string {
	var all []string
	for _, v := range s.Shard(shard).Voters {
		all = append(all, string(v.NodeID))
	}
	return strings.Join(all, " ")
}

// settled waits until the shard has exactly these voters and no change under way.
func (d *district) settled(shard event.ShardID, nodes string) {
	d.world.t.Helper()
	d.until(fmt.Sprintf("%s on %s", shard, nodes), func(s *fsm.State) bool {
		sh := s.Shard(shard)
		return voters(s, shard) == nodes && s.Members(sh).Since == 0
	})
}

// stranger is a node that has no replica of a shard.
func stranger(s *fsm.State, shard event.ShardID) event.NodeID {
	sh := s.Shard(shard)
	for n := range s.Nodes() {
		if _, has := s.ReplicaAt(sh, n.ID); !has {
			return n.ID
		}
	}
	return ""
}

func (d *district) view() *fsm.State { return d.member(d.running()[0]).View() }

// estateAt is where a node runs.
func (d *district) estateAt(node event.NodeID) *estate {
	return d.estateOf(d.view().Node(node).AgentID)
}

// serves asks a node for what its replica of a shard has.
func (d *district) serves(node event.NodeID, shard event.ShardID) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	q := &transport.Routed{ShardID: shard, Consistency: "stale", Request: transport.Any{Value: &transport.GetStats{}}}
	_, err := transport.Call[transport.RoutedOk](ctx, d.pool, d.view().Node(node).Endpoint, q)
	return err
}

// abandons waits until a node has deleted its replica of a shard.
func (d *district) abandons(node event.NodeID, shard event.ShardID) {
	d.world.t.Helper()
	var err error
	for begun := time.Now(); time.Since(begun) < patience; time.Sleep(100 * time.Millisecond) {
		if err = d.serves(node, shard); !errors.Is(err, &event.Error{Kind: event.KindWrongShard}) {
			continue
		}
		dirs, none := filepath.Glob(filepath.Join(d.root, "*", "*", string(node), "shards", string(shard)))
		if none == nil && len(dirs) == 0 {
			return
		}
		err = fmt.Errorf("there is %v", dirs)
	}
	d.world.t.Fatalf("%s keeps its replica of %s: %v", node, shard, err)
}

// TestAReplicaIsReplaced: a new replica is added, votes, and the old one leaves and is deleted. Each step is on record with the
// request as its cause.
func TestAReplicaIsReplaced(t *testing.T) {
	inDistrict(t, 41, 4, func(d *district) {
		const shard = event.ShardID("shard-0")
		before := strings.Fields(voters(d.view(), shard))
		out, in := event.NodeID(before[0]), stranger(d.view(), shard)
		d.skip()
		first := d.assign(shard, in, event.RoleLearner, out)
		if again := d.assign(shard, in, event.RoleLearner, out); again.ReplicaID != first.ReplicaID || again.Seq != first.Seq {
			t.Errorf("asked for again it is %+v, was %+v", again, first)
		}
		assigned, _ := next(d.chronicle, whatever[event.ReplicaAssigned])
		promoted, up := next(d.chronicle, whatever[event.ReplicaPromoted])
		removed, down := next(d.chronicle, whatever[event.ReplicaRemoved])
		d.because(promoted, assigned)
		d.because(removed, assigned)
		if up.NodeID != in || down.NodeID != out || up.ReplicaID != first.ReplicaID {
			t.Errorf("%+v, then %+v", up, down)
		}
		d.settled(shard, strings.Join(append([]string{string(in)}, before[1:]...), " "))
		d.abandons(out, shard)
		// The node may come back, as another replica.
		d.assign(shard, out, event.RoleLearner, in)
		d.settled(shard, strings.Join(before, " "))
		d.abandons(in, shard)
	})
}

// TestADeadReplicaIsRemoved: a voter's node is gone. It is removed, since the two others are well, and another one is added. When
// the node comes back after all, it finds out and deletes what it has.
func TestADeadReplicaIsRemoved(t *testing.T) {
	inDistrict(t, 42, 4, func(d *district) {
		const shard = event.ShardID("shard-0")
		before := strings.Fields(voters(d.view(), shard))
		dead, in := event.NodeID(before[1]), stranger(d.view(), shard)
		if _, err := d.ask(&transport.AssignReplica{ShardID: shard, NodeID: dead, Role: event.RoleLeaving}); !errors.Is(err, &event.Error{Kind: event.KindRefused}) {
			t.Errorf("a voter that is well is to be removed: %v", err)
		}
		restart := d.estateAt(dead).crash()
		d.until("crashed", func(s *fsm.State) bool { return s.Node(dead).Status != fsm.NodeRunning })
		d.assign(shard, dead, event.RoleLeaving, "")
		d.settled(shard, before[0]+" "+before[2])
		d.assign(shard, in, event.RoleLearner, "")
		d.settled(shard, before[0]+" "+before[2]+" "+string(in))
		restart()
		d.until("back", func(s *fsm.State) bool { return s.Node(dead).Status == fsm.NodeRunning })
		d.abandons(dead, shard)
	})
}

// TestALearnerIsNotWanted: a learner that cannot come is taken back, and a voter that was to leave stays.
func TestALearnerIsNotWanted(t *testing.T) {
	inDistrict(t, 43, 4, func(d *district) {
		const shard = event.ShardID("shard-0")
		before := voters(d.view(), shard)
		in := stranger(d.view(), shard)
		d.assign(shard, in, event.RoleLearner, "")
		restart := d.estateAt(in).crash()
		d.assign(shard, in, event.RoleLeaving, "")
		d.settled(shard, before)
		restart()
		d.until("back", func(s *fsm.State) bool { return s.Node(in).Status == fsm.NodeRunning })
		d.abandons(in, shard)
		out := event.NodeID(strings.Fields(before)[2])
		d.assign(shard, in, event.RoleLearner, out)
		d.assign(shard, out, event.RoleVoter, "")
		d.settled(shard, before+" "+string(in))
		d.assign(shard, in, event.RoleLeaving, "")
		d.settled(shard, before)
	})
}

// TestCrashesOfAReplacement takes the new replica's node, the old one's, or the group's leader, away at moments of a replacement: it
// ends as it was asked for, once. With GRID_SIM_LOSSES at all of those moments.
func TestCrashesOfAReplacement(t *testing.T) {
	inDistrict(t, 44, 4, func(d *district) {
		const shard = event.ShardID("shard-0")
		crashes := []struct {
			who   string
			after time.Duration
		}{
			{"leader", 5 * time.Second}, {"new", 0}, {"leader", 30 * time.Millisecond}, {"old", 3 * time.Second},
			{"new", 5200 * time.Millisecond}, {"leader", 5400 * time.Millisecond}, {"old", 5600 * time.Millisecond},
		}
		if number(t, "GRID_SIM_LOSSES", 0) == 0 {
			crashes = crashes[:2]
		}
		for i, c := range crashes {
			before := strings.Fields(voters(d.view(), shard))
			at := i % len(before)
			out, in := event.NodeID(before[at]), stranger(d.view(), shard)
			d.assign(shard, in, event.RoleLearner, out)
			time.Sleep(c.after)
			victim := map[string]event.NodeID{"new": in, "old": out, "leader": d.view().Shard(shard).Leader}[c.who]
			if victim == "" { // it has just left
				victim = in
			}
			restart := d.estateAt(victim).crash()
			time.Sleep(2 * time.Second)
			restart()
			before[at] = string(in)
			d.settled(shard, strings.Join(before, " "))
			d.until("whole", func(s *fsm.State) bool { return s.Shard(shard).Live == 3 })
			d.abandons(out, shard)
		}
	})
}

// TestEveryVoterIsReplacedUnderLoad: all voters of a shard are replaced, one by one, while a client that learns of it only by
// being refused writes and reads: what was acknowledged is there, each time and at the end, and nothing else. Without
// GRID_SIM_LOSSES it is the preferred leader alone.
func TestEveryVoterIsReplacedUnderLoad(t *testing.T) {
	inDistrict(t, 45, 4, func(d *district) {
		const shard = event.ShardID("shard-0")
		cfg := sdk.Config{}
		cfg.Network, cfg.Log = d.net.Host(clientHost(0)), slog.New(d.tap.of("client"))
		for _, p := range d.peers {
			cfg.Masters = append(cfg.Masters, p.Grid)
		}
		c, err := sdk.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		stop, acked := make(chan struct{}), make(chan []string)
		go func() { acked <- writeUntil(t, c, stop) }()
		first := strings.Fields(voters(d.view(), shard))
		replaced := first
		if number(t, "GRID_SIM_LOSSES", 0) == 0 {
			replaced = first[:1]
		}
		for i, out := range replaced {
			in, now := stranger(d.view(), shard), strings.Fields(voters(d.view(), shard))
			d.assign(shard, in, event.RoleLearner, event.NodeID(out))
			now[i] = string(in)
			d.settled(shard, strings.Join(now, " "))
		}
		close(stop)
		ids := <-acked
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		have, err := c.IDs(ctx)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(have)
		slices.Sort(ids)
		if !slices.Equal(have, ids) {
			t.Errorf("%d concepts are there, %d were acknowledged", len(have), len(ids))
		}
		if len(ids) < 30*len(replaced) {
			t.Errorf("only %d writes were acknowledged", len(ids))
		}
	})
}

// writeUntil writes concepts one after the other, each until it is acknowledged, and reads each one and an older one.
func writeUntil(t *testing.T, c *sdk.Client, stop <-chan struct{}) (acked []string) {
	ctx := context.Background()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return acked
		case <-time.After(50 * time.Millisecond):
		}
		id := fmt.Sprintf("concept-%d", i)
		if err := until(ctx, func(ctx context.Context) error {
			return c.LearnConcept(ctx, &transport.LearnConcept{ConceptID: id, Content: id, Strength: 1, Confidence: 1})
		}); err != nil {
			t.Errorf("write %s: %v", id, err)
			return acked
		}
		acked = append(acked, id)
		for _, known := range []string{id, acked[i/2]} {
			var got *transport.QueryConceptOk
			if err := until(ctx, func(ctx context.Context) (err error) {
				got, err = c.Concept(ctx, known)
				return err
			}); err != nil || !got.Found || got.Content != known {
				t.Errorf("%s was acknowledged, and is read as %+v: %v", known, got, err)
			}
		}
	}
}

// until repeats what may be repeated; a write that is repeated stores the same.
func until(ctx context.Context, try func(context.Context) error) (err error) {
	for begun := time.Now(); time.Since(begun) < patience; {
		once, cancel := context.WithTimeout(ctx, 10*time.Second)
		err = try(once)
		cancel()
		if err == nil {
			return nil
		}
	}
	return err
}
