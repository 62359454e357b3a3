package event

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"
)

// Validate says whether a body can be in the feed: its text is UTF-8, its numbers are finite, its times have a year that
// RFC 3339 has. It knows nothing of the state. Masters ask before they propose; the state
// machine refuses what fails.
func Validate(b Body) error {
	return validate(reflect.ValueOf(b))
}

func validate(v reflect.Value) error {
	switch v.Kind() {
	case reflect.String:
		if !utf8.ValidString(v.String()) {
			return fmt.Errorf("%.40q is not UTF-8", v.String())
		}
	case reflect.Float64:
		if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Errorf("%v is not a finite number", f)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			return validate(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			if err := validate(v.Index(i)); err != nil {
				return fmt.Errorf("[%d]: %w", i, err)
			}
		}
	case reflect.Map:
		return validateMap(v)
	case reflect.Struct:
		return validateStruct(v)
	}
	return nil
}

// validateMap looks at every entry; which of several faults it names is not fixed, whether there is one is.
func validateMap(v reflect.Value) error {
	bad := 0
	for it := v.MapRange(); it.Next(); {
		if validate(it.Key()) != nil || validate(it.Value()) != nil {
			bad++
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d entries are not UTF-8", bad)
	}
	return nil
}

func validateStruct(v reflect.Value) error {
	for i, f := range fieldsOf(v.Type()) {
		err := validate(v.Field(i))
		if f.time {
			err = validateTime(v.Field(i).Int())
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.key, err)
		}
	}
	return nil
}

func validateTime(micros int64) error {
	if y := time.UnixMicro(micros).UTC().Year(); y < 1 || y > 9999 {
		return fmt.Errorf("%d µs is not a time", micros)
	}
	return nil
}

// Clean makes a body's free text fit for the feed: UTF-8, and of a bounded length. It changes nothing else; ids that are
// not UTF-8 stay and are refused.
func Clean(b Body) Body {
	switch b := b.(type) {
	case NodeCrashed:
		b.StderrTail, b.Signal = cleanTail(b.StderrTail, MaxStderrTail), cleanText(b.Signal)
		return b
	case SpawnFailed:
		b.Error = cleanText(b.Error)
		return b
	case StopFailed:
		b.Error = cleanText(b.Error)
		return b
	case AgentUnregistered:
		b.Reason = cleanText(b.Reason)
		return b
	case TxnAborted:
		b.Reason = cleanText(b.Reason)
		return b
	case ReplicaRemoved:
		b.Reason = cleanText(b.Reason)
		return b
	case EmbeddingServiceDegraded:
		b.Reason = cleanText(b.Reason)
		return b
	}
	return b
}

// maxText bounds a reason or an error in an event.
const maxText = 4 << 10

// replacement stands for bytes that are not UTF-8.
const replacement = "\uFFFD"

// cleanText keeps the beginning.
func cleanText(s string) string {
	s = strings.ToValidUTF8(s, replacement)
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") // a rune that is cut goes
}

// cleanTail keeps the end.
func cleanTail(s string, limit int) string {
	s = strings.ToValidUTF8(s, replacement)
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[len(s)-limit:], "")
}
