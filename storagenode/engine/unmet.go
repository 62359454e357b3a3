package engine

import (
	"fmt"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// unmet is why the ops of a command cannot take effect on the state as it is; the zero value: nothing speaks against them.
type unmet struct {
	state    outcomeState // how it is kept
	opNumber uint32       // 1 + index of the op
	id       string       // the concept
}

// refusals says, for each state of a refused write, what its sender is told. %q is the concept.
var refusals = [lastState + 1]struct {
	kind event.Kind
	text string
}{
	writeRefused:      {event.KindPrecondition, "concept %q does not exist; learn it before its associations"},
	deleteRefused:     {event.KindTooLarge, fmt.Sprintf("concept %%q has more associations than one commit removes, which is %d; delete some of them first", transport.MaxDeleteEdges)},
	refusedAbsent:     {event.KindPrecondition, "concept %q does not exist"},
	refusedPresent:    {event.KindPrecondition, "concept %q exists"},
	refusedVersion:    {event.KindPrecondition, "concept %q has another version"},
	refusedAttribute:  {event.KindPrecondition, "concept %q has another value of the attribute"},
	refusedNumber:     {event.KindPrecondition, "the attribute of concept %q is no decimal number of 64 bits"},
	refusedOverflow:   {event.KindPrecondition, "the sum in the attribute of concept %q would exceed 64 bits"},
	refusedAttributes: {event.KindPrecondition, fmt.Sprintf("concept %%q has %d attributes, which is as many as there may be", transport.MaxAttributes)},
	refusedEdges:      {event.KindTooLarge, fmt.Sprintf("with concept %%q more than %d associations would be removed in one commit; use several", maxRemoved)},
	refusedResults:    {event.KindTooLarge, fmt.Sprintf("with concept %%q the answers would exceed %d MiB or take more than %d looks; read less at once", maxResultBytes>>20, maxLinkScan)},
	refusedSize:       {event.KindTooLarge, fmt.Sprintf("with concept %%q more than %d MiB would be written anew in one commit, or more than %d MiB for one concept; use several", maxRewrite>>20, maxConceptBytes>>20)},
}

// refusal is what the sender of the ops is told.
func (u *unmet) refusal(op string) *event.Error {
	r := refusals[u.state]
	return &event.Error{Kind: r.kind, Op: op, OpNumber: u.opNumber, Message: fmt.Sprintf(r.text, u.id)}
}

// refusal is the answer of a refused write.
func (o *outcome) refusal(op string) *event.Error {
	return (&unmet{o.State, o.OpNumber, o.Concept}).refusal(op)
}
