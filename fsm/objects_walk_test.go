package fsm

import (
	"bytes"
	"testing"
)

// TestObjects: the walk meets every row that a snapshot has, in its order, with its size.
func TestObjects(t *testing.T) {
	s := formed(t, 3, 2).m.View()
	rows, size := 0, 0
	last := map[string]bool{}
	section := ""
	for o := range s.Objects() {
		if o.Section != section && last[o.Section] {
			t.Fatalf("section %s comes twice", o.Section)
		}
		section, last[o.Section] = o.Section, true
		rows++
		size += 1 + o.Bytes // a row begins with its section's number
		if h := o.Section == "agents"; h && !o.History {
			t.Error("an agent is history")
		}
	}
	var whole bytes.Buffer
	if _, err := s.WriteTo(&whole); err != nil {
		t.Fatal(err)
	}
	// Beside the rows a snapshot has its magic, one chunk's frame, and the trailer.
	if rest := whole.Len() - size; rest < 8+8+64 || rest > 8+8+100 || rows < 10 {
		t.Errorf("%d rows of %d bytes in a snapshot of %d", rows, size, whole.Len())
	}
	for o := range s.Objects() {
		if o.Section == "nodes" {
			return // the walk may be ended early
		}
	}
	t.Error("no nodes")
}
