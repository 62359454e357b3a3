package pack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
)

// The errors of a Reader that callers tell apart.
var (
	// ErrTruncated: the input ends inside a value, or claims a length beyond its end.
	ErrTruncated = errors.New("the input ends inside a value")
	// ErrTooDeep: arrays and maps nest deeper than MaxDepth.
	ErrTooDeep = fmt.Errorf("nested deeper than %d", MaxDepth)
	// ErrTooWide: the input would expand to more than Expansion times its length.
	ErrTooWide = fmt.Errorf("expands to more than %d times its length", Expansion)
)

// Reader reads values one after the other from bytes in memory. It never reads beyond them. After an error its position
// is undefined. It is not safe for concurrent use.
type Reader struct {
	b      []byte
	off    int
	depth  int
	budget int  // bytes that may still be allocated for elements
	loose  bool // missing required fields are zero
}

// NewReader reads from b, which must not change meanwhile.
func NewReader(b []byte) *Reader {
	return &Reader{b: b, budget: Expansion*len(b) + expansionBase}
}

// Len is how many bytes are left.
func (r *Reader) Len() int { return len(r.b) - r.off }

// Offset is how many bytes have been read.
func (r *Reader) Offset() int { return r.off }

// Kind is the kind of the next value.
func (r *Reader) Kind() Kind {
	if r.off >= len(r.b) {
		return End
	}
	return kindOf(r.b[r.off])
}

// Decode reads the next value into v, a non-nil pointer, as Unmarshal does.
func (r *Reader) Decode(v any) error {
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Pointer || rv.IsNil() {
		return fmt.Errorf("decode into %T: want a non-nil pointer", v)
	}
	p, err := planOf(rv.Type().Elem())
	if err != nil {
		return err
	}
	return p.decode(r, rv.Elem())
}

func (r *Reader) want(k string) error {
	switch got := r.Kind(); got {
	case End:
		return ErrTruncated
	case Bad:
		return fmt.Errorf("format byte 0x%02x is not MessagePack", r.b[r.off])
	default:
		return fmt.Errorf("want %s, got %s", k, got)
	}
}

// take moves over n bytes and returns them, without a copy.
func (r *Reader) take(n int) ([]byte, error) {
	if n < 0 || n > r.Len() {
		return nil, ErrTruncated
	}
	p := r.b[r.off : r.off+n]
	r.off += n
	return p, nil
}

// length reads a big-endian length of size bytes behind the format byte.
func (r *Reader) length(size int) (int, error) {
	r.off++
	p, err := r.take(size)
	if err != nil {
		return 0, err
	}
	switch size {
	case 1:
		return int(p[0]), nil
	case 2:
		return int(binary.BigEndian.Uint16(p)), nil
	}
	return int(binary.BigEndian.Uint32(p)), nil
}

// Nil reads a nil if the next value is one.
func (r *Reader) Nil() bool {
	if r.off < len(r.b) && r.b[r.off] == codeNil {
		r.off++
		return true
	}
	return false
}

// Bool reads a boolean.
func (r *Reader) Bool() (bool, error) {
	if r.off < len(r.b) {
		switch r.b[r.off] {
		case codeTrue, codeFalse:
			r.off++
			return r.b[r.off-1] == codeTrue, nil
		}
	}
	return false, r.want("a boolean")
}

// number is a value of kind Int or Float, not yet fitted to a type.
type number struct {
	class byte // 'u' unsigned, 'i' negative, 'f' float
	u     uint64
	i     int64
	f     float64
}

func (r *Reader) number() (number, error) {
	if r.off >= len(r.b) {
		return number{}, ErrTruncated
	}
	c := r.b[r.off]
	switch {
	case c <= posFixintMax:
		r.off++
		return number{class: 'u', u: uint64(c)}, nil
	case c >= negFixintMin:
		r.off++
		return number{class: 'i', i: int64(int8(c))}, nil
	case c < codeFloat32 || c > codeInt64:
		return number{}, r.want("a number")
	}
	r.off++
	return r.wideNumber(c)
}

