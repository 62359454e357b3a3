package master

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/transport"
)

func TestFoundingEvents(t *testing.T) {
	c := newCluster(t, func(cfg *Config) { cfg.EventSink = "sink:50052" })
	c.start(c.ids()...)
	leader, followers := c.leader()
	for _, id := range append(followers, leader) {
		shard, joined := until(event.TypeShardMapCreated, 1), until(event.TypeMasterJoined, 3)
		events := c.feed(id, 1, func(all []*event.Envelope) bool { return shard(all) && joined(all) })
		founder := events[slices.IndexFunc(events, func(e *event.Envelope) bool { return e.Type == event.TypeLeaderElected })].Body.(event.LeaderElected).MasterID
		var types []string
		for _, e := range events {
			switch e.Type {
			case event.TypeClusterCritical: // derived from the first event: there is no agent
			case event.TypeMasterJoined: // the founder's own at its place; a master that does not answer yet holds nobody up
				if e.Body.(event.MasterJoined).MasterID == founder {
					types = append(types, "the leader")
				}
			default:
				types = append(types, e.Type.String())
			}
		}
		want := "incarnation_started the leader leader_elected sink_added shard_map_created"
		if got := strings.Join(slices.Compact(types), " "); got != want { // there may have been a second election
			t.Errorf("%s: the grid began with\n%s, want\n%s", id, got, want)
		}
	}
	status := must[transport.ClusterStatus](c, followers[0], &transport.GetClusterStatus{})
	if status.Status != statusOK || status.Leader != leader || len(status.Masters) != 3 || status.EventSink != "sink:50052" || status.FeedLagEvents != status.Seq {
		t.Errorf("status of a follower: %+v", status)
	}
	for _, p := range status.Masters {
		if p.Leader != (p.ID == leader) || p.MatchIndex == 0 || p.Suffrage != "voter" {
			t.Errorf("peer %+v; the leader is %s", p, leader)
		}
	}
}

// TestAnyMasterAnswers registers through a follower and reads on every master at once: all see it.
func TestAnyMasterAnswers(t *testing.T) {
	c := newCluster(t, nil)
	c.start(c.ids()...)
	leader, followers := c.leader()

	plain := registration(1)
	plain.StoreID = "" // as over HTTP: nothing is assigned to it
	reg := must[transport.RegisterAgentOk](c, followers[0], plain)
	if reg.GridID == "" || reg.Seq == 0 {
		t.Fatalf("registered: %+v", reg)
	}
	for i := range 20 {
		at := c.ids()[i%3]
		hb := must[transport.HeartbeatOk](c, at, &transport.Heartbeat{AgentID: "agent-1", StorageNodeCount: uint32(i)})
		for _, id := range c.ids() {
			got := must[transport.GetAgentOk](c, id, &transport.GetAgent{AgentID: "agent-1"})
			if got.Agent.CurrentStorageNodes != uint32(i) || got.Seq < hb.Seq {
				t.Fatalf("heartbeat %d at %s: %s reads %d nodes at seq %d", i, at, id, got.Agent.CurrentStorageNodes, got.Seq)
			}
		}
	}
	for _, id := range []event.MasterID{leader, followers[1]} {
		_, err := ask[transport.HeartbeatOk](c, id, &transport.Heartbeat{AgentID: "agent-9"})
		wantKind(t, err, event.KindUnknownAgent)
		_, err = ask[transport.GetAgentOk](c, id, &transport.GetAgent{AgentID: "agent-9"})
		wantKind(t, err, event.KindNotFound)
		other := registration(2)
		other.GridID = "another"
		_, err = ask[transport.RegisterAgentOk](c, id, other)
		wantKind(t, err, event.KindRefused)
	}
	first := must[transport.AssociationTypeOk](c, followers[0], &transport.AssociationType{Name: "hypernym"})
	again := must[transport.AssociationTypeOk](c, followers[1], &transport.AssociationType{Name: "hypernym"})
	if first.Number != 1000 || again.Number != first.Number {
		t.Errorf("the first name of the grid has numbers %d and %d, want 1000", first.Number, again.Number)
	}
	types := must[transport.AssociationTypesOk](c, leader, &transport.AssociationTypes{})
	if len(types.Names) != 6 || types.Names[5] != "hypernym" || types.Names[1] != "causal" {
		t.Errorf("association types %v", types)
	}
	must[transport.RegisterAgentOk](c, leader, registration(3))
	must[transport.UnregisterAgentOk](c, followers[0], &transport.UnregisterAgent{AgentID: "agent-1"})
	if left := must[transport.ListAgentsOk](c, followers[1], &transport.ListAgents{}); len(left.Agents) != 1 || left.Agents[0].AgentID != "agent-3" {
		t.Errorf("agent-1 has unregistered, agent-3 not; listed are %+v", left.Agents)
	}
	want := c.feed(leader, 1, until(event.TypeAgentRegistered, 2))
	for _, id := range followers {
		got := c.feed(id, 1, until(event.TypeAgentRegistered, 2))
		for i := range min(len(got), len(want)) {
			if got[i].Chain != want[i].Chain {
				t.Fatalf("event %d is %+v at %s and %+v at %s", i+1, got[i], id, want[i], leader)
			}
		}
	}
}

