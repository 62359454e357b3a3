package pack

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"
)

var asValues = []cmp.Option{cmpopts.EquateEmpty(), cmpopts.EquateNaNs(), cmpopts.IgnoreFields(outer{}, "Local")}

func genInner(t *rapid.T) inner {
	return inner{Label: rapid.String().Draw(t, "label"), Count: rapid.Uint16().Draw(t, "count")}
}

func genOuter(t *rapid.T) outer {
	o := outer{
		Flag: rapid.Bool().Draw(t, "flag"), Small: rapid.Int8().Draw(t, "small"), Big: rapid.Int64().Draw(t, "big"),
		Byte: rapid.Uint8().Draw(t, "byte"), Wide: rapid.Uint64().Draw(t, "wide"), Single: rapid.Float32().Draw(t, "single"),
		Double: rapid.Float64().Draw(t, "double"), Name: rapid.StringN(0, 300, -1).Draw(t, "name"), Raw: rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "raw"),
		Vector: rapid.SliceOfN(rapid.Float32(), 0, 20).Draw(t, "vector"), Words: rapid.SliceOfN(rapid.String(), 0, 20).Draw(t, "words"),
		Inner: rapid.Custom(genInner).Draw(t, "inner"), Many: rapid.SliceOfN(rapid.Custom(genInner), 0, 20).Draw(t, "many"),
		Attrs: rapid.MapOfN(rapid.String(), rapid.String(), 0, 20).Draw(t, "attrs"),
		Lists: rapid.SliceOfN(rapid.SliceOfN(rapid.String(), 0, 3), 0, 5).Draw(t, "lists"),
	}
	copy(o.ID[:], rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "id"))
	if rapid.Bool().Draw(t, "has ptr") {
		p := genInner(t)
		o.Ptr = &p
	}
	if rapid.Bool().Draw(t, "has number") {
		n := rapid.Uint32().Draw(t, "number")
		o.Number = &n
	}
	return o
}

// library is the deliberately dumb second version of the codec.
func library(t *rapid.T, v any, arrays, compact bool) []byte {
	var b bytes.Buffer
	enc := msgpack.NewEncoder(&b)
	enc.UseArrayEncodedStructs(arrays)
	enc.UseCompactInts(compact)
	enc.UseCompactFloats(compact)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestReadsWhatTheLibraryWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := genOuter(t)
		b := library(t, want, rapid.Bool().Draw(t, "arrays"), rapid.Bool().Draw(t, "compact"))
		var got outer
		if err := Unmarshal(b, &got); err != nil {
			t.Fatalf("%v in %x", err, b)
		}
		if d := cmp.Diff(want, got, asValues...); d != "" {
			t.Fatal(d)
		}
	})
}

func TestTheLibraryReadsWhatIsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := genOuter(t)
		byName, err := Append(nil, want)
		if err != nil {
			t.Fatal(err)
		}
		byPosition, err := AppendArray(nil, &want)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range [][]byte{byName, byPosition} {
			var got outer
			if err := msgpack.Unmarshal(b, &got); err != nil {
				t.Fatalf("%v in %x", err, b)
			}
			if d := cmp.Diff(want, got, asValues...); d != "" {
				t.Fatal(d)
			}
			var own outer
			if err := Unmarshal(b, &own); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, own, asValues...); d != "" {
				t.Fatal(d)
			}
		}
		again, err := AppendArray(nil, want)
		if err != nil || !bytes.Equal(again, byPosition) {
			t.Fatalf("equal values, different bytes: %x, %x, %v", again, byPosition, err)
		}
	})
}

// TestIntegersAreShortest holds the canonical form against the library's compact one.
func TestIntegersAreShortest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.IntRange(0, 63).Draw(t, "bits")
		u := rapid.Uint64().Draw(t, "u") >> bits
		if b := library(t, u, false, true); !bytes.Equal(AppendUint(nil, u), b) {
			t.Fatalf("%d: %x, library %x", u, AppendUint(nil, u), b)
		}
		i := rapid.Int64().Draw(t, "i") >> bits
		if b := library(t, i, false, true); !bytes.Equal(AppendInt(nil, i), b) {
			t.Fatalf("%d: %x, library %x", i, AppendInt(nil, i), b)
		}
	})
}

func TestSizesAtTheirEdges(t *testing.T) {
	for _, n := range []int{0, 1, 15, 16, 31, 32, 255, 256, 65535, 65536} {
		in := struct {
			S string            `wire:"s"`
			B []byte            `wire:"b"`
			L []string          `wire:"l"`
			M map[string]string `wire:"m"`
		}{S: string(make([]byte, n)), B: make([]byte, n), L: make([]string, n), M: map[string]string{}}
		for i := range n {
			in.M[string([]byte{byte(i >> 16), byte(i >> 8), byte(i)})] = ""
		}
		b, err := Append(nil, in)
		if err != nil {
			t.Fatal(err)
		}
		out := in
		out.S, out.B, out.L, out.M = "", nil, nil, nil
		if err := Unmarshal(b, &out); err != nil || !reflect.DeepEqual(in, out) { // cmp takes a minute over 65,536 keys under the race detector
			t.Errorf("size %d: %v", n, err)
		}
	}
}
