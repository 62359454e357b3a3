package spool

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

func numbered(n uint64) transport.EmittedEvent {
	return transport.EmittedEvent{Type: event.Type(n), Body: []byte(fmt.Sprint("event ", n))}
}

// A spool against a slice, over puts, acknowledgements and restarts.
func TestSpoolModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "spool")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		s, err := Open(dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		var kept []uint64
		last := uint64(0)
		check := func() {
			first, events, _ := s.Batch(1<<20, 1<<30)
			if len(events) != len(kept) || len(kept) > 0 && first != kept[0] {
				t.Fatalf("%d events from %d, want %v", len(events), first, kept)
			}
			for i, e := range events {
				if !reflect.DeepEqual(e, numbered(kept[i])) {
					t.Fatalf("event %d is %+v", kept[i], e)
				}
			}
			if s.Room() != Limit-len(kept) {
				t.Fatalf("room %d with %d events", s.Room(), len(kept))
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				last++
				if err := s.Put(last, numbered(last)); err != nil {
					t.Fatal(err)
				}
				kept = append(kept, last)
			},
			"put the last again": func(t *rapid.T) {
				if last == 0 {
					return
				}
				if err := s.Put(last, numbered(last)); err != nil {
					t.Fatal(err)
				}
				if len(kept) == 0 {
					kept = append(kept, last)
				}
			},
			"ack": func(t *rapid.T) {
				through := rapid.Uint64Range(0, last+2).Draw(t, "through")
				if err := s.Ack(through); err != nil {
					t.Fatal(err)
				}
				for len(kept) > 0 && kept[0] <= through {
					kept = kept[1:]
				}
			},
			"restart": func(t *rapid.T) {
				if s, err = Open(dir, last); err != nil {
					t.Fatal(err)
				}
			},
			"": func(*rapid.T) { check() },
		})
	})
}

func TestOpenFindsDamage(t *testing.T) {
	for _, c := range []struct {
		name   string
		last   uint64
		damage func(dir string) error
		want   string
	}{
		{"a flipped bit", 3, func(dir string) error {
			path := filepath.Join(dir, "00000000000000000002.event")
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			b[3] ^= 1
			return os.WriteFile(path, b, 0o600)
		}, "00000000000000000002.event is damaged: checksum"},
		{"a cut file", 3, func(dir string) error { return os.Truncate(filepath.Join(dir, "00000000000000000003.event"), 2) }, "damaged: 2 bytes"},
		{"a gap", 3, func(dir string) error { return os.Remove(filepath.Join(dir, "00000000000000000002.event")) }, "event 2 is missing"},
		{"an older record", 2, func(string) error { return nil }, "holds event 3, but the last one recorded is 2"},
		{"a stranger", 3, func(dir string) error { return os.WriteFile(filepath.Join(dir, "x.event"), nil, 0o600) }, "x.event is not named by a number"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			s, err := Open(dir, 0)
			for n := uint64(1); n <= 3 && err == nil; n++ {
				err = s.Put(n, numbered(n))
			}
			if err == nil {
				err = c.damage(dir)
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Open(dir, c.last); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Open: %v, want %q", err, c.want)
			}
		})
	}
}

func TestPutRefusesAGap(t *testing.T) {
	s, err := Open(t.TempDir(), 7)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []uint64{6, 9} {
		if err := s.Put(n, numbered(n)); err == nil {
			t.Errorf("put %d behind 7: no error", n)
		}
	}
}

// Who waits for events is woken by a put and by an acknowledgement.
func TestChanged(t *testing.T) {
	s, err := Open(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	_, events, changed := s.Batch(1, 1)
	if len(events) != 0 {
		t.Fatal("a new spool holds events")
	}
	if err := s.Put(1, numbered(1)); err != nil {
		t.Fatal(err)
	}
	<-changed
	_, _, changed = s.Batch(1, 1)
	if err := s.Ack(1); err != nil {
		t.Fatal(err)
	}
	<-changed
}

func TestBatchBounds(t *testing.T) {
	s, err := Open(t.TempDir(), 0)
	for n := uint64(1); n <= 5 && err == nil; n++ {
		err = s.Put(n, transport.EmittedEvent{Type: 1, Body: make([]byte, 10)})
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ count, size, want int }{{9, 100, 5}, {2, 100, 2}, {9, 30, 3}, {9, 1, 1}, {0, 100, 0}} {
		if _, events, _ := s.Batch(c.count, c.size); len(events) != c.want {
			t.Errorf("batch of %d events, %d bytes: %d, want %d", c.count, c.size, len(events), c.want)
		}
	}
}

// The bytes of a file, which any later version must read.
func TestGolden(t *testing.T) {
	const want = "\x00\x1e\x93\xa1a\xc0\x01\xf6\xe1\xf0\xc2"
	e := transport.EmittedEvent{Type: event.TypeNodeCrashed, Body: []byte("\x93\xa1a\xc0\x01")}
	if got := encode(e); !bytes.Equal(got, []byte(want)) {
		t.Errorf("encoded %q, want %q", got, want)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(numbered(1)))
	f.Add([]byte{})
	f.Add([]byte("\x00\x1e\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decode(b)
		if err == nil && !bytes.Equal(encode(e), b) {
			t.Errorf("%x decodes to %+v, which encodes to %x", b, e, encode(e))
		}
	})
}
