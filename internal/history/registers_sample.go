package history

import (
	"time"

	"github.com/anishathalye/porcupine"
)

// What of a register Porcupine judges: few enough to be sure that it ends.
const (
	sampleOps     = 200
	sampleUnknown = 5
	sampleTimeout = 10 * time.Second
)

// sample lets Porcupine judge the beginning of a register's history, up to a moment: what had not ended by then has no known end. A
// history that is valid to us and not to it, or the other way round in the whole, is one that we cannot judge.
func sample(r *Report, ops []*Register, valid bool) {
	whole := len(ops) <= sampleOps
	begun := beginning(ops)
	unknown := 0
	for _, o := range begun {
		if o.Outcome == Unknown {
			unknown++
		}
	}
	if unknown > sampleUnknown {
		return
	}
	switch legal := linearizable(begun, sampleTimeout); {
	case legal == porcupine.Unknown:
		r.Add(Undecided, nil, "%s: %d operations were not judged within %s", ops[0].Key, len(begun), sampleTimeout)
	case legal == porcupine.Illegal && valid, legal == porcupine.Ok && !valid && whole:
		r.Add(Undecided, nil, "%s: two checkers differ on its first %d operations: %v by Porcupine", ops[0].Key, len(begun), legal)
	}
}

// beginning is the operations up to a moment. What began later cannot be seen by what was over then.
func beginning(ops []*Register) (begun []*Register) {
	if len(ops) <= sampleOps {
		return ops
	}
	until := ops[sampleOps].Invoke
	for _, o := range ops[:sampleOps] {
		if o.Return < until {
			begun = append(begun, o)
		} else if o.Kind != RegisterRead && o.Outcome != Fail {
			open := *o
			open.Outcome, open.Return = Unknown, Never
			begun = append(begun, &open)
		}
	}
	return begun
}

func linearizable(ops []*Register, limit time.Duration) porcupine.CheckResult {
	var all []porcupine.Operation
	for _, o := range ops {
		if o.Outcome == OK || o.Refused || o.Outcome == Unknown && o.Kind != RegisterRead {
			all = append(all, porcupine.Operation{ClientId: o.Client, Input: o, Call: o.Invoke, Return: o.Return})
		}
	}
	return porcupine.CheckOperationsTimeout(versioned, all, limit)
}

// cell is a register's state; until something was answered it is not known.
type cell struct {
	known   bool
	version uint64
	value   string
}

// versioned is a register as Porcupine wants it.
var versioned = porcupine.Model{
	Init: func() any { return cell{} },
	Step: func(state, input, _ any) (bool, any) { return state.(cell).step(input.(*Register)) },
	Hash: func(state any) uint64 {
		c := state.(cell)
		return digest(c.value) ^ c.version
	},
}

func (c cell) step(o *Register) (bool, cell) {
	a := o.RegisterAnswer
	switch {
	case o.Refused:
		return !c.known || c.version != o.Expect, c
	case o.Kind == RegisterRead:
		return !c.known || c.version == a.Version && c.value == a.Value, cell{true, a.Version, a.Value}
	case o.Kind == RegisterCAS && c.known && c.version != o.Expect:
		return o.Outcome == Unknown, c
	case o.Outcome == Unknown && !c.known:
		return true, c
	case o.Outcome == Unknown:
		return true, cell{true, c.version + 1, o.Value}
	}
	return (!c.known || a.Version == c.version+1) && (o.Kind != RegisterCAS || a.Version == o.Expect+1), cell{true, a.Version, o.Value}
}