// TestPlacement takes three agents from their registration to a formed shard map, as agents and nodes would.
func TestPlacement(t *testing.T) {
	c := newCluster(t, nil)
	c.start(c.ids()...)
	_, followers := c.leader()
	via := followers[0]
	var wg sync.WaitGroup
	for n := 1; n <= 3; n++ {
		must[transport.RegisterAgentOk](c, via, registration(n))
		wg.Go(func() { runAgent(c, via, n) })
	}
	wg.Wait()
	m := awaitMap(c, via, func(m *transport.ShardMapOk) bool { return len(m.Map.Shards) == 4 })
	for i, sh := range m.Map.Shards {
		agents := map[event.AgentID]bool{}
		for _, r := range sh.Replicas {
			agents[r.AgentID] = true
			if r.ReplicaID.Owner() != string(r.NodeID) || len(r.ReplicaID.StoreID()) != 32 || r.Endpoint == "" {
				t.Errorf("%s has replica %+v", sh.ID, r)
			}
		}
		if len(agents) != 3 || sh.State != "forming" {
			t.Errorf("shard %+v", sh)
		}
		lead := event.ShardLeaderChanged{ShardID: sh.ID, NodeID: sh.Replicas[0].NodeID, Term: 1}
		must[transport.ProposeOk](c, followers[1], proposeOf(t, lead))
		if i == 0 {
			_, err := ask[transport.ProposeOk](c, via, proposeOf(t, event.ShardFormed{ShardID: sh.ID, Term: 9}))
			wantKind(t, err, event.KindRefused)
		}
	}
	awaitMap(c, followers[1], func(m *transport.ShardMapOk) bool {
		formed := 0
		for _, sh := range m.Map.Shards {
			if sh.State == "formed" && sh.Leader != "" {
				formed++
			}
		}
		return formed == 4
	})
	status := must[transport.ClusterStatus](c, via, &transport.GetClusterStatus{})
	if status.Level != fsm.Healthy || status.RunningStorageNodes != 3 || len(status.Shards) != 4 || status.Shards[0].Live != 3 {
		t.Errorf("status %+v", status)
	}
}