// wideNumber reads the bytes behind format byte c, which is a float or a sized integer.
func (r *Reader) wideNumber(c byte) (number, error) {
	size := 4
	switch {
	case c == codeFloat64:
		size = 8
	case c >= codeUint8:
		size = 1 << ((c - codeUint8) & 3)
	}
	p, err := r.take(size)
	if err != nil {
		return number{}, err
	}
	switch c {
	case codeFloat32:
		return number{class: 'f', f: float64(math.Float32frombits(binary.BigEndian.Uint32(p)))}, nil
	case codeFloat64:
		return number{class: 'f', f: math.Float64frombits(binary.BigEndian.Uint64(p))}, nil
	case codeUint8:
		return number{class: 'u', u: uint64(p[0])}, nil
	case codeUint16:
		return number{class: 'u', u: uint64(binary.BigEndian.Uint16(p))}, nil
	case codeUint32:
		return number{class: 'u', u: uint64(binary.BigEndian.Uint32(p))}, nil
	case codeUint64:
		return number{class: 'u', u: binary.BigEndian.Uint64(p)}, nil
	case codeInt8:
		return signed(int64(int8(p[0]))), nil
	case codeInt16:
		return signed(int64(int16(binary.BigEndian.Uint16(p)))), nil
	case codeInt32:
		return signed(int64(int32(binary.BigEndian.Uint32(p)))), nil
	}
	return signed(int64(binary.BigEndian.Uint64(p))), nil
}

func signed(v int64) number {
	if v >= 0 {
		return number{class: 'u', u: uint64(v)}
	}
	return number{class: 'i', i: v}
}

// Uint reads a whole number that is not negative, in any width, also a float without a fraction.
func (r *Reader) Uint() (uint64, error) {
	n, err := r.number()
	if err != nil {
		return 0, err
	}
	switch n.class {
	case 'u':
		return n.u, nil
	case 'i':
		return 0, fmt.Errorf("%d is negative", n.i)
	}
	if n.f != math.Trunc(n.f) || n.f < 0 || n.f >= 1<<64 { // NaN is unequal to itself
		return 0, fmt.Errorf("%v is not an unsigned 64-bit integer", n.f)
	}
	return uint64(n.f), nil
}

// Int reads a whole number in any width, also a float without a fraction.
func (r *Reader) Int() (int64, error) {
	n, err := r.number()
	if err != nil {
		return 0, err
	}
	switch n.class {
	case 'i':
		return n.i, nil
	case 'u':
		if n.u > math.MaxInt64 {
			return 0, fmt.Errorf("%d does not fit a signed 64-bit integer", n.u)
		}
		return int64(n.u), nil
	}
	if n.f != math.Trunc(n.f) || n.f < -(1<<63) || n.f >= 1<<63 {
		return 0, fmt.Errorf("%v is not a signed 64-bit integer", n.f)
	}
	return int64(n.f), nil
}

// Float reads a number of any kind; integers are converted.
func (r *Reader) Float() (float64, error) {
	n, err := r.number()
	if err != nil {
		return 0, err
	}
	switch n.class {
	case 'u':
		return float64(n.u), nil
	case 'i':
		return float64(n.i), nil
	}
	return n.f, nil
}

// view reads a string or binary and returns the bytes in place.
func (r *Reader) view(what string) ([]byte, error) {
	if r.off >= len(r.b) {
		return nil, ErrTruncated
	}
	c := r.b[r.off]
	n, err := 0, error(nil)
	switch {
	case c >= fixstrMin && c <= fixstrMax:
		n = int(c & 0x1f)
		r.off++
	case c == codeStr8 || c == codeBin8:
		n, err = r.length(1)
	case c == codeStr16 || c == codeBin16:
		n, err = r.length(2)
	case c == codeStr32 || c == codeBin32:
		n, err = r.length(4)
	default:
		return nil, r.want(what)
	}
	if err != nil {
		return nil, err
	}
	return r.take(n)
}

