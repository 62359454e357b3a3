package event

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
)

// readFields sets the fields of struct v from an object; what is missing or null stays zero.
func readFields(raw map[string]json.RawMessage, v reflect.Value) error {
	for i, f := range fieldsOf(v.Type()) {
		text, ok := raw[f.key]
		if !ok || string(text) == "null" {
			continue
		}
		var err error
		if f.time {
			err = readTime(text, v.Field(i))
		} else {
			err = readValue(text, v.Field(i))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.key, err)
		}
	}
	return nil
}

func readTime(raw json.RawMessage, v reflect.Value) error {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return err
	}
	micros, err := parseTime(s)
	v.SetInt(micros)
	return err
}

func readValue(raw json.RawMessage, v reflect.Value) error {
	switch v.Kind() {
	case reflect.String:
		var s string
		err := json.Unmarshal(raw, &s)
		v.SetString(s)
		return err
	case reflect.Bool:
		b, err := strconv.ParseBool(string(raw))
		v.SetBool(b)
		return err
	case reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(number(raw), 10, v.Type().Bits())
		v.SetInt(n)
		return err
	case reflect.Uint32, reflect.Uint64:
		n, err := readUint(raw, v.Type().Bits())
		v.SetUint(n)
		return err
	case reflect.Float64:
		f, err := strconv.ParseFloat(string(raw), 64)
		v.SetFloat(f)
		return err
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return readValue(raw, v.Elem())
	case reflect.Array:
		return readHex(raw, v)
	case reflect.Slice:
		return readList(raw, v)
	case reflect.Map:
		return readObject(raw, v)
	case reflect.Struct:
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(raw, &fields); err != nil {
			return err
		}
		return readFields(fields, v)
	}
	return fmt.Errorf("a %s has no JSON form", v.Type())
}

func readHex(raw json.RawMessage, v reflect.Value) error {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return err
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		return err
	}
	if len(b) != v.Len() {
		return fmt.Errorf("%d bytes in hexadecimal, want %d", len(b), v.Len())
	}
	reflect.Copy(v, reflect.ValueOf(b))
	return nil
}

func readList(raw json.RawMessage, v reflect.Value) error {
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil {
		return err
	}
	list := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		if err := readValue(item, list.Index(i)); err != nil {
			return fmt.Errorf("[%d]: %w", i, err)
		}
	}
	v.Set(list)
	return nil
}

func readObject(raw json.RawMessage, v reflect.Value) error {
	var items map[string]json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil {
		return err
	}
	m := reflect.MakeMapWithSize(v.Type(), len(items))
	for k, item := range items {
		elem := reflect.New(v.Type().Elem()).Elem()
		if err := readValue(item, elem); err != nil {
			return fmt.Errorf("[%q]: %w", k, err)
		}
		m.SetMapIndex(reflect.ValueOf(k).Convert(v.Type().Key()), elem)
	}
	v.Set(m)
	return nil
}
