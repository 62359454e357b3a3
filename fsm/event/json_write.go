package event

import (
	"encoding/hex"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// jsonWriter appends JSON and keeps the first error.
type jsonWriter struct {
	b    []byte
	err  error
	flat *Flat // of the struct in hand; nil: it is not the body itself
}

func (w *jsonWriter) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(format, args...)
	}
}

// key writes a key of an object, with the comma that separates it from what is before.
func (w *jsonWriter) key(name string) {
	if w.b[len(w.b)-1] != '{' {
		w.b = append(w.b, ',')
	}
	w.string(name)
	w.b = append(w.b, ':')
}

func (w *jsonWriter) orNull(absent bool, write func()) {
	if absent {
		w.b = append(w.b, "null"...)
		return
	}
	write()
}

func (w *jsonWriter) uint(v uint64) { w.b = strconv.AppendUint(w.b, v, 10) }

func (w *jsonWriter) time(micros int64) {
	t := time.UnixMicro(micros).UTC()
	if y := t.Year(); y < 1 || y > 9999 {
		w.fail("time %d µs is outside the years that RFC 3339 has", micros)
		return
	}
	w.b = append(w.b, '"')
	w.b = t.AppendFormat(w.b, timeLayout)
	w.b = append(w.b, '"')
}

// string writes s with the escapes that JSON demands and no others.
func (w *jsonWriter) string(s string) {
	if !utf8.ValidString(s) {
		w.fail("%q is not UTF-8", s)
		return
	}
	w.b = append(w.b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			w.b = append(w.b, '\\', c)
		case c == '\n':
			w.b = append(w.b, '\\', 'n')
		case c == '\t':
			w.b = append(w.b, '\\', 't')
		case c < ' ':
			w.b = append(w.b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
		default:
			w.b = append(w.b, c)
		}
	}
	w.b = append(w.b, '"')
}

const hexDigits = "0123456789abcdef"

// fields writes a struct's fields into the object that is open.
func (w *jsonWriter) fields(v reflect.Value) {
	flat := w.flat
	w.flat = nil
	for i, f := range fieldsOf(v.Type()) {
		w.key(f.key)
		switch {
		case f.time:
			w.time(v.Field(i).Int())
		case f.id:
			w.string(strconv.FormatUint(v.Field(i).Uint(), 10))
		default:
			w.value(v.Field(i))
		}
		if flat != nil {
			flat.note(f.key, v.Field(i))
		}
	}
}

// note keeps a field that event storage finds events by.
func (f *Flat) note(key string, v reflect.Value) {
	switch key {
	case "agent_id":
		f.AgentID = v.String()
	case "node_id":
		f.NodeID = v.String()
	case "shard_id":
		f.ShardID = v.String()
	case "txn_id":
		f.TxnID = v.Interface().(TxnID).String()
	}
}

func (w *jsonWriter) value(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		w.string(v.String())
	case reflect.Bool:
		w.b = strconv.AppendBool(w.b, v.Bool())
	case reflect.Int32, reflect.Int64:
		w.b = strconv.AppendInt(w.b, v.Int(), 10)
	case reflect.Uint32, reflect.Uint64:
		w.uint(v.Uint())
	case reflect.Float64:
		w.float(v.Float())
	case reflect.Pointer:
		w.orNull(v.IsNil(), func() { w.value(v.Elem()) })
	case reflect.Array: // of bytes
		raw := make([]byte, v.Len())
		reflect.Copy(reflect.ValueOf(raw), v)
		w.string(hex.EncodeToString(raw))
	case reflect.Slice:
		w.list(v)
	case reflect.Map:
		w.object(v)
	case reflect.Struct:
		w.b = append(w.b, '{')
		w.fields(v)
		w.b = append(w.b, '}')
	default:
		w.fail("a %s has no JSON form", v.Type())
	}
}

// float writes the shortest digits that give the same number back.
func (w *jsonWriter) float(f float64) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		w.fail("%v is not a number that JSON has", f)
		return
	}
	w.b = strconv.AppendFloat(w.b, f, 'g', -1, 64)
}

func (w *jsonWriter) list(v reflect.Value) {
	w.b = append(w.b, '[')
	for i := range v.Len() {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.value(v.Index(i))
	}
	w.b = append(w.b, ']')
}

// object writes a map of strings in key order.
func (w *jsonWriter) object(v reflect.Value) {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int {
		if a.String() < b.String() {
			return -1
		}
		return 1
	})
	w.b = append(w.b, '{')
	for _, k := range keys {
		w.key(k.String())
		w.value(v.MapIndex(k))
	}
	w.b = append(w.b, '}')
}
