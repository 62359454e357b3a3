package history

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sutra-grid/sutra-grid/transport"
)

// TestSoundHistoriesPass: whatever a sound machine does, and whoever gives up on it.
func TestSoundHistoriesPass(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &serial{rng: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 4)), op: mixed, perEra: 30}
		s.clients, s.lists, s.unknown = rapid.IntRange(1, 6).Draw(t, "clients"), rapid.IntRange(1, 3).Draw(t, "lists"), rapid.IntRange(0, 4).Draw(t, "unknown")
		h := s.history(rapid.IntRange(20, 120).Draw(t, "transactions"))
		if r := Linear(h, LinearConfig{}); !r.Valid() {
			t.Fatal(r)
		}
	})
}

// TestAlteredAnswersAreSeen: in a sound history one answer, drawn at random, is altered in any way.
func TestAlteredAnswersAreSeen(t *testing.T) {
	for seed := range uint64(60) {
		s := &serial{rng: rand.New(rand.NewPCG(seed, 5)), clients: 5, lists: 2, unknown: 2, op: mixed, perEra: 30}
		h := s.history(120)
		what := alter(s.rng, h)
		if r := Linear(h, LinearConfig{}); !r.Has(NotLinear) {
			t.Errorf("seed %d: %s: %s", seed, what, r)
		}
	}
}

// alter changes one answer.
func alter(rng *rand.Rand, h []Txn) string {
	for {
		t := &h[rng.IntN(len(h))]
		if t.Results == nil {
			continue
		}
		i := rng.IntN(len(t.Ops))
		t.Results = slices.Clone(t.Results)
		r := &t.Results[i]
		switch t.Ops[i].Kind {
		case transport.OpRead:
			if r.Version += uint64(1 + rng.IntN(2)); rng.IntN(2) == 0 {
				r.Version, r.Attributes = r.Version-1, map[string]string{"k": "never"}
			}
		case transport.OpAdd:
			r.Value += 1 << 40
		case transport.OpReadNeighbors:
			if r.Neighbors = slices.Clone(r.Neighbors); len(r.Neighbors) < 2 {
				r.Neighbors = append(r.Neighbors, "never")
			} else {
				slices.Reverse(r.Neighbors)
			}
		default:
			continue
		}
		return "altered " + say(*t)
	}
}

// steps is a history of a register in short: each line "client begin-end outcome: operations", with k:=v to set, k=v to read, k?v for a
// precondition and k! for a failed one.
func steps(t *testing.T, text string) (h []Txn) {
	t.Helper()
	ops := map[string]transport.OpKind{":=": transport.OpSetAttribute, "?": transport.OpAttributeEquals, "=": transport.OpRead}
	h = []Txn{{Client: 99, Invoke: -2, Return: -1, Outcome: OK, Ops: []transport.Op{{Kind: transport.OpLearnConcept, ID: "r"}}}}
	for _, l := range strings.Split(strings.TrimSpace(text), "\n") {
		head, words, _ := strings.Cut(strings.TrimSpace(l), ": ")
		for _, x := range short(t, head+":") {
			for _, word := range strings.Fields(words) {
				sign := ":="
				if !strings.Contains(word, sign) {
					if sign = "?"; !strings.Contains(word, sign) {
						sign = "="
					}
				}
				key, value, _ := strings.Cut(word, sign)
				x.Ops = append(x.Ops, transport.Op{Kind: ops[sign], ID: "r", Key: key, Value: value})
				res := transport.OpResult{}
				if sign == "=" {
					res = transport.OpResult{Found: true, Version: uint64(len(value)), Attributes: map[string]string{key: value}}
				}
				if x.Outcome == OK {
					x.Results = append(x.Results, res)
				}
			}
			if x.Outcome == Fail {
				x.FailedOp = len(x.Ops)
			}
			h = append(h, x)
		}
	}
	return into(h, nil)
}

