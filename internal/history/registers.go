package history

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Registers checks that operations on registers are linearizable: exactly, in the time of sorting them, since every answer tells the
// version that it wrote or read and so its place in the order. What is left to check is that this order holds with what was over before
// something else began, that values and conditions fit to versions, and that the versions that nobody was told can be those of writes
// with an unknown end. Porcupine judges a part of it once more (Sample): where the two differ the history counts as undecided.
//
// A register's first version is that of the first answer; what was before does not matter.
func Registers(h []Register) Report {
	r := Report{Checker: "registers"}
	for _, ops := range byKey(h) {
		k := newRegister(&r, ops)
		if ops[0].Foreign {
			k.order(k.points())
			continue
		}
		k.conditions(k.order(k.points()))
		k.gaps()
		k.lost()
		sample(&r, ops, !k.bad)
	}
	r.empty()
	return r
}

// byKey parts operations by register, each in the order of their beginnings; the result is in the order of the first.
func byKey(h []Register) [][]*Register {
	index := map[string]int{}
	var all [][]*Register
	for i := range h {
		o := &h[i]
		at, known := index[o.Key]
		if !known {
			at = len(all)
			index[o.Key] = at
			all = append(all, nil)
		}
		all[at] = append(all[at], o)
	}
	for _, ops := range all {
		slices.SortStableFunc(ops, func(a, b *Register) int { return cmp.Or(cmp.Compare(a.Invoke, b.Invoke), cmp.Compare(a.Call, b.Call)) })
	}
	return all
}

// register is one register's history on its way to an order.
type register struct {
	report  *Report
	ops     []*Register          // by Invoke
	value   map[string]*Register // who writes it
	written map[uint64]*Register // who wrote a version: acknowledged, or read
	first   uint64               // the lowest version of an answer
	last    uint64               // the highest
	forced  uint64               // a version behind last that must have been there, for a condition that failed
	over    map[uint64]int64     // when a failed condition needed a version, the earliest end
	bad     bool
}

// maxVersion is far above what any register reaches.
const maxVersion = 1 << 60

func newRegister(r *Report, all []*Register) *register {
	k := &register{report: r, ops: all, value: map[string]*Register{}, written: map[uint64]*Register{}, first: math.MaxUint64, over: map[uint64]int64{}}
	k.ops = slices.DeleteFunc(slices.Clone(all), func(o *Register) bool { return max(o.RegisterAnswer.Version, o.Expect) > maxVersion })
	if len(k.ops) < len(all) {
		k.ops = all[:1]
		k.found(Garbage, "there are versions above any that can be")
		k.ops = nil
	}
	for _, o := range k.ops {
		if o.Outcome == OK || o.Refused {
			r.Checked++
		}
		if o.Kind == RegisterRead {
			continue
		}
		if was, twice := k.value[o.Value]; twice {
			k.found(Undecided, "write the same value: such a history cannot be judged", was, o)
		}
		k.value[o.Value] = o
	}
	return k
}

func (k *register) found(c Class, what string, of ...*Register) {
	k.bad = true
	calls, text := []uint64(nil), fmt.Sprintf("%s: %s", k.ops[0].Key, what)
	for _, o := range of {
		if o != nil {
			calls, text = append(calls, o.Call), text+"\n"+o.say()
		}
	}
	k.report.Add(c, calls, "%s", text)
}

// point is an operation with its place in the order: version v is written at 2v and read at 2v+1.
type point struct {
	*Register
	rank uint64
}

// points is every operation whose place is known; values that do not fit to their versions are found on the way.
func (k *register) points() []point {
	var all []point
	for _, o := range k.ops {
		if o.Outcome != OK {
			continue
		}
		v := o.RegisterAnswer.Version
		k.first, k.last = min(k.first, v), max(k.last, v)
		if o.Kind == RegisterRead {
			all = append(all, point{o, 2*v + 1})
			continue
		}
		if o.Kind == RegisterCAS && v != o.Expect+1 {
			k.found(NotLinear, fmt.Sprintf("a write on condition of version %d made %d", o.Expect, v), o)
		}
		if was := k.written[v]; was != nil {
			k.found(Split, fmt.Sprintf("version %d was written twice", v), was, o)
		}
		k.written[v] = o
		all = append(all, point{o, 2 * v})
	}
	for _, p := range slices.Clone(all) {
		if w := k.seen(p.Register); w != nil {
			all = append(all, point{w, 2 * p.RegisterAnswer.Version})
		}
	}
	return all
}

