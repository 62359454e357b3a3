package event

import (
	"fmt"
	"math"

	"github.com/sutra-grid/sutra-grid/internal/pack"
)

// header reads the fields of an envelope or a command one after the other and keeps the first error.
type header struct {
	r   *pack.Reader
	err error
}

func (h *header) fail(what string, err error) {
	if err != nil && h.err == nil {
		h.err = fmt.Errorf("%s: %w", what, err)
	}
}

func (h *header) uint(what string) uint64 {
	if h.err != nil {
		return 0
	}
	v, err := h.r.Uint()
	h.fail(what, err)
	return v
}

func (h *header) int(what string) int64 {
	if h.err != nil {
		return 0
	}
	v, err := h.r.Int()
	h.fail(what, err)
	return v
}

func (h *header) eventType() Type {
	v := h.uint("type")
	if v > math.MaxUint16 {
		h.fail("type", fmt.Errorf("%d is not a type", v))
	}
	return Type(v)
}

func (h *header) bytes(what string) []byte {
	if h.err != nil {
		return nil
	}
	v, err := h.r.StringView()
	h.fail(what, err)
	return v
}

func (h *header) string(what string, limit int) string {
	v := h.bytes(what)
	if len(v) > limit {
		h.fail(what, fmt.Errorf("%d bytes, want at most %d", len(v), limit))
		return ""
	}
	return string(v)
}

func (h *header) requestID() (id RequestID) {
	if h.err != nil || h.r.Nil() {
		return id
	}
	v := h.bytes("request id")
	if h.err == nil && len(v) != len(id) {
		h.fail("request id", fmt.Errorf("%d bytes, want %d", len(v), len(id)))
	}
	copy(id[:], v)
	return id
}

func (h *header) skip(what string) {
	if h.err == nil {
		h.fail(what, h.r.Skip())
	}
}

func (h *header) body(t Type) Body {
	if h.err != nil {
		return nil
	}
	raw, err := h.r.Raw()
	if err != nil {
		h.fail("body", err)
		return nil
	}
	body, err := DecodeBody(t, raw)
	h.fail("body", err)
	return body
}

// appendRequestID writes 16 bytes of binary, or nil for "none".
func appendRequestID(b []byte, id RequestID) []byte {
	if id.IsZero() {
		return pack.AppendNil(b)
	}
	return pack.AppendBin(b, id[:])
}
