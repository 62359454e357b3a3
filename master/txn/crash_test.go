package txn

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/transport"
)

// link is an association from a row of one shard to one of another.
func link(n byte, source, target string) *transport.Txn {
	return &transport.Txn{RequestID: event.TxnID{n}, Issued: time.Now().UnixMicro(), TimeoutMillis: 5000,
		Ops: []transport.Op{{Kind: transport.OpLearnAssociation, ID: source, Target: target, Confidence: 1}}}
}

// web links the first row with those of all other shards, in both directions, behind the protocol's back.
func (g *grid) web() {
	rows := g.rows()
	for _, other := range rows[1:] {
		for _, a := range []transport.AssociationID{{Source: rows[0], Target: other}, {Source: other, Target: rows[0], AssocType: 1}} {
			for i, id := range rows {
				p := g.shards[event.ShardID(fmt.Sprintf("shard-%d", i))]
				if a.Source == id {
					p.data.out = append(p.data.out, a)
				}
				if a.Target == id {
					p.data.in = append(p.data.in, a)
				}
			}
		}
	}
}

// removal deletes the first row of a web.
func removal(n byte, g *grid) *transport.Txn {
	return &transport.Txn{RequestID: event.TxnID{n}, Issued: time.Now().UnixMicro(), TimeoutMillis: 5000,
		Ops: []transport.Op{{Kind: transport.OpDeleteConcept, ID: g.rows()[0]}}}
}

// rows are ids on different shards of the test map, found once.
func (g *grid) rows() []string {
	var ids []string
	for want := range testShards {
		for i := 0; ; i++ {
			id := fmt.Sprintf("row-%d", i)
			if s, err := g.machine.View().ShardMap().Shard(id); err == nil && s.ID == event.ShardID(fmt.Sprintf("shard-%d", want)) {
				ids = append(ids, id)
				break
			}
		}
	}
	return ids
}

func (g *grid) absentRow(shard int) string {
	for i := 0; ; i++ {
		id := fmt.Sprintf("absent-%d", i)
		if s, err := g.machine.View().ShardMap().Shard(id); err == nil && s.ID == event.ShardID(fmt.Sprintf("shard-%d", shard)) {
			return id
		}
	}
}

func TestCommitOverTwoShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrid(t)
		rows := g.rows()
		m := newMaster(g, "master-1")
		defer m.stop()
		txn := link(1, rows[0], rows[1])
		ok, err := m.Run(t.Context(), txn)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // in virtual time: finished and reported without a sweep
		g.settled(txn)
		if e := g.events[ok.Seq-1]; e.Seq != ok.Seq || e.Type != event.TypeTxnCommitted {
			t.Errorf("answered with seq %d, which is a %s", ok.Seq, e.Type)
		}
		if n := g.count(event.TypeTxnCompleted); n != 1 {
			t.Errorf("%d events say that it is completed", n)
		}
		if g.shards["shard-0"].rows[rows[0]] != 1 || g.shards["shard-1"].rows[rows[1]] != 1 {
			t.Error("the ends were not written")
		}
		again, err := m.Run(t.Context(), txn)
		if err != nil || !reflect.DeepEqual(again, ok) {
			t.Errorf("sent again: %v, %v; the first answer was %v", again, err, ok)
		}
	})
}

// walk runs a scenario once for each message or label it meets, with a fault there, and once more behind the last.
func walk(t *testing.T, scenario func(t *testing.T, at int) (reached bool)) {
	for at := 1; ; at++ {
		reached := false
		synctest.Test(t, func(t *testing.T) { reached = scenario(t, at) })
		if !reached || t.Failed() {
			return
		}
	}
}

