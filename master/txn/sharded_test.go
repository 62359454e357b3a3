package txn

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// anyOps draws operations on few concepts, so that they meet.
func anyOps(ids []string) *rapid.Generator[[]transport.Op] {
	id := rapid.SampledFrom(ids)
	kinds := []transport.OpKind{
		transport.OpLearnConcept, transport.OpLearnConcept, transport.OpLearnAssociation, transport.OpLearnAssociation, transport.OpLearnAssociation,
		transport.OpDeleteConcept, transport.OpDeleteConcept, transport.OpDeleteAssociation, transport.OpDeleteAssociationType,
		transport.OpSetAttribute, transport.OpAdd, transport.OpRead, transport.OpReadNeighbors, transport.OpReadNeighbors,
		transport.OpExists, transport.OpAbsent, transport.OpAttributeEquals, transport.OpAttributeAtLeast,
	}
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) transport.Op {
		op := transport.Op{Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), ID: id.Draw(t, "id")}
		switch op.Kind {
		case transport.OpLearnConcept:
			op.Content = rapid.StringMatching(`[xy]`).Draw(t, "content")
		case transport.OpLearnAssociation, transport.OpDeleteAssociation, transport.OpDeleteAssociationType:
			op.Target, op.AssocType = id.Draw(t, "target"), uint32(rapid.IntRange(0, 1).Draw(t, "type"))
		case transport.OpSetAttribute, transport.OpAttributeEquals:
			op.Key, op.Value = "k", rapid.SampledFrom([]string{"", "1", "7"}).Draw(t, "value")
		case transport.OpAdd, transport.OpAttributeAtLeast:
			op.Key, op.Number = "k", int64(rapid.IntRange(0, 3).Draw(t, "number"))
		}
		return op
	}), 1, 8)
}

// TestShardsAnswerAsOne: transactions one after the other have the outcome, the reason and the results that they would have if one shard
// held everything, also when they are sent again; and they leave the same behind.
func TestShardsAnswerAsOne(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		ids := append(newGrid(t).rows(), "a", "b", "c", "d", "e", "f")
		all := rapid.SliceOfN(anyOps(ids), 1, 12).Draw(r, "transactions")
		var found error
		synctest.Test(t, func(t *testing.T) {
			g := newGrid(t)
			m := newMaster(g, "master-1")
			defer m.stop()
			one := newShelf(func(string) bool { return true })
			for n, ops := range all {
				plan, err := planOf(g.machine.View().ShardMap(), ops)
				if err != nil {
					t.Fatal(err)
				}
				txn := &transport.Txn{RequestID: event.TxnID{byte(n + 1)}, Issued: time.Now().UnixMicro(), Ops: ops}
				want, reason := asOne(&one, ops)
				got, err := m.Run(t.Context(), txn)
				if found = sameAnswer(ops, want, reason, got, err); found != nil {
					return
				}
				time.Sleep(time.Second)
				if err != nil {
					continue
				}
				again, err := m.Run(t.Context(), txn)
				if err == nil && again.ResultsOmitted && answersLate(plan) {
					continue
				}
				if found = sameAnswer(ops, want, nil, again, err); found != nil {
					return
				}
			}
			g.settled()
			for i, id := range ids {
				reads := []transport.Op{{Kind: transport.OpRead, ID: id}, {Kind: transport.OpReadNeighbors, ID: id}}
				want, _ := asOne(&one, reads)
				got, err := m.Run(t.Context(), &transport.Txn{RequestID: event.TxnID{100, byte(i)}, Ops: reads})
				if found = sameAnswer(reads, want, nil, got, err); found != nil {
					return
				}
			}
		})
		if found != nil || t.Failed() {
			r.Fatal(found)
		}
	})
}