// runAgent holds the assignment stream until its node is there, and reports it running.
func runAgent(c *cluster, via event.MasterID, n int) {
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	reg := registration(n)
	err := c.pool.Stream(ctx, c.peer(via).Grid, &transport.WatchAssignments{AgentID: reg.AgentID}, func(msg any) error {
		a := msg.(*transport.Assignments)
		if len(a.Nodes) == 0 {
			return nil
		}
		body, err := event.AppendBody(nil, event.SpawnSucceeded{NodeID: a.Nodes[0].NodeID, AgentID: reg.AgentID, PID: 7, Port: uint32(50050 + n),
			Endpoint: fmt.Sprintf("h:%d", 50050+n), StoreID: fmt.Sprintf("%032x", 100+n), Start: 1})
		if err != nil {
			return err
		}
		emit := &transport.EmitEvents{Emitter: string(reg.AgentID) + "." + reg.StoreID, First: 1,
			Events: []transport.EmittedEvent{{Type: event.TypeSpawnSucceeded, Body: body}}}
		for range 2 { // the second time it is known already
			ok, err := transport.Call[transport.EmitEventsOk](ctx, c.pool, c.peer(via).Grid, emit)
			if err != nil {
				return err
			}
			if ok.Through != 1 || ok.Refused != 0 {
				return fmt.Errorf("emitted: %+v", ok)
			}
		}
		emit.First = 3
		if _, err := transport.Call[transport.EmitEventsOk](ctx, c.pool, c.peer(via).Grid, emit); err == nil {
			return errors.New("a number was skipped and taken")
		}
		return transport.ErrStop
	})
	if err != nil {
		c.t.Errorf("%s: %v", reg.AgentID, err)
	}
}

func awaitMap(c *cluster, id event.MasterID, enough func(*transport.ShardMapOk) bool) *transport.ShardMapOk {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	var last *transport.ShardMapOk
	err := c.pool.Stream(ctx, c.peer(id).Grid, &transport.WatchShardMap{}, func(msg any) error {
		last = msg.(*transport.ShardMapOk)
		if enough(last) {
			return transport.ErrStop
		}
		return nil
	})
	if err != nil {
		c.t.Fatalf("watch the map at %s: %v; last was %+v", id, err, last)
	}
	return last
}

func proposeOf(t *testing.T, body event.Body) *transport.Propose {
	t.Helper()
	b, err := event.AppendBody(nil, body)
	if err != nil {
		t.Fatal(err)
	}
	return &transport.Propose{Actor: "test", Type: body.Type(), Body: b}
}

// TestSilentAgents: an agent that says nothing is degraded, then offline, and recovers with its next heartbeat.
func TestSilentAgents(t *testing.T) {
	c := newCluster(t, func(cfg *Config) {
		cfg.Limits.Degraded, cfg.Limits.Offline, cfg.Limits.Check = 300*time.Millisecond, 600*time.Millisecond, 50*time.Millisecond
	})
	c.start(c.ids()...)
	leader, followers := c.leader()
	reg := must[transport.RegisterAgentOk](c, followers[0], registration(1))
	events := c.feed(followers[1], reg.Seq, until(event.TypeAgentOffline, 1))
	if !until(event.TypeAgentDegraded, 1)(events) {
		t.Errorf("offline without degraded: %s", typesOf(events))
	}
	offline := events[len(events)-1]
	must[transport.HeartbeatOk](c, leader, &transport.Heartbeat{AgentID: "agent-1"})
	events = c.feed(followers[1], offline.Seq, until(event.TypeAgentRecovered, 1))
	if e := events[len(events)-1]; e.Cause == 0 {
		t.Errorf("recovered without a cause: %+v", e)
	}
}

