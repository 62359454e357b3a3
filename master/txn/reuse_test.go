package txn

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// TestReusedIDs: an id that comes again with other operations never gets the first ones' result, however little the master that is
// asked knows of them; with the same operations it gets the first answer from every master (safety S5, S30).
func TestReusedIDs(t *testing.T) {
	for name, tc := range map[string]struct {
		source, target int  // rows of the second use
		lag            bool // the second master does not know of the first use yet
		unfinished     bool // nor do the shards
	}{
		"the decision is known here":        {source: 1, target: 0},
		"only the shards know it":           {source: 1, target: 0, lag: true},
		"one shard of two knows it":         {source: 1, target: 2, lag: true},
		"only the log knows it":             {source: 2, target: 3, lag: true},
		"it is decided and not finished":    {source: 1, target: 2, lag: true, unfinished: true},
		"the same shards, and not finished": {source: 1, target: 0, lag: true, unfinished: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGrid(t)
				rows := g.rows()
				second := newMaster(g, "master-2")
				defer second.stop()
				if tc.lag {
					before := g.machine.View()
					second.view = func() *fsm.State { return before }
				}
				first := newMaster(g, "master-1")
				defer first.stop()
				if tc.unfinished {
					first.fate = func(message string) fate {
						if message == "Finish" {
							return lost
						}
						return arrives
					}
				}
				done, err := first.Run(t.Context(), link(7, rows[0], rows[1]))
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if !tc.unfinished {
					time.Sleep(time.Second)
				}
				_, err = second.Run(t.Context(), link(7, rows[tc.source], rows[tc.target]))
				if !errors.Is(err, &event.Error{Kind: event.KindIDReused}) {
					t.Errorf("other operations under the same id: %v", err)
				}
				if n := g.count(event.TypeTxnAborted); n > 0 {
					t.Errorf("%d aborts of a committed transaction are in the log", n)
				}
				if !tc.unfinished {
					again, err := second.Run(t.Context(), link(7, rows[0], rows[1]))
					if err != nil || again.Seq != done.Seq {
						t.Errorf("the same again: %+v, %v; first it was event %d", again, err, done.Seq)
					}
				}
				second.view = g.machine.View
				g.recover(second, 10*time.Second)
				g.settled(link(7, rows[0], rows[1]))
			})
		})
	}
}

// TestIDsOfOtherCommands: what was a command of another kind is no transaction.
func TestIDsOfOtherCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGrid(t)
		m := newMaster(g, "master-1")
		defer m.stop()
		rows := g.rows()
		c := event.NewCommand("test", event.SettingChanged{Key: "a", Value: "b"})
		c.RequestID, c.Issued = event.RequestID{1}, time.Now().UnixMicro()
		if answer, err := g.apply(*c); err != nil || answer.Err != nil {
			t.Fatal(err, answer.Err)
		}
		g.shards["shard-0"].done[event.RequestID{2}] = true // a write of one shard
		for n, what := range map[byte]string{1: "a setting", 2: "a write"} {
			if _, err := m.Run(t.Context(), link(n, rows[0], rows[1])); !errors.Is(err, &event.Error{Kind: event.KindIDReused}) {
				t.Errorf("the id of %s: %v", what, err)
			}
		}
		if n := g.count(event.TypeTxnCommitted) + g.count(event.TypeTxnAborted); n > 0 {
			t.Errorf("%d decisions in the log", n)
		}
		m.Coordinator.cfg.Confirmed = func(context.Context) (*fsm.State, error) { return nil, errors.New("no leader") }
		if _, err := m.Run(t.Context(), link(2, rows[0], rows[1])); !errors.Is(err, &event.Error{Kind: event.KindUnknownOutcome}) {
			t.Errorf("nobody can say what the shard's result is of: %v", err)
		}
		g.recover(m, 5*time.Second)
	})
}

// TestNoncesNameTheirOperations: an attempt belongs to its own operations and to no others, and is never 0.
func TestNoncesNameTheirOperations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ops := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) transport.Op {
			return transport.Op{Kind: transport.OpLearnConcept, ID: rapid.StringMatching(`[ab]{1,2}`).Draw(t, "id"), Content: rapid.StringMatching(`[ab]{0,2}`).Draw(t, "content"),
				Strength: float32(rapid.IntRange(0, 2).Draw(t, "strength"))}
		}), 1, 3)
		a, b := ops.Draw(t, "a"), ops.Draw(t, "b")
		one, err := markOf(a)
		if err != nil {
			t.Fatal(err)
		}
		two, err := markOf(b)
		if err != nil {
			t.Fatal(err)
		}
		same := cmp.Equal(a, b, cmpopts.EquateEmpty())
		w := &work{mark: one}
		if n := (&work{mark: two}).nonce(); n == 0 || w.made(n) != same {
			t.Errorf("%v and %v: equal %v, nonce %x of mark %x", a, b, same, n, one)
		}
	})
}

// TestMarksStay: a transaction that is repeated over an upgrade is the same one. The first three marks are those of the version that began
// with them, whose operations had fewer fields.
func TestMarksStay(t *testing.T) {
	for _, tt := range []struct {
		want uint64
		ops  []transport.Op
	}{
		{0xb240570000000000, []transport.Op{{Kind: transport.OpLearnConcept, ID: "a", Content: "c"}}},
		{0xa3dd190000000000, []transport.Op{{Kind: transport.OpLearnConcept, ID: "concept", Content: "what it is", Embedding: []float32{0.5, -1, 2}, Strength: 0.75,
			Confidence: 1, Metadata: &transport.Metadata{Attributes: map[string]string{"k": "v", "a": ""}, Tags: []string{"x", "y"}}}}},
		{0x9813650000000000, []transport.Op{{Kind: transport.OpLearnAssociation, ID: "a", Target: "b", AssocType: 1001, Confidence: 0.5},
			{Kind: transport.OpLearnConcept, ID: "a", Metadata: &transport.Metadata{}}}},
		{0xd01f010000000000, []transport.Op{{Kind: transport.OpAdd, ID: "a", Key: "k", Number: -5}, {Kind: transport.OpVersion, ID: "a", Version: 7}}},
		{0x0b486c0000000000, []transport.Op{{Kind: transport.OpAdd, ID: "a", Key: "k", Number: -6}, {Kind: transport.OpVersion, ID: "a", Version: 7}}},
		{0x64e0910000000000, []transport.Op{{Kind: transport.OpSetAttribute, ID: "a", Key: "k", Value: "v"}}},
	} {
		if got, err := markOf(tt.ops); err != nil || got != tt.want {
			t.Errorf("%+v: mark %#x, %v; want %#x", tt.ops, got, err, tt.want)
		}
	}
	if _, err := markOf(slices.Repeat([]transport.Op{{Kind: transport.OpLearnConcept, ID: "a", Content: string(make([]byte, 9<<20))}}, 2)); !errors.Is(err, &event.Error{Kind: event.KindTooLarge}) {
		t.Errorf("over the limit of a frame: %v", err)
	}
}
