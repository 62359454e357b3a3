package txn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/storagenode/engine"
	"github.com/sutra-grid/sutra-grid/transport"
)

// store is a storage node's engine as a participant: each request is an entry of its log.
type store struct {
	*engine.Engine
	index uint64
}

func openStore(t *testing.T, id event.ShardID) *store {
	t.Helper()
	e, err := engine.Open(filepath.Join(t.TempDir(), string(id)), engine.Options{ShardID: id, Dimension: 4, Log: slog.New(slog.DiscardHandler), Fatal: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return &store{Engine: e}
}

func (s *store) handle(req client.ShardRequest) (any, error) {
	c := engine.Command{RequestID: req.RequestID, Issued: req.Issued}
	switch r := req.Request.(type) {
	case *transport.TxnResults:
		return s.Results(r)
	case *transport.Prepare:
		c.Kind, c.Prepare = engine.Prepare, r
	case *transport.Finish:
		c.Kind, c.Finish = engine.Finish, r
	case *transport.Write:
		c.Kind, c.Write = engine.Write, r
	default:
		return nil, fmt.Errorf("unexpected %T", r)
	}
	a, err := s.apply(c)
	switch {
	case err != nil:
		return nil, err
	case a.Err != nil:
		return nil, a.Err
	case c.Kind == engine.Prepare:
		return a.Prepare, nil
	case c.Kind == engine.Finish:
		return &transport.FinishOk{}, nil
	}
	ok := &transport.WriteOk{Sequence: a.Seq, Results: a.Results, ResultsOmitted: a.ResultsOmitted}
	if ops := c.Write.Ops; len(ops) == 1 && ops[0].Kind.Deletes() && !a.ResultsOmitted {
		ok.Results = []transport.OpResult{{Found: !a.Nothing}}
	}
	return ok, nil
}

// waits is handle as a storage node does it: a write waits for locked rows.
func (p *participant) waits(ctx context.Context, req client.ShardRequest) (any, error) {
	var backoff transport.Backoff
	for {
		reply, err := p.handle(req)
		held := errors.Is(err, &event.Error{Kind: event.KindLocked}) || errors.Is(err, &event.Error{Kind: event.KindBusy})
		if p.real == nil || !held || backoff.Wait(ctx, 0) != nil {
			return reply, err
		}
	}
}

func (s *store) apply(c engine.Command) (engine.Answer, error) {
	if err := s.Check(c); err != nil {
		return engine.Answer{}, err
	}
	b, err := engine.AppendCommand(nil, c)
	if err != nil {
		return engine.Answer{}, err
	}
	s.index++
	answers := s.Apply([]raftgroup.Entry{{Index: s.index, Term: 1, Version: 1, Level: engine.Level, Time: time.Now().UnixMicro(), Commands: [][]byte{b}}})
	return answers[0][0].(engine.Answer), nil
}

// ends lists the ends of associations that a store has of a concept.
func (s *store) ends(t *testing.T, id, direction string) []transport.AssociationID {
	t.Helper()
	page, err := s.Neighbors(&transport.Neighbors{ConceptID: id, Direction: direction, Limit: transport.MaxNeighborsLimit})
	if err != nil {
		t.Fatal(err)
	}
	var list []transport.AssociationID
	for _, n := range page.Items {
		a := transport.AssociationID{Source: id, Target: n.ID, AssocType: n.Type}
		if direction == "in" {
			a.Source, a.Target = n.ID, id
		}
		list = append(list, a)
	}
	return list
}

// TestEnginesAnswerAsOne: the storage nodes' own engines over four shards have the outcomes, the results and at the end the content that one
// store has in the model, also for what is sent again.
func TestEnginesAnswerAsOne(t *testing.T) {
	const transactions = 250
	g := newGrid(t)
	for id, p := range g.shards {
		p.real = openStore(t, id)
	}
	m := newMaster(g, "master-1")
	defer m.stop()
	one := newShelf(func(string) bool { return true })
	rows := g.rows()
	ids := append(slices.Clone(rows), "a", "b", "c", "d", "e", "f")
	for i, row := range rows {
		if _, err := m.Run(t.Context(), &transport.Txn{RequestID: event.TxnID{200, byte(i)}, Ops: []transport.Op{{Kind: transport.OpLearnConcept, ID: row}}}); err != nil {
			t.Fatal(err)
		}
	}
	ops := anyOps(ids)
	committed, several := 0, 0
	for n := range transactions {
		txn := &transport.Txn{RequestID: event.TxnID{byte(n), byte(n >> 8), 1}, Issued: time.Now().UnixMicro(), Ops: ops.Example(n)}
		want, reason := asOne(&one, txn.Ops)
		got, err := m.Run(t.Context(), txn)
		if wrong := sameAnswer(txn.Ops, want, reason, got, err); wrong != nil {
			t.Fatal(wrong)
		}
		if err != nil {
			continue
		}
		committed++
		plan, err := planOf(g.machine.View().ShardMap(), txn.Ops)
		if err != nil {
			t.Fatal(err)
		}
		again, err := m.Run(t.Context(), txn)
		if err == nil && again.ResultsOmitted && answersLate(plan) {
			several++
			continue
		}
		if wrong := sameAnswer(txn.Ops, want, nil, again, err); wrong != nil {
			t.Fatalf("sent again: %v", wrong)
		}
	}
	if committed < transactions/10 || several == 0 {
		t.Errorf("%d were committed, %d in several rounds: this test tests little", committed, several)
	}
	m.settle(t)
	g.sameContent(t, one, ids)
}

// settle waits until no shard holds anything prepared.
func (m *master) settle(t *testing.T) {
	t.Helper()
	for range cap(m.slots) { // whoever finishes something has one
		m.slots <- struct{}{}
	}
	m.stop()
	for id, p := range m.g.shards {
		if held := p.real.Prepared(); len(held) > 0 {
			t.Errorf("%s holds %+v", id, held)
		}
	}
}

// sameContent compares what is stored at both ends with the model.
func (g *grid) sameContent(t *testing.T, one *shelf, ids []string) {
	t.Helper()
	for _, id := range ids {
		home, err := g.machine.View().ShardMap().Shard(id)
		if err != nil {
			t.Fatal(err)
		}
		s := g.shards[home.ID].real
		c, found, err := s.Concept(id)
		want := one.get(id)
		if err != nil || found != (want != nil) || found && (c.Version != want.version || c.Content != want.content) {
			t.Errorf("%s is %+v, %v; want %+v", id, c, err, want)
		}
		for direction, all := range map[string][]transport.AssociationID{"out": one.out, "in": one.in} {
			var mine []transport.AssociationID
			for _, a := range all {
				if direction == "out" && a.Source == id || direction == "in" && a.Target == id {
					mine = append(mine, a)
				}
			}
			if got := s.ends(t, id, direction); !slices.Equal(got, mine) {
				t.Errorf("%s has %s %v, want %v", id, direction, got, mine)
			}
		}
	}
}
