package engine

import (
	"errors"
	"fmt"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Check refuses what no state would make right: a broken limit, NaN, a vector of another dimension than Options.Dimension,
// a missing id. Leaders call it before they propose; Apply repeats it with the dimension that its state knows. The error is
// an *event.Error.
func (e *Engine) Check(c Command) error {
	if c.message() == nil {
		return &event.Error{Kind: event.KindInvalid, Op: "check command", Message: fmt.Sprintf("no message of kind %s", c.Kind)}
	}
	if refusal := validate(&c, e.o.Dimension); refusal != nil {
		return refusal
	}
	return nil
}

// CheckLevel refuses what the log's level does not have as yet. Leaders call it before they propose; Apply repeats it.
func (e *Engine) CheckLevel(c Command) error {
	if refusal := levelRefuses(&c, e.LogLevel()); refusal != nil {
		return refusal
	}
	return nil
}

// validate refuses what breaks a limit. Dimension 0: none is known yet, but all vectors of the command must agree.
func validate(c *Command, dimension uint32) *event.Error {
	if c.Raise != nil {
		return nil
	}
	if c.requestID().IsZero() {
		return &event.Error{Kind: event.KindInvalid, Op: c.Kind.String(), Message: "it has no request id; give it one and repeat it with every retry"}
	}
	ops := c.ops()
	for i := 0; dimension == 0 && i < len(ops); i++ {
		dimension = uint32(len(ops[i].Embedding))
	}
	err := transport.Validate(c.message(), int(dimension))
	if err == nil {
		return nil
	}
	var refusal *event.Error
	if !errors.As(err, &refusal) {
		refusal = &event.Error{Kind: event.KindInvalid, Op: c.Kind.String(), Message: err.Error()}
	}
	return refusal
}

// requestID is the id under which the command is remembered.
func (c *Command) requestID() event.RequestID {
	switch {
	case c.Prepare != nil:
		return c.Prepare.TxnID
	case c.Finish != nil:
		return c.Finish.TxnID
	}
	return c.RequestID
}
