package pack

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

type inner struct {
	Label string `wire:"label" msgpack:"label"`
	Count uint16 `wire:"count,optional" msgpack:"count"`
}

type outer struct {
	Flag   bool              `wire:"flag" msgpack:"flag"`
	Small  int8              `wire:"small" msgpack:"small"`
	Big    int64             `wire:"big" msgpack:"big"`
	Byte   uint8             `wire:"byte" msgpack:"byte"`
	Wide   uint64            `wire:"wide" msgpack:"wide"`
	Single float32           `wire:"single" msgpack:"single"`
	Double float64           `wire:"double" msgpack:"double"`
	Name   string            `wire:"name" msgpack:"name"`
	Raw    []byte            `wire:"raw" msgpack:"raw"`
	ID     [4]byte           `wire:"id" msgpack:"id"`
	Vector []float32         `wire:"vector" msgpack:"vector"`
	Words  []string          `wire:"words" msgpack:"words"`
	Inner  inner             `wire:"inner" msgpack:"inner"`
	Ptr    *inner            `wire:"ptr,optional" msgpack:"ptr"`
	Number *uint32           `wire:"number,optional" msgpack:"number"`
	Many   []inner           `wire:"many,optional" msgpack:"many"`
	Attrs  map[string]string `wire:"attrs,optional" msgpack:"attrs"`
	Lists  [][]string        `wire:"lists,optional" msgpack:"lists"`
	Local  func()            `wire:"-" msgpack:"-"`
}

func TestCodesAreTheLibrarys(t *testing.T) {
	for _, c := range []struct{ ours, theirs byte }{
		{posFixintMax, msgpcode.PosFixedNumHigh}, {negFixintMin, msgpcode.NegFixedNumLow}, {codeNil, msgpcode.Nil}, {codeFalse, msgpcode.False},
		{codeTrue, msgpcode.True}, {codeFloat32, msgpcode.Float}, {codeFloat64, msgpcode.Double}, {codeUint8, msgpcode.Uint8},
		{codeUint16, msgpcode.Uint16}, {codeUint32, msgpcode.Uint32}, {codeUint64, msgpcode.Uint64}, {codeInt8, msgpcode.Int8},
		{codeInt16, msgpcode.Int16}, {codeInt32, msgpcode.Int32}, {codeInt64, msgpcode.Int64}, {fixstrMin, msgpcode.FixedStrLow},
		{fixstrMax, msgpcode.FixedStrHigh}, {codeStr8, msgpcode.Str8}, {codeStr16, msgpcode.Str16}, {codeStr32, msgpcode.Str32},
		{codeBin8, msgpcode.Bin8}, {codeBin16, msgpcode.Bin16}, {codeBin32, msgpcode.Bin32}, {fixarrayMin, msgpcode.FixedArrayLow},
		{fixarrayMax, msgpcode.FixedArrayHigh}, {codeArray16, msgpcode.Array16}, {codeArray32, msgpcode.Array32}, {fixmapMin, msgpcode.FixedMapLow},
		{fixmapMax, msgpcode.FixedMapHigh}, {codeMap16, msgpcode.Map16}, {codeMap32, msgpcode.Map32}, {codeFixext1, msgpcode.FixExt1},
		{codeFixext2, msgpcode.FixExt2}, {codeFixext4, msgpcode.FixExt4}, {codeFixext8, msgpcode.FixExt8}, {codeFixext16, msgpcode.FixExt16},
		{codeExt8, msgpcode.Ext8}, {codeExt16, msgpcode.Ext16}, {codeExt32, msgpcode.Ext32},
	} {
		if c.ours != c.theirs {
			t.Errorf("0x%02x is 0x%02x in the library", c.ours, c.theirs)
		}
	}
}

