package pack

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
)

func encodeBool(b []byte, v reflect.Value, _ form) ([]byte, error) {
	return AppendBool(b, v.Bool()), nil
}

func encodeInt(b []byte, v reflect.Value, _ form) ([]byte, error) {
	return AppendInt(b, v.Int()), nil
}

func encodeUint(b []byte, v reflect.Value, _ form) ([]byte, error) {
	return AppendUint(b, v.Uint()), nil
}

func encodeFloat(b []byte, v reflect.Value, _ form) ([]byte, error) {
	if v.Kind() == reflect.Float32 {
		return AppendFloat32(b, float32(v.Float())), nil
	}
	return AppendFloat64(b, v.Float()), nil
}

func encodeString(b []byte, v reflect.Value, _ form) ([]byte, error) {
	return AppendString(b, v.String()), nil
}

func encodeBytes(b []byte, v reflect.Value, _ form) ([]byte, error) {
	return AppendBin(b, v.Bytes()), nil
}

func (b *builder) pointer(p *plan, t reflect.Type) error {
	elem, err := b.plan(t.Elem())
	if err != nil {
		return err
	}
	if elem.nilOK {
		return fmt.Errorf("a pointer to %s has two forms of nil", t.Elem())
	}
	p.nilOK = true
	p.encode = func(b []byte, v reflect.Value, f form) ([]byte, error) {
		if v.IsNil() {
			return AppendNil(b), nil
		}
		return elem.encode(b, v.Elem(), f)
	}
	p.decode = func(r *Reader, v reflect.Value) error {
		if r.Nil() {
			v.SetZero()
			return nil
		}
		if err := r.charge(int(t.Elem().Size())); err != nil {
			return err
		}
		n := reflect.New(t.Elem())
		v.Set(n)
		return elem.decode(r, n.Elem())
	}
	return nil
}

func (b *builder) slice(p *plan, t reflect.Type) error {
	p.nilOK = true
	if t.Elem().Kind() == reflect.Uint8 {
		p.encode, p.decode = encodeBytes, decodeBytes
		return nil
	}
	elem, err := b.plan(t.Elem())
	if err != nil {
		return err
	}
	p.encode = func(b []byte, v reflect.Value, f form) ([]byte, error) {
		b = AppendArrayHeader(b, v.Len())
		for i := range v.Len() {
			var err error
			if b, err = elem.encode(b, v.Index(i), f); err != nil {
				return b, fmt.Errorf("[%d]: %w", i, err)
			}
		}
		return b, nil
	}
	p.decode = func(r *Reader, v reflect.Value) error { return decodeSlice(r, v, elem) }
	switch t {
	case reflect.TypeFor[[]float32](): // vectors: no reflection per element
		p.encode, p.decode = encodeFloats, decodeFloats
	case reflect.TypeFor[[]string]():
		p.encode, p.decode = encodeStrings, decodeStrings
	}
	return nil
}

func encodeFloats(b []byte, v reflect.Value, _ form) ([]byte, error) {
	var vec []float32
	if v.CanAddr() {
		vec = *v.Addr().Interface().(*[]float32) // Interface() of the slice itself would allocate
	} else {
		vec = v.Interface().([]float32)
	}
	b = AppendArrayHeader(slices.Grow(b, 5+5*len(vec)), len(vec))
	for _, x := range vec {
		b = AppendFloat32(b, x)
	}
	return b, nil
}

func encodeStrings(b []byte, v reflect.Value, _ form) ([]byte, error) {
	b = AppendArrayHeader(b, v.Len())
	for i := range v.Len() {
		b = AppendString(b, v.Index(i).String())
	}
	return b, nil
}

// mapOf plans a map with string keys; it is written in byte order of the keys.
func (b *builder) mapOf(p *plan, t reflect.Type) error {
	if t.Key().Kind() != reflect.String {
		return fmt.Errorf("a map with %s keys cannot be written", t.Key())
	}
	elem, err := b.plan(t.Elem())
	if err != nil {
		return err
	}
	p.nilOK = true
	p.encode = func(b []byte, v reflect.Value, f form) ([]byte, error) {
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return bytes.Compare([]byte(a.String()), []byte(b.String())) })
		b = AppendMapHeader(b, len(keys))
		for _, k := range keys {
			b = AppendString(b, k.String())
			var err error
			if b, err = elem.encode(b, v.MapIndex(k), f); err != nil {
				return b, fmt.Errorf("[%q]: %w", k.String(), err)
			}
		}
		return b, nil
	}
	p.decode = func(r *Reader, v reflect.Value) error { return decodeMap(r, v, elem) }
	return nil
}

func (s *structPlan) encode(b []byte, v reflect.Value, f form) ([]byte, error) {
	if f == formArray {
		b = AppendArrayHeader(b, len(s.fields))
	} else {
		b = AppendMapHeader(b, len(s.fields))
	}
	for i := range s.fields {
		fd := &s.fields[i]
		if f == formMap {
			b = AppendString(b, fd.name)
		}
		var err error
		if b, err = fd.plan.encode(b, v.FieldByIndex(fd.index), f); err != nil {
			return b, fmt.Errorf("%s: %w", fd.name, err)
		}
	}
	return b, nil
}
