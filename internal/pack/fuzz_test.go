package pack

import (
	"bytes"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

func seeds(f *testing.F) {
	n := uint32(9)
	full := outer{Name: "n", Raw: []byte{1}, Vector: []float32{1}, Words: []string{"w"}, Ptr: &inner{Label: "p"}, Number: &n,
		Many: []inner{{Label: "m"}}, Attrs: map[string]string{"k": "v"}, Lists: [][]string{{"l"}}}
	for _, v := range []outer{{}, full} {
		byName, err := Append(nil, v)
		if err != nil {
			f.Fatal(err)
		}
		byPosition, err := AppendArray(nil, v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byName)
		f.Add(byPosition)
		f.Add(byPosition[:len(byPosition)-1])
	}
	for _, s := range []string{"ddffffffff", "dfffffffff", "dbffffffff", "c9ffffffff", "c1", "", "d8", "91919191c0", "cb7ff8000000000000"} {
		f.Add(unhex(f, s))
	}
}

// FuzzUnmarshal: no input makes reading panic, and what was read has a form that reads back the same.
func FuzzUnmarshal(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, read := range []func([]byte, any) error{Unmarshal, UnmarshalLoose} {
			var v outer
			if read(b, &v) != nil {
				continue
			}
			once, err := AppendArray(nil, v)
			if err != nil {
				t.Fatal(err)
			}
			var w outer
			if err := Unmarshal(once, &w); err != nil {
				t.Fatalf("%v in %x, written for %x", err, once, b)
			}
			if twice, err := AppendArray(nil, w); err != nil || !bytes.Equal(once, twice) {
				t.Fatalf("%x and %x, %v", once, twice, err)
			}
		}
	})
}

// FuzzSkip: a value ends where the library says it ends.
func FuzzSkip(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(b)
		if r.Skip() != nil {
			return // the library has no limit of depth, and allocates what is claimed
		}
		in := bytes.NewReader(b)
		if err := msgpack.NewDecoder(in).Skip(); err != nil {
			t.Fatalf("the library refuses %x: %v", b, err)
		}
		if end := len(b) - in.Len(); end != r.Offset() {
			t.Fatalf("%x ends at %d, in the library at %d", b, r.Offset(), end)
		}
	})
}