// TestCoordinatorCrashesAnywhere kills the coordinator at every label it passes. Whatever it left, the participants and
// the leader settle it, the answer it gave is true, and the client's retry elsewhere gets the true outcome.
func TestCoordinatorCrashesAnywhere(t *testing.T) {
	for _, tt := range []struct {
		name string
		txn  func(g *grid) *transport.Txn
	}{
		{"commits", func(g *grid) *transport.Txn { return link(1, g.rows()[0], g.rows()[1]) }},
		{"is refused", func(g *grid) *transport.Txn { return link(1, g.rows()[0], g.absentRow(1)) }},
		{"deletes", func(g *grid) *transport.Txn { return removal(1, g) }},
		{"deletes and is refused", func(g *grid) *transport.Txn {
			txn := removal(1, g)
			txn.Ops = append(txn.Ops, transport.Op{Kind: transport.OpExists, ID: g.absentRow(0)})
			return txn
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			walk(t, func(t *testing.T, at int) bool {
				g := newGrid(t)
				g.web()
				a, b := newMaster(g, "master-1"), newMaster(g, "master-2")
				defer a.stop()
				defer b.stop()
				label, n := fault.Label(0), 0
				a.kill = func(l fault.Label, _ int) bool {
					if n++; n == at {
						label = l
					}
					return n == at
				}
				txn := tt.txn(g)
				ok, err := a.Run(t.Context(), txn)
				told := answer(ok, err)
				if !a.alive() {
					told = "unknown" // a dead coordinator told nothing
				}
				g.recover(b, 6*time.Second)
				g.settled(txn)
				ok, err = b.Run(t.Context(), txn)
				if got := answer(ok, err); got == "unknown" || told != "unknown" && got != told {
					t.Errorf("crash at %s: first answer %s, the retry's %s (%v)", fault.Name(label), told, got, err)
				}
				time.Sleep(2 * time.Second)
				g.recover(b, 3*time.Second)
				g.settled(txn)
				return label != 0
			})
		})
	}
}

// answer is what a client knows after a reply.
func answer(ok *transport.TxnOk, err error) string {
	if err == nil {
		return "committed"
	}
	for _, kind := range []event.Kind{event.KindAborted, event.KindPrecondition} {
		if errors.Is(err, &event.Error{Kind: kind}) {
			return "aborted"
		}
	}
	return "unknown"
}

// TestEveryMessageIsLostOnce loses each message of a transaction in turn: the request, the reply, and the reply with the
// request arriving a second time later.
func TestEveryMessageIsLostOnce(t *testing.T) {
	for _, target := range []string{"", "absent", "deleted"} {
		for _, f := range []fate{lost, unheard, duplicate} {
			t.Run(fmt.Sprintf("%v%s", f, target), func(t *testing.T) {
				walk(t, func(t *testing.T, at int) bool {
					g := newGrid(t)
					g.web()
					m := newMaster(g, "master-1")
					defer m.stop()
					n, message := 0, ""
					m.fate = func(name string) fate {
						if n++; n != at {
							return arrives
						}
						message = name
						return f
					}
					txn := link(1, g.rows()[0], g.rows()[1])
					want := "committed"
					switch target {
					case "absent":
						txn, want = link(1, g.rows()[0], g.absentRow(1)), "aborted"
					case "deleted":
						txn = removal(1, g)
					}
					ok, err := m.Run(t.Context(), txn)
					m.mu.Lock()
					write := message == "Write"
					m.mu.Unlock()
					if write && answer(ok, err) == "unknown" { // there is nobody here who repeats it
						ok, err = m.Run(t.Context(), txn)
					}
					if got := answer(ok, err); got != want {
						t.Errorf("%s %v: answered %s, %v; want %s", message, f, got, err, want)
					}
					g.recover(m, 6*time.Second)
					g.settled(txn)
					return message != ""
				})
			})
		}
	}
}

// TestNobodyAnswers: nothing gets through any more from some message on. The answer is never "aborted", and what was left
// settles when the network is back.
func TestNobodyAnswers(t *testing.T) {
	for _, f := range []fate{lost, unheard} {
		walk(t, func(t *testing.T, at int) bool {
			g := newGrid(t)
			a, b := newMaster(g, "master-1"), newMaster(g, "master-2")
			defer a.stop()
			defer b.stop()
			n := 0
			a.fate = func(string) fate {
				if n++; n >= at {
					return f
				}
				return arrives
			}
			txn := link(1, g.rows()[0], g.rows()[1])
			ok, err := a.Run(t.Context(), txn)
			told := answer(ok, err)
			synctest.Wait()
			if told == "aborted" {
				t.Errorf("cut off at message %d: %v", at, err)
			}
			reached := n >= at
			g.recover(b, 8*time.Second)
			g.settled(txn)
			if end := b.view().TxnEnd(txn.RequestID); told == "committed" && !end.Committed {
				t.Errorf("cut off at message %d: answered committed, which is not so", at)
			}
			return reached
		})
	}
}

