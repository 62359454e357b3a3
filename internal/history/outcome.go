package history

import (
	"errors"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// Outcome is what a client knows of what it asked for.
type Outcome uint8

// The outcomes.
const (
	Unknown Outcome = iota // it may take effect at any time, or never
	OK                     // it took effect
	Fail                   // it surely did not, and never will
)

// String is "ok", "fail" or "unknown".
func (o Outcome) String() string {
	switch o {
	case OK:
		return "ok"
	case Fail:
		return "fail"
	}
	return "unknown"
}

// outcomes is the taxonomy of errors: what each kind says of the attempt that it answers. A wrong Fail gives false alarms, a wrong OK
// hides losses, so what is not in the table is Unknown.
var outcomes = map[event.Kind]Outcome{
	event.KindInvalid:        Fail,
	event.KindTooLarge:       Fail,
	event.KindNotFound:       Fail,
	event.KindUnknownAgent:   Fail,
	event.KindConflict:       Fail,
	event.KindRefused:        Fail,
	event.KindNotLeader:      Fail,
	event.KindWrongShard:     Fail,
	event.KindMoving:         Fail,
	event.KindBusy:           Fail,
	event.KindLocked:         Fail,
	event.KindAborted:        Fail,
	event.KindPrecondition:   Fail,
	event.KindNeedsTxn:       Fail,
	event.KindInDoubt:        Fail, // reads alone are answered so
	event.KindDeadline:       Unknown,
	event.KindUnavailable:    Fail,
	event.KindUnknownOutcome: Unknown,
	event.KindExpired:        Unknown,
	event.KindFromTheFuture:  Fail,
	event.KindIDReused:       Fail,
	event.KindTooOld:         Fail,
	event.KindTrimmed:        Fail,
	event.KindLagging:        Fail,
	event.KindOldIncarnation: Fail,
	event.KindUnsupported:    Fail,
	event.KindTooStale:       Fail,
	event.KindFeedFull:       Fail,
	event.KindInternal:       Unknown,
}

// Of is what an error says of the one attempt that it answers; nil: OK. An error without a kind says nothing.
func Of(err error) Outcome {
	if err == nil {
		return OK
	}
	return outcomes[KindOf(err)]
}

// KindOf is the kind of an error; empty: it has none.
func KindOf(err error) event.Kind {
	var e *event.Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}

// Aborted tells whether an error is the end of the transaction itself, whatever was sent before under its request id (safety S3): it surely
// did not happen, and never will.
func Aborted(err error) bool {
	k := KindOf(err)
	return k == event.KindAborted || k == event.KindPrecondition
}

// Attempts is what is known of a transaction that is sent again and again under one request id. The zero value has none.
type Attempts struct {
	open bool // one of them may have taken effect
}

// Add takes the end of an attempt. While the outcome is Unknown another attempt may tell it; what is not Unknown is for good.
//
// A failure that is not Aborted speaks of its attempt alone.
func (a *Attempts) Add(err error) Outcome {
	one := Of(err)
	switch {
	case one == OK, Aborted(err):
		return one
	case one == Unknown:
		a.open = true
	}
	if a.open {
		return Unknown
	}
	return one
}

// FailedOp is, of a transaction that failed for a precondition, 1 + the index of the operation that did not hold; 0: it failed for
// something else.
func FailedOp(err error) int {
	var e *event.Error
	if errors.As(err, &e) && e.Kind == event.KindPrecondition {
		return int(e.OpNumber)
	}
	return 0
}