// TestLeaderLost kills the leading master under writes: the others go on, nothing acknowledged is missing, and watches on
// both continue without a gap and agree byte for byte.
func TestLeaderLost(t *testing.T) {
	c := newCluster(t, func(cfg *Config) {
		cfg.Limits.Unreachable, cfg.Limits.Check = 500*time.Millisecond, 100*time.Millisecond
	})
	c.start(c.ids()...)
	leader, followers := c.leader()
	acked := map[string]bool{}
	var mu sync.Mutex
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	enough := make(chan struct{}, 64)
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				key := fmt.Sprintf("k.%d.%d", w, i)
				req := proposeOf(t, event.SettingChanged{Key: key, Value: "v"})
				req.RequestID[0], req.RequestID[1], req.RequestID[2], req.Issued = byte(w+1), byte(i), byte(i>>8), time.Now().UnixMicro()
				if _, err := transport.Call[transport.ProposeOk](ctx, c.pool, c.peer(followers[w%2]).Grid, req); err == nil {
					mu.Lock()
					acked[key] = true
					mu.Unlock()
				} else if ctx.Err() == nil {
					t.Errorf("%s: %v", key, err)
				}
				select {
				case enough <- struct{}{}:
				default:
				}
			}
		})
	}
	drain := func(n int) {
		for range n {
			<-enough
		}
	}
	drain(100)
	c.kill(leader)
	drain(300)
	c.leader()
	drain(100)
	stop()
	writers.Wait()
	last := must[transport.ClusterStatus](c, followers[0], &transport.GetClusterStatus{}).Seq
	events := [2][]*event.Envelope{}
	for i, id := range followers {
		events[i] = c.feed(id, 1, func(all []*event.Envelope) bool {
			return uint64(len(all)) >= last && until(event.TypeMasterUnreachable, 1)(all)
		})
	}
	for i := range min(len(events[0]), len(events[1])) {
		if a, b := events[0][i], events[1][i]; a.Chain != b.Chain {
			t.Fatalf("event %d differs between the masters: %+v, %+v", i+1, a, b)
		}
	}
	keys := map[string]int{}
	for _, e := range events[0] {
		if s, is := e.Body.(event.SettingChanged); is {
			keys[s.Key]++
		}
	}
	for key := range acked {
		if keys[key] != 1 {
			t.Errorf("%s was acknowledged and is in the feed %d times", key, keys[key])
		}
	}
	if !until(event.TypeLeaderElected, 2)(events[0]) {
		t.Errorf("no second leader in %s", typesOf(events[0]))
	}
	c.start(leader)
	c.feed(followers[0], events[0][len(events[0])-1].Seq, until(event.TypeMasterRecovered, 1))
	c.leader()
	late := c.feed(leader, 1, func(all []*event.Envelope) bool { return len(all) >= len(events[0]) })
	if a, b := late[len(events[0])-1], events[0][len(events[0])-1]; a.Chain != b.Chain {
		t.Errorf("the master that came back has another history: %+v, want %+v", a, b)
	}
}

// TestRestart stops all masters and starts them again: same grid, same history, and it goes on.
func TestRestart(t *testing.T) {
	c := newCluster(t, func(cfg *Config) {
		cfg.Raft.SnapshotThreshold, cfg.Raft.TrailingLogs = 64, 64
	})
	c.start(c.ids()...)
	leader, _ := c.leader()
	grid := must[transport.RegisterAgentOk](c, leader, registration(1)).GridID
	for i := range 50 {
		must[transport.AssociationTypeOk](c, leader, &transport.AssociationType{Name: fmt.Sprintf("t%d", i)})
	}
	if err := c.up[leader].core.group.Snapshot(); err != nil {
		t.Fatal(err)
	}
	before := c.feed(leader, 1, until(event.TypeAssociationTypeAdded, 50))
	c.stop(c.ids()...)
	c.start(c.ids()...)
	leader, followers := c.leader()
	for _, id := range append(followers, leader) {
		after := c.feed(id, 1, func(all []*event.Envelope) bool {
			return len(all) > len(before) && all[len(all)-1].Type == event.TypeLeaderElected
		})
		for i, e := range before {
			if after[i].Chain != e.Chain {
				t.Fatalf("%s: event %d is %+v after the restart, was %+v", id, e.Seq, after[i], e)
			}
		}
	}
	if again := must[transport.RegisterAgentOk](c, followers[0], registration(2)); again.GridID != grid || again.Seq <= before[len(before)-1].Seq {
		t.Errorf("after the restart %+v, before grid %s at seq %d", again, grid, before[len(before)-1].Seq)
	}
}