// String reads a string; binary counts as one.
func (r *Reader) String() (string, error) {
	p, err := r.view("a string")
	return string(p), err
}

// StringView reads a string or binary without a copy; it is valid as long as the input is.
func (r *Reader) StringView() ([]byte, error) { return r.view("a string") }

// Bytes reads binary into a slice of its own; a string counts as binary.
func (r *Reader) Bytes() ([]byte, error) {
	p, err := r.view("binary")
	if err != nil {
		return nil, err
	}
	return append(make([]byte, 0, len(p)), p...), nil
}

// ArrayLen reads the header of an array. Its length is at most Len, whatever it claims: each value takes a byte.
// The caller reads that many values and then calls Leave.
func (r *Reader) ArrayLen() (int, error) {
	if r.off >= len(r.b) {
		return 0, ErrTruncated
	}
	c := r.b[r.off]
	n, err := 0, error(nil)
	switch {
	case c >= fixarrayMin && c <= fixarrayMax:
		n = int(c & 0xf)
		r.off++
	case c == codeArray16:
		n, err = r.length(2)
	case c == codeArray32:
		n, err = r.length(4)
	default:
		return 0, r.want("an array")
	}
	return r.enter(n, n, err)
}

// MapLen reads the header of a map: twice its length is at most Len. The caller reads that many keys with values and
// then calls Leave.
func (r *Reader) MapLen() (int, error) {
	if r.off >= len(r.b) {
		return 0, ErrTruncated
	}
	c := r.b[r.off]
	n, err := 0, error(nil)
	switch {
	case c >= fixmapMin && c <= fixmapMax:
		n = int(c & 0xf)
		r.off++
	case c == codeMap16:
		n, err = r.length(2)
	case c == codeMap32:
		n, err = r.length(4)
	default:
		return 0, r.want("a map")
	}
	return r.enter(n, 2*n, err)
}

func (r *Reader) enter(n, values int, err error) (int, error) {
	switch {
	case err != nil:
		return 0, err
	case values > r.Len():
		return 0, ErrTruncated
	case r.depth == MaxDepth:
		return 0, ErrTooDeep
	}
	r.depth++
	return n, nil
}

// Leave ends an array or a map that ArrayLen or MapLen began.
func (r *Reader) Leave() { r.depth-- }

// charge takes n bytes from what the input may expand to.
func (r *Reader) charge(n int) error {
	if r.budget -= n; r.budget < 0 {
		return ErrTooWide
	}
	return nil
}

// Skip moves over the next value, whatever it is.
func (r *Reader) Skip() error {
	values := 0
	var err error
	switch r.Kind() {
	case End, Bad:
		return r.want("a value")
	case Nil, Bool:
		r.off++
		return nil
	case Int, Float:
		_, err = r.number()
		return err
	case Str, Bin:
		_, err = r.view("a string")
		return err
	case Ext:
		return r.skipExt()
	case Array:
		values, err = r.ArrayLen()
	case Map:
		values, err = r.MapLen()
		values *= 2
	}
	if err != nil {
		return err
	}
	for range values {
		if err := r.Skip(); err != nil {
			return err
		}
	}
	r.Leave()
	return nil
}

func (r *Reader) skipExt() error {
	n, err := 0, error(nil)
	switch c := r.b[r.off]; c {
	case codeExt8:
		n, err = r.length(1)
	case codeExt16:
		n, err = r.length(2)
	case codeExt32:
		n, err = r.length(4)
	default: // fixext: 1, 2, 4, 8 or 16 bytes
		n = 1 << (c - codeFixext1)
		r.off++
	}
	if err != nil {
		return err
	}
	_, err = r.take(n + 1) // and the type
	return err
}

// Raw reads the next value whole and returns its bytes in place.
func (r *Reader) Raw() ([]byte, error) {
	start := r.off
	if err := r.Skip(); err != nil {
		return nil, err
	}
	return r.b[start:r.off], nil
}
