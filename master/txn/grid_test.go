package txn

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/transport"
)

// tester is what a test and a property have in common.
type tester interface {
	Helper()
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// grid is the world of a coordinator: the masters' log with the real state machine, and dumb participants.
type grid struct {
	tb tester

	mu       sync.Mutex
	machine  *fsm.Machine
	index    uint64
	events   []*event.Envelope
	shards   map[event.ShardID]*participant
	breaches []string // of the protocol, as seen by participants
}

const testShards = 4

func newGrid(tb tester) *grid {
	g := &grid{tb: tb, machine: fsm.NewMachine(), shards: map[event.ShardID]*participant{}}
	g.must(event.IncarnationStarted{GridID: "g", Incarnation: event.Incarnation{N: 1}, Level: 1, Reason: "test"})
	g.must(event.AgentRegistered{AgentID: "agent-1", Hostname: "h", Platform: "process", AgentEndpoint: "h:1", MaxStorageNodes: 1, Version: "1"})
	g.must(event.SpawnRequested{NodeID: "node-1", AgentID: "agent-1"})
	g.must(event.ShardMapCreated{Strategy: "hash", Shards: testShards, Replicas: 1})
	for i := range testShards {
		id := event.ShardID(fmt.Sprintf("shard-%d", i))
		store := sha256.Sum256([]byte(id))
		g.must(event.ShardCreated{ShardID: id, Voters: []event.Voter{{ReplicaID: event.NewReplicaID("node-1", hex.EncodeToString(store[:16])), NodeID: "node-1"}}})
		g.shards[id] = newParticipant(g, id)
	}
	return g
}

func (g *grid) must(body event.Body) {
	g.tb.Helper()
	answer, err := g.apply(*event.NewCommand("test", body))
	if err != nil || answer.Err != nil {
		g.tb.Fatalf("%s: %v, %v", body.Type(), answer.Err, err)
	}
}

// apply is one command through the log.
func (g *grid) apply(c event.Command) (fsm.Answer, error) {
	b, err := event.AppendCommand(nil, &c)
	if err != nil {
		return fsm.Answer{}, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.index += 2
	answers, records, err := g.machine.Apply(fsm.EntryMeta{Index: g.index, Time: time.Now().UnixMicro(), Level: 1}, [][]byte{b})
	if err != nil {
		g.tb.Errorf("the masters stopped: %v", err)
		return fsm.Answer{}, err
	}
	for _, r := range records {
		e, err := event.DecodeEnvelope(r.Bytes)
		if err != nil {
			g.tb.Error(err)
		}
		g.events = append(g.events, e)
	}
	return answers[0], nil
}

// tick makes the log move, so that the horizon can.
func (g *grid) tick() {
	_, version := g.machine.View().Setting("tick")
	g.must(event.SettingChanged{Key: "tick", Value: "x", Version: version + 1})
}

// fate is what the network does with one message.
type fate int

const (
	arrives   fate = iota
	lost           // the request
	unheard        // the reply
	duplicate      // the reply is lost, and a copy of the request arrives again a while later
)

// master is one master of the grid: a coordinator, and the network between it and the others.
type master struct {
	*Coordinator
	g    *grid
	view func() *fsm.State

	mu      sync.Mutex
	dead    bool
	fate    func(message string) fate // of the next message; nil: all arrive
	hits    map[fault.Label]int
	kill    func(label fault.Label, hit int) bool
	refused int            // txn_completed that Apply refused
	late    sync.WaitGroup // copies that are still on their way

	down    event.ShardID                            // requests to it end with their deadline
	instead func(c event.Command) (fsm.Answer, bool) // answers a proposal in the masters' place
}

// lag makes the master's applied state trail behind by up to d.
func (m *master) lag(d time.Duration) {
	var (
		mu    sync.Mutex
		state = m.g.machine.View()
		taken = time.Now()
	)
	m.view = func() *fsm.State {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(taken) >= d {
			state, taken = m.g.machine.View(), time.Now()
		}
		return state
	}
}

func newMaster(g *grid, id event.MasterID) *master {
	m := &master{g: g, view: g.machine.View, hits: map[fault.Label]int{}}
	m.Coordinator = New(Config{Self: id, Propose: m.propose, View: func() *fsm.State { return m.view() }, Shards: m, Point: m.point,
		Confirmed: func(context.Context) (*fsm.State, error) { return g.machine.View(), nil }})
	return m
}

// stop ends the master and waits for what it has under way.
func (m *master) stop() {
	_ = m.Close()
	m.late.Wait()
}

func (m *master) point(label fault.Label) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hits[label]++
	if m.kill != nil && m.kill(label, m.hits[label]) {
		m.dead = true
	}
}

func (m *master) alive() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.dead
}

func (m *master) next(message string) fate {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.dead:
		return lost
	case m.fate == nil:
		return arrives
	}
	return m.fate(message)
}