// TestSnapshotBringsAMasterBack keeps one master away until the others have cut off their logs: it comes back with a snapshot,
// events included.
func TestSnapshotBringsAMasterBack(t *testing.T) {
	c := newCluster(t, func(cfg *Config) { cfg.Raft.SnapshotThreshold, cfg.Raft.TrailingLogs = 32, 32 })
	c.start(c.ids()...)
	leader, followers := c.leader()
	away := followers[0]
	c.stop(away)
	for i := range 300 {
		must[transport.AssociationTypeOk](c, leader, &transport.AssociationType{Name: fmt.Sprintf("t%d", i)})
	}
	for _, id := range []event.MasterID{leader, followers[1]} {
		if err := c.up[id].core.group.Snapshot(); err != nil {
			t.Fatal(err)
		}
	}
	c.start(away)
	c.leader()
	want := c.feed(leader, 1, until(event.TypeAssociationTypeAdded, 300))
	got := c.feed(away, 1, until(event.TypeAssociationTypeAdded, 300))
	for i := range min(len(want), len(got)) { // each holds all 300; what comes behind them may be in one only
		if got[i].Chain != want[i].Chain {
			t.Fatalf("event %d came back as %+v, want %+v", i+1, got[i], want[i])
		}
	}
	index := c.up[leader].core.group.Applied()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.up[away].core.group.Wait(ctx, index); err != nil {
		t.Fatal(err)
	}
}

// TestWithoutLeader stops two of three: the last one holds requests until their deadline and says so; one that waits gets its
// answer when a leader is there.
func TestWithoutLeader(t *testing.T) {
	c := newCluster(t, func(cfg *Config) { cfg.Limits.Request = 2 * time.Second })
	c.start(c.ids()...)
	c.leader()
	c.stop("master-1", "master-2")
	status, _, body := c.http("master-3", "GET", "/api/agents", "")
	if e := decode[errorBody](t, body); status != http.StatusServiceUnavailable || e.Code != event.KindUnavailable || e.Error == "" || e.Hint == "" {
		t.Errorf("a read without a leader: %d %s", status, body)
	}
	status, _, body = c.http("master-3", "GET", "/api/health", "")
	if h := decode[transport.ClusterStatus](t, body); status != http.StatusServiceUnavailable || h.Status != statusNoLeader || h.ReadMode != transport.Stale || h.Level != fsm.Critical {
		t.Errorf("health without a leader: %d %s", status, body)
	}
	held := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for {
			_, err := transport.Call[transport.RegisterAgentOk](ctx, c.pool, c.peer("master-3").Grid, registration(1))
			if err == nil || ctx.Err() != nil {
				held <- err
				return
			}
		}
	}()
	c.start("master-1")
	if err := <-held; err != nil {
		t.Errorf("a request that was held: %v", err)
	}
}

// TestBadEntryStopsTheMaster: what does not decode in the log ends the replicas instead of letting them differ. Two of three
// meet it for sure; the last may never learn that it is committed.
func TestBadEntryStopsTheMaster(t *testing.T) {
	c := newCluster(t, nil)
	c.start(c.ids()...)
	leader, _ := c.leader()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stopped := make(chan error, 3)
	for id, m := range c.up {
		delete(c.up, id)
		go func() {
			select {
			case <-m.Done():
			case <-ctx.Done():
			}
			stopped <- errors.Join(m.Err(), m.Close()) // as a process would end
		}()
		if id == leader {
			go func() {
				if _, err := m.core.group.Propose(ctx, []byte{0xc1}); err == nil {
					t.Error("a command that is none was accepted")
				}
			}()
		}
	}
	for range 2 {
		if err := <-stopped; err == nil || !strings.Contains(err.Error(), "apply") {
			t.Errorf("stopped with %v", err)
		}
	}
	cancel()
	<-stopped
}