func TestGoldenForms(t *testing.T) {
	v := inner{Label: "a", Count: 300}
	byName, err := Append([]byte("x"), v)
	if err != nil || hex.EncodeToString(byName) != "78"+"82a56c6162656ca161a5636f756e74cd012c" {
		t.Errorf("by name: %x, %v", byName, err)
	}
	byPosition, err := AppendArray(nil, &v)
	if err != nil || hex.EncodeToString(byPosition) != "92a161cd012c" {
		t.Errorf("by position: %x, %v", byPosition, err)
	}
	sorted, err := Append(nil, map[string]string{"b": "2", "a": "1", "\xff": "3", "aa": "4"})
	if want := "84" + "a161a131" + "a26161a134" + "a162a132" + "a1ffa133"; err != nil || hex.EncodeToString(sorted) != want {
		t.Errorf("map: %x, %v; want %s", sorted, err, want)
	}
	nested, err := AppendArray(nil, outer{Many: []inner{{Label: "z"}}})
	if err != nil || !bytes.Contains(nested, []byte{0x91, 0x92, 0xa1, 'z', 0x00}) {
		t.Errorf("nested structs are not arrays: %x, %v", nested, err)
	}
	if b, err := Append(nil, nil); err != nil || !bytes.Equal(b, []byte{codeNil}) {
		t.Errorf("nil: %x, %v", b, err)
	}
}

// unhex is hexadecimal with blanks for reading.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestLenientReading(t *testing.T) {
	tests := []struct {
		name, hex string
		into      any
		want      any
	}{
		{"float without fraction into int", "cb4008000000000000", new(int8), int8(3)},
		{"negative float into int", "cac0400000", new(int64), int64(-3)},
		{"signed into unsigned", "d005", new(uint8), uint8(5)},
		{"unsigned into signed", "cf0000000000000005", new(int8), int8(5)},
		{"int into float", "d1fffe", new(float32), float32(-2)},
		{"double into single", "cb3ff8000000000000", new(float32), float32(1.5)},
		{"infinity stays one", "cb7ff0000000000000", new(float32), float32(math.Inf(1))},
		{"binary into string", "c4026162", new(string), "ab"},
		{"string into binary", "a26162", new([]byte), []byte("ab")},
		{"string into fixed bytes", "a461626364", new([4]byte), [4]byte{'a', 'b', 'c', 'd'}},
		{"nil slice", "c0", new([]string), []string(nil)},
		{"nil map", "c0", new(map[string]string), map[string]string(nil)},
		{"nil pointer", "c0", new(*inner), (*inner)(nil)},
		{"struct from map", "81 a56c6162656c a161", new(inner), inner{Label: "a"}},
		{"struct from array", "92 a161 05", new(inner), inner{Label: "a", Count: 5}},
		{"optional left out of array", "91 a161", new(inner), inner{Label: "a"}},
		{"optional nil", "92 a161 c0", new(inner), inner{Label: "a"}},
		{"extra elements", "95 a161 05 c0 92c2c3 81a16102", new(inner), inner{Label: "a", Count: 5}},
		{"extra keys, any value", "83 a178 c70301ffffff a56c6162656c a161 a179 d60100000000", new(inner), inner{Label: "a"}},
		{"the last of equal keys", "82 a56c6162656c a161 a56c6162656c a162", new(inner), inner{Label: "b"}},
		{"binary keys", "81 c4056c6162656c a161", new(inner), inner{Label: "a"}},
		{"ints in a vector", "93 01 ca3f800000 cb3ff0000000000000", new([]float32), []float32{1, 1, 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := Unmarshal(unhex(t, tt.hex), tt.into); err != nil {
				t.Fatal(err)
			}
			if got := reflect.ValueOf(tt.into).Elem().Interface(); !cmp.Equal(got, tt.want) {
				t.Errorf("got %#v, want %#v", got, tt.want)
			}
		})
	}
}