// send passes a message through the network. A dead master sends nothing and hears nothing.
func (m *master) send(ctx context.Context, message string, deliver func() (any, error)) (any, error) {
	gone := &event.Error{Kind: event.KindUnavailable, Message: message + " not sent"}
	silence := &event.Error{Kind: event.KindUnknownOutcome, Message: message + " not answered"}
	f := m.next(message)
	time.Sleep(time.Millisecond)
	if ctx.Err() != nil {
		return nil, gone
	}
	if f == lost {
		if len(message)%2 == 0 { // some callers know that it was not sent, others do not
			return nil, silence
		}
		return nil, gone
	}
	reply, err := deliver()
	if f == duplicate {
		m.late.Go(func() {
			time.Sleep(700 * time.Millisecond)
			_, _ = deliver()
		})
	}
	if f != arrives || !m.alive() {
		return nil, silence
	}
	return reply, err
}

func (m *master) propose(ctx context.Context, c event.Command) (fsm.Answer, error) {
	if m.instead != nil {
		if answer, answered := m.instead(c); answered {
			return answer, nil
		}
	}
	reply, err := m.send(ctx, c.Type.String(), func() (any, error) { return m.g.apply(c) })
	if err != nil {
		return fsm.Answer{}, err
	}
	answer := reply.(fsm.Answer)
	if c.Type == event.TypeTxnCompleted && answer.Err != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.refused++
	}
	return answer, nil
}

// Shard implements Shards.
func (m *master) Shard(ctx context.Context, id event.ShardID, req client.ShardRequest) (*transport.RoutedOk, error) {
	if id == m.down {
		<-ctx.Done()
		return nil, &event.Error{Kind: event.KindUnavailable, Message: "down"}
	}
	reply, err := m.send(ctx, transport.VariantName(req.Request), func() (any, error) { return m.g.shards[id].waits(ctx, req) })
	if err != nil {
		return nil, err
	}
	return &transport.RoutedOk{Reply: transport.Any{Value: reply}}, nil
}

// recover is what the rest of the grid does about a dead coordinator: participants in doubt ask, and the leader sweeps.
func (g *grid) recover(m *master, d time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := m.Sweep(ctx); err != nil {
			g.tb.Error(err)
		}
	})
	for ctx.Err() == nil {
		for _, id := range slices.Sorted(maps.Keys(g.shards)) {
			p := g.shards[id]
			for _, held := range p.inDoubt(2 * time.Second) {
				g.inquire(ctx, m, p, held)
			}
		}
		g.tick()
		time.Sleep(100 * time.Millisecond)
	}
	wg.Wait()
}

func (g *grid) inquire(ctx context.Context, m *master, p *participant, held *prepared) {
	ok, err := m.Outcome(ctx, &transport.TxnOutcome{TxnID: held.TxnID, Attempt: held.Attempt, Begin: held.Begin, Shards: held.Participants})
	if err != nil {
		return // asks again
	}
	_, err = p.handle(client.ShardRequest{Request: &transport.Finish{TxnID: held.TxnID, Attempt: held.Attempt, Begin: held.Begin, Commit: ok.Committed, Horizon: ok.Horizon}})
	if err != nil {
		g.tb.Error(err)
	}
}

// count is how many events of a type the log has.
func (g *grid) count(t event.Type) int {
	synctest.Wait()
	n := 0
	for _, e := range g.events {
		if e.Type == t {
			n++
		}
	}
	return n
}

// settled checks what must hold when everything has come to rest: one outcome everywhere, no lock, nothing open.
func (g *grid) settled(txns ...*transport.Txn) {
	g.tb.Helper()
	synctest.Wait()
	for _, b := range g.breaches {
		g.tb.Error(b)
	}
	decisions := map[event.TxnID]int{}
	for _, e := range g.events {
		if b, ok := e.Body.(event.TxnCommitted); ok {
			decisions[b.TxnID]++
		}
	}
	for id, n := range decisions {
		if n > 1 {
			g.tb.Errorf("%s has %d commits in the log", id, n)
		}
	}
	for _, t := range txns {
		plan, err := planOf(g.machine.View().ShardMap(), t.Ops)
		if err != nil {
			g.tb.Fatal(err)
		}
		for _, shard := range plan.participants() {
			if p := g.shards[shard]; p.done[t.RequestID] != (decisions[t.RequestID] == 1) {
				g.tb.Errorf("%s on %s: done %v, commits in the log %d", t.RequestID, shard, p.done[t.RequestID], decisions[t.RequestID])
			}
		}
	}
	for id, p := range g.shards {
		if len(p.prepared) > 0 || len(p.locks) > 0 {
			g.tb.Errorf("%s: %d transactions prepared, %d rows locked", id, len(p.prepared), len(p.locks))
		}
	}
	g.whole()
	if n := g.machine.View().OpenTxnCount(); n > 0 {
		g.tb.Errorf("%d transactions are not completed", n)
	}
}

// whole checks that every association has both its ends or none, and no end without its concept.
func (g *grid) whole() {
	g.tb.Helper()
	var out, in []transport.AssociationID
	for _, p := range g.shards {
		out, in = append(out, p.data.out...), append(in, p.data.in...)
		for _, a := range p.data.out {
			if p.data.get(a.Source) == nil {
				g.tb.Errorf("%s: %v begins at nothing", p.id, a)
			}
		}
		for _, a := range p.data.in {
			if p.data.get(a.Target) == nil {
				g.tb.Errorf("%s: %v ends at nothing", p.id, a)
			}
		}
	}
	for _, a := range slices.Concat(out, in) {
		if !slices.Contains(out, a) || !slices.Contains(in, a) {
			g.tb.Errorf("%v has one end", a)
		}
	}
}
