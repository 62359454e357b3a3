// Package pack is the grid's one MessagePack codec: structs to maps by name or arrays by position, and back.
//
//	value -> plan of its type (cached) -> bytes        bytes -> Reader -> plan -> value
//
// A struct's exported fields carry the tag `wire:"name"` or `wire:"name,optional"`; `wire:"-"` leaves a field out,
// an embedded struct without a tag stands for its fields. Writing
// is canonical: the shortest form of every integer, map keys sorted, so equal values are equal bytes. Reading is lenient
// where the protocol says so (map or array for a struct, any number width, string or binary) and strict where leniency
// would hide a loss (a number that does not fit, a required field that is missing, bytes behind the value).
//
// Invariants: no input makes a reader panic, nest deeper than MaxDepth, or allocate more than Expansion times its own
// length plus a constant; the lengths an input claims are never trusted. A Go map is always written in key order.
//
// The package is a leaf: it imports nothing of ours, no network and no file package.
package pack

import (
	"fmt"
	"reflect"
)

const (
	// MaxDepth is how deep arrays and maps may nest in what is read: the wire protocol's 32.
	MaxDepth = 32

	// Expansion bounds what a read may allocate for elements: so many times the input's length, plus expansionBase. The
	// widest element the protocol has for a byte of input is a string header (16 bytes for one), so 16 refuses nothing
	// that is meant, and 32 would double what a hostile frame costs.
	Expansion     = 16
	expansionBase = 1 << 20
)

// Appender is a type that writes its own form. It must write exactly one value.
type Appender interface {
	AppendPack(b []byte) ([]byte, error)
}

// Unpacker is a type that reads its own form. It must read exactly one value.
type Unpacker interface {
	UnpackFrom(r *Reader) error
}

// Append writes v behind b, structs as maps by field name in field order. v is a value or a non-nil pointer to one.
// An error is a defect in v's type (an unsupported field) or comes from an Appender; b is then returned as it was.
func Append(b []byte, v any) ([]byte, error) {
	return appendValue(b, v, formMap)
}

// AppendArray writes v behind b, structs as arrays by position, nested ones too: the form of everything that is hashed
// or kept.
func AppendArray(b []byte, v any) ([]byte, error) {
	return appendValue(b, v, formArray)
}

func appendValue(b []byte, v any, f form) ([]byte, error) {
	rv := reflect.ValueOf(v)
	for rv.Kind() == reflect.Pointer && !rv.IsNil() {
		rv = rv.Elem()
	}
	if !rv.IsValid() {
		return AppendNil(b), nil
	}
	p, err := planOf(rv.Type())
	if err != nil {
		return b, err
	}
	out, err := p.encode(b, rv, f)
	if err != nil {
		return b, err
	}
	return out, nil
}

// Unmarshal reads the one value in b into v, a non-nil pointer. A struct may be a map or an array at every level; unknown
// fields are ignored, missing optional ones are zero, a missing required one is an error that names it. What it reads
// does not refer to b. After an error v's content is undefined.
func Unmarshal(b []byte, v any) error {
	return unmarshal(b, v, false)
}

// UnmarshalLoose is Unmarshal for bytes that an older or newer version of the grid has kept: every missing field is zero.
func UnmarshalLoose(b []byte, v any) error {
	return unmarshal(b, v, true)
}

func unmarshal(b []byte, v any, loose bool) error {
	r := NewReader(b)
	r.loose = loose
	if err := r.Decode(v); err != nil {
		return err
	}
	if n := r.Len(); n > 0 {
		return fmt.Errorf("%d bytes behind the value", n)
	}
	return nil
}
