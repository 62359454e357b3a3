package feed

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "write testdata anew")

// TestGoldenStream: what Stream writes is fixed byte for byte, and what it once wrote can be restored. The bounds are in it
// as the store holds them.
func TestGoldenStream(t *testing.T) {
	o := newOutbox(t)
	h := &history{time: 1_700_000_000_000_000}
	for range 4 {
		h.setting(t, time.Second, "v")
	}
	mustAppend(t, o, 13, h.records...)
	stream := streamOf(t, o, 1)
	path := filepath.Join("testdata", "stream-1.hex")
	if *rewrite {
		if err := os.WriteFile(path, []byte(hex.Dump(stream)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.Dump(stream); got != string(golden) {
		t.Errorf("the stream is\n%s\nwant\n%s", got, golden)
	}
	to := newOutbox(t)
	if err := to.Restore(bytes.NewReader(undump(t, string(golden)))); err != nil {
		t.Fatal(err)
	}
	if diff := differ(h.records[1:], all(t, to)); diff != "" || to.Applied() != 13 {
		t.Errorf("restored: %s, applied %d", diff, to.Applied())
	}
}

// undump reads what hex.Dump wrote.
func undump(t *testing.T, dump string) []byte {
	t.Helper()
	var out []byte
	for line := range strings.Lines(dump) {
		columns, _, _ := strings.Cut(line[8:], "|")
		b, err := hex.DecodeString(strings.Join(strings.Fields(columns), ""))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b...)
	}
	return out
}