// seen judges the value that a read was given. It returns a write of unknown end that is seen for the first time: it has its place now.
func (k *register) seen(o *Register) (settled *Register) {
	v := o.RegisterAnswer.Version
	w, known := k.value[o.RegisterAnswer.Value]
	switch by := k.written[v]; {
	case o.Kind != RegisterRead:
	case by != nil && by.Value != o.RegisterAnswer.Value:
		k.found(Split, fmt.Sprintf("version %d has two values", v), by, o)
	case by != nil:
	case !known && (o.Foreign && len(k.value) == 0 || v == k.first): // as it was before
		k.written[v] = &Register{RegisterOp: RegisterOp{Value: o.RegisterAnswer.Value}, Span: Span{Outcome: OK}}
	case !known:
		k.found(Garbage, "what nobody wrote is read", o)
	case w.Outcome == Fail:
		k.found(G1a, "a write that failed is read", w, o)
	case w.Outcome == OK:
		k.found(Split, fmt.Sprintf("a write made version %d and is read as %d", w.RegisterAnswer.Version, v), w, o)
	case w.Kind == RegisterCAS && v != w.Expect+1:
		k.found(NotLinear, fmt.Sprintf("a write on condition of version %d made %d", w.Expect, v), w, o)
	default:
		k.written[v] = w
		return w
	}
	return nil
}

// order checks that nothing comes before what was over when it began, and returns the points as they began.
func (k *register) order(all []point) []point {
	ended := slices.Clone(all)
	slices.SortFunc(ended, func(a, b point) int { return cmp.Compare(a.Return, b.Return) })
	slices.SortStableFunc(all, func(a, b point) int { return cmp.Compare(a.Invoke, b.Invoke) })
	var high point
	next := 0
	for _, p := range all {
		for ; ended[next].Return < p.Invoke; next++ {
			if ended[next].rank >= high.rank {
				high = ended[next]
			}
		}
		if high.Register == nil || high.rank < p.rank || high.rank == p.rank && p.rank%2 == 1 {
			continue
		}
		c, what := StaleRead, "was told an earlier version than was known before it began"
		if p.rank%2 == 0 {
			c, what = NotLinear, "wrote a version that was there, or passed, before it began"
		}
		k.found(c, what, high.Register, p.Register)
	}
	return all
}

// conditions finds for each write whose condition failed a version at which it did, the lowest, among those that may have been there
// between its beginning and its end.
func (k *register) conditions(all []point) {
	ended := slices.Clone(all)
	slices.SortFunc(ended, func(a, b point) int { return cmp.Compare(a.Return, b.Return) })
	above := highest(all)
	low, next := int64(-1), 0
	var placed []refusal
	for _, o := range k.ops {
		if !o.Refused {
			continue
		}
		for ; next < len(ended) && ended[next].Return < o.Invoke; next++ {
			low = max(low, int64(ended[next].rank/2))
		}
		placed = slices.DeleteFunc(placed, func(f refusal) bool { return f.version <= low })
		least := low
		for _, f := range placed { // few are refused without anything being answered between them
			if f.Return < o.Invoke {
				least = max(least, f.version)
			}
		}
		if least == int64(o.Expect) {
			least++
			behind, _ := slices.BinarySearchFunc(all, o.Return, func(p point, at int64) int {
				return cmp.Or(cmp.Compare(p.Invoke, at), -1) // the first that began after o was over
			})
			if uint64(least) > above[behind] {
				k.found(NotLinear, fmt.Sprintf("its condition, version %d, held from its beginning to its end", o.Expect), o)
				continue
			}
			k.need(uint64(least), o.Return)
		}
		placed = append(placed, refusal{o, least})
	}
}