// asOne is what one shard with everything answers.
func asOne(one **shelf, ops []transport.Op) ([]transport.OpResult, *event.Error) {
	next := (*one).clone()
	results := make([]transport.OpResult, len(ops))
	for i := range ops {
		r, _, err := next.do(&ops[i])
		if err != nil {
			err.OpNumber = uint32(i) + 1
			return nil, err
		}
		results[i] = r
	}
	*one = next
	if !answers(ops) {
		results = nil
	}
	return results, nil
}

// answersLate tells whether something behind the first step has a result.
func answersLate(p *plan) bool {
	return slices.ContainsFunc(p.steps[1:], func(s step) bool {
		return slices.ContainsFunc(s.halves, func(h half) bool { return answers(h.ops) })
	})
}

// sameAnswer says how an answer differs from what one shard says: results, or the reason of a refusal.
func sameAnswer(ops []transport.Op, want []transport.OpResult, reason *event.Error, got *transport.TxnOk, err error) error {
	var e *event.Error
	switch {
	case reason != nil && (!errors.As(err, &e) || e.Kind != reason.Kind):
		return fmt.Errorf("%+v\nanswered %+v, %v; want %v", ops, got, err, reason)
	case reason == nil && err != nil:
		return fmt.Errorf("%+v\n%w", ops, err)
	case reason == nil && (got.ResultsOmitted || !sameResults(got.Results, want)):
		return fmt.Errorf("%+v\nanswered %+v\nwant     %+v", ops, got, want)
	}
	return nil
}

func sameResults(a, b []transport.OpResult) bool {
	return slices.EqualFunc(a, b, func(a, b transport.OpResult) bool {
		return a.Found == b.Found && a.Content == b.Content && a.Version == b.Version && a.Value == b.Value && slices.Equal(a.Neighbors, b.Neighbors) &&
			(len(a.Attributes) == 0 && len(b.Attributes) == 0 || reflect.DeepEqual(a.Attributes, b.Attributes))
	})
}

// TestDeletedBehindItsConcept: an association that went with one of its concepts is not found any more by what deletes it behind that, in
// whatever order its shards answer.
func TestDeletedBehindItsConcept(t *testing.T) {
	unlink := []transport.Op{{Kind: transport.OpUnlinkOut}, {Kind: transport.OpUnlinkIn}}
	for _, c := range []struct{ out, in, want bool }{{true, true, true}, {false, true, false}, {true, false, false}, {false, false, false}} {
		sides := []half{{shard: "shard-0", ops: unlink[:1], index: []int{0}}, {shard: "shard-1", ops: unlink[1:], index: []int{0}}}
		got := [][]transport.OpResult{{{Found: c.out}}, {{Found: c.in}}}
		for _, order := range [][]int{{0, 1}, {1, 0}, {0, 1, 0}} { // a shard may be asked again
			r := newResults([]transport.Op{{Kind: transport.OpDeleteAssociation}})
			for _, i := range order {
				if err := r.take(sides[i], got[i]); err != nil {
					t.Fatal(err)
				}
			}
			if r.list[0].Found != c.want {
				t.Errorf("%+v in the order %v: %v", c, order, r.list[0].Found)
			}
		}
	}
}

// TestDeletedByAWriteOrByATransaction: what one shard can delete it deletes in one write; what it cannot runs under the same id.
func TestDeletedByAWriteOrByATransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrid(t)
		m := newMaster(g, "master-1")
		defer m.stop()
		ok, err := m.Run(t.Context(), removal(1, g))
		if err != nil || ok.Seq != 0 || !ok.Results[0].Found {
			t.Errorf("alone: %+v, %v", ok, err)
		}
		if n := g.count(event.TypeTxnCommitted); n != 0 {
			t.Errorf("%d decisions", n)
		}
		g.shards["shard-0"].data.rows = map[string]*item{}
		g.web()
		txn := removal(2, g)
		ok, err = m.Run(t.Context(), txn)
		if err != nil || ok.Seq == 0 || !ok.Results[0].Found {
			t.Errorf("linked: %+v, %v", ok, err)
		}
		time.Sleep(time.Second)
		g.settled(txn)
		for id, p := range g.shards {
			if n := len(p.data.in) + len(p.data.out); n > 0 {
				t.Errorf("%s: %d ends are left", id, n)
			}
		}
	})
}

