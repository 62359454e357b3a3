package event

import (
	"crypto/sha256"
	"fmt"

	"github.com/sutra-grid/sutra-grid/internal/pack"
)

// Chain is the hash over all events up to one: SHA-256(chain of the event before ‖ Hash of this one) (safety S27).
// The chain of "no event yet" is zero.
type Chain = [sha256.Size]byte

// Envelope is one accepted event in its place in the feed.
type Envelope struct {
	Seq       uint64    // place in the feed, gap-free from 1
	RaftIndex uint64    // of the log entry it came with
	Type      Type      // of Body
	Time      int64     // unix µs, strictly increasing with Seq
	Cause     uint64    // seq of the event that brought this one about; 0: none recorded
	Actor     string    // who asked: an agent, a node, a master, a user; "grid" for what the state machine derived
	RequestID RequestID // of the command; zero for derived events
	Body      Body
	Chain     Chain
}

const (
	envelopeFields = 9   // with the chain, which is last
	maxActor       = 256 // bytes
)

// appendHead writes an array of n fields with all but the chain.
func (e *Envelope) appendHead(b []byte, n int) ([]byte, error) {
	out := pack.AppendArrayHeader(b, n)
	out = pack.AppendUint(out, e.Seq)
	out = pack.AppendUint(out, e.RaftIndex)
	out = pack.AppendUint(out, uint64(e.Type))
	out = pack.AppendInt(out, e.Time)
	out = pack.AppendUint(out, e.Cause)
	out = pack.AppendString(out, e.Actor)
	out = appendRequestID(out, e.RequestID)
	if e.Body == nil || e.Body.Type() != e.Type {
		return b, fmt.Errorf("encode event %d: the body is not a %s", e.Seq, e.Type)
	}
	out, err := AppendBody(out, e.Body)
	if err != nil {
		return b, err
	}
	return out, nil
}

// AppendEnvelope writes the canonical form behind b: an array [seq, raft index, type, time, cause, actor, request id,
// body, chain].
func AppendEnvelope(b []byte, e *Envelope) ([]byte, error) {
	out, err := e.appendHead(b, envelopeFields)
	if err != nil {
		return b, err
	}
	return pack.AppendBin(out, e.Chain[:]), nil
}

// Hash is SHA-256 over the canonical form without the chain: an array of eight.
func Hash(e *Envelope) (Chain, error) {
	b, err := e.appendHead(nil, envelopeFields-1)
	if err != nil {
		return Chain{}, err
	}
	return sha256.Sum256(b), nil
}

// NextChain is the chain value behind an event with hash h, prev being the chain of the event before.
func NextChain(prev, h Chain) Chain {
	var both [2 * sha256.Size]byte
	copy(both[:], prev[:])
	copy(both[sha256.Size:], h[:])
	return sha256.Sum256(both[:])
}

// Seal sets e's chain as the successor of prev and writes the envelope behind b. It encodes once: the canonical forms
// with and without chain differ in the first byte and the tail only.
func Seal(b []byte, prev Chain, e *Envelope) ([]byte, error) {
	start := len(b)
	out, err := e.appendHead(b, envelopeFields-1)
	if err != nil {
		return b, err
	}
	e.Chain = NextChain(prev, sha256.Sum256(out[start:]))
	out[start] = pack.AppendArrayHeader(nil, envelopeFields)[0]
	return pack.AppendBin(out, e.Chain[:]), nil
}

// DecodeEnvelope reads what AppendEnvelope wrote. It does not verify the chain; Verify does.
func DecodeEnvelope(b []byte) (*Envelope, error) { return decodeEnvelope(b, true) }

// DecodeHead is DecodeEnvelope without the body, which may be one that only a newer version can read.
func DecodeHead(b []byte) (*Envelope, error) { return decodeEnvelope(b, false) }

func decodeEnvelope(b []byte, body bool) (*Envelope, error) {
	r := pack.NewReader(b)
	e := &Envelope{}
	if err := e.read(r, body); err != nil {
		return nil, fmt.Errorf("decode event: %w", err)
	}
	if r.Len() > 0 {
		return nil, fmt.Errorf("decode event %d: %d bytes behind the envelope", e.Seq, r.Len())
	}
	return e, nil
}

func (e *Envelope) read(r *pack.Reader, body bool) error {
	n, err := r.ArrayLen()
	if err != nil {
		return err
	}
	if n != envelopeFields {
		return fmt.Errorf("an array of %d, want %d", n, envelopeFields)
	}
	h := header{r: r}
	e.Seq, e.RaftIndex, e.Type, e.Time = h.uint("seq"), h.uint("raft index"), h.eventType(), h.int("time")
	e.Cause, e.Actor, e.RequestID = h.uint("cause"), h.string("actor", maxActor), h.requestID()
	if body {
		e.Body = h.body(e.Type)
	} else {
		h.skip("body")
	}
	chain := h.bytes("chain")
	if h.err != nil {
		return h.err
	}
	if len(chain) != len(e.Chain) {
		return fmt.Errorf("chain has %d bytes, want %d", len(chain), len(e.Chain))
	}
	copy(e.Chain[:], chain)
	return nil
}

// Verify tells whether e follows an event with chain prev.
func Verify(prev Chain, e *Envelope) error {
	h, err := Hash(e)
	if err != nil {
		return err
	}
	if NextChain(prev, h) != e.Chain {
		return fmt.Errorf("event %d: the chain is broken: the event, or one before it, is not what was recorded", e.Seq)
	}
	return nil
}

// HashRecord is Hash of an encoded envelope, from its bytes: it holds also for what a newer version wrote.
func HashRecord(b []byte) (Chain, error) {
	tail := 2 + sha256.Size // the chain as binary
	if len(b) <= tail || b[0] != pack.AppendArrayHeader(nil, envelopeFields)[0] {
		return Chain{}, fmt.Errorf("hash event: %d bytes that are not an envelope", len(b))
	}
	h := sha256.New()
	h.Write(pack.AppendArrayHeader(nil, envelopeFields-1))
	h.Write(b[1 : len(b)-tail])
	return Chain(h.Sum(nil)), nil
}
