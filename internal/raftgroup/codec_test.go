package raftgroup

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"
)

func entries() *rapid.Generator[Entry] {
	return rapid.Custom(func(t *rapid.T) Entry {
		return Entry{
			Version: entryVersion, Level: rapid.Uint32().Draw(t, "level"), Time: rapid.Int64().Draw(t, "time"),
			Commands: rapid.SliceOf(rapid.SliceOf(rapid.Byte())).Draw(t, "commands"),
		}
	})
}

// The encoding is what a library would write, with a checksum behind it, and comes back as it was.
func TestEntryCodec(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := entries().Draw(t, "entry")
		b := appendEntry([]byte("before"), testGroup, e)[len("before"):]
		var plain struct {
			_msgpack       struct{} `msgpack:",as_array"`
			Version, Level uint32
			Time           int64
			Commands       [][]byte
		}
		if err := msgpack.Unmarshal(b[:len(b)-sumBytes], &plain); err != nil {
			t.Fatal(err)
		}
		if plain.Version != e.Version || plain.Level != e.Level || plain.Time != e.Time || len(plain.Commands) != len(e.Commands) {
			t.Fatalf("a library reads %+v, want %+v", plain, e)
		}
		got, err := decodeEntry(testGroup, b)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Commands) != len(e.Commands) || got.Time != e.Time || got.Level != e.Level {
			t.Fatalf("got %+v, want %+v", got, e)
		}
		for i, c := range e.Commands {
			if !bytes.Equal(got.Commands[i], c) || !bytes.Equal(plain.Commands[i], c) {
				t.Fatalf("command %d is %x, want %x", i, got.Commands[i], c)
			}
		}
		if _, err := decodeEntry("shard-1", b); !errors.Is(err, errSum) {
			t.Fatalf("another group's entry: %v", err)
		}
		at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		b[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := decodeEntry(testGroup, b); !errors.Is(err, errSum) {
			t.Fatalf("one bit at %d: %v", at, err)
		}
	})
}

// Golden bytes: logs and snapshots written by any released version stay readable.
func TestGoldenBytes(t *testing.T) {
	entry := Entry{Version: 1, Level: 3, Time: 1_700_000_000_000_001, Commands: [][]byte{[]byte("one"), {}, {0xff}}}
	greeting := hello{GridID: "g", Incarnation: event.Incarnation{N: 2, Random: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}}, Group: testGroup, From: "node-1.aa", To: "node-2.bb"}
	header := snapshotHeader{Level: 3, Index: 300, FSMIndex: 299, Time: 1_700_000_000_000_001}
	var content, said bytes.Buffer
	w, err := newChunkWriter(&content, testGroup, header)
	if err == nil {
		_, err = w.Write([]byte("state"))
	}
	if err := errors.Join(err, w.Close(), writeHello(&said, greeting)); err != nil {
		t.Fatal(err)
	}
	header.Kept = true
	var record bytes.Buffer
	if err := writeChunked(&record, testGroup, header, func(w io.Writer) error { _, err := io.WriteString(w, "kept"); return err }); err != nil {
		t.Fatal(err)
	}
	header.Kept = false
	for name, tc := range map[string]struct {
		got  []byte
		want string
	}{
		"record":    {record.Bytes(), goldenRecord},
		"entry":     {appendEntry(nil, testGroup, entry), goldenEntry},
		"snapshot":  {content.Bytes(), goldenSnapshot},
		"handshake": {said.Bytes(), goldenHandshake},
	} {
		if got := hex.EncodeToString(tc.got); got != tc.want {
			t.Errorf("%s is\n%s, want\n%s", name, got, tc.want)
		}
	}
	golden := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if got, err := decodeEntry(testGroup, golden(goldenEntry)); err != nil || !reflect.DeepEqual(got, entry) {
		t.Errorf("entry: %+v, %v", got, err)
	}
	if got, err := readHello(bytes.NewReader(golden(goldenHandshake))); err != nil || got != greeting {
		t.Errorf("handshake: %+v, %v", got, err)
	}
	r, h, err := newChunkReader(bytes.NewReader(golden(goldenSnapshot)), testGroup)
	if err != nil || h != header {
		t.Fatalf("snapshot: %+v, %v", h, err)
	}
	if b, err := io.ReadAll(r); err != nil || string(b) != "state" {
		t.Errorf("snapshot: %q, %v", b, err)
	}
}

