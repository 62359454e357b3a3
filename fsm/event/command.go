package event

import (
	"fmt"

	"github.com/sutra-grid/sutra-grid/internal/pack"
)

// Command asks the state machine for one event. It is what a raft entry of the masters holds.
type Command struct {
	RequestID  RequestID // retries carry the same one; zero for types that are idempotent by content
	Issued     int64     // unix µs, set once by whoever made the request id, unchanged by retries (safety S5)
	Actor      string    // who asks; goes into the envelope; at most 256 bytes
	Emitter    string    // "<agent id>.<store id>" for events numbered by an emitter; empty otherwise
	EmitterSeq uint64    // the emitter's number of this event, dense from 1
	Cause      uint64    // seq of the event that made the proposer ask; 0: none, or known to the state machine
	Type       Type      // of Body
	Body       Body
}

const (
	commandFields = 8
	maxEmitter    = 256 // bytes
)

// NewCommand is a command with body's type set.
func NewCommand(actor string, body Body) *Command {
	return &Command{Actor: actor, Type: body.Type(), Body: body}
}

// AppendCommand writes the canonical form behind b: an array [request id, issued, actor, emitter, emitter seq, cause, type,
// body].
func AppendCommand(b []byte, c *Command) ([]byte, error) {
	if c.Body == nil || c.Body.Type() != c.Type {
		return b, fmt.Errorf("encode command: the body is not a %s", c.Type)
	}
	if len(c.Actor) > maxActor || len(c.Emitter) > maxEmitter {
		return b, &Error{Kind: KindInvalid, Op: "encode command", Message: fmt.Sprintf("actor or emitter is longer than %d bytes", maxActor)}
	}
	out := pack.AppendArrayHeader(b, commandFields)
	out = appendRequestID(out, c.RequestID)
	out = pack.AppendInt(out, c.Issued)
	out = pack.AppendString(out, c.Actor)
	out = pack.AppendString(out, c.Emitter)
	out = pack.AppendUint(out, c.EmitterSeq)
	out = pack.AppendUint(out, c.Cause)
	out = pack.AppendUint(out, uint64(c.Type))
	out, err := AppendBody(out, c.Body)
	if err != nil {
		return b, err
	}
	return out, nil
}

// DecodeCommand reads what AppendCommand wrote. Whoever takes commands from outside decodes them before they are proposed:
// in the log, what does not decode stops a replica.
func DecodeCommand(b []byte) (*Command, error) {
	if len(b) > MaxCommand {
		return nil, &Error{Kind: KindTooLarge, Op: "decode command", Message: fmt.Sprintf("%d bytes, want at most %d", len(b), MaxCommand)}
	}
	r := pack.NewReader(b)
	c := &Command{}
	if err := c.read(r); err != nil {
		return nil, fmt.Errorf("decode command: %w", err)
	}
	if r.Len() > 0 {
		return nil, fmt.Errorf("decode command: %d bytes behind it", r.Len())
	}
	return c, nil
}

func (c *Command) read(r *pack.Reader) error {
	n, err := r.ArrayLen()
	if err != nil {
		return err
	}
	if n != commandFields {
		return fmt.Errorf("an array of %d, want %d", n, commandFields)
	}
	h := header{r: r}
	c.RequestID, c.Issued, c.Actor = h.requestID(), h.int("issued"), h.string("actor", maxActor)
	c.Emitter, c.EmitterSeq, c.Cause = h.string("emitter", maxEmitter), h.uint("emitter seq"), h.uint("cause")
	c.Type = h.eventType()
	c.Body = h.body(c.Type)
	return h.err
}
