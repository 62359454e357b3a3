package pack

import (
	"fmt"
	"math/bits"
	"reflect"
	"strings"
	"sync"
)

// form says how structs are written.
type form byte

const (
	formMap   form = iota // by name
	formArray             // by position
)

// plan is how one type is written and read; it is made once and never changed.
type plan struct {
	encode func(b []byte, v reflect.Value, f form) ([]byte, error)
	decode func(r *Reader, v reflect.Value) error // v is settable; it may hold an old value, which is replaced
	nilOK  bool                                   // nil on the wire is a value of this type: pointers, slices, maps, hooks
}

// plans caches a plan per reflect.Type. It is a cache of pure results, so that it is one for the process harms nobody.
var plans sync.Map

func planOf(t reflect.Type) (*plan, error) {
	if p, ok := plans.Load(t); ok {
		return p.(*plan), nil
	}
	b := builder{building: map[reflect.Type]*plan{}}
	p, err := b.plan(t)
	if err != nil {
		return nil, fmt.Errorf("type %s has no wire form: %w", t, err)
	}
	for t, p := range b.building { // all or nothing: a plan never refers to one that failed
		plans.LoadOrStore(t, p)
	}
	return p, nil
}

// builder makes the plans of a type and of all it contains; a type that contains itself finds its own plan here.
type builder struct {
	building map[reflect.Type]*plan
}

func (b *builder) plan(t reflect.Type) (*plan, error) {
	if p, ok := plans.Load(t); ok {
		return p.(*plan), nil
	}
	if p, ok := b.building[t]; ok {
		return p, nil
	}
	p := &plan{}
	b.building[t] = p
	if hooked(p, t) {
		return p, nil
	}
	var err error
	switch t.Kind() {
	case reflect.Bool:
		p.encode, p.decode = encodeBool, decodeBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		p.encode, p.decode = encodeInt, decodeInt
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		p.encode, p.decode = encodeUint, decodeUint
	case reflect.Float32, reflect.Float64:
		p.encode, p.decode = encodeFloat, decodeFloat
	case reflect.String:
		p.encode, p.decode = encodeString, decodeString
	case reflect.Pointer:
		err = b.pointer(p, t)
	case reflect.Slice:
		err = b.slice(p, t)
	case reflect.Array:
		err = byteArray(p, t)
	case reflect.Map:
		err = b.mapOf(p, t)
	case reflect.Struct:
		err = b.structOf(p, t)
	default:
		err = fmt.Errorf("a %s cannot be written", t.Kind())
	}
	return p, err
}

// structPlan is a struct's fields in order.
type structPlan struct {
	fields   []field
	byName   map[string]int
	required uint64 // bit i: field i is required
}

type field struct {
	name     string
	index    []int // reflect's path: more than one step into an embedded struct
	optional bool
	plan     *plan
}

func (b *builder) structOf(p *plan, t reflect.Type) error {
	s := &structPlan{byName: map[string]int{}}
	for _, sf := range reflect.VisibleFields(t) {
		tag, tagged := sf.Tag.Lookup("wire")
		if tag == "-" || !sf.IsExported() && !tagged || sf.Anonymous && !tagged && sf.Type.Kind() == reflect.Struct {
			continue // of an embedded struct the fields stand here
		}
		name, option, _ := strings.Cut(tag, ",")
		if !sf.IsExported() || name == "" || option != "" && option != "optional" {
			return fmt.Errorf("field %s has the tag `wire:%q`: want `wire:\"name\"`, `wire:\"name,optional\"` or `wire:\"-\"` on an exported field", sf.Name, tag)
		}
		fp, err := b.plan(sf.Type)
		if err != nil {
			return fmt.Errorf("field %s: %w", sf.Name, err)
		}
		if _, twice := s.byName[name]; twice {
			return fmt.Errorf("field %s: the name %q is taken", sf.Name, name)
		}
		s.byName[name] = len(s.fields)
		s.fields = append(s.fields, field{name: name, index: sf.Index, optional: option != "", plan: fp})
	}
	if len(s.fields) > bits.UintSize {
		return fmt.Errorf("%d fields: want at most %d", len(s.fields), bits.UintSize)
	}
	for i, f := range s.fields {
		if !f.optional {
			s.required |= 1 << i
		}
	}
	p.encode, p.decode = s.encode, s.decode
	return nil
}

var (
	appenderType = reflect.TypeFor[Appender]()
	unpackerType = reflect.TypeFor[Unpacker]()
)

// hooked plans a type that writes and reads itself; it must do both, the one as a value and the other as a pointer.
func hooked(p *plan, t reflect.Type) bool {
	if !t.Implements(appenderType) || !reflect.PointerTo(t).Implements(unpackerType) || t.Kind() == reflect.Pointer {
		return false
	}
	p.nilOK = true
	p.encode = func(b []byte, v reflect.Value, _ form) ([]byte, error) {
		return v.Interface().(Appender).AppendPack(b)
	}
	p.decode = func(r *Reader, v reflect.Value) error {
		return v.Addr().Interface().(Unpacker).UnpackFrom(r)
	}
	return true
}
