package history

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// cells makes the history of a sound register: overlapping operations, each done at one moment between its beginning and its end, or,
// where the end is unknown, some time later or never.
type cells struct {
	rng     *rand.Rand
	clients int
	unknown int // in 100
	key     string
	slow    int64 // 0: 40
}

func (s *cells) history(n int) []Register {
	type done struct {
		Register
		at int64
	}
	slow := cmp.Or(s.slow, 40)
	all := []done{{Register{Span: Span{Invoke: 0, Return: 1, Outcome: OK}, RegisterOp: RegisterOp{Key: s.key, Kind: RegisterRead}}, 0}}
	clock := make([]int64, s.clients)
	for i := range n {
		c := i % s.clients
		begin := clock[c] + 2 + s.rng.Int64N(slow/4)
		took := 1 + s.rng.Int64N(slow)
		o := done{Register{Span: Span{Client: c, Invoke: begin, Return: begin + took, Outcome: OK}, RegisterOp: RegisterOp{Key: s.key, Kind: RegisterRead}}, begin + s.rng.Int64N(took)}
		clock[c] = o.Return
		if d := s.rng.IntN(10); d < 6 {
			o.Kind, o.Value = RegisterWrite, fmt.Sprintf("%s=%d", s.key, i)
			if d < 3 {
				o.Kind = RegisterCAS
			}
			if s.rng.IntN(100) < s.unknown {
				o.Outcome, o.Return, o.Client = Unknown, Never, 1000+i
				o.at += s.rng.Int64N(slow * 3)
			}
		}
		all = append(all, o)
	}
	slices.SortStableFunc(all, func(a, b done) int { return cmp.Compare(a.at, b.at) })
	version, value := uint64(7), "as it was"
	for i := range all {
		o := &all[i].Register
		if o.Kind == RegisterCAS { // what it was told before: mostly the present version
			o.Expect = version - min(version, uint64(s.rng.IntN(3)/2))
		}
		switch {
		case o.Outcome == Unknown && s.rng.IntN(2) == 0, o.Outcome == Unknown && o.Kind == RegisterCAS && o.Expect != version:
		case o.Kind == RegisterRead:
			o.RegisterAnswer = RegisterAnswer{Value: value, Version: version}
		case o.Kind == RegisterCAS && o.Expect != version:
			o.Outcome, o.Refused = Fail, true
		default:
			version, value = version+1, o.Value
			if o.Outcome == OK {
				o.RegisterAnswer.Version = version
			}
		}
	}
	h := make([]Register, len(all))
	for i := range all {
		h[i] = all[i].Register
	}
	slices.SortStableFunc(h, func(a, b Register) int { return cmp.Compare(a.Invoke, b.Invoke) })
	for i := range h {
		h[i].Call = uint64(i + 1)
	}
	return h
}

// judge is Registers without Porcupine's word.
func judge(h []Register) (r Report) {
	for _, ops := range byKey(h) {
		k := newRegister(&r, ops)
		k.conditions(k.order(k.points()))
		k.gaps()
		k.lost()
	}
	return r
}

func TestSoundRegisters(t *testing.T) {
	for seed := range uint64(30) {
		var h []Register
		for key := range 3 {
			s := &cells{rng: rand.New(rand.NewPCG(seed, uint64(key))), clients: 5, unknown: 3, key: fmt.Sprint("k", key)}
			h = append(h, s.history(300)...)
		}
		if r := Registers(h); !r.Valid() || r.Checked < 800 {
			t.Fatalf("seed %d: %s", seed, r)
		}
	}
}

// TestRegistersAgreeWithPorcupine on small histories, sound ones and ones in which something was told otherwise.
func TestRegistersAgreeWithPorcupine(t *testing.T) {
	verdicts := map[bool]int{}
	for seed := range uint64(6000) {
		rng := rand.New(rand.NewPCG(seed, 9))
		s := &cells{rng: rng, clients: 2 + rng.IntN(3), unknown: 25, key: "k"}
		h := s.history(4 + rng.IntN(9))
		for range rng.IntN(3) {
			harm(rng, h)
		}
		got := judge(h)
		if got.Has(Undecided) {
			continue
		}
		want := linearizable(byKey(h)[0], time.Minute) == porcupine.Ok
		if got.Valid() != want {
			text := ""
			for i := range h {
				text += h[i].say() + "\n"
			}
			t.Fatalf("seed %d: Porcupine says %v, %s\n%s", seed, want, got, text)
		}
		verdicts[want]++
	}
	if verdicts[true] < 1000 || verdicts[false] < 1000 {
		t.Errorf("%v: too few of one kind to prove anything", verdicts)
	}
}

// harm changes one thing that was said.
func harm(rng *rand.Rand, h []Register) {
	o := &h[1+rng.IntN(len(h)-1)]
	switch d := rng.IntN(5); {
	case o.Outcome == OK && o.Kind == RegisterRead && d < 3: // another version and its value
		from := &h[rng.IntN(len(h))]
		if from.Outcome == OK && from.RegisterAnswer.Version > 0 {
			value := from.Value
			if from.Kind == RegisterRead {
				value = from.RegisterAnswer.Value
			}
			o.RegisterAnswer = RegisterAnswer{Value: value, Version: from.RegisterAnswer.Version}
		}
	case o.Outcome == OK && d < 2:
		o.RegisterAnswer.Version++
	case o.Outcome == Unknown:
		o.Outcome, o.Return = Fail, o.Invoke+20
	case o.Outcome == OK && o.Kind == RegisterCAS:
		o.Outcome, o.Refused, o.RegisterAnswer = Fail, true, RegisterAnswer{}
	case o.Outcome == OK && o.Kind == RegisterWrite && d == 4:
		o.Outcome, o.Return, o.RegisterAnswer = Unknown, Never, RegisterAnswer{}
	}
}