// TestLateCopyOfADelete: a shard refused the write, for an end elsewhere, the transaction was aborted, and then a copy of the write arrives
// when it could take effect. It must not.
func TestLateCopyOfADelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrid(t)
		g.web()
		a, b := newMaster(g, "master-1"), newMaster(g, "master-2")
		defer a.stop()
		defer b.stop()
		txn := removal(1, g)
		g.shards["shard-2"].hold(g.rows()[2], event.TxnID{9})
		old := g.machine.View()
		_, err := a.Run(t.Context(), txn)
		if answer(nil, err) != "aborted" {
			t.Fatalf("a far end is held: %v", err)
		}
		g.shards["shard-2"].letGo(g.rows()[2])
		if _, err := b.Run(t.Context(), link(2, g.rows()[0], g.rows()[1])); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		home := g.shards["shard-0"]
		home.mu.Lock()
		home.data.out, home.data.in = nil, nil // nothing is in the way any more
		_, late := home.write(txn.RequestID, &transport.Write{Ops: txn.Ops})
		left := home.data.get(g.rows()[0])
		home.mu.Unlock()
		if late == nil || left == nil {
			t.Errorf("the late copy: %v; the concept is %v", late, left)
		}
		for name, view := range map[string]*fsm.State{"a master that knows": g.machine.View(), "one that lags": old} {
			b.view = func() *fsm.State { return view }
			if _, err := b.Run(t.Context(), txn); answer(nil, err) != "aborted" {
				t.Errorf("sent again to %s: %v", name, err)
			}
		}
	})
}

// TestDeleteThatWasInTime: the write's answer is lost, a copy of it finds an end elsewhere no more; whoever repeats it learns that it took effect.
func TestDeleteThatWasInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrid(t)
		m := newMaster(g, "master-1")
		defer m.stop()
		g.web()
		txn := removal(1, g)
		home := g.shards["shard-0"]
		m.fate = func(message string) fate {
			if message == "Prepare" { // the shard has refused the write: now nothing is in the way, and a copy arrives
				home.mu.Lock()
				defer home.mu.Unlock()
				if !home.done[txn.RequestID] {
					for _, p := range g.shards {
						p.data.out, p.data.in = nil, nil
					}
					if _, err := home.write(txn.RequestID, &transport.Write{Ops: txn.Ops}); err != nil {
						t.Error(err)
					}
				}
			}
			return arrives
		}
		ok, err := m.Run(t.Context(), txn)
		if err != nil || ok.Seq != 0 || !ok.Results[0].Found {
			t.Errorf("got %+v, %v", ok, err)
		}
	})
}

// TestResultsOfARetry: another coordinator gets them from the shards, finishing what is unfinished; when they are not kept it says so.
func TestResultsOfARetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrid(t)
		rows := g.rows()
		a, b := newMaster(g, "master-1"), newMaster(g, "master-2")
		defer a.stop()
		defer b.stop()
		txn := &transport.Txn{RequestID: event.TxnID{1}, Ops: []transport.Op{
			{Kind: transport.OpAdd, ID: rows[0], Key: "n", Number: 5}, {Kind: transport.OpSetAttribute, ID: rows[1], Key: "k", Value: "v"},
			{Kind: transport.OpRead, ID: rows[1]}, {Kind: transport.OpAdd, ID: rows[0], Key: "n", Number: -7}}}
		a.fate = func(message string) fate {
			if message == "Finish" {
				return lost
			}
			return arrives
		}
		first, err := a.Run(t.Context(), txn)
		if err != nil || first.Results[0].Value != 5 || first.Results[3].Value != -2 || first.Results[2].Attributes["k"] != "v" || first.Results[2].Version != 2 {
			t.Fatalf("%+v, %v", first, err)
		}
		again, err := b.Run(t.Context(), txn)
		if err != nil || again.Seq != first.Seq || !sameResults(again.Results, first.Results) {
			t.Errorf("sent again: %+v, %v", again, err)
		}
		g.shards["shard-1"].omits = true
		if again, err = b.Run(t.Context(), txn); err != nil || again.Results != nil || !again.ResultsOmitted {
			t.Errorf("when they are gone: %+v, %v", again, err)
		}
		g.recover(b, 4*time.Second)
		g.settled(txn)
	})
}