// refusal is a write whose condition failed, with the version at which it may have.
type refusal struct {
	*Register
	version int64 // -1: any
}

// highest is, for each point and behind the last, the version that may be reached before any from there on.
func highest(all []point) []uint64 {
	above := make([]uint64, len(all)+1)
	above[len(all)] = math.MaxUint64
	for i := len(all) - 1; i >= 0; i-- {
		v := all[i].rank / 2
		if all[i].rank%2 == 0 {
			v--
		}
		above[i] = min(above[i+1], v)
	}
	return above
}

// need notes that a version must have been there at a moment at the latest.
func (k *register) need(version uint64, at int64) {
	if was, known := k.over[version]; !known || at < was {
		k.over[version] = at
	}
	k.forced = max(k.forced, version)
}

// maxGaps bounds what a single answer with an absurd version costs.
const maxGaps = 1 << 20

// gaps finds a write of unknown end for each version that nobody was told: one that began before what saw a later version was over.
func (k *register) gaps() {
	top := max(k.last, k.forced)
	if top < k.first || k.first == math.MaxUint64 {
		return
	}
	if top-k.first > maxGaps {
		k.found(Garbage, fmt.Sprintf("versions from %d to %d", k.first, top))
		return
	}
	before := k.deadlines(top)
	free, conditional := k.free()
	for v := k.first + 1; v <= top; v++ {
		if k.written[v] != nil {
			continue
		}
		at := before[v-k.first]
		if c := conditional[v-1]; len(c) > 0 && c[0].Invoke <= at {
			continue
		}
		if len(free) == 0 || free[0].Invoke > at {
			c, what := LostWrite, "nobody can have written version %d, and it was passed"
			if v > k.last {
				c, what = NotLinear, "nobody can have written version %d, and a condition failed that would have held without it"
			}
			k.found(c, fmt.Sprintf(what, v))
			return // and of those behind it nothing is known
		}
		free = free[1:]
	}
}

// deadlines is, for each version from the first on, when it was there at the latest: the earliest end of what saw it or a later one.
func (k *register) deadlines(top uint64) []int64 {
	before := make([]int64, top-k.first+1)
	for i := range before {
		before[i] = math.MaxInt64
	}
	for _, o := range k.ops {
		if o.Outcome == OK {
			i := o.RegisterAnswer.Version - k.first
			before[i] = min(before[i], o.Return)
		}
	}
	for v, at := range k.over {
		before[v-k.first] = min(before[v-k.first], at)
	}
	for i := len(before) - 2; i >= 0; i-- {
		before[i] = min(before[i], before[i+1])
	}
	return before
}

// free is the writes of unknown end that no read has seen, those with a condition by its version.
func (k *register) free() (any []*Register, conditional map[uint64][]*Register) {
	placed := map[*Register]bool{}
	for _, w := range k.written {
		placed[w] = true
	}
	conditional = map[uint64][]*Register{}
	for _, o := range k.ops {
		switch {
		case o.Kind == RegisterRead || o.Outcome != Unknown || placed[o]:
		case o.Kind == RegisterCAS:
			conditional[o.Expect] = append(conditional[o.Expect], o)
		default:
			any = append(any, o)
		}
	}
	return any, conditional
}

// lost tells apart what is read late from what is gone: the register ends below an acknowledged version.
func (k *register) lost() {
	var acked, end *Register
	for _, o := range k.ops {
		if o.Outcome != OK {
			continue
		}
		if o.Kind != RegisterRead && (acked == nil || o.RegisterAnswer.Version > acked.RegisterAnswer.Version) {
			acked = o
		}
		if end == nil || o.Invoke >= end.Invoke {
			end = o
		}
	}
	if acked != nil && end.Invoke > acked.Return && end.RegisterAnswer.Version < acked.RegisterAnswer.Version {
		k.found(LostWrite, "the register ends at an earlier version than was acknowledged", acked, end)
	}
}
