package history

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// anomalies has a history for each way in which one can be wrong, and what must be said of it and nothing else.
var anomalies = []struct {
	name string
	want Class
	text string
}{
	{"each order of two lists", G0, `
		1 0-10 ok: a+1 b+1
		2 0-10 ok: a+2 b+2
		3 20-30 ok: a=1,2 b=2,1`},
	{"a failed append is read", G1a, `
		1 0-10 fail: a+1
		2 20-30 ok: a=1`},
	{"half of the appends is read", G1b, `
		1 0-10 ok: a+1 a+2
		2 0-10 ok: a=1
		3 20-30 ok: a=1,2`},
	{"each reads the other", G1c, `
		1 0-10 ok: a+1 b=2
		2 0-10 ok: b+2 a=1`},
	{"part of a transaction is read", GSingle, `
		1 0-10 ok: a+1 b+1
		2 0-10 ok: a=1 b=
		3 0-10 ok: b=1`},
	{"both read, then both append", LostUpdate, `
		1 0-10 ok: a= a+1
		2 0-10 ok: a= a+2
		3 20-30 ok: a=1,2`},
	{"write skew", G2Item, `
		1 0-10 ok: a= b+1
		2 0-10 ok: b= a+1
		3 20-30 ok: a=1 b=1`},
	{"a long fork", G2Item, `
		1 0-10 ok: a+1
		2 0-10 ok: b+1
		3 0-10 ok: a=1 b=
		4 0-10 ok: a= b=1`},
	{"its own append is not read", Internal, `
		1 0-10 ok: a+1 a=`},
	{"two reads differ", Internal, `
		1 0-10 ok: a+1
		2 0-10 ok: a= a=1`},
	{"two orders of one list", Incompatible, `
		1 0-10 ok: a+1
		2 0-10 ok: a+2
		3 20-30 ok: a=1,2
		4 20-30 ok: a=2,1`},
	{"appended twice", Duplicate, `
		1 0-10 ok: a+1
		2 20-30 ok: a=1,1`},
	{"nobody appended it", Garbage, `
		1 0-10 ok: a+1
		2 20-30 ok: a=1,9`},
	{"appended twice by clients", Undecided, `
		1 0-10 ok: a+1
		2 0-10 ok: a+1
		3 20-30 ok: a=1`},
	{"a stale read", GSingle + "-realtime", `
		1 0-10 ok: a+1
		2 20-30 ok: a=
		3 40-50 ok: a=1`},
	{"an append is lost", GSingle + "-realtime", `
		1 0-10 ok: a+1
		2 20-30 ok: a=
		3 40-50 ok: a=`},
	{"an append behind others is lost", GSingle + "-realtime", `
		1 0-10 ok: a+1
		2 20-30 ok: a+2
		3 40-50 ok: a=1`},
	{"an append of unknown outcome is lost after it was seen in part", GSingle + "-realtime", `
		1 0-10 ?: a+1 b+1
		2 20-30 ok: a=1
		3 40-50 ok: b=`},
	{"a client does not see what it did", GSingle + "-process", `
		1 0-10 ok: a+1
		1 20-30 ok: a=
		2 20-30 ok: a=1`},
	{"a client's appends come in another order", G0 + "-process", `
		1 0-10 ok: a+1
		1 20-30 ok: a+2
		2 0-10 ok: a=2,1`},
	{"appends that follow one another come in another order", G0 + "-realtime", `
		1 0-10 ok: a+1
		2 20-30 ok: a+2
		3 0-30 ok: a=2,1`},
	{"a client's read sees its next append", G1c + "-process", `
		1 0-10 ok: a=1
		1 20-30 ok: a+1`},
	{"a read sees what began later", G1c + "-realtime", `
		1 0-10 ok: a=1
		2 20-30 ok: a+1`},
	{"two that were not seen, over time", G2Item + "-realtime", `
		1 20-30 ok: a=
		2 0-40 ok: a+1 b=
		3 0-10 ok: b+1
		4 50-60 ok: a=1 b=1`},
}

// TestEveryAnomalyIsSeen: alone, and in the middle of a sound history, each is called by its name and nothing else is.
func TestEveryAnomalyIsSeen(t *testing.T) {
	for i, tc := range anomalies {
		t.Run(tc.name, func(t *testing.T) {
			bad := short(t, tc.text)
			s := &serial{rng: rand.New(rand.NewPCG(uint64(i), 1)), clients: 5, lists: 4, unknown: 5, op: appends, perEra: 100}
			for name, h := range map[string][]Txn{"alone": into(bad, nil), "among others": into(s.history(300), bad)} {
				r := Lists(h, nil)
				classes := map[Class]bool{}
				for _, a := range r.Anomalies {
					classes[a.Class] = true
				}
				if !maps.Equal(classes, map[Class]bool{tc.want: true}) {
					t.Errorf("%s: %v, want %s\n%s", name, slices.Collect(maps.Keys(classes)), tc.want, r)
				}
			}
			t.Log(Lists(bad, nil))
		})
	}
}

// TestSoundListsPass: whatever a sound machine does, and whoever gives up on it.
func TestSoundListsPass(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &serial{rng: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 2)), op: appends}
		s.clients, s.lists = rapid.IntRange(1, 20).Draw(t, "clients"), rapid.IntRange(1, 5).Draw(t, "lists")
		s.unknown, s.perEra = rapid.IntRange(0, 40).Draw(t, "unknown"), rapid.IntRange(20, 200).Draw(t, "per era")
		h := s.history(rapid.IntRange(60, 300).Draw(t, "transactions"))
		if r := Lists(h, nil); !r.Valid() {
			t.Fatal(r)
		}
	})
}

// TestNothingIsNoProof: a history without reads, or without appends, is no pass.
func TestNothingIsNoProof(t *testing.T) {
	for _, text := range []string{"1 0-10 ok: a+1", "1 0-10 ok: a=", "1 0-10 ?: a=1"} {
		if r := Lists(short(t, text), nil); !r.Has(Empty) {
			t.Errorf("%s: %s", text, r)
		}
	}
	for _, r := range []Report{Lists(nil, nil), Linear(nil, LinearConfig{}), Bank(nil, Accounts{})} {
		if !r.Has(Empty) || r.Err() == nil {
			t.Error(r)
		}
	}
}

// TestListsOfManyTransactions: transactions of 32 clients, and a stale read among them; 100,000 take seconds (GRID_HISTORY_TXNS=100000).
func TestListsOfManyTransactions(t *testing.T) {
	n := many(t)
	s := &serial{rng: rand.New(rand.NewPCG(1, 3)), clients: 32, lists: 8, unknown: 1, op: appends, perEra: 200}
	h := s.history(n)
	begun := time.Now()
	if r := Lists(h, nil); !r.Valid() || r.Checked < n*9/10 {
		t.Fatal(r)
	}
	t.Logf("%d transactions in %v", n, time.Since(begun))
	stale := "1 0-10 ok: x+1\n2 20-30 ok: x=\n3 40-50 ok: x=1"
	if r := Lists(into(h, short(t, stale)), nil); len(r.Anomalies) != 1 || !r.Has(GSingle+"-realtime") {
		t.Fatal(r)
	}
}