// TestRegisters: the value's length is its version, 1 is the concept alone.
func TestRegisters(t *testing.T) {
	for name, tc := range map[string]struct {
		sound bool
		text  string
	}{
		"read what was written":               {true, "1 0-10 ok: k:=ab\n2 20-30 ok: k=ab"},
		"a stale read":                        {false, "1 0-10 ok: k:=ab\n1 11-20 ok: k:=abc\n2 30-40 ok: k=ab"},
		"the older one while it is written":   {true, "1 0-10 ok: k:=ab\n1 11-30 ok: k:=abc\n2 20-30 ok: k=ab"},
		"unknown and read":                    {true, "1 0-10 ?: k:=ab\n2 20-30 ok: k=ab"},
		"unknown, read, and gone":             {false, "1 0-10 ?: k:=ab\n2 20-30 ok: k=ab\n1 40-50 ok: k:=abc\n2 60-70 ok: k=ab"},
		"unknown and late":                    {true, "1 0-10 ?: k:=abc\n1 20-30 ok: k:=ab\n2 40-50 ok: k=ab\n2 60-70 ok: k=abc"},
		"failed and read":                     {false, "1 0-10 fail: k:=ab k?zz\n2 20-30 ok: k=ab"},
		"a precondition that held":            {true, "1 0-10 ok: k:=ab\n2 20-30 ok: k?ab k:=abc\n1 40-50 ok: k=abc"},
		"a precondition that could not hold":  {false, "1 0-10 ok: k:=ab\n2 20-30 ok: k?zz k:=abc"},
		"two that only one can have met":      {false, "1 0-10 ok: k:=ab\n2 20-30 ok: k?ab k:=abc\n3 20-30 ok: k?ab k:=abc"},
		"a precondition that failed":          {true, "1 0-10 ok: k:=ab\n2 20-30 fail: k?zz"},
		"a precondition that failed wrongly":  {false, "1 0-10 ok: k:=ab\n2 20-30 fail: k?ab"},
		"one that failed while it was set":    {true, "1 0-10 ok: k:=ab\n2 5-30 fail: k?ab"},
		"unknown and the condition fails":     {true, "1 0-10 ?: k?zz k:=ab\n2 20-30 fail: k?ab"},
		"a version that nobody made":          {false, "1 0-10 ok: k:=abc\n2 20-30 ok: k=abc"},
		"several writes in one transaction":   {true, "1 0-10 ok: k:=ab k:=abc k=abc\n2 20-30 ok: k=abc"},
		"the middle of one transaction":       {false, "1 0-10 ok: k:=ab k:=abc\n2 20-30 ok: k=ab"},
		"one who reads later sees the latter": {false, "1 0-100 ok: k:=ab\n2 20-30 ok: k=ab\n3 40-50 fail: k?ab"},
	} {
		t.Run(name, func(t *testing.T) {
			if r := Linear(steps(t, tc.text), LinearConfig{}); r.Valid() != tc.sound || !tc.sound && !r.Has(NotLinear) {
				t.Error(r)
			}
		})
	}
}

// TestTooMuchIsNoPass: a group that is too large, or takes too long, is not called sound.
func TestTooMuchIsNoPass(t *testing.T) {
	s := &serial{rng: rand.New(rand.NewPCG(1, 6)), clients: 8, lists: 2, op: mixed, perEra: 1000}
	h := s.history(300)
	if r := Linear(h, LinearConfig{Most: 100}); !r.Has(Undecided) {
		t.Error(r)
	}
	for i := range 40 { // none of them can be placed, and all orders of them are tried
		h = append(h, Txn{Client: 500 + i, Invoke: h[10].Invoke, Return: Never, Ops: []transport.Op{{Kind: transport.OpAdd, ID: "register-0-0", Key: "n", Number: 1 << i}}})
	}
	h = append(h, Txn{Client: 99, Invoke: h[299].Return, Return: h[299].Return + 1, Outcome: OK, Ops: []transport.Op{{Kind: transport.OpRead, ID: "register-0-0"}}, Results: []transport.OpResult{{Found: true}}})
	if r := Linear(into(h, nil), LinearConfig{Timeout: 50 * time.Millisecond}); !r.Has(Undecided) {
		t.Error(r)
	}
}

// TestManyOperationsPerKey: many operations of single keys, each key for a while; 100,000 with GRID_HISTORY_TXNS=100000.
func TestManyOperationsPerKey(t *testing.T) {
	n := many(t)
	single := func(s *serial, era int) []transport.Op {
		op := transport.Op{Kind: transport.OpRead, ID: fmt.Sprintf("register-%d-%d", era, s.rng.IntN(2))}
		switch s.rng.IntN(4) {
		case 0:
			op.Kind, op.Key, op.Value = transport.OpSetAttribute, "k", fmt.Sprint(s.rng.IntN(5))
		case 1:
			op.Kind, op.Key, op.Value = transport.OpAttributeEquals, "k", fmt.Sprint(s.rng.IntN(5))
		}
		return []transport.Op{op}
	}
	s := &serial{rng: rand.New(rand.NewPCG(1, 7)), clients: 10, lists: 1, op: single, perEra: 500}
	h := s.history(n)
	begun := time.Now()
	of := func(id string) bool { return strings.HasPrefix(id, "register") }
	if r := Linear(h, LinearConfig{Of: of}); !r.Valid() || r.Checked < n {
		t.Fatal(r)
	}
	t.Logf("%d operations in %v", n, time.Since(begun))
}

// TestWhatIsLeftOutIsNotJudged: operations on other concepts are left out, with what they were answered.
func TestWhatIsLeftOutIsNotJudged(t *testing.T) {
	s := &serial{rng: rand.New(rand.NewPCG(3, 8)), clients: 5, lists: 2, unknown: 2, op: mixed, perEra: 60}
	h := s.history(240)
	registers := func(id string) bool { return strings.HasPrefix(id, "register") }
	lie := func(of Concepts) {
		for i := range h {
			for k, op := range h[i].Ops {
				if op.Kind == transport.OpRead && h[i].Results != nil && of(op.ID) {
					h[i].Results[k].Version += 9
					return
				}
			}
		}
		t.Fatal("there is no read")
	}
	lie(registers)
	if r := Linear(h, LinearConfig{Of: func(id string) bool { return !registers(id) }}); !r.Valid() {
		t.Error(r)
	}
	if r := Linear(h, LinearConfig{Of: registers}); !r.Has(NotLinear) {
		t.Error(r)
	}
}
