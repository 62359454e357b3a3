package transport

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/pack"
)

// Any is a message inside a message: enum-encoded like a frame's payload. Value is a message or a pointer to one; what
// is read is a pointer. Nil on the wire is a nil Value.
type Any struct{ Value any }

// AppendPack writes the message inside.
func (a Any) AppendPack(b []byte) ([]byte, error) {
	if a.Value == nil {
		return pack.AppendNil(b), nil
	}
	return EncodeMessage(b, a.Value)
}

// UnpackFrom reads the message inside.
func (a *Any) UnpackFrom(r *pack.Reader) error {
	a.Value = nil
	if r.Nil() {
		return nil
	}
	msg, err := readMessage(r)
	a.Value = msg
	return err
}

// plainError is the Error of the plain Sutra protocol: exactly the listed field.
type plainError struct {
	Message string `wire:"message"`
}

const errorVariant = "Error"

// EncodeMessage writes msg, a message or a pointer to one, behind b as {"Variant": fields}, or as the bare string "Variant"
// when it has no fields. It fails only for what is not a message.
func EncodeMessage(b []byte, msg any) ([]byte, error) {
	v, ok := variantOf(msg)
	switch {
	case !ok:
		return b, &event.Error{Kind: event.KindInternal, Op: "encode", Message: fmt.Sprintf("%T is no message of the protocol", msg)}
	case v.unit, v.bare && reflect.Indirect(reflect.ValueOf(msg)).IsZero():
		return pack.AppendString(b, v.name), nil
	}
	out := pack.AppendString(pack.AppendMapHeader(b, 1), v.name)
	var err error
	if v.has(tuple) {
		out, err = pack.AppendArray(out, msg)
	} else {
		out, err = pack.Append(out, msg)
	}
	if err != nil {
		return b, fmt.Errorf("encode %s: %w", v.name, err)
	}
	return out, nil
}

// appendError writes an Error reply: the message alone for a plain client, all of it for one that said Hello.
func appendError(b []byte, e *event.Error, extended bool) ([]byte, error) {
	if extended {
		return EncodeMessage(b, e)
	}
	return pack.Append(pack.AppendString(pack.AppendMapHeader(b, 1), errorVariant), plainError{Message: e.Error()})
}

// DecodeMessage reads the one message in b and returns a pointer to it. Errors are *event.Error: KindUnsupported for a
// variant that does not exist here, KindInvalid for everything else. The message does not refer to b.
func DecodeMessage(b []byte) (any, error) {
	if len(b) == 0 {
		return nil, invalidFrame("the frame is empty")
	}
	r := pack.NewReader(b)
	msg, err := readMessage(r)
	if err != nil {
		var inner *event.Error // of a variant that does not exist, here or in a message inside
		if errors.As(err, &inner) {
			return nil, &event.Error{Kind: inner.Kind, Op: "decode frame", Message: err.Error()}
		}
		return nil, invalidFrame(err.Error())
	}
	if n := r.Len(); n > 0 {
		return nil, invalidFrame(fmt.Sprintf("%d bytes behind the message", n))
	}
	return msg, nil
}

func invalidFrame(message string) *event.Error {
	return &event.Error{Kind: event.KindInvalid, Op: "decode frame", Message: message}
}

// readMessage reads "Variant" or {"Variant": fields}.
func readMessage(r *pack.Reader) (any, error) {
	switch k := r.Kind(); k {
	case pack.Str, pack.Bin:
		name, err := r.StringView()
		if err != nil {
			return nil, err
		}
		return readFields(pack.NewReader([]byte{0x80}), name) // the empty map: no field is given
	case pack.Map:
	default:
		return nil, fmt.Errorf("want a map with one key, the variant, or a string, got %s", k)
	}
	n, err := r.MapLen()
	if err != nil {
		return nil, err
	}
	if n != 1 {
		return nil, fmt.Errorf("want a map with one key, the variant, got %d", n)
	}
	name, err := r.StringView()
	if err != nil {
		return nil, fmt.Errorf("variant: %w", err)
	}
	msg, err := readFields(r, name)
	r.Leave()
	return msg, err
}

func readFields(r *pack.Reader, name []byte) (any, error) {
	v, ok := variants.byName[string(name)]
	if !ok {
		return nil, &event.Error{Kind: event.KindUnsupported, Message: fmt.Sprintf("unknown variant %.64q", name)}
	}
	if v.name == errorVariant {
		return readError(r)
	}
	msg := reflect.New(v.typ).Interface()
	if (v.unit || v.bare) && r.Nil() {
		return msg, nil
	}
	if err := r.Decode(msg); err != nil {
		return nil, fmt.Errorf("%s: %w", v.name, err)
	}
	return msg, nil
}

// readError reads an Error reply, of which only the message is certain: a plain server sends nothing else, and then what
// kind of failure it means is not known.
func readError(r *pack.Reader) (any, error) {
	raw, err := r.Raw()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", errorVariant, err)
	}
	e := &event.Error{}
	if err := pack.UnmarshalLoose(raw, e); err != nil {
		return nil, fmt.Errorf("%s: %w", errorVariant, err)
	}
	if e.Kind == "" {
		e.Kind = event.KindInternal
	}
	return e, nil
}
