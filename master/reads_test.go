package master

import (
	"context"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// list reads the agents at a master, past the network in front of it.
func list(t *testing.T, m *Master, want transport.Reading, limit time.Duration) (*transport.ListAgentsOk, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	return transport.As[transport.ListAgentsOk](m.core.Handle(ctx, nil, &transport.ListAgents{Reading: want}))
}

// TestConsistencies: each consistency holds what it promises on every master, and says what it is.
func TestConsistencies(t *testing.T) {
	c := newCluster(t, nil)
	c.start(c.ids()...)
	leader, followers := c.leader()
	awaitFounded(c)
	must[transport.RegisterAgentOk](c, leader, registration(1))
	for n, id := range append(followers, leader) {
		wrote := must[transport.RegisterAgentOk](c, leader, registration(2+n)).Seq
		for _, want := range []transport.Reading{{}, {Consistency: transport.Linearizable}, {Consistency: transport.Leader},
			{Consistency: transport.Stale, MinSeq: wrote}, {Consistency: transport.Stale, MinSeq: wrote, MaxStalenessMillis: 60_000}} {
			ok, err := list(t, c.up[id], want, patience)
			if err != nil {
				t.Fatalf("%s, %+v: %v", id, want, err)
			}
			if len(ok.Agents) != 2+n || ok.Seq < wrote || ok.ReadMode != want.Mode() {
				t.Errorf("%s, %+v: %d agents at seq %d, mode %s; %d were registered by seq %d", id, want, len(ok.Agents), ok.Seq, ok.ReadMode, 2+n, wrote)
			}
			if led := want.Mode() != transport.Stale; led != (ok.Term > 0) || led && ok.AgeMillis > 0 {
				t.Errorf("%s, %+v: term %d, age %d ms", id, want, ok.Term, ok.AgeMillis)
			}
		}
	}
	for _, want := range []transport.Reading{{Consistency: "eventual"}, {MaxStalenessMillis: 1}, {Consistency: transport.Leader, MaxStalenessMillis: 1}} {
		_, err := list(t, c.up[leader], want, patience)
		wantKind(t, err, event.KindInvalid)
	}
}

// TestCutOffFollower: a master that hears nobody refuses what it cannot promise, and says how old the rest is.
func TestCutOffFollower(t *testing.T) {
	c := newCluster(t, nil)
	c.start(c.ids()...)
	leader, followers := c.leader()
	awaitFounded(c)
	before := must[transport.RegisterAgentOk](c, leader, registration(1)).Seq
	alone := c.up[followers[0]]
	if _, err := list(t, alone, transport.Reading{Consistency: transport.Stale, MinSeq: before}, patience); err != nil {
		t.Fatal(err)
	}
	cut := time.Now()
	c.wires[followers[0]].sever()
	after := must[transport.RegisterAgentOk](c, leader, registration(2)).Seq

	for _, mode := range []string{transport.Linearizable, transport.Leader} {
		_, err := list(t, alone, transport.Reading{Consistency: mode}, 300*time.Millisecond)
		wantKind(t, err, event.KindUnavailable)
	}
	_, err := list(t, alone, transport.Reading{Consistency: transport.Stale, MinSeq: after}, 50*time.Millisecond)
	wantKind(t, err, event.KindUnavailable)
	// 600 ms have been spent above, all of them cut off.
	_, err = list(t, alone, transport.Reading{Consistency: transport.Stale, MaxStalenessMillis: 500}, patience)
	wantKind(t, err, event.KindTooStale)
	old, err := list(t, alone, transport.Reading{Consistency: transport.Stale}, patience)
	if err != nil {
		t.Fatal(err)
	}
	if least := time.Since(cut) - 50*time.Millisecond; len(old.Agents) != 1 || old.ReadMode != transport.Stale || time.Duration(old.AgeMillis)*time.Millisecond < least {
		t.Errorf("%d agents, mode %s, %d ms old; it is cut off for %v and missed the second", len(old.Agents), old.ReadMode, old.AgeMillis, least)
	}
	masters := transport.NewMasters([]string{c.peer(followers[0]).Grid, c.peer(followers[1]).Grid}, c.pool)
	ok, err := transport.As[transport.ListAgentsOk](masters.Call(t.Context(), &transport.ListAgents{Reading: transport.Reading{Consistency: transport.Stale, MaxStalenessMillis: 10_000, MinSeq: after}}))
	if err != nil || len(ok.Agents) != 2 {
		t.Errorf("a caller does not go on to a master that is young enough: %v, %+v", err, ok)
	}
}