// told is a history of one register in lines "client begin-end kind outcome value version expect"; the outcome no is a refusal.
func told(lines ...Register) []Register {
	for i := range lines {
		lines[i].Key, lines[i].Call = "k", uint64(i+1)
	}
	return lines
}

func regRead(client int, from, to int64, value string, version uint64) Register {
	return Register{Span: Span{Client: client, Invoke: from, Return: to, Outcome: OK}, RegisterOp: RegisterOp{Kind: RegisterRead}, RegisterAnswer: RegisterAnswer{Value: value, Version: version}}
}

func regWrite(client int, from, to int64, value string, version uint64) Register {
	o := Register{Span: Span{Client: client, Invoke: from, Return: to, Outcome: OK}, RegisterOp: RegisterOp{Kind: RegisterWrite, Value: value}, RegisterAnswer: RegisterAnswer{Version: version}}
	if to == Never {
		o.Outcome = Unknown
	}
	return o
}

// TestBadRegisters: each way to break a register has its name.
func TestBadRegisters(t *testing.T) {
	refused := Register{Span: Span{Client: 3, Invoke: 50, Return: 60, Outcome: Fail, Refused: true}, RegisterOp: RegisterOp{Kind: RegisterCAS, Value: "z", Expect: 2}}
	failed := regWrite(1, 20, 30, "b", 0)
	failed.Outcome = Fail
	for name, tt := range map[string]struct {
		want Class
		h    []Register
	}{
		"a read behind":               {StaleRead, told(regRead(0, 0, 1, "", 0), regWrite(1, 2, 3, "a", 1), regRead(2, 5, 6, "", 0), regRead(2, 8, 9, "a", 1))},
		"an acknowledged write gone":  {LostWrite, told(regRead(0, 0, 1, "", 0), regWrite(1, 2, 3, "a", 1), regRead(2, 5, 6, "", 0))},
		"a version that nobody wrote": {LostWrite, told(regRead(0, 0, 1, "", 0), regWrite(1, 2, 3, "a", 1), regWrite(1, 5, 6, "b", 3))},
		"written twice":               {Split, told(regRead(0, 0, 1, "", 0), regWrite(1, 2, 9, "a", 1), regWrite(2, 3, 8, "b", 1))},
		"two values":                  {Split, told(regRead(0, 0, 1, "", 0), regWrite(1, 2, 9, "a", 1), regWrite(2, 3, Never, "b", 0), regRead(3, 4, 12, "b", 1))},
		"nobody's":                    {Garbage, told(regRead(0, 0, 1, "", 0), regWrite(1, 2, 9, "a", 1), regRead(2, 10, 12, "q", 2))},
		"a failed write is read":      {G1a, told(regRead(0, 0, 1, "", 0), failed, regRead(2, 40, 42, "b", 1))},
		"read before it is written":   {NotLinear, told(regRead(0, 0, 1, "", 0), regRead(2, 3, 4, "a", 1), regWrite(1, 5, 9, "a", 1))},
		"a condition that held":       {NotLinear, told(regRead(0, 0, 1, "a", 2), refused)},
		"the same value":              {Undecided, told(regWrite(0, 0, 1, "a", 2), regWrite(0, 2, 3, "a", 3))},
		"absurd":                      {Garbage, told(regRead(0, 0, 1, "", 0), regRead(0, 2, 3, "", 1<<62))},
		"far away":                    {Garbage, told(regRead(0, 0, 1, "", 0), regWrite(0, 2, 3, "a", 1<<40))},
		"empty":                       {Empty, nil},
	} {
		if r := Registers(tt.h); !r.Has(tt.want) {
			t.Errorf("%s: want %s, got %s", name, tt.want, r)
		}
	}
	for name, h := range map[string][]Register{
		"a late write fills the gap":    told(regRead(0, 0, 1, "", 0), regWrite(1, 2, Never, "a", 0), regWrite(1, 5, 6, "b", 2)),
		"it may be refused for a ghost": told(regRead(0, 0, 1, "a", 2), regWrite(1, 55, Never, "b", 0), refused),
	} {
		if r := Registers(h); !r.Valid() {
			t.Errorf("%s: %s", name, r)
		}
	}
}

// TestLongRegister: the time is that of sorting.
func TestLongRegister(t *testing.T) {
	s := &cells{rng: rand.New(rand.NewPCG(1, 1)), clients: 20, unknown: 2, key: "k"}
	h := s.history(40_000)
	if r := Registers(h); !r.Valid() || r.Checked < 30_000 {
		t.Fatal(r)
	}
	stale := &h[len(h)-100]
	for i := len(h) - 100; stale.Kind != RegisterRead; i-- {
		stale = &h[i]
	}
	stale.RegisterAnswer = RegisterAnswer{Value: "as it was", Version: 7}
	if r := Registers(h); !r.Has(StaleRead) {
		t.Errorf("one stale read among %d operations: %s", len(h), r)
	}
}
