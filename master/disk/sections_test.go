package disk

import (
	"bytes"
	"io"
	"testing"

	"pgregory.net/rapid"
)

// TestSections writes sections of any size in any pieces, one behind the other, and reads each to its end and no further.
func TestSections(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(0, 3*maxChunk), 1, 4).Draw(t, "sizes")
		step := rapid.IntRange(1, 2*maxChunk).Draw(t, "step")
		var stream bytes.Buffer
		for i, size := range sizes {
			w := NewSectionWriter(&stream)
			for rest := bytes.Repeat([]byte{byte(i + 1)}, size); len(rest) > 0; rest = rest[min(step, len(rest)):] {
				if _, err := w.Write(rest[:min(step, len(rest))]); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
		}
		for i, size := range sizes {
			got, err := io.ReadAll(NewSectionReader(&stream))
			if err != nil || !bytes.Equal(got, bytes.Repeat([]byte{byte(i + 1)}, size)) {
				t.Fatalf("section %d of %d bytes came back as %d bytes, %v", i, size, len(got), err)
			}
		}
		if stream.Len() != 0 {
			t.Fatalf("%d bytes left", stream.Len())
		}
	})
}

// FuzzSections: whatever a damaged snapshot holds, reading ends, with what was there or an error, and allocates nothing for
// claimed lengths.
func FuzzSections(f *testing.F) {
	for _, seed := range []string{"", "\x00\x00\x00\x00", "\x00\x00\x00\x02ab\x00\x00\x00\x00", "\x00\x00\x00\x05ab", "\xff\xff\xff\xffab", "\x00\x00\x00\x01a"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := io.ReadAll(NewSectionReader(bytes.NewReader(data)))
		if len(got) > len(data) {
			t.Errorf("%d bytes out of %d", len(got), len(data))
		}
		if err == nil {
			var again bytes.Buffer
			w := NewSectionWriter(&again)
			if _, err := w.Write(got); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if back, err := io.ReadAll(NewSectionReader(&again)); err != nil || !bytes.Equal(back, got) {
				t.Errorf("written again it reads as %q, %v", back, err)
			}
		}
	})
}