func TestStrictReading(t *testing.T) {
	deep := strings.Repeat("91", MaxDepth+1) + "c0"
	tests := []struct {
		name, hex string
		into      any
		want      string // in the error
	}{
		{"nothing", "", new(int), "ends inside"},
		{"fraction into int", "cb3ff8000000000000", new(int), "not a signed"},
		{"fraction into uint", "cb3ff8000000000000", new(uint), "not an unsigned"},
		{"NaN into int", "cb7ff8000000000000", new(int), "not a signed"},
		{"2^63 as float into int", "cb43e0000000000000", new(int64), "not a signed"},
		{"2^64 as float into uint", "cb43f0000000000000", new(uint64), "not an unsigned"},
		{"too wide", "cd0100", new(uint8), "does not fit uint8"},
		{"too low", "d1ff00", new(int8), "does not fit int8"},
		{"negative into unsigned", "ff", new(uint32), "-1 is negative"},
		{"2^63 into int64", "cf8000000000000000", new(int64), "does not fit"},
		{"double over single", "cb7fe0000000000000", new(float32), "does not fit float32"},
		{"double over single in a vector", "91cb7fe0000000000000", new([]float32), "does not fit float32"},
		{"nil for a required one", "92 c0 01", new(inner), `"label"`},
		{"required missing from map", "81 a5636f756e74 01", new(inner), `"label" is missing`},
		{"required missing from array", "90", new(inner), `"label" is missing`},
		{"a number for a string", "91 01", new(inner), "want a string, got an integer"},
		{"a string for a struct", "a161", new(inner), "want a map or an array"},
		{"a number as field name", "81 01 02", new(inner), "field name"},
		{"fixed bytes too short", "c403010203", new([4]byte), "want 4 bytes, got 3"},
		{"bytes behind", "0102", new(int), "1 bytes behind"},
		{"string beyond the end", "a561", new(string), "ends inside"},
		{"string of 4 GiB", "dbffffffff61", new(string), "ends inside"},
		{"array of 4 Gi", "ddffffffff01", new([]int), "ends inside"},
		{"map of 4 Gi", "dfffffffffa161", new(map[string]int), "ends inside"},
		{"binary of 4 GiB", "c6ffffffff61", new([]byte), "ends inside"},
		{"length cut", "da00", new(string), "ends inside"},
		{"ext of 4 GiB skipped", "91 c9ffffffff0161", new(struct{}), "ends inside"},
		{"unused byte", "c1", new(int), "0xc1"},
		{"unused byte skipped", "93 a161 01 c1", new(inner), "0xc1"},
		{"ext for a number", "d40100", new(int), "got an extension"},
		{"too deep", deep, new(struct{}), "deeper"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Unmarshal(unhex(t, tt.hex), tt.into)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestDepthIsExactlyMaxDepth(t *testing.T) {
	at := append(bytes.Repeat([]byte{0x91}, MaxDepth), codeNil)
	if err := NewReader(at).Skip(); err != nil {
		t.Errorf("depth %d: %v", MaxDepth, err)
	}
	if err := NewReader(append([]byte{0x81, 0xa1, 'k'}, at...)).Skip(); !errors.Is(err, ErrTooDeep) {
		t.Errorf("depth %d: %v", MaxDepth+1, err)
	}
}

func TestLooseReadingFillsWhatIsMissing(t *testing.T) {
	var o outer
	if err := UnmarshalLoose(unhex(t, "92 c3 05"), &o); err != nil || !o.Flag || o.Small != 5 || o.Name != "" {
		t.Errorf("%+v, %v", o, err)
	}
	var nested []inner
	if err := UnmarshalLoose(unhex(t, "92 90 80"), &nested); err != nil || len(nested) != 2 {
		t.Errorf("nested: %+v, %v", nested, err)
	}
	if err := Unmarshal(unhex(t, "92 90 80"), &nested); err == nil {
		t.Error("strict reading accepts what loose reading fills")
	}
}

func TestReadingReplacesOldValues(t *testing.T) {
	n := uint32(7)
	o := outer{Name: "old", Ptr: &inner{Label: "old"}, Number: &n, Attrs: map[string]string{"old": "x"}, Words: []string{"old"}}
	if err := UnmarshalLoose([]byte{0x90}, &o); err != nil || !cmp.Equal(o, outer{}, asValues...) {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestWideExpansionIsRefused(t *testing.T) {
	type fat struct {
		A, B, C, D, E, F, G, H string `wire:"-"`
		Tail                   string `wire:"tail,optional"`
	}
	n := 1 << 20
	b := AppendArrayHeader(nil, n)
	for range n {
		b = append(b, 0x80)
	}
	var s []fat
	if err := Unmarshal(b, &s); !errors.Is(err, ErrTooWide) {
		t.Errorf("%d elements of 144 bytes out of one byte each: %v", n, err)
	}
	var words []string // a string header for each byte is what the bound was made for
	if err := Unmarshal(append(AppendArrayHeader(nil, n), bytes.Repeat([]byte{0xa0}, n)...), &words); err != nil {
		t.Errorf("%d empty strings: %v", n, err)
	}
}

func TestTypesWithoutWireForm(t *testing.T) {
	for _, v := range []any{
		struct{ Untagged int }{}, struct {
			A int `wire:"a,later"`
		}{}, struct {
			A int `wire:"x"`
			B int `wire:"x"`
		}{}, struct {
			c int `wire:"c"`
		}{}, make(chan int), map[int]string{}, [3]int{}, struct {
			P *[]int `wire:"p"`
		}{}, struct {
			V any `wire:"v"`
		}{},
	} {
		if _, err := Append(nil, v); err == nil {
			t.Errorf("%T is written", v)
		}
	}
	if err := Unmarshal([]byte{1}, 5); err == nil {
		t.Error("reads into a number that is no pointer")
	}
	if err := Unmarshal([]byte{1}, (*int)(nil)); err == nil {
		t.Error("reads into a nil pointer")
	}
}

// tree contains itself, through a slice and a pointer.
type tree struct {
	Name string `wire:"name"`
	Kids []tree `wire:"kids,optional"`
	Next *tree  `wire:"next,optional"`
}

func TestTypesThatContainThemselves(t *testing.T) {
	in := tree{Name: "a", Kids: []tree{{Name: "b", Kids: []tree{}}}, Next: &tree{Name: "c", Kids: []tree{}}}
	b, err := AppendArray(nil, in)
	if err != nil {
		t.Fatal(err)
	}
	var out tree
	if err := Unmarshal(b, &out); err != nil || !cmp.Equal(in, out) {
		t.Errorf("%+v, %v", out, err)
	}
}

// twice writes itself as an array of two equal strings.
type twice struct{ s string }

func (w twice) AppendPack(b []byte) ([]byte, error) {
	if w.s == "bad" {
		return nil, errors.New("no form")
	}
	return AppendString(AppendString(AppendArrayHeader(b, 2), w.s), w.s), nil
}

func (w *twice) UnpackFrom(r *Reader) error {
	if _, err := r.ArrayLen(); err != nil {
		return err
	}
	var err error
	if w.s, err = r.String(); err != nil {
		return err
	}
	defer r.Leave()
	return r.Skip()
}

func TestHooks(t *testing.T) {
	type holder struct {
		Items []twice `wire:"items"`
	}
	b, err := Append(nil, holder{Items: []twice{{"x"}, {"y"}}})
	if err != nil || !bytes.HasSuffix(b, unhex(t, "92 92a178a178 92a179a179")) {
		t.Fatalf("%x, %v", b, err)
	}
	var h holder
	if err := Unmarshal(b, &h); err != nil || len(h.Items) != 2 || h.Items[1].s != "y" {
		t.Errorf("%+v, %v", h, err)
	}
	before := []byte("kept")
	if b, err := Append(before, holder{Items: []twice{{"bad"}}}); err == nil || string(b) != "kept" {
		t.Errorf("after an error: %q, %v", b, err)
	}
}

func TestReaderPrimitives(t *testing.T) {
	b := AppendNil(nil)
	b = AppendBool(b, true)
	b = AppendInt(b, -5)
	b = AppendUint(b, 5)
	b = AppendFloat64(b, 1.5)
	b = AppendBin(b, []byte("bin"))
	b = AppendString(AppendMapHeader(b, 1), "k")
	b = AppendInt(b, 1)
	r := NewReader(b)
	if r.Kind() != Nil || !r.Nil() || r.Nil() {
		t.Error("nil")
	}
	if v, err := r.Bool(); !v || err != nil {
		t.Error("bool", v, err)
	}
	if v, err := r.Int(); v != -5 || err != nil {
		t.Error("int", v, err)
	}
	if v, err := r.Uint(); v != 5 || err != nil {
		t.Error("uint", v, err)
	}
	if v, err := r.Float(); v != 1.5 || err != nil {
		t.Error("float", v, err)
	}
	if v, err := r.Bytes(); string(v) != "bin" || err != nil {
		t.Error("bin", v, err)
	}
	if raw, err := r.Raw(); len(raw) != 4 || err != nil || r.Len() != 0 || r.Offset() != len(b) || r.Kind() != End {
		t.Error("raw", raw, err)
	}
}