// Whatever is wrong with a snapshot is an error before, or at the latest at, its end.
func TestDamagedSnapshotContent(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789"), chunkBytes/5)
	var buf bytes.Buffer
	w, err := newChunkWriter(&buf, testGroup, snapshotHeader{Index: 7})
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range [][]byte{body[:1], body[1:100], body[100:]} {
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	whole := buf.Bytes()
	read := func(b []byte, group string) ([]byte, error) {
		r, _, err := newChunkReader(bytes.NewReader(b), group)
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	}
	if got, err := read(whole, testGroup); err != nil || !bytes.Equal(got, body) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	header := 4 + int(binary.BigEndian.Uint32(whole)) + sumBytes
	chunk := 4 + chunkBytes + sumBytes
	swapped := append([]byte(nil), whole[:header]...)
	swapped = append(append(append(swapped, whole[header+chunk:header+2*chunk]...), whole[header:header+chunk]...), whole[header+2*chunk:]...)
	for name, b := range map[string][]byte{
		"empty": nil, "cut in a chunk": whole[:header+100], "cut between chunks": whole[:header+chunk],
		"last chunk missing": whole[:len(whole)-4-sumBytes], "chunk missing": append(append([]byte(nil), whole[:header]...), whole[header+chunk:]...),
		"chunks swapped": swapped, "header alone": whole[:header],
	} {
		if got, err := read(b, testGroup); err == nil || !bytes.HasPrefix(body, got) && name != "chunk missing" && name != "chunks swapped" || len(got) > len(body) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	for _, at := range []int{0, 3, 5, header - 1, header, header + 1000, len(whole) - 1, len(whole) - 5} {
		b := append([]byte(nil), whole...)
		b[at] ^= 0x10
		if _, err := read(b, testGroup); err == nil {
			t.Errorf("a bit at %d of %d was not seen", at, len(whole))
		}
	}
	if _, err := read(whole, "shard-1"); err == nil {
		t.Error("another group's snapshot was read")
	}
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add(appendEntry(nil, testGroup, Entry{Version: 1, Level: 1, Time: math.MinInt64, Commands: [][]byte{[]byte("a"), nil}}))
	f.Add([]byte{0x94, 1, 1, 0, 0xdd, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0x94, 1, 1, 0, 0x91, 0xc6, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = decodeEntry(testGroup, b) // any answer, no panic
		e, err := decodeBody(b)          // behind the checksum
		if err != nil {
			return
		}
		again, err := decodeEntry(testGroup, appendEntry(nil, testGroup, e))
		if err != nil || again.Time != e.Time || len(again.Commands) != len(e.Commands) {
			t.Fatalf("%+v became %+v, %v", e, again, err)
		}
	})
}

func FuzzReadHello(f *testing.F) {
	var b bytes.Buffer
	if err := writeHello(&b, hello{GridID: "g", Group: "x", From: "a.b", To: "c.d"}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(preface + "\x00\x01\x90"))
	f.Add([]byte(preface + "\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readHello(bytes.NewReader(b))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := writeHello(&again, h); err != nil {
			t.Fatal(err)
		}
		if back, err := readHello(&again); err != nil || back != h {
			t.Fatalf("%+v became %+v, %v", h, back, err)
		}
	})
}

func FuzzReadSnapshot(f *testing.F) {
	var b bytes.Buffer
	w, err := newChunkWriter(&b, testGroup, snapshotHeader{Level: 1, Index: 9})
	if err == nil {
		_, err = io.Copy(w, strings.NewReader("state"))
	}
	if err := errors.Join(err, w.Close()); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = decodeSnapshotHeader(b) // any answer, no panic
		r, _, err := newChunkReader(bytes.NewReader(b), testGroup)
		if err != nil {
			return
		}
		if got, _ := io.ReadAll(r); len(got) > len(b) {
			t.Fatalf("%d bytes out of %d", len(got), len(b))
		}
	})
}

func testOffer() offer {
	return offer{index: 9, term: 2, bytes: 700, conf: configuration{index: 4, servers: []raft.Server{
		{Suffrage: raft.Voter, ID: "node-1.aa", Address: "node-1.aa"}, {Suffrage: raft.Nonvoter, ID: "node-2.bb", Address: "node-2.bb"},
	}}}
}

// What two replicas say to each other about a snapshot.
func TestGoldenSnapshotStream(t *testing.T) {
	var b bytes.Buffer
	err := errors.Join(
		writeHello(&b, hello{GridID: "g", Incarnation: event.Incarnation{N: 2}, Group: testGroup, From: "node-1.aa", To: "node-2.bb", Purpose: purposeSnapshot}),
		writeFrame(&b, testGroup, demand{atLeast: 7}.encode()), writeFrame(&b, testGroup, testOffer().encode()))
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(b.Bytes()); got != goldenSnapshotStream {
		t.Fatalf("got\n%s", got)
	}
	said, err1 := readHello(&b)
	asked, err2 := readFrame(&b, testGroup)
	offered, err3 := readFrame(&b, testGroup)
	d, err4 := decodeDemand(asked)
	o, err5 := decodeOffer(offered)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		t.Fatal(err)
	}
	if said.Purpose != purposeSnapshot || d.atLeast != 7 || !reflect.DeepEqual(o, testOffer()) {
		t.Fatalf("%+v %+v %+v", said, d, o)
	}
}

// What no snapshot is is not taken for one.
func TestOfferIsChecked(t *testing.T) {
	for name, change := range map[string]func(*offer){
		"no index": func(o *offer) { o.index = 0 }, "no term": func(o *offer) { o.term = 0 }, "empty": func(o *offer) { o.bytes = 0 },
		"configuration ahead": func(o *offer) { o.conf.index = 10 }, "no configuration": func(o *offer) { o.conf.index = 0 },
		"no voter": func(o *offer) { o.conf.servers = o.conf.servers[1:] }, "nobody": func(o *offer) { o.conf.servers[1].ID = "" },
		"twice": func(o *offer) { o.conf.servers[1].ID = o.conf.servers[0].ID },
	} {
		o := testOffer()
		change(&o)
		if _, err := decodeOffer(o.encode()); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func FuzzSnapshotStream(f *testing.F) {
	var b bytes.Buffer
	if err := errors.Join(writeFrame(&b, testGroup, testOffer().encode()), writeFrame(&b, testGroup, demand{3}.encode())); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(testOffer().encode())
	f.Add([]byte{0, 1, 0, 1, 0x95})
	f.Fuzz(func(t *testing.T, b []byte) {
		for r := bytes.NewReader(b); r.Len() > 0; {
			if body, err := readFrame(r, testGroup); err != nil || len(body) > frameBytes {
				break
			}
		}
		if d, err := decodeDemand(b); err == nil {
			if back, err := decodeDemand(d.encode()); err != nil || back != d {
				t.Fatalf("%+v became %+v, %v", d, back, err)
			}
		}
		if o, err := decodeOffer(b); err == nil {
			if back, err := decodeOffer(o.encode()); err != nil || !reflect.DeepEqual(back, o) {
				t.Fatalf("%+v became %+v, %v", o, back, err)
			}
		}
	})
}
