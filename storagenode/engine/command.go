package engine

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/pack"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Kind says what a command does.
type Kind uint8

// The commands of a shard's log. Numbers are never reused.
const (
	Write   Kind = 1 // a single-shard write
	Prepare Kind = 2 // step 2 of a cross-shard transaction
	Finish  Kind = 3 // step 4
	Raise   Kind = 4 // of the log's level
)

// String is the kind's name.
func (k Kind) String() string {
	switch k {
	case Write:
		return "write"
	case Prepare:
		return "prepare"
	case Finish:
		return "finish"
	case Raise:
		return "raise"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Command is one command of a shard's log: a kind, and the message of that kind.
type Command struct {
	Kind      Kind
	RequestID event.RequestID // of a Write; a transaction's id is in its message
	Issued    int64           // of a Write, unix µs
	Write     *transport.Write
	Prepare   *transport.Prepare
	Finish    *transport.Finish
	Raise     *LogLevel
}

// LogLevel is what a Raise says: that every member of the group supports a level, which its entries may have from now on. Only a
// leader that has asked them all proposes it. What is reached already it leaves as it is.
type LogLevel struct {
	Level uint32 `wire:"level"`
}

// ops are what the command wants written.
func (c *Command) ops() []transport.Op {
	switch {
	case c.Write != nil:
		return c.Write.Ops
	case c.Prepare != nil:
		return c.Prepare.Ops
	}
	return nil
}

// message is the message of the command's kind, nil when it is missing.
func (c *Command) message() any {
	switch {
	case c.Kind == Write && c.Write != nil:
		return c.Write
	case c.Kind == Prepare && c.Prepare != nil:
		return c.Prepare
	case c.Kind == Finish && c.Finish != nil:
		return c.Finish
	case c.Kind == Raise && c.Raise != nil:
		return c.Raise
	}
	return nil
}

// form is the message as the log holds it, nil when it is missing.
func (c *Command) form() any {
	switch {
	case c.Kind == Write && c.Write != nil:
		return formOfWrite(c.Write)
	case c.Kind == Prepare && c.Prepare != nil:
		return formOfPrepare(c.Prepare)
	case c.Kind == Finish && c.Finish != nil:
		return formOfFinish(c.Finish)
	case c.Kind == Raise && c.Raise != nil:
		return c.Raise
	}
	return nil
}

// commandForm is a command in the log: an array of kind, request id, issued and the message as a canonical array inside
// binary, so that equal messages are equal bytes and can be compared by their hash.
type commandForm struct {
	Kind      Kind            `wire:"kind"`
	RequestID event.RequestID `wire:"request_id"`
	Issued    int64           `wire:"issued"`
	Body      []byte          `wire:"body"`
}

// AppendCommand encodes c behind b. The error is a defect of the caller: the message of c's kind is missing.
func AppendCommand(b []byte, c Command) ([]byte, error) {
	form := c.form()
	if form == nil {
		return b, fmt.Errorf("encode command: no message of kind %s", c.Kind)
	}
	body, err := pack.AppendArray(nil, form)
	if err != nil {
		return b, fmt.Errorf("encode command of kind %s: %w", c.Kind, err)
	}
	return pack.AppendArray(b, commandForm{c.Kind, c.RequestID, c.Issued, body})
}

// DecodeCommand reads what AppendCommand of this or an older version wrote.
func DecodeCommand(b []byte) (Command, error) {
	c, _, err := decodeCommand(b)
	return c, err
}

func decodeCommand(b []byte) (c Command, body []byte, err error) {
	var form commandForm
	if err := pack.UnmarshalLoose(b, &form); err != nil {
		return c, nil, fmt.Errorf("decode command: %w", err)
	}
	c = Command{Kind: form.Kind, RequestID: form.RequestID, Issued: form.Issued}
	if len(form.Body) == 0 {
		return c, nil, errors.New("decode command: empty body")
	}
	if err := c.readMessage(form.Body); err != nil {
		return c, nil, fmt.Errorf("decode %s: %w", c.Kind, err)
	}
	return c, form.Body, nil
}

// readMessage reads the message of the command's kind.
func (c *Command) readMessage(body []byte) error {
	switch c.Kind {
	case Write:
		var form writeForm
		if err := pack.UnmarshalLoose(body, &form); err != nil {
			return err
		}
		c.Write = &transport.Write{Ops: opsOfForm(form.Ops)}
	case Prepare:
		var form prepareForm
		if err := pack.UnmarshalLoose(body, &form); err != nil {
			return err
		}
		c.Prepare = form.prepare()
	case Finish:
		var form finishForm
		if err := pack.UnmarshalLoose(body, &form); err != nil {
			return err
		}
		c.Finish = form.finish()
	case Raise:
		c.Raise = new(LogLevel)
		return pack.UnmarshalLoose(body, c.Raise)
	default:
		return errors.New("there is no such command")
	}
	return nil
}

// bodyHash is what the request table keeps of a write's body: half a SHA-256 tells bodies apart well enough for a check
// that protects a client from its own mistake, and the table holds 2^18 of them.
func bodyHash(body []byte) []byte {
	sum := sha256.Sum256(body)
	return sum[:16]
}