// TestStartRefusals: each is one clear line.
func TestStartRefusals(t *testing.T) {
	c := newCluster(t, nil)
	c.start(c.ids()...)
	c.leader()
	open := func(change func(*Config)) error {
		cfg := c.config("master-1")
		change(&cfg)
		m, err := Open(t.Context(), cfg)
		if err == nil {
			err = errors.Join(errors.New("opened"), m.Close())
		}
		return err
	}
	wantError(t, open(func(*Config) {}), "master-1")
	wantError(t, open(func(cfg *Config) { cfg.Dir = t.TempDir() }), "listen on a:7000 (raft): address already in use")
	elsewhere := func(cfg *Config) {
		cfg.ListenRaft, cfg.ListenHTTP, cfg.ListenGrid = "x:1", "x:2", "x:3"
	}
	wantError(t, open(func(cfg *Config) { elsewhere(cfg); cfg.Dir = t.TempDir(); cfg.Bootstrap = false }), "start with --bootstrap")
	c.stop("master-1")
	for _, store := range []string{"raft", "outbox", "IDENTITY"} {
		path := filepath.Join(c.root, "master-1", store)
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		wantError(t, open(func(*Config) {}), filepath.Join(c.root, "master-1"))
		if err := errors.Join(os.RemoveAll(path), os.Rename(path+".away", path)); err != nil {
			t.Fatal(err)
		}
	}
	c.start("master-1")
}

func TestListEvents(t *testing.T) {
	c := newCluster(t, nil)
	c.start(c.ids()...)
	_, followers := c.leader()
	for i := range 30 {
		must[transport.AssociationTypeOk](c, followers[0], &transport.AssociationType{Name: fmt.Sprintf("t%d", i)})
	}
	all := must[transport.EventsOk](c, followers[1], &transport.ListEvents{From: 1})
	if uint64(len(all.Events)) != all.Last || len(all.Events) < 35 {
		t.Fatalf("%d events, last %d", len(all.Events), all.Last)
	}
	var paged [][]byte
	for from := uint64(1); from <= all.Last; {
		page := must[transport.EventsOk](c, followers[0], &transport.ListEvents{From: from, To: all.Last, Limit: 7, Type: event.TypeAssociationTypeAdded})
		if len(page.Events) > 7 || page.Last < from {
			t.Fatalf("page from %d: %d events, last %d", from, len(page.Events), page.Last)
		}
		paged, from = append(paged, page.Events...), page.Last+1
	}
	var want [][]byte
	for _, b := range all.Events {
		if e, err := event.DecodeEnvelope(b); err != nil {
			t.Fatal(err)
		} else if e.Type == event.TypeAssociationTypeAdded {
			want = append(want, b)
		}
	}
	if len(want) != 30 || !bytes.Equal(bytes.Join(paged, nil), bytes.Join(want, nil)) {
		t.Errorf("pages hold %d events of the type, the feed %d", len(paged), len(want))
	}
}

// TestMastersFormAfterCrashes forms a grid of real masters, each of which crashes behind the same step and starts again.
func TestMastersFormAfterCrashes(t *testing.T) {
	for _, step := range formationSteps {
		t.Run(fault.Name(step), func(t *testing.T) {
			var mu sync.Mutex
			crashed := map[event.MasterID]bool{}
			c := newCluster(t, func(cfg *Config) {
				id := cfg.ID
				cfg.seams.fault = func(label fault.Label) error {
					mu.Lock()
					defer mu.Unlock()
					if label != step || crashed[id] {
						return nil
					}
					crashed[id] = true
					return errCrash
				}
			})
			c.start(c.ids()...)
			c.leader()
			must[transport.RegisterAgentOk](c, "master-2", registration(1))
			if len(crashed) != 3 {
				t.Errorf("crashed: %v, want all three", crashed)
			}
		})
	}
}