// TestAbortIsToldOnlyWhenItIsDurable: the masters take the final abort, but no participant can be reached to drop the
// attempt: the answer is unknown, not aborted (safety S3).
func TestAbortIsToldOnlyWhenItIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrid(t)
		m := newMaster(g, "master-1")
		defer m.stop()
		// The second participant never answers its prepare; no drop arrives anywhere.
		prepares := 0
		m.fate = func(message string) fate {
			switch message {
			case "Prepare":
				if prepares++; prepares%2 == 0 {
					return unheard
				}
			case "Finish":
				return lost
			}
			return arrives
		}
		_, err := m.Run(t.Context(), link(1, g.rows()[0], g.rows()[1]))
		if !errors.Is(err, &event.Error{Kind: event.KindUnknownOutcome}) {
			t.Fatalf("got %v, want an unknown outcome", err)
		}
		if end := g.machine.View().TxnEnd(event.TxnID{1}); !end.Final {
			t.Fatal("the abort is not in the log: this test tests nothing")
		}
	})
}

func TestConflictIsRetriedUntilTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrid(t)
		rows := g.rows()
		m := newMaster(g, "master-1")
		defer m.stop()
		blocker := g.shards["shard-1"]
		blocker.hold(rows[1], event.TxnID{9})
		go func() {
			time.Sleep(1500 * time.Millisecond)
			blocker.letGo(rows[1])
		}()
		txn := link(1, rows[0], rows[1])
		if _, err := m.Run(t.Context(), txn); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		blocker.hold(rows[1], event.TxnID{9})
		start := time.Now()
		blocked := link(2, rows[0], rows[1])
		_, err := m.Run(t.Context(), blocked)
		if got := answer(nil, err); got != "aborted" || time.Since(start) > 5*time.Second || time.Since(start) < 3*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		synctest.Wait()
		blocker.letGo(rows[1])
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_ = m.Sweep(ctx)
		g.settled(txn, blocked)
	})
}

// TestRefusedCommitCannotComeBack: Apply refuses the commit for now, while an earlier copy of it is still on its way. The
// coordinator may drop the attempt only behind an event that stops the copy.
func TestRefusedCommitCannotComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrid(t)
		m := newMaster(g, "master-1")
		defer m.stop()
		commits := 0
		m.instead = func(c event.Command) (fsm.Answer, bool) {
			if commits++; c.Type != event.TypeTxnCommitted || commits > 1 {
				return fsm.Answer{}, false
			}
			m.late.Go(func() {
				time.Sleep(2 * time.Millisecond) // behind a drop, before the next attempt's decision
				_, _ = g.apply(c)
			})
			return fsm.Answer{Err: &event.Error{Kind: event.KindBusy, Message: "too many open"}}, true
		}
		txn := link(1, g.rows()[0], g.rows()[1])
		if _, err := m.Run(t.Context(), txn); err != nil {
			t.Fatal(err)
		}
		g.recover(m, 4*time.Second)
		g.settled(txn)
	})
}

// TestInquiryAgainstASlowCommit: the participants ask while the commit is still on its way. They are told "aborted" only
// because that is recorded, so the commit comes too late, and the coordinator begins again.
func TestInquiryAgainstASlowCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrid(t)
		a, b := newMaster(g, "master-1"), newMaster(g, "master-2")
		defer a.stop()
		defer b.stop()
		slow := true
		a.instead = func(c event.Command) (fsm.Answer, bool) {
			if c.Type == event.TypeTxnCommitted && slow {
				slow = false
				time.Sleep(2500 * time.Millisecond)
			}
			return fsm.Answer{}, false
		}
		txn := link(1, g.rows()[0], g.rows()[1])
		var wg sync.WaitGroup
		wg.Go(func() { g.recover(b, 6*time.Second) })
		if _, err := a.Run(t.Context(), txn); err != nil {
			t.Error(err)
		}
		wg.Wait()
		g.settled(txn)
		if n := g.count(event.TypeTxnAborted); n == 0 {
			t.Error("nobody asked in time: this test tests nothing")
		}
	})
}

