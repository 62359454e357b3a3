package pack

import (
	"fmt"
	"math"
	"math/bits"
	"reflect"
)

func decodeBool(r *Reader, v reflect.Value) error {
	x, err := r.Bool()
	v.SetBool(x)
	return err
}

func decodeInt(r *Reader, v reflect.Value) error {
	x, err := r.Int()
	if err != nil {
		return err
	}
	if v.OverflowInt(x) {
		return fmt.Errorf("%d does not fit %s", x, v.Kind())
	}
	v.SetInt(x)
	return nil
}

func decodeUint(r *Reader, v reflect.Value) error {
	x, err := r.Uint()
	if err != nil {
		return err
	}
	if v.OverflowUint(x) {
		return fmt.Errorf("%d does not fit %s", x, v.Kind())
	}
	v.SetUint(x)
	return nil
}

func decodeFloat(r *Reader, v reflect.Value) error {
	x, err := r.Float()
	if err != nil {
		return err
	}
	if v.OverflowFloat(x) && !math.IsInf(x, 0) { // an infinity is one in every width
		return fmt.Errorf("%v does not fit %s", x, v.Kind())
	}
	v.SetFloat(x)
	return nil
}

func decodeString(r *Reader, v reflect.Value) error {
	s, err := r.String()
	v.SetString(s)
	return err
}

func decodeBytes(r *Reader, v reflect.Value) error {
	if r.Nil() {
		v.SetZero()
		return nil
	}
	p, err := r.Bytes()
	v.SetBytes(p)
	return err
}

// byteArray plans [N]byte: binary of exactly N bytes.
func byteArray(p *plan, t reflect.Type) error {
	if t.Elem().Kind() != reflect.Uint8 {
		return fmt.Errorf("an array of %s cannot be written", t.Elem())
	}
	p.encode = func(b []byte, v reflect.Value, _ form) ([]byte, error) {
		b = AppendBinHeader(b, v.Len())
		if v.CanAddr() {
			return append(b, v.Bytes()...), nil
		}
		for i := range v.Len() {
			b = append(b, byte(v.Index(i).Uint()))
		}
		return b, nil
	}
	p.decode = func(r *Reader, v reflect.Value) error {
		raw, err := r.view("binary")
		if err != nil {
			return err
		}
		if len(raw) != v.Len() {
			return fmt.Errorf("want %d bytes, got %d", v.Len(), len(raw))
		}
		reflect.Copy(v, reflect.ValueOf(raw))
		return nil
	}
	return nil
}

// decodeSlice grows the slice as elements are read, so that what it allocates follows what was there to be read.
func decodeSlice(r *Reader, v reflect.Value, elem *plan) error {
	v.SetZero()
	if r.Nil() {
		return nil
	}
	n, err := r.ArrayLen()
	if err != nil {
		return err
	}
	size := int(v.Type().Elem().Size())
	s := reflect.MakeSlice(v.Type(), 0, 0)
	for i := range n {
		if i == s.Cap() {
			grown := min(n, max(4, 2*i))
			if err := r.charge((grown - i) * size); err != nil {
				return err
			}
			next := reflect.MakeSlice(v.Type(), i, grown)
			reflect.Copy(next, s)
			s = next
		}
		s = s.Slice(0, i+1)
		if err := elem.decode(r, s.Index(i)); err != nil {
			return fmt.Errorf("[%d]: %w", i, err)
		}
	}
	r.Leave()
	v.Set(s)
	return nil
}

func decodeFloats(r *Reader, v reflect.Value) error {
	v.SetZero()
	if r.Nil() {
		return nil
	}
	n, err := r.ArrayLen()
	if err != nil {
		return err
	}
	if err := r.charge(4 * n); err != nil {
		return err
	}
	vec := make([]float32, n) // n is at most the bytes that are left
	for i := range vec {
		x, err := r.Float()
		if err != nil {
			return fmt.Errorf("[%d]: %w", i, err)
		}
		vec[i] = float32(x)
		if math.IsInf(float64(vec[i]), 0) && !math.IsInf(x, 0) {
			return fmt.Errorf("[%d]: %v does not fit float32", i, x)
		}
	}
	r.Leave()
	v.Set(reflect.ValueOf(vec))
	return nil
}

