package offline

import (
	"cmp"
	"encoding/hex"
	"reflect"
	"slices"
	"strings"

	"github.com/sutra-grid/sutra-grid/fsm"
)

// Difference is one object in which two states differ, in the form of Plain; nil: that state does not have it.
type Difference struct {
	Section string `json:"section"`
	Key     string `json:"key"`
	A       any    `json:"a"`
	B       any    `json:"b"`
	History bool   `json:"history"` // otherwise local state
}

// Diff lists the objects in which two states differ, in the order of snapshots: by section, then by key.
func Diff(a, b *fsm.State) []Difference {
	type place struct {
		rank int
		key  string
	}
	theirs := map[place]fsm.Object{}
	for o := range b.Objects() {
		theirs[place{o.Rank, o.Key}] = o
	}
	var found []fsm.Object // of a where it has one
	ours := map[place]fsm.Object{}
	for o := range a.Objects() {
		at := place{o.Rank, o.Key}
		if other, has := theirs[at]; !has || !reflect.DeepEqual(o.Value, other.Value) {
			found, ours[at] = append(found, o), o
		} else {
			delete(theirs, at)
		}
	}
	for at, o := range theirs {
		if _, had := ours[at]; !had {
			found = append(found, o)
		}
	}
	slices.SortFunc(found, func(x, y fsm.Object) int {
		return cmp.Or(cmp.Compare(x.Rank, y.Rank), cmp.Compare(len(x.Key), len(y.Key)), cmp.Compare(x.Key, y.Key))
	})
	out := []Difference{}
	for _, o := range found {
		at := place{o.Rank, o.Key}
		out = append(out, Difference{Section: o.Section, Key: o.Key, A: plainObject(ours[at]), B: plainObject(theirs[at]), History: o.History})
	}
	return out
}

func plainObject(o fsm.Object) any {
	if o.Value == nil {
		return nil
	}
	return Plain(o.Value)
}

// Plain is an object of a state as maps, lists and scalars, for JSON: fields by their wire names, ids and hashes as text.
func Plain(v any) any { return plain(reflect.ValueOf(v)) }

func plain(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return nil
		}
		return plain(v.Elem())
	case reflect.Struct:
		fields := map[string]any{}
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				fields[cmp.Or(f.Tag.Get("wire"), strings.ToLower(f.Name))] = plain(v.Field(i))
			}
		}
		return fields
	case reflect.Map:
		entries := map[string]any{}
		for k, e := range v.Seq2() {
			entries[k.String()] = plain(e)
		}
		return entries
	case reflect.Array, reflect.Slice:
		return plainList(v)
	}
	return v.Interface()
}

// plainList writes bytes as hexadecimal digits, anything else as a list.
func plainList(v reflect.Value) any {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		b := make([]byte, v.Len())
		reflect.Copy(reflect.ValueOf(b), v)
		return hex.EncodeToString(b)
	}
	list := make([]any, v.Len())
	for i := range list {
		list[i] = plain(v.Index(i))
	}
	return list
}
