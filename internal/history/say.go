package history

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sutra-grid/sutra-grid/transport"
)

// maxSaid bounds how much of one value is printed.
const maxSaid = 60

// say is a transaction for people: who, when, what, and what it was told.
func say(t Txn) string {
	var b strings.Builder
	fmt.Fprintf(&b, "T%d (client %d, %s to %s) ", t.Call, t.Client, moment(t.Invoke), moment(t.Return))
	switch t.Outcome {
	case OK:
		b.WriteString(sayResults(t.Ops, t.Results, nil))
	case Fail:
		fmt.Fprintf(&b, "%s, which failed at operation %d: %.*s", sayResults(t.Ops, nil, nil), t.FailedOp, maxSaid, t.Reason)
	default:
		fmt.Fprintf(&b, "%s, of unknown outcome", sayResults(t.Ops, nil, nil))
	}
	return b.String()
}

// say is an operation for people.
func (o *Register) say() string {
	text := fmt.Sprintf("%d: client %d %s %s", o.Call, o.Client, o.Kind, o.Key)
	switch o.Kind {
	case RegisterWrite:
		text += fmt.Sprintf(" %q", o.Value)
	case RegisterCAS:
		text += fmt.Sprintf(" %q if at version %d", o.Value, o.Expect)
	}
	if o.At != "" {
		text += " at " + o.At
	}
	text += fmt.Sprintf(" (%s to %s): %s", moment(o.Invoke), moment(o.Return), o.Outcome)
	if o.Outcome != OK {
		return text + " " + o.Reason
	}
	if o.Kind == RegisterRead {
		text += fmt.Sprintf(" %q", o.RegisterAnswer.Value)
	}
	return text + fmt.Sprintf(" version %d, event %d", o.RegisterAnswer.Version, o.RegisterAnswer.Seq)
}

func moment(at int64) string {
	if at == Never {
		return "never"
	}
	return time.Duration(at).Round(time.Microsecond).String()
}

// sayResults is operations with what they were answered; failed has the indexes of those that did not hold.
func sayResults(ops []transport.Op, results []transport.OpResult, failed []int) string {
	all := make([]string, len(ops))
	for i, op := range ops {
		all[i] = sayOp(op)
		switch {
		case slices.Contains(failed, i):
			all[i] += " does not hold"
		case i < len(results) && op.Kind == transport.OpAdd:
			all[i] += fmt.Sprintf(" = %d", results[i].Value)
		case i < len(results) && op.Kind == transport.OpReadNeighbors:
			all[i] += " = " + tail(results[i].Neighbors)
		case i < len(results) && op.Kind == transport.OpRead && results[i].Found:
			all[i] += fmt.Sprintf(" = version %d %v %.*s", results[i].Version, results[i].Attributes, maxSaid, results[i].Content)
		case i < len(results) && op.Kind == transport.OpRead:
			all[i] += " = absent"
		}
	}
	return "{" + strings.Join(all, "; ") + "}"
}

func sayOp(op transport.Op) string {
	text := string(op.Kind) + " " + op.ID
	switch op.Kind {
	case transport.OpLearnAssociation, transport.OpDeleteAssociation, transport.OpDeleteAssociationType:
		text += "→" + op.Target
	case transport.OpSetAttribute, transport.OpAttributeEquals:
		text += fmt.Sprintf(" %s=%.*s", op.Key, maxSaid, op.Value)
	case transport.OpAdd, transport.OpAttributeAtLeast:
		text += fmt.Sprintf(" %s %d", op.Key, op.Number)
	case transport.OpVersion:
		text += fmt.Sprintf(" %d", op.Version)
	case transport.OpLearnConcept:
		text += fmt.Sprintf(" %.*s", maxSaid, op.Content)
		if op.Metadata != nil && len(op.Metadata.Attributes) > 0 {
			text += fmt.Sprint(" ", op.Metadata.Attributes)
		}
	}
	return text
}

// tail is a list's end, which is where lists differ.
func tail(list []string) string {
	const most = 6
	if len(list) <= most {
		return fmt.Sprint(list)
	}
	return fmt.Sprintf("[%d more, %s]", len(list)-most, strings.Join(list[len(list)-most:], " "))
}