// TestTooMuchToAnswer: a transaction that reads more than its reply can hold is aborted, whatever it wrote.
func TestTooMuchToAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrid(t)
		rows := g.rows()
		m := newMaster(g, "master-1")
		defer m.stop()
		for i, id := range rows[:2] {
			g.shards[event.ShardID(fmt.Sprintf("shard-%d", i))].data.rows[id] = &item{content: string(make([]byte, 9<<20)), version: 1, attrs: map[string]string{}}
		}
		txn := &transport.Txn{RequestID: event.TxnID{1}, Ops: []transport.Op{
			{Kind: transport.OpRead, ID: rows[0]}, {Kind: transport.OpRead, ID: rows[1]}, {Kind: transport.OpAdd, ID: rows[2], Key: "n", Number: 1}}}
		if _, err := m.Run(t.Context(), txn); !errors.Is(err, &event.Error{Kind: event.KindTooLarge}) {
			t.Errorf("got %v", err)
		}
		time.Sleep(time.Second)
		g.settled(txn)
	})
}

// TestManyHalves: what the deletes of one transaction remove at one shard may be more than one prepare holds.
func TestManyHalves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrid(t)
		rows := g.rows()
		m := newMaster(g, "master-1")
		defer m.stop()
		out, in := g.shards["shard-0"].data, g.shards["shard-1"].data
		for i := range uint32(2500) {
			a := transport.AssociationID{Source: rows[0], Target: rows[1], AssocType: i}
			out.out, in.in = append(out.out, a), append(in.in, a)
		}
		txn := removal(1, g)
		if _, err := m.Run(t.Context(), txn); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		g.settled(txn)
		if n := len(in.in); n > 0 && len(g.shards["shard-1"].data.in) > 0 {
			t.Errorf("%d ends are left", len(g.shards["shard-1"].data.in))
		}
	})
}

// TestAgeIsTheCoordinators: a client's clock buys no precedence; an age is kept over attempts (safety S8).
func TestAgeIsTheCoordinators(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrid(t)
		rows := g.rows()
		m := newMaster(g, "master-1")
		defer m.stop()
		time.Sleep(time.Hour)
		var (
			mu     sync.Mutex
			starts = map[event.TxnID][]int64{}
		)
		for _, p := range g.shards {
			p.seen = func(r *transport.Prepare) {
				mu.Lock()
				defer mu.Unlock()
				starts[r.TxnID] = append(starts[r.TxnID], r.Start)
			}
		}
		begun := time.Now().UnixMicro()
		g.shards["shard-1"].hold(rows[1], event.TxnID{9})
		var wg sync.WaitGroup
		for i, skew := range []time.Duration{-50 * time.Minute, 0, 50 * time.Second} {
			txn := link(byte(i+1), rows[0], rows[1])
			txn.Issued = time.Now().Add(skew).UnixMicro()
			wg.Go(func() { _, _ = m.Run(t.Context(), txn) })
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
		g.shards["shard-1"].letGo(rows[1])
		wg.Wait()
		for i := range byte(3) {
			mine := starts[event.TxnID{i + 1}]
			if len(mine) < 4 || slices.Min(mine) != slices.Max(mine) || mine[0] != begun+int64(i)*10_000 {
				t.Errorf("transaction %d was prepared with the ages %v; it began at %d", i, mine, begun+int64(i)*10_000)
			}
		}
		g.recover(m, 4*time.Second)
		g.settled()
	})
}