func decodeStrings(r *Reader, v reflect.Value) error {
	v.SetZero()
	if r.Nil() {
		return nil
	}
	n, err := r.ArrayLen()
	if err != nil {
		return err
	}
	if err := r.charge(n * int(reflect.TypeFor[string]().Size())); err != nil {
		return err
	}
	s := make([]string, n) // n is at most the bytes that are left
	for i := range s {
		if s[i], err = r.String(); err != nil {
			return fmt.Errorf("[%d]: %w", i, err)
		}
	}
	r.Leave()
	v.Set(reflect.ValueOf(s))
	return nil
}

// mapEntryOverhead is about what a Go map spends on an entry beside key and value.
const mapEntryOverhead = 16

func decodeMap(r *Reader, v reflect.Value, elem *plan) error {
	v.SetZero()
	if r.Nil() {
		return nil
	}
	n, err := r.MapLen()
	if err != nil {
		return err
	}
	t := v.Type()
	entry := int(t.Key().Size()+t.Elem().Size()) + mapEntryOverhead
	m := reflect.MakeMap(t)
	for range n {
		if err := r.charge(entry); err != nil {
			return err
		}
		name, err := r.String()
		if err != nil {
			return fmt.Errorf("key: %w", err)
		}
		key, val := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
		key.SetString(name)
		if err := elem.decode(r, val); err != nil {
			return fmt.Errorf("[%q]: %w", name, err)
		}
		m.SetMapIndex(key, val)
	}
	r.Leave()
	v.Set(m)
	return nil
}

// decode reads a struct from a map by name or an array by position.
func (s *structPlan) decode(r *Reader, v reflect.Value) error {
	v.SetZero()
	seen, err := uint64(0), error(nil)
	switch r.Kind() {
	case Array:
		seen, err = s.decodeArray(r, v)
	case Map:
		seen, err = s.decodeMap(r, v)
	default:
		return r.want("a map or an array")
	}
	if err != nil {
		return err
	}
	if missing := s.required &^ seen; missing != 0 && !r.loose {
		return fmt.Errorf("field %q is missing", s.fields[bits.TrailingZeros64(missing)].name)
	}
	return nil
}

func (s *structPlan) decodeArray(r *Reader, v reflect.Value) (seen uint64, err error) {
	n, err := r.ArrayLen()
	if err != nil {
		return 0, err
	}
	for i := range n {
		if i >= len(s.fields) { // of a newer writer
			if err := r.Skip(); err != nil {
				return 0, err
			}
			continue
		}
		if err := s.decodeField(r, v, i); err != nil {
			return 0, err
		}
		seen |= 1 << i
	}
	r.Leave()
	return seen, nil
}

func (s *structPlan) decodeMap(r *Reader, v reflect.Value) (seen uint64, err error) {
	n, err := r.MapLen()
	if err != nil {
		return 0, err
	}
	for range n {
		name, err := r.view("a field name")
		if err != nil {
			return 0, err
		}
		i, ok := s.byName[string(name)]
		if !ok {
			if err := r.Skip(); err != nil {
				return 0, err
			}
			continue
		}
		if err := s.decodeField(r, v, i); err != nil {
			return 0, err
		}
		seen |= 1 << i
	}
	r.Leave()
	return seen, nil
}

func (s *structPlan) decodeField(r *Reader, v reflect.Value, i int) error {
	f := &s.fields[i]
	if f.optional && !f.plan.nilOK && r.Nil() {
		v.FieldByIndex(f.index).SetZero()
		return nil
	}
	if err := f.plan.decode(r, v.FieldByIndex(f.index)); err != nil {
		return fmt.Errorf("field %q: %w", f.name, err)
	}
	return nil
}