// TestManyTransactionsUnderFaults: coordinators on all masters, one of them with an old view, few rows, every kind of fault
// and crashes. What was answered is true, every row was written once per committed transaction, nothing is left.
func TestManyTransactionsUnderFaults(t *testing.T) {
	for seed := range uint64(25) {
		synctest.Test(t, func(t *testing.T) { storm(t, rand.New(rand.NewPCG(seed, 7))) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func storm(t *testing.T, rng *rand.Rand) {
	g := newGrid(t)
	rows := g.rows()
	masters := []*master{newMaster(g, "master-1"), newMaster(g, "master-2"), newMaster(g, "master-3")}
	masters[2].lag(2 * time.Second)
	for _, m := range masters {
		defer m.stop()
		faults := rand.New(rand.NewPCG(rng.Uint64(), 1))
		m.fate = func(string) fate {
			if faults.IntN(100) < 85 {
				return arrives
			}
			return fate(faults.IntN(4))
		}
		if deadAfter := rng.IntN(300); deadAfter > 100 && m != masters[0] {
			n := 0
			m.kill = func(fault.Label, int) bool { n++; return n > deadAfter }
		}
	}
	var txns []*transport.Txn
	told := make([]string, 40)
	var wg sync.WaitGroup
	for i := range told {
		from, to := rng.IntN(testShards), rng.IntN(testShards-1)
		txn := link(byte(i+1), rows[from], rows[(from+1+to)%testShards])
		txns = append(txns, txn)
		m, start := masters[rng.IntN(3)], time.Duration(rng.IntN(4000))*time.Millisecond
		wg.Go(func() {
			time.Sleep(start)
			ok, err := m.Run(t.Context(), txn)
			if m.alive() {
				told[i] = answer(ok, err)
			}
		})
	}
	g.recover(masters[0], 12*time.Second)
	wg.Wait()
	for _, m := range masters {
		m.late.Wait()
	}
	quiet := newMaster(g, "master-1")
	defer quiet.stop()
	g.recover(quiet, 8*time.Second)
	g.settled(txns...)
	written := map[string]int{}
	for i, txn := range txns {
		end := g.machine.View().TxnEnd(txn.RequestID)
		if told[i] == "committed" && !end.Committed || told[i] == "aborted" && !end.Final {
			t.Errorf("transaction %d was answered %s; committed %v, final %v", i, told[i], end.Committed, end.Final)
		}
		if end.Committed {
			written[txn.Ops[0].ID]++
			written[txn.Ops[0].Target]++
		}
	}
	for i, row := range rows {
		if got := g.shards[event.ShardID(fmt.Sprintf("shard-%d", i))].rows[row]; got != written[row] {
			t.Errorf("row %s was written %d times by %d committed transactions", row, got, written[row])
		}
	}
	if len(written) == 0 {
		t.Error("nothing was committed: this test tests nothing")
	}
}

// TestUntimelyIsRefusedBeforeAnythingIsSent: ids from the future, and ids that are forgotten and so may have taken effect.
func TestUntimelyIsRefusedBeforeAnythingIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrid(t)
		m := newMaster(g, "master-1")
		defer m.stop()
		sent := 0
		m.fate = func(string) fate { sent++; return arrives }
		time.Sleep(24 * time.Hour) // an idle day: log time stands still
		ahead := link(1, g.rows()[0], g.rows()[1])
		ahead.Issued = time.Now().Add(2 * time.Minute).UnixMicro()
		if _, err := m.Run(t.Context(), ahead); !errors.Is(err, &event.Error{Kind: event.KindFromTheFuture}) || sent > 0 {
			t.Errorf("two minutes ahead: %v, %d messages", err, sent)
		}
		if _, err := m.Run(t.Context(), link(2, g.rows()[0], g.rows()[1])); err != nil {
			t.Errorf("issued now: %v", err)
		}
		old := link(3, g.rows()[0], g.rows()[1])
		old.Issued = time.Now().UnixMicro()
		c := event.NewCommand("test", event.SettingChanged{Key: "remembered", Value: "x"})
		c.RequestID, c.Issued = event.RequestID{9}, time.Now().UnixMicro()
		if answer, err := g.apply(*c); err != nil || answer.Err != nil {
			t.Fatal(err, answer.Err)
		}
		time.Sleep(time.Hour)
		c.RequestID, c.Issued, c.Body = event.RequestID{10}, time.Now().UnixMicro(), event.SettingChanged{Key: "remembered", Value: "y"}
		if answer, err := g.apply(*c); err != nil || answer.Err != nil {
			t.Fatal(err, answer.Err)
		}
		sent = 0
		if _, err := m.Run(t.Context(), old); !errors.Is(err, &event.Error{Kind: event.KindExpired}) || sent > 0 {
			t.Errorf("an hour old and forgotten: %v, %d messages (forgotten %d, issued %d)", err, sent, g.machine.View().Forgotten(), old.Issued)
		}
	})
}
